"""Layers against loops, and how they start."""

import jax.numpy as jnp
import numpy as np
import pytest
from building import TRUNCATED_STD, assert_close, filled, started
from loops import convolve

from stacx.networks.layers import Conv, Dense, truncated_normal


def test_dense():
    layer = filled(Dense, 3, 2)
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    expected = x @ np.asarray(layer.weight) + np.asarray(layer.bias)
    assert_close(layer(jnp.asarray(x)), expected)


@pytest.mark.parametrize(("stride", "shape"), [(1, (5, 4)), (2, (3, 2))])
def test_conv(stride, shape):
    layer = filled(Conv, 2, 3, stride=stride)
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 2)).astype(np.float32)
    y = layer(jnp.asarray(x))
    assert y.shape == (2, *shape, 3)
    expected = convolve(x, layer.weight, layer.bias, stride=stride)
    assert_close(y, expected)


@pytest.mark.parametrize(("shape", "fan_in"), [((400, 300), 400), ((3, 3, 64, 128), 576)])
def test_weights_start_as_in_haiku(shape, fan_in):
    weights = np.asarray(started(truncated_normal, shape, fan_in)) * np.sqrt(fan_in)
    assert weights.std() == pytest.approx(TRUNCATED_STD, rel=0.01)
    assert weights.mean() == pytest.approx(0.0, abs=0.01)
    assert 1.9 < np.abs(weights).max() <= 2.0


def test_layers_start_with_the_deviation_of_their_own_fan_in():
    dense = started(Dense, 100, 1000)
    conv = started(Conv, 16, 256)
    for layer, fan_in in ((dense, 100), (conv, 3 * 3 * 16)):
        assert layer.weight.std() == pytest.approx(TRUNCATED_STD / np.sqrt(fan_in), rel=0.02)
        np.testing.assert_array_equal(layer.bias, np.zeros(layer.bias.shape))

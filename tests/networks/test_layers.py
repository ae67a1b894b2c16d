"""Layers against loops, the derivatives of max-pooling, and how layers start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import TRUNCATED_STD, assert_close, filled, started
from loops import convolve
from loops import max_pool as pool_by_loops

from stacx.networks.layers import Conv, Dense, max_pool, truncated_normal


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


@pytest.mark.parametrize(
    ("size", "stride", "shape"), [(3, 1, (9, 11)), (4, 2, (4, 5)), (8, 4, (1, 2)), (2, 3, (4, 4))]
)
def test_conv_without_padding(size, stride, shape):
    layer = filled(Conv, 2, 3, size=size, stride=stride, padding="VALID")
    x = np.random.default_rng(0).normal(size=(2, 11, 13, 2)).astype(np.float32)
    y = layer(jnp.asarray(x))
    assert y.shape == (2, *shape, 3)
    expected = convolve(x, layer.weight, layer.bias, stride=stride, padding="VALID")
    assert_close(y, expected)


def pool_by_window(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


@pytest.mark.parametrize("size", [(6, 5), (5, 6), (1, 2), (2, 1)])
@pytest.mark.parametrize("kinds", [2, 10**6])
def test_max_pool_has_the_values_and_derivatives_of_a_window(size, kinds):
    """With few kinds of numbers there are equal maxima; the first in reading order is taken.

    The reference is a window's gradient: its forward derivative takes another of equal maxima.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-kinds, kinds, (3, *size, 2)), jnp.float32)
    jacobian = jax.jacrev(pool_by_window)(x).reshape(-1, x.size)
    value = max_pool(x)
    tangent, cotangent = (jnp.asarray(rng.normal(size=y.shape), jnp.float32) for y in (x, value))
    forward = (jacobian @ tangent.ravel()).reshape(value.shape)
    backward, of_value = ((y.ravel() @ jacobian).reshape(x.shape) for y in (cotangent, value))

    def gradient(x, cotangent):
        return jax.vjp(max_pool, x)[1](cotangent)[0]

    np.testing.assert_array_equal(value, pool_by_loops(x))
    assert_close(jax.jvp(max_pool, (x,), (tangent,)), (value, forward))
    assert_close(
        jax.jvp(gradient, (x, cotangent), (tangent, value)),
        (backward, of_value),
    )
    assert_close(jax.vjp(gradient, x, cotangent)[1](tangent), (jnp.zeros_like(x), forward))


def test_the_gradient_of_max_pool_is_no_scatter():
    x = jnp.ones((1, 4, 4, 1))
    program = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(max_pool(x))))(x))
    assert "scatter" not in program


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

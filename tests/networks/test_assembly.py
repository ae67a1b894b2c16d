"""What a whole network does with types: bytes, arithmetic in bfloat16, products' precision."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import ACTIONS, BATCH, STEPS, assert_close, build, filled, observe, outputs, started
from support import message_of

from stacx.errors import ConfigError
from stacx.types import Box, MultiDiscrete, Network

IMAGES = (6, 6, 2)


def test_bytes_are_divided_by_255():
    images = np.random.default_rng(0).integers(0, 256, (STEPS, BATCH, *IMAGES), np.uint8)
    of_bytes, of_floats = (build(IMAGES, dtype) for dtype in (jnp.uint8, jnp.float32))
    parameters = filled(of_bytes.init)
    assert_close(
        outputs(of_bytes, parameters, jnp.asarray(images)),
        outputs(of_floats, parameters, jnp.asarray(images / 255.0, jnp.float32)),
    )


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_])
def test_other_types_are_taken_as_they_are(dtype):
    observations = jnp.asarray(np.arange(STEPS * BATCH * 4).reshape(STEPS, BATCH, 4) % 2, dtype)
    network, of_floats = build(dtype=dtype), build()
    parameters = filled(network.init)
    assert_close(
        outputs(network, parameters, observations),
        outputs(of_floats, parameters, observations.astype(jnp.float32)),
    )


def test_every_bias_of_a_fresh_network_is_zero_and_every_weight_is_not():
    parameters = started(build(lstm_size=4, head_widths=(6,)).init)
    kinds = {True: 0, False: 0}
    for path, leaf in jax.tree.leaves_with_path(parameters):
        is_bias = "bias" in jax.tree_util.keystr(path)
        kinds[is_bias] += 1
        assert bool(jnp.any(leaf)) != is_bias, path
    assert kinds == {True: 6, False: 7}


SETTINGS = [{"torso": "mlp"}, {"torso": "minatar"}, {"torso": "mlp", "lstm_size": 4}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_bfloat16_is_for_the_torsos_arithmetic_only(settings):
    exact, rounded = (
        build(IMAGES, compute_dtype=dtype, **settings) for dtype in ("float32", "bfloat16")
    )
    parameters, observations = filled(exact.init), observe(IMAGES)

    def loss(parameters):
        output = outputs(rounded, parameters, observations)
        return jnp.sum(output.policy**2), output

    gradient, output = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    wanted = outputs(exact, parameters, observations)
    types = [leaf.dtype for leaf in jax.tree.leaves((filled(rounded.init), gradient, output))]
    assert set(types) == {np.dtype(np.float32)}
    for a, b in zip(jax.tree.leaves(output), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(b).max()
        assert 1e-6 * scale < np.abs(a - b).max() < 0.03 * scale


def test_bfloat16_stops_at_the_end_of_the_torso():
    network = build(compute_dtype="bfloat16", mlp_widths=(8, 8), lstm_size=4, heads=1)
    parameters, observations = filled(network.init), observe()
    program = jax.make_jaxpr(lambda *inputs: outputs(network, *inputs))(parameters, observations)
    products = re.findall(r":(\w+)\[[\d,]*\] = dot_general", str(program))
    assert products.count("bf16") == 2  # two layers
    assert products.count("f32") == 2 + 2  # the LSTM's two products, two heads


PRECISIONS = {"float32": "HIGHEST", "tensorfloat32": "HIGH", "bfloat16": "DEFAULT"}


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("torso", ["minatar", "resnet"])
def test_every_product_also_of_the_gradient_has_the_precision_of_the_config(torso, name):
    """Also outside the training program, where JAX's own default may be another."""
    network = build(IMAGES, torso=torso, channels=(2,), lstm_size=4, matmul_precision=name)
    parameters, observations = filled(network.init), observe(IMAGES)

    def loss(parameters):
        output = outputs(network, parameters, observations)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(output))

    for function in (loss, jax.grad(loss)):
        program = str(jax.make_jaxpr(function)(parameters))
        products = re.findall(r" = (?:dot_general|conv_general_dilated)\[", program)
        precisions = re.findall(r" precision=(.*)", program)
        assert len(precisions) == len(products) >= 5
        assert set(precisions) == {"({0}, {0})".format(f"Precision.{PRECISIONS[name]}")}


def test_bounds_of_a_deviation_are_refused_where_there_is_none():
    with pytest.raises(ConfigError) as caught:
        build(log_std_min=-3.0)
    message = "--log-std-min has no effect for actions that are choices: leave it out"
    assert message_of(caught) == message
    build(log_std_min=-3.0, action_space=Box((0.0,), (1.0,)))


def test_a_policy_head_says_what_the_action_space_needs():
    several = MultiDiscrete((2, 3, 4))
    numbers = build(action_space=Box((0.0, -1.0), (1.0, 1.0)))
    of_choices = build(action_space=several)
    for network, wanted in ((build(), ACTIONS), (numbers, 4), (of_choices, 9)):
        output = outputs(network, filled(network.init), observe())
        assert output.policy.shape == (STEPS, BATCH, 3, wanted)
        assert isinstance(network, Network)
    assert of_choices.action_space == several

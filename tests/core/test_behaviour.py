"""Which policy acts, and which one the outer loss is about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import BATCH, TWO_NUMBERS, TinyNetwork, make_config, make_output, make_trajectory

from stacx.core.behaviour import acting_policy, draw_heads, judged

HEADS = 3


def config_of(behaviour, **settings):
    return make_config(agent="stacx", behaviour=behaviour, **settings)


def acting(config, heads, space=TWO_NUMBERS):
    """The policies that act on the first observations of a trajectory, and what all heads say."""
    network = TinyNetwork(HEADS, space, outer_values=config.has_outer_values)
    parameters, observations = network.init(jax.random.key(0)), make_trajectory().observations[0]
    starts = jnp.zeros((BATCH,), bool)
    policy, _ = acting_policy(network, parameters, observations, starts, (), heads, config)
    output, _ = network.unroll(parameters, observations[None], starts[None], ())
    return policy, output.policy[0]


@pytest.mark.parametrize("heads", [[0, 0, 0], [2, 0, 1]])
@pytest.mark.parametrize("behaviour", ["main", "random", "average"])
def test_who_acts(behaviour, heads):
    policy, outputs = acting(config_of(behaviour), jnp.array(heads))
    expected = {
        "main": outputs[:, 0],
        "random": jnp.stack([outputs[b, head] for b, head in enumerate(heads)]),
        "average": outputs.mean(axis=1),
    }[behaviour]
    np.testing.assert_allclose(policy.mean, jnp.tanh(expected[:, :2]), rtol=1e-5)


def test_heads_are_drawn_alike_and_only_if_they_act_in_turn():
    key = jax.random.key(3)
    drawn = np.asarray(draw_heads(key, 3000, config_of("random")))
    assert set(drawn) == {0, 1, 2}
    assert np.bincount(drawn).min() > 900
    assert not np.array_equal(drawn, draw_heads(jax.random.key(4), 3000, config_of("random")))
    for behaviour in ("main", "average"):
        assert not draw_heads(key, 10, config_of(behaviour)).any()


@pytest.mark.parametrize("behaviour", ["main", "random", "average"])
def test_whom_the_outer_loss_judges(behaviour):
    output = make_output(HEADS)
    own = output._replace(outer_values=output.values[..., :1] + 5.0)
    kept = judged(own if behaviour == "average" else output, config_of(behaviour))
    match behaviour:
        case "main":
            np.testing.assert_array_equal(kept.policy, output.policy[:, :, :1])
            np.testing.assert_array_equal(kept.values, output.values[..., :1])
        case "random":
            np.testing.assert_array_equal(kept.policy, output.policy)
            np.testing.assert_array_equal(kept.values, output.values)
        case "average":
            mean = output.policy.mean(axis=2, keepdims=True)
            np.testing.assert_allclose(kept.policy, mean, rtol=1e-6)
            np.testing.assert_array_equal(kept.values, own.outer_values)


def test_the_outer_value_head_stands_for_head_1_s():
    output = make_output(HEADS)
    own = output._replace(outer_values=output.values[..., :1] + 5.0)
    kept = judged(own, config_of("main", outer_value_head=True))
    np.testing.assert_array_equal(kept.values, own.outer_values)
    np.testing.assert_array_equal(kept.policy, output.policy[:, :, :1])

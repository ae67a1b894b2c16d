"""Ensembles act in both runtimes, and a policy that is used elsewhere acts as they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_actors import BATCH as ACTORS_BATCH
from small_actors import SEED as SEED_OF_ACTORS
from small_actors import Acting
from small_runtimes import BATCH, Case, assert_close

from stacx.core.behaviour import draw_heads
from stacx.core.distributions import Categorical
from stacx.runs.policy import Policy
from stacx.runtimes.randomness import iteration_key

HEADS = 3
SETTINGS = {"agent": "stacx", "tune": "gamma", "head_init": 1.0}


def policies(network, parameters, trajectory):
    """Of all heads along a trajectory."""
    state = trajectory.recurrent_state
    run = jax.jit(network.unroll)
    output, _ = run(parameters, trajectory.observations, trajectory.starts, state)
    return output.policy[:-1]


@pytest.fixture(scope="module", params=["random", "average"])
def case(request) -> Case:
    return Case(SETTINGS | {"behaviour": request.param})


def drawn_at(state, config):
    key = iteration_key(state.seed[0], state.iteration[0])
    return np.asarray(draw_heads(jax.random.split(key)[1], BATCH, config))


def test_on_the_device_the_ensemble_acts(case):
    state, config = case.after(2), case.runtime.config
    _, _, trajectory, _ = case.rollout(state)
    parameters = jax.tree.map(lambda leaf: leaf[0], state.learner.parameters)
    outputs = policies(case.runtime.network, parameters, trajectory)
    drawn = drawn_at(state, config)
    acting = {"random": outputs[:, np.arange(BATCH), drawn], "average": outputs.mean(axis=2)}
    policy = Categorical(acting[config.behaviour])
    assert_close(policy.log_prob(trajectory.actions), trajectory.behaviour_log_probs)
    main = Categorical(outputs[:, :, 0]).log_prob(trajectory.actions)
    assert np.abs(main - trajectory.behaviour_log_probs).max() > 1e-3


def test_every_head_gets_its_turn():
    case = Case(SETTINGS | {"behaviour": "random"})
    drawn = [drawn_at(case.after(n), case.runtime.config) for n in range(5)]
    assert set(np.concatenate(drawn)) == set(range(HEADS))
    assert len({tuple(heads) for heads in drawn}) > 1


@pytest.mark.parametrize("behaviour", ["random", "average"])
def test_on_the_host_the_ensemble_acts(behaviour):
    acting = Acting(agent="impala-aux", behaviour=behaviour)
    inference, parameters = acting.inference, acting.parameters(1)
    unfinished, randomness = inference.begin(4, inference.empty())
    key = iteration_key(jnp.uint32(SEED_OF_ACTORS), jnp.uint32(4))
    np.testing.assert_array_equal(randomness.heads, draw_heads(key, ACTORS_BATCH, acting.config))
    vector = acting.vector()
    _, unfinished, _ = inference.act(
        parameters, inference.initial_state(), unfinished, randomness, vector, 0
    )
    observations, starts = jnp.asarray(vector.observations), jnp.asarray(vector.starts)
    output, _ = acting.network.unroll(
        parameters, observations[None], starts[None], inference.initial_state()
    )
    policy = output.policy[0]
    heads = np.asarray(randomness.heads)
    expected = {
        "random": policy[np.arange(ACTORS_BATCH), heads],
        "average": policy.mean(axis=1),
    }[behaviour]
    log_probs = Categorical(expected).log_prob(unfinished.actions[0])
    assert_close(log_probs, unfinished.behaviour_log_probs[0])


@pytest.mark.parametrize("behaviour", ["random", "average"])
def test_a_policy_of_an_ensemble(behaviour):
    case = Case(SETTINGS | {"behaviour": behaviour})
    network, config = case.runtime.network, case.runtime.config
    parameters = jax.tree.map(lambda leaf: 3 * leaf[0], case.after(2).learner.parameters)
    shape = (8,)
    policy = Policy(config, network, parameters, shape, np.dtype(np.float32), 10)
    observations = np.random.default_rng(0).normal(size=(200, *shape)).astype(np.float32)
    unrolled = jnp.asarray(observations)[None], jnp.zeros((1, 200), bool)
    output, _ = network.unroll(parameters, *unrolled, ())
    greedy, _ = policy.act(observations)
    outputs = output.policy[0]
    acting = {"random": outputs[:, 0], "average": outputs.mean(axis=1)}[behaviour]
    np.testing.assert_array_equal(greedy, acting.argmax(-1))
    sampled = [policy.act(observations, key=jax.random.key(n))[0] for n in range(300)]
    of_heads = jax.nn.softmax(outputs).mean(axis=1)
    expected = {"random": of_heads, "average": jax.nn.softmax(acting)}[behaviour]
    share = np.stack([np.mean(np.stack(sampled) == a, axis=0) for a in range(3)], axis=-1)
    assert np.abs(share - expected).max() < 0.15
    assert np.abs((share - expected).mean(axis=0)).max() < 0.01

"""Heads that are kept apart, in whole updates: head 1 learns as it would alone."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import filled

from stacx.config import Config
from stacx.core.learner import Learner
from stacx.core.metaparameters import hyperparameters
from stacx.networks import ActorCriticNetwork
from stacx.types import Discrete, Trajectory

STEPS, BATCH, FEATURES = 5, 3, 4


def learner_of(agent, **settings):
    config = Config(
        agent=agent,
        mlp_widths=(8,),
        head_init=1.0,
        num_envs=BATCH,
        trajectory_length=STEPS,
        reward_scale=1.0,
        max_gradient_norm=0.5,  # shorter than what there is
        learning_rate=0.1,
        **settings,
    )
    network = ActorCriticNetwork(config, (FEATURES,), np.dtype(np.float32), Discrete(3))
    return Learner(config, network)


def trajectory(seed=0):
    rng = np.random.default_rng(seed)
    return Trajectory(
        observations=jnp.asarray(rng.normal(size=(STEPS + 1, BATCH, FEATURES)), float),
        actions=jnp.asarray(rng.integers(3, size=(STEPS, BATCH)), jnp.int32),
        rewards=jnp.asarray(rng.normal(size=(STEPS, BATCH)), float),
        discounts=jnp.ones((STEPS, BATCH)),
        valid=jnp.ones((STEPS, BATCH)),
        behaviour_log_probs=jnp.full((STEPS, BATCH), -1.0),
        starts=jnp.zeros((STEPS + 1, BATCH), bool),
        recurrent_state=(),
    )


def state_of(learner, parameters):
    state = learner.init(jax.random.key(0))
    return dataclasses.replace(
        state, parameters=parameters, optimiser=learner.optimiser.init(parameters)
    )


def after(learner, parameters, updates=3):
    state, update = state_of(learner, parameters), jax.jit(learner.update)
    for seed in range(updates):
        state, metrics = update(state, trajectory(seed))
        assert float(metrics.gradient_norm) > 0.5
    return state.parameters


def main_of(parameters):
    return eqx.tree_at(lambda p: p.heads, parameters, parameters.heads.main())


def same(one, other):
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def test_with_a_bound_of_0_head_1_is_impala_s_bit_for_bit():
    """Also where auxiliary heads' own gradients are so long that they would take all of a norm."""
    together = learner_of("impala-aux", max_aux_gradient=0.0, aux_g_v=(1e4,))
    parameters = filled(together.network.init)
    actual = after(together, parameters)
    expected = after(learner_of("impala"), main_of(parameters))
    assert same(main_of(actual), expected)
    aux, before = (p.heads.value.weights[0][1] for p in (actual, parameters))
    assert not np.array_equal(aux, before)


@pytest.mark.parametrize("bound", [0.03, None])
def test_else_auxiliary_heads_matter_to_what_is_shared(bound):
    together = learner_of("impala-aux", max_aux_gradient=bound, aux_g_v=(1e4,))
    parameters = filled(together.network.init)
    actual = main_of(after(together, parameters, 1))
    expected = after(learner_of("impala"), main_of(parameters), 1)
    assert not same(actual.torso, expected.torso)
    # head 1's own weights: but for the norm, of which the others' part is in the torso's
    moves = [
        np.asarray(p.heads.policy.weights[0] - parameters.heads.policy.weights[0][:1]).ravel()
        for p in (actual, expected)
    ]
    size = np.linalg.norm(moves[0]) / np.linalg.norm(moves[1])
    assert size == pytest.approx(1.0, abs=0.01) if bound else size < 0.1


@pytest.mark.parametrize("bound", [0.1, 1e6], ids=["cut", "not cut"])
def test_the_inner_step_is_differentiated_through_the_bound(bound, monkeypatch):
    """What the metagradient is made of, in double precision against finite differences."""
    with jax.enable_x64(True):
        learner = learner_of("stacx", max_aux_gradient=bound)
        in_double = lambda torso, observations: torso(observations)  # noqa: E731
        monkeypatch.setattr(learner.network, "_features", in_double)
        parameters = jax.tree.map(lambda leaf: leaf.astype(float), filled(learner.network.init))
        state, data = state_of(learner, parameters), trajectory()
        rng = np.random.default_rng(4)
        probe = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), parameters)
        logits = {name: jnp.array([1.0, 0.5, -0.5]) for name in state.logits}

        @jax.jit
        def moved(logits):
            zeta = hyperparameters(logits, learner.config)
            new = learner._inner_step(state, zeta, data).parameters
            along = jax.tree.map(lambda a, b: jnp.sum(a * b), new, probe)
            return sum(jax.tree.leaves(along))

        actual = jax.jit(jax.grad(moved))(logits)
        for name, values in actual.items():
            for head in range(3):
                up, down = (
                    moved(logits | {name: logits[name].at[head].add(step)})
                    for step in (1e-5, -1e-5)
                )
                expected = (up - down) / 2e-5
                np.testing.assert_allclose(values[head], expected, rtol=1e-4, atol=1e-9)
            assert np.abs(values[1:]).max() > 1e-8

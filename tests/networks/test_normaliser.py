"""Normalised observations: the averages, what they do to a network, and to an update."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import BATCH, STEPS, assert_close, build, outputs, started
from hypothesis import given, settings
from hypothesis import strategies as st

from stacx.config import Config
from stacx.core.learner import Learner
from stacx.networks import ActorCriticNetwork
from stacx.networks.normaliser import Normaliser
from stacx.types import Box, Trajectory

SCALES, MEANS = np.array([1e-3, 1.0, 50.0, 1.0]), np.array([0.0, 3.0, -40.0, 0.0])
SPACE = Box((-1.0,), (1.0,))
after = jax.jit(Normaliser.after)


def seen(batches=1, seed=0) -> jax.Array:
    shape = (batches, STEPS, BATCH, 4)
    values = np.random.default_rng(seed).normal(size=shape) * SCALES + MEANS
    return jnp.asarray(values, jnp.float32)


@settings(deadline=None, max_examples=30)  # the first call compiles
@given(st.lists(st.integers(0, 2 ** (STEPS * BATCH) - 1), min_size=1, max_size=4))
def test_mean_and_variance_are_those_of_all_valid_observations(masks):
    batches = seen(len(masks))
    bits = [[mask >> place & 1 for place in range(STEPS * BATCH)] for mask in masks]
    valid = np.array(bits, np.float32).reshape(len(masks), STEPS, BATCH)
    normaliser = Normaliser((4,))
    for observations, weights in zip(batches, valid, strict=True):
        normaliser = after(normaliser, observations, jnp.asarray(weights))
    counted = np.asarray(batches, np.float64)[valid == 1]
    assert int(normaliser.count) == len(counted)
    if len(counted):
        np.testing.assert_allclose(normaliser.mean, counted.mean(0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(normaliser.variance, counted.var(0), rtol=1e-3, atol=1e-6)
    else:
        np.testing.assert_array_equal(normaliser.mean, 0.0)
        np.testing.assert_array_equal(normaliser.variance, 1.0)


def test_normalised_observations_have_mean_0_and_variance_1_and_are_clipped():
    observations = seen()[0]
    normaliser = after(Normaliser((4,)), observations, jnp.ones((STEPS, BATCH)))
    normalised = normaliser(observations.reshape(-1, 4))
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(0), 1.0, rtol=0.01)
    far = normaliser(jnp.full((1, 4), 1e6))
    np.testing.assert_array_equal(far, 10.0)


def test_what_is_not_valid_may_be_anything():
    observations, valid = seen()[0], jnp.ones((STEPS, BATCH)).at[2, 1].set(0.0)
    wanted = after(Normaliser((4,)), observations, valid)
    assert_close(after(Normaliser((4,)), observations.at[2, 1].set(jnp.nan), valid), wanted)


@pytest.mark.parametrize("value", [0.7, 12345.678])
def test_a_component_that_never_changes_becomes_0(value):
    observations = jnp.full((STEPS, BATCH, 4), value)
    normaliser = after(Normaliser((4,)), observations, jnp.ones((STEPS, BATCH)))
    np.testing.assert_allclose(normaliser(observations.reshape(-1, 4)), 0.0, atol=1e-2)


def with_statistics(parameters, observations):
    normaliser = after(parameters.normaliser, observations, jnp.ones((STEPS, BATCH)))
    return eqx.tree_at(lambda network: network.normaliser, parameters, normaliser)


@pytest.mark.parametrize("core", [{}, {"lstm_size": 4}])
def test_a_network_normalises_what_its_torso_gets(core):
    network, plain = build(normalise_observations=True, **core), build(**core)
    fresh, observations = started(network.init), seen()[0]
    parameters = with_statistics(fresh, observations)
    without = eqx.tree_at(lambda network: network.normaliser, fresh, None)
    normalised = parameters.normaliser(observations.reshape(-1, 4)).reshape(STEPS, BATCH, 4)
    assert_close(outputs(network, parameters, observations), outputs(plain, without, normalised))
    unnormalised = outputs(network, fresh, observations).values
    assert np.abs(unnormalised - outputs(network, parameters, observations).values).max() > 0.01


def test_pictures_have_one_deviation_for_all_pixels():
    """A pixel that hardly changes stays near 0; the others have a mean variance of 1 with it."""
    values = np.random.default_rng(0).choice([100, 160], (STEPS, BATCH, 2, 2, 3)).astype(np.uint8)
    values[:, :, 0, 0] = 200
    values[0, 0, 0, 0] = 201
    normaliser = Normaliser((2, 2, 3), pictures=True)
    fresh = normaliser(jnp.asarray(values[0], jnp.float32))
    np.testing.assert_allclose(fresh, (values[0] - 127.5) / (255 / 12**0.5), rtol=1e-4, atol=1e-4)
    normaliser = after(normaliser, jnp.asarray(values, jnp.float32), jnp.ones((STEPS, BATCH)))
    normalised = np.asarray(normaliser(jnp.asarray(values, jnp.float32).reshape(-1, 2, 2, 3)))
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised.var(0).mean(), 1.0, rtol=1e-3)
    assert np.abs(normalised[:, 0, 0]).max() < 0.05
    assert np.abs(normalised[:, 1, 1]).max() < 3


def test_noise_alone_is_not_enlarged():
    """One pixel that is off by one level, once, in pictures in which nothing happens."""
    values = np.full((STEPS, BATCH, 2, 2, 3), 80, np.float32)
    values[0, 0, 0, 0, 0] = 81
    values = jnp.asarray(values)
    normaliser = after(Normaliser((2, 2, 3), pictures=True), values, jnp.ones((STEPS, BATCH)))
    assert np.abs(normaliser(values.reshape(-1, 2, 2, 3))).max() < 1


def test_bytes_that_are_no_picture_have_a_deviation_each():
    network = build((128,), jnp.uint8, suite="continuous")
    assert not started(network.init).normaliser.pictures


def test_a_network_normalises_pictures():
    """In place of dividing them by 255."""
    settings = {"suite": "continuous", "torso": "minatar"}
    network = build((6, 6, 3), jnp.uint8, **settings)
    plain = build((6, 6, 3), jnp.uint8, normalise_observations=False, **settings)
    pictures = np.random.default_rng(0).integers(0, 256, (STEPS, BATCH, 6, 6, 3), np.uint8)
    parameters = with_statistics(started(network.init), jnp.asarray(pictures, jnp.float32))
    assert parameters.normaliser.pictures
    without = eqx.tree_at(lambda n: n.normaliser, parameters, None)
    flat = jnp.asarray(pictures.reshape(-1, 6, 6, 3), jnp.float32)
    normalised = parameters.normaliser(flat).reshape(pictures.shape)
    assert_close(outputs(network, parameters, pictures), outputs(plain, without, normalised))


# --- in an update ---------------------------------------------------------------------------------


def learner_of(**settings) -> Learner:
    config = Config(
        env="dmc:cartpole-balance",
        agent="stacx",
        mlp_widths=(8,),
        head_widths=(),
        **{"lstm_size": 0, "overlap": 0, "trajectory_length": STEPS} | settings,
    )
    return Learner(config, ActorCriticNetwork(config, (4,), np.dtype(np.float32), SPACE))


def trajectory_of(observations, **fields) -> Trajectory:
    ones = jnp.ones((STEPS, BATCH))
    rng = np.random.default_rng(3)
    return Trajectory(
        **{
            "actions": jnp.asarray(rng.normal(size=(STEPS, BATCH, 1)), jnp.float32),
            "rewards": jnp.asarray(rng.normal(size=(STEPS, BATCH)), jnp.float32),
            "discounts": ones,
            "valid": ones,
            "behaviour_log_probs": -ones,
            "observations": observations,
            "starts": jnp.zeros((STEPS + 1, BATCH), bool),
            "recurrent_state": (),
        }
        | fields
    )


@pytest.fixture(scope="module")
def update():
    """A learner that normalises, its state with averages, a trajectory, and its update."""
    learner = learner_of(normalise_observations=True)
    state = learner.init(jax.random.key(0))
    known = with_statistics(state.parameters, seen()[0])
    state = eqx.tree_at(lambda s: s.parameters, state, known)
    observations = jnp.concatenate([seen(seed=1)[0], seen(seed=2)[0, :1]])
    return learner, state, trajectory_of(observations), jax.jit(learner.update)


def test_an_update_is_that_of_normalised_observations(update):
    """The averages get no gradient, neither do optimiser or metagradient see them."""
    _, state, trajectory, run = update
    new, metrics = run(state, trajectory)
    plain = learner_of()
    strip = lambda tree: eqx.tree_at(lambda n: n.normaliser, tree, None)  # noqa: E731
    start = plain.init(jax.random.key(0))
    start = eqx.tree_at(lambda s: s.parameters, start, strip(state.parameters))
    flat = trajectory.observations.reshape(-1, 4)
    normalised = state.parameters.normaliser(flat).reshape(trajectory.observations.shape)
    wanted, plain_metrics = jax.jit(plain.update)(
        start, dataclasses.replace(trajectory, observations=normalised)
    )
    assert_close(strip(new.parameters), wanted.parameters)
    assert_close(new.logits, wanted.logits)
    assert_close(metrics.metagradient_norm, plain_metrics.metagradient_norm)
    assert float(metrics.metagradient_norm) > 0


def test_an_update_counts_the_valid_observations_but_the_last(update):
    _, state, trajectory, run = update
    valid = trajectory.valid.at[0, 0].set(0.0)
    new, _ = run(state, dataclasses.replace(trajectory, valid=valid))
    wanted = after(state.parameters.normaliser, trajectory.observations[:-1], valid)
    assert_close(new.parameters.normaliser, wanted)
    assert int(new.parameters.normaliser.count) == 2 * STEPS * BATCH - 1


@pytest.mark.parametrize(
    "settings",
    [{"overlap": 2}, {"outer_steps": 2}, {"outer_steps": 1, "overlap": 1}, {"burn_in": 1}],
    ids=str,
)
def test_each_transition_is_counted_by_one_update(settings):
    """The new ones of its trajectory, whichever loss they are for."""
    learner = learner_of(normalise_observations=True, lstm_size=4, **settings)
    state = learner.init(jax.random.key(0))
    observations = jnp.concatenate([seen(seed=1)[0], seen(seed=2)[0, :1]])
    memory = learner.network.initial_state(BATCH)
    new, _ = jax.jit(learner.update)(state, trajectory_of(observations, recurrent_state=memory))
    fresh = slice(learner.config.overlap, STEPS)
    valid = jnp.ones((STEPS, BATCH))[fresh]
    wanted = after(state.parameters.normaliser, observations[fresh], valid)
    assert_close(new.parameters.normaliser, wanted)


def test_a_skipped_update_counts_nothing(update):
    _, state, trajectory, run = update
    rewards = trajectory.rewards.at[0, 0].set(jnp.nan)
    new, metrics = run(state, dataclasses.replace(trajectory, rewards=rewards))
    assert bool(metrics.skipped)
    assert_close(new.parameters.normaliser, state.parameters.normaliser)

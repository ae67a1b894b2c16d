"""The LSTM against Equinox's cell, and episodes that begin inside a trajectory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import (
    BATCH,
    STEPS,
    TRUNCATED_STD,
    assert_close,
    build,
    filled,
    observe,
    started,
    starts_at,
)

from stacx.networks.recurrent import LSTM

FEATURES, UNITS = 4, 5
run = jax.jit(lambda lstm, *inputs: lstm(*inputs))


@pytest.fixture(scope="module")
def lstm() -> LSTM:
    return filled(LSTM, FEATURES, UNITS)


def some_state() -> tuple[jax.Array, jax.Array]:
    states = np.random.default_rng(2).normal(size=(2, BATCH, UNITS))
    return tuple(jnp.asarray(states, jnp.float32))


def as_equinox(lstm: LSTM) -> eqx.nn.LSTMCell:
    """The same weights in Equinox's order of gates (i, f, g, o), with 1 added to f's bias."""
    i, g, f, o = range(4)

    def reordered(array):
        parts = np.split(np.asarray(array), 4, axis=-1)
        return jnp.concatenate([parts[gate] for gate in (i, f, g, o)], axis=-1).T

    cell = eqx.nn.LSTMCell(FEATURES, UNITS, key=jax.random.key(0))
    bias = reordered(lstm.bias).at[UNITS : 2 * UNITS].add(1.0)
    leaves = (reordered(lstm.input_weight), reordered(lstm.hidden_weight), bias)
    return eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, leaves)


def test_it_is_equinoxs_cell_with_one_added_to_the_forget_gate(lstm):
    cell, features, state = jax.jit(jax.vmap(as_equinox(lstm))), observe(), some_state()
    outputs, last = run(lstm, features, starts_at(), state)
    for step in range(STEPS):
        state = cell(features[step], state)
        assert_close(outputs[step], state[0])
    assert_close(last, state)


def test_an_episode_inside_a_trajectory_starts_afresh(lstm):
    """Environment 1 begins again at step 2; the others are as if it had not."""
    features, state = observe(), some_state()
    outputs, last = run(lstm, features, starts_at((2, 1)), state)
    fresh = jax.tree.map(jnp.zeros_like, state)
    afresh, afresh_last = run(lstm, features[2:], starts_at()[2:], fresh)
    undisturbed, undisturbed_last = run(lstm, features, starts_at(), state)
    assert_close(outputs[2:, 1], afresh[:, 1])
    assert_close(outputs[:2, 1], undisturbed[:2, 1])
    assert_close(outputs[:, ::2], undisturbed[:, ::2])
    assert np.abs(outputs[2:, 1] - undisturbed[2:, 1]).max() > 1e-3
    for leaf, new, old in zip(last, afresh_last, undisturbed_last, strict=True):
        assert_close(leaf[1], new[1])
        assert_close(leaf[::2], old[::2])


def test_an_episode_at_the_first_step_forgets_the_given_state(lstm):
    features = observe()
    starts = starts_at(*((0, lane) for lane in range(BATCH)))
    outputs, _ = run(lstm, features, starts, some_state())
    fresh, _ = run(lstm, features, starts_at(), jax.tree.map(jnp.zeros_like, some_state()))
    assert_close(outputs, fresh)


def test_two_halves_with_the_state_carried_over_are_the_whole():
    network = build(lstm_size=UNITS)
    parameters, observations = filled(network.init), observe()
    starts, state = starts_at((1, 0), (3, 2), (4, 1)), network.initial_state(BATCH)
    unroll = jax.jit(network.unroll)
    whole, end = unroll(parameters, observations, starts, state)
    first, state = unroll(parameters, observations[:3], starts[:3], state)
    second, state = unroll(parameters, observations[3:], starts[3:], state)
    assert_close(jax.tree.map(lambda *halves: np.concatenate(halves), first, second), whole)
    assert_close(state, end)


def test_the_gradient_does_not_pass_into_the_episode_before(lstm):
    def last_output(features):
        outputs, _ = run(lstm, features, starts_at((3, 0)), some_state())
        return jnp.sum(outputs[-1])

    gradient = jax.jit(jax.grad(last_output))(observe())
    assert not gradient[:3, 0].any()
    assert gradient[3:, 0].any()
    assert gradient[:3, 1].any()


def test_its_weights_start_as_in_haiku():
    lstm = started(LSTM, 100, 300)
    assert lstm.hidden_weight.shape == (300, 4 * 300)
    for weight in (lstm.input_weight, lstm.hidden_weight):
        assert weight.std() == pytest.approx(TRUNCATED_STD / np.sqrt(400), rel=0.02)
    assert not lstm.bias.any()


def test_states_start_at_zero_and_feed_forward_networks_have_none():
    for leaf in build(lstm_size=UNITS).initial_state(BATCH):
        np.testing.assert_array_equal(leaf, np.zeros((BATCH, UNITS)))
    assert build().initial_state(BATCH) == ()

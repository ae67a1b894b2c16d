"""Clipping, RMSProp and its schedule, by hand; and what the metagradient meets there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import BATCH, STEPS, TinyNetwork, make_config

from stacx.core.optimiser import make_optimiser

SETTINGS = {
    "steps": 10 * STEPS * BATCH,  # ten updates
    "learning_rate": 0.4,
    "end_learning_rate": 0.1,
    "rmsprop_decay": 0.9,
    "rmsprop_eps": 0.2,
    "rmsprop_initial": 0.5,
    "max_gradient_norm": 5.0,
}
GRADIENTS = [[3.0, -1.0], [30.0, 40.0], [0.0, 0.5]]
"""The second is longer than 5."""


def optimiser_of(**settings):
    config = make_config(**SETTINGS | settings)
    return make_optimiser(config, TinyNetwork(config.heads))


def test_three_updates_by_hand():
    optimiser = optimiser_of()
    parameters = jnp.zeros(2)
    state, moment = optimiser.init(parameters), np.full(2, 0.5)
    for count, gradient in enumerate([[3.0, -1.0], [3.0, 4.0], [0.0, 0.5]]):
        update, state = optimiser.update(jnp.array(GRADIENTS[count]), state, parameters)
        g = np.array(gradient)
        moment = 0.9 * moment + 0.1 * g**2
        rate = 0.4 - 0.03 * count
        np.testing.assert_allclose(update, -rate * g / np.sqrt(moment + 0.2), rtol=1e-6)


@pytest.mark.parametrize("constant", [False, True])
def test_a_constant_moment_changes_the_derivative_alone(x64, constant):
    """d/dg of g / sqrt(nu + eps), where nu has (1 - decay) g^2 in it or is constant."""
    optimiser = optimiser_of(through_second_moment=not constant)
    state = optimiser.init(jnp.zeros(1))

    def moved(g):
        return optimiser.update(g[None], state, jnp.zeros(1))[0][0]

    g, moment = 2.0, 0.9 * 0.5 + 0.1 * 2.0**2
    root = np.sqrt(moment + 0.2)
    np.testing.assert_allclose(moved(jnp.float64(g)), -0.4 * g / root)
    through = 0.0 if constant else 0.1 * g**2 / root**3
    np.testing.assert_allclose(jax.grad(moved)(jnp.float64(g)), -0.4 * (1 / root - through))


def test_the_derivative_is_finite_where_the_gradient_is_zero():
    optimiser = optimiser_of(rmsprop_initial=0.0)
    state = optimiser.init(jnp.zeros(2))
    derivative = jax.jacrev(lambda g: optimiser.update(g, state, jnp.zeros(2))[0])(jnp.zeros(2))
    np.testing.assert_allclose(derivative, -0.4 / np.sqrt(0.2) * np.eye(2), rtol=1e-6)


def test_a_clipped_gradient_keeps_its_direction_to_the_derivative(x64):
    """Along itself a clipped gradient has no effect any more."""
    optimiser = optimiser_of()
    state, long = optimiser.init(jnp.zeros(2)), jnp.array([30.0, 40.0])
    _, along = jax.jvp(lambda g: optimiser.update(g, state, jnp.zeros(2))[0], (long,), (long,))
    np.testing.assert_allclose(along, 0.0, atol=1e-12)


def test_heads_apart_are_clipped_each_by_itself():
    """What is shared goes with head 1; a head that is short stays as it is."""
    optimiser = optimiser_of(max_aux_gradient=0.1, rmsprop_decay=1.0)  # a moment that stays
    gradient = {
        "torso": jnp.array([[30.0]]),
        "policy": jnp.array([[40.0, 0.0], [3e9, 0.0], [0.3, 0.4]]),
        "value": jnp.array([[0.0], [4e9], [0.0]]),
    }
    update, _ = optimiser.update(gradient, optimiser.init(gradient), gradient)
    size = 0.4 / np.sqrt(0.5 + 0.2)
    expected = {
        "torso": [[3.0]],
        "policy": [[4.0, 0.0], [3.0, 0.0], [0.3, 0.4]],
        "value": [[0.0], [4.0], [0.0]],
    }
    for name, leaf in expected.items():
        np.testing.assert_allclose(update[name], -size * np.array(leaf), rtol=1e-6)

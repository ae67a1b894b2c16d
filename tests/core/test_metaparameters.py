"""From eta to zeta (Algorithm 2, line 10)."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import make_config

from stacx.agents import METAPARAMETERS
from stacx.core.metaparameters import hyperparameters, initial_logits, outer_hyperparameters

LOSS_WEIGHTS = {"g_v": 0.25, "g_p": 1.0, "g_e": 0.01}
"""Outer values of Table 3."""


def initial_zeta(**settings):
    config = make_config(**settings)
    return hyperparameters(initial_logits(config), config)


@pytest.mark.parametrize("name", METAPARAMETERS)
def test_everything_starts_at_0_990_of_its_scale(name):
    zeta = initial_zeta(agent="stac")
    np.testing.assert_allclose(zeta[name], 0.990048 * LOSS_WEIGHTS.get(name, 1.0), rtol=1e-5)


def test_gamma_may_exceed_its_outer_value():
    config = make_config(agent="stac", gamma=0.9)
    zeta = hyperparameters(initial_logits(config) | {"gamma": jnp.array([6.0])}, config)
    np.testing.assert_allclose(zeta["gamma"], 1 / (1 + np.exp(-6.0)), rtol=1e-6)


@pytest.mark.parametrize("heads", [1, 3])
def test_what_is_not_tuned_has_exactly_its_outer_value(heads):
    config = make_config(agent="impala", heads=heads, gamma=0.97, lambda_=0.9, alpha=0.8)
    zeta = hyperparameters(initial_logits(config), config)
    assert initial_logits(config) == {}
    for name, outer in config.outer_values().items():
        np.testing.assert_array_equal(zeta[name], np.full(heads, outer, np.float32))
    assert zeta.keys() == outer_hyperparameters(config).keys() == set(METAPARAMETERS)


def test_a_subset_is_tuned():
    config = make_config(agent="stacx", tune="g_e,gamma", lambda_=0.9)
    logits = initial_logits(config)
    zeta = hyperparameters(logits, config)
    assert set(logits) == {"gamma", "g_e"}
    np.testing.assert_array_equal(zeta["lambda"], np.full(3, 0.9, np.float32))
    np.testing.assert_allclose(zeta["g_e"], np.full(3, 0.00990048), rtol=1e-5)


def test_initial_values_per_metaparameter():
    zeta = initial_zeta(agent="stac", initial_gamma=0.8, initial_g_e=0.5)
    np.testing.assert_allclose(zeta["gamma"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(zeta["g_e"], 0.5 * 0.01, rtol=1e-6)
    np.testing.assert_allclose(zeta["lambda"], 0.990048, rtol=1e-5)


@pytest.mark.parametrize("name", METAPARAMETERS)
def test_each_can_start_elsewhere_and_alone(name):
    usual = initial_zeta(agent="stac")
    moved = initial_zeta(agent="stac", **{f"initial_{name}": 0.6})
    for other in METAPARAMETERS:
        wanted = 0.6 * LOSS_WEIGHTS.get(name, 1.0) if other == name else usual[other]
        np.testing.assert_allclose(moved[other], wanted, rtol=1e-6)


def test_initial_logit_for_all():
    np.testing.assert_allclose(initial_zeta(agent="stac", initial_logit=0.0)["alpha"], 0.5)


def test_every_head_has_its_own():
    config = make_config(agent="stacx")
    logits = initial_logits(config)
    assert {name: logit.shape for name, logit in logits.items()} == dict.fromkeys(
        METAPARAMETERS, (3,)
    )
    zeta = hyperparameters(logits | {"g_v": jnp.array([0.0, 1.0, -1.0])}, config)
    expected = 0.25 / (1 + np.exp([0.0, -1.0, 1.0]))
    np.testing.assert_allclose(zeta["g_v"], expected, rtol=1e-6)


def test_outer_values_by_head():
    config = make_config(agent="stacx")
    for heads in (1, 3):
        zeta = outer_hyperparameters(config, heads=heads)
        assert all(value.shape == (heads,) for value in zeta.values())

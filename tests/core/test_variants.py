"""The paper's variants: each against finite differences of Algorithm 2, and seen to matter."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from algorithm_2 import Oracle, make_learner, metagradient_of, mid_training
from small_problem import BATCH, ONE_CHOICE, STEPS, TWO_NUMBERS, make_config, make_trajectory
from support import quick_jit

from stacx.config import Config
from stacx.core.learner import LearnerState
from stacx.core.metaparameters import hyperparameters, initial_logits
from stacx.types import UpdateMetrics

TWO_ALPHAS = "gamma,lambda,alpha_rho,alpha_c,g_v,g_p,g_e"
VARIANTS = {
    "the paper's": {},
    "two alphas": {"tune": TWO_ALPHAS},
    "clip": {"tune": "gamma,lambda,alpha,clip,g_v,g_p,g_e", "clip_rho": 1.2, "clip_c": 1.2},
    "shared embedding": {"gamma_embedding": "shared"},
    "own embeddings": {"gamma_embedding": "per-head"},
    "nine heads": {"heads": 9},
    "random ensemble": {"behaviour": "random"},
    "average ensemble": {"behaviour": "average"},
    "outer value head": {"outer_value_head": True},
    "next batch": {"outer_steps": 3},
    "fraction": {"outer_fraction": 0.5},
    "constant moment": {"through_second_moment": False},
    "mixed bootstrap": {"bootstrap": "mixed"},
    "heads apart": {"max_aux_gradient": 1e9},
    "fixed auxiliaries": {"tune": "gamma,g_e", "aux_lambda": (0.5,), "aux_g_v": (0.1, 0.9)},
    "many at once": {
        "outer_value_head": True,
        "outer_steps": 2,
        "outer_fraction": 0.3,
        "gamma_embedding": "shared",
        "bootstrap": "mixed",
        "tune": TWO_ALPHAS,
    },
}
VARIANTS |= {f"{name}, continuous": VARIANTS[name] for name in ("two alphas", "many at once")}


class Updated(NamedTuple):
    """An update mid-training, and the oracle for it."""

    variant: str
    config: Config
    before: LearnerState
    after: LearnerState
    metrics: UpdateMetrics
    oracle: Oracle


def space_of(variant):
    return TWO_NUMBERS if variant.endswith("continuous") else ONE_CHOICE


@functools.cache
def update_of(variant) -> Updated:
    with jax.enable_x64(True):
        settings = {
            "agent": "stac",
            "heads": 3,
            "max_gradient_norm": 0.5,
            "steps": 100 * STEPS * BATCH,
            "learning_rate": 0.05,
            "lambda_": 0.9,
        }
        space = space_of(variant)
        learner = make_learner(space=space, **settings | VARIANTS[variant])
        state, trajectory = mid_training(learner), make_trajectory(space=space)
        if learner.config.gamma_embedding != "none":
            gamma = hyperparameters(state.logits, learner.config)["gamma"]
            told = learner.network.conditioned_on(state.parameters, gamma)
            state = dataclasses.replace(state, parameters=told)
        after, metrics = quick_jit(learner.update)(state, trajectory)
        assert not metrics.skipped
        return Updated(
            variant, learner.config, state, after, metrics, Oracle(learner, state, trajectory)
        )


@pytest.fixture(params=VARIANTS)
def updated(x64, request):
    return update_of(request.param)


def test_the_metagradient_equals_finite_differences_of_the_whole_update(updated):
    actual = metagradient_of(updated.after)
    expected = updated.oracle.metagradient(updated.before.logits)
    assert set(actual) == set(updated.config.tuned)
    for name, values in expected.items():
        of_main = 0 if space_of(updated.variant) == ONE_CHOICE else slice(None)
        assert np.abs(values[of_main]).max() > 1e-7  # densities are small: head 1's weights, too
        np.testing.assert_allclose(actual[name], values, rtol=1e-5, atol=1e-9)


def test_the_update_equals_the_oracle_s(updated):
    oracle, logits = updated.oracle, updated.before.logits
    expected = oracle.told(oracle.moved(logits), updated.after.logits)
    for name, leaf in expected.items():
        np.testing.assert_allclose(updated.after.parameters[name], leaf, rtol=1e-6, atol=1e-8)
    outer = oracle.outer_loss(logits, oracle.frozen(logits))
    np.testing.assert_allclose(updated.metrics.outer_loss, outer, rtol=1e-6)
    np.testing.assert_allclose(updated.metrics.kl, oracle.kl(logits), rtol=1e-6)
    alphas = {"alpha_rho", "alpha_c"} if "alpha_rho" in updated.config.tuned else {"alpha"}
    clip = {"clip"} & set(updated.config.tuned)
    expected = {"gamma", "lambda", "g_v", "g_p", "g_e"} | alphas | clip
    assert set(updated.metrics.metaparameters) == expected


def of_the_paper(x64_variant):
    """A variant's update and the paper's, of the same state and data."""
    variant, paper = update_of(x64_variant), update_of("the paper's")
    for name in ("torso", "policy", "value"):
        np.testing.assert_array_equal(
            variant.before.parameters[name], paper.before.parameters[name]
        )
    return variant, paper


SAME_INNER_STEP = ["random ensemble", "fraction", "constant moment"]


@pytest.mark.parametrize("name", [*SAME_INNER_STEP, "outer value head", "next batch"])
def test_a_variant_of_the_outer_loss_has_another_metagradient(x64, name):
    variant, paper = of_the_paper(name)
    gradients = [metagradient_of(updated.after)["gamma"][0] for updated in (variant, paper)]
    assert abs(gradients[0] / gradients[1] - 1) > 1e-4
    policies = [updated.after.parameters["policy"] for updated in (variant, paper)]
    assert np.array_equal(*policies) == (name in SAME_INNER_STEP)


@pytest.mark.parametrize(
    "name", ["mixed bootstrap", "fixed auxiliaries", "average ensemble", "heads apart"]
)
def test_a_variant_of_the_inner_loss_moves_parameters_elsewhere(x64, name):
    variant, paper = of_the_paper(name)
    moves = [updated.after.parameters["torso"] for updated in (variant, paper)]
    assert np.abs(moves[0] - moves[1]).max() > 1e-4


@pytest.mark.parametrize("fixed", ["gamma", "lambda", "g_v", "g_p", "g_e"])
def test_impala_aux_learns_otherwise_with_other_auxiliary_values(x64, fixed):
    """Which nothing tunes; head 1 keeps its own."""
    value = {"gamma": 0.5, "lambda": 0.3, "g_v": 2.0, "g_p": 3.0, "g_e": 1.0}[fixed]
    torsos = []
    for aux in ({}, {f"aux_{fixed.rstrip('_')}": (value,)}):
        learner = make_learner(agent="impala-aux", **aux)
        state = learner.init(jax.random.key(0))
        after, metrics = quick_jit(learner.update)(state, make_trajectory())
        torsos.append(after.parameters["torso"])
    assert np.abs(torsos[0] - torsos[1]).max() > 1e-6
    seen = np.asarray(metrics.metaparameters[fixed])
    assert np.all(seen[1:] == value)
    assert seen[0] != value


def learner_and_state(**settings):
    learner = make_learner(agent="stac", **settings)
    return learner, learner.init(jax.random.key(0))


def metagradient(**settings):
    learner, state = learner_and_state(**settings)
    after, _ = quick_jit(learner.update)(state, make_trajectory())
    return metagradient_of(after)


# --- what is tuned ------------------------------------------------------------------------------


def test_two_alphas_share_what_one_has(x64):
    one, two = metagradient(), metagradient(tune=TWO_ALPHAS)
    assert set(two) == {"gamma", "lambda", "alpha_rho", "alpha_c", "g_v", "g_p", "g_e"}
    np.testing.assert_allclose(two["alpha_rho"] + two["alpha_c"], one["alpha"], rtol=1e-6)
    assert np.all(two["alpha_rho"] != 0)
    assert np.all(two["alpha_c"] != 0)


def test_truncation_starts_below_its_outer_value():
    config = make_config(agent="stac", tune="alpha,clip", clip_rho=2.0, clip_c=2.0)
    zeta = hyperparameters(initial_logits(config), config)
    np.testing.assert_allclose(zeta["clip"], 2.0 * 0.990048, rtol=1e-5)


def test_truncation_has_no_metagradient_where_nothing_is_truncated(x64):
    """The paper's guess why this variant is worse: alpha and truncation are both idle then."""
    learner, state = learner_and_state(tune="alpha,clip", initial_clip=0.999)
    trajectory = make_trajectory()
    never = dataclasses.replace(trajectory, behaviour_log_probs=jnp.zeros((STEPS, BATCH)))
    after, _ = quick_jit(learner.update)(state, never)
    for gradient in metagradient_of(after).values():
        np.testing.assert_allclose(gradient, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["alpha_rho", "alpha_c", "clip"])
def test_variants_start_where_they_are_told(name):
    config = make_config(agent="stac", tune=name, **{f"initial_{name}": 0.3})
    np.testing.assert_allclose(
        hyperparameters(initial_logits(config), config)[name], 0.3, rtol=1e-6
    )


def test_what_auxiliary_heads_have():
    config = make_config(agent="impala-aux", gamma=0.9, aux_gamma=(0.5,), aux_g_e=(0.1, 0.2))
    zeta = hyperparameters({}, config)
    np.testing.assert_allclose(zeta["gamma"], [0.9, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(zeta["g_e"], [0.01, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(zeta["lambda"], 1.0)


# --- the outer loss -----------------------------------------------------------------------------


def test_the_kl_term_s_weight(x64):
    """The metagradient is affine in g_kl."""
    without, paper = metagradient(g_kl=0.0), metagradient(g_kl=1.0)
    for weight in (0.3, 2.0):
        for name, gradient in metagradient(g_kl=weight).items():
            expected = without[name] + weight * (paper[name] - without[name])
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-12)
            assert abs(gradient[0] - without[name][0]) > 1e-9


def test_the_outer_value_head_learns_the_outer_discount(x64):
    """Its gradient is that of a critic with gamma_outer: of the other heads' zeta it knows none."""
    moves = []
    for gamma in (0.5, 0.9):
        learner, state = learner_and_state(
            outer_value_head=True, gamma=0.8, initial_gamma=gamma, max_gradient_norm=1e6
        )
        after, _ = quick_jit(learner.update)(state, make_trajectory())
        moves.append(after.parameters["outer"] - state.parameters["outer"])
    np.testing.assert_allclose(*moves, rtol=1e-9)
    assert np.abs(moves[0]).max() > 1e-5


@pytest.mark.parametrize("tune", ["all", "gamma"])
def test_metaparameters_may_move_every_few_updates_only(x64, tune):
    """In between the update is that of an agent whose metaparameters stand still."""
    settings = {"tune": tune, "steps": 100 * STEPS * BATCH}
    every, state = learner_and_state(**settings)
    third, _ = learner_and_state(**settings, meta_interval=3)
    always, sometimes = quick_jit(every.update), quick_jit(third.update)
    moved = []
    for number in range(7):
        trajectory = make_trajectory(seed=number)
        expected, _ = always(state, trajectory)
        actual, metrics = sometimes(state, trajectory)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9),
            actual.parameters,
            expected.parameters,
        )
        moved.append(bool(metrics.meta_step))
        meta = expected if metrics.meta_step else state
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
            (actual.logits, actual.meta_optimiser),
            (meta.logits, meta.meta_optimiser),
        )
        state = actual
    assert moved == [True, False, False, True, False, False, True]


def test_several_states_take_turns_together():
    """In a batch of states the branch stays one: not all of it is computed at every update."""
    learner, state = learner_and_state(meta_interval=2)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    data = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), make_trajectory())
    update = jax.vmap(lambda s, t: learner.update(s, t, "seeds"), axis_name="seeds")
    assert " cond[" in str(jax.make_jaxpr(update)(states, data))
    after, metrics = quick_jit(update)(states, data)
    assert metrics.meta_step.tolist() == [True, True]
    _, metrics = quick_jit(update)(after, data)
    assert metrics.meta_step.tolist() == [False, False]

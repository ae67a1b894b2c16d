"""Eq. 5 evaluated as the double sum it is, the identities the paper claims, and gradients."""

import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import quick_jit

from stacx.core.leaky_vtrace import leaky_vtrace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # rlax imports what JAX has deprecated.
    import rlax

compiled = quick_jit(leaky_vtrace)

SCALARS = {"lambda_": 0.8, "alpha_rho": 0.6, "alpha_c": 0.9, "clip_rho": 1.3, "clip_c": 0.7}


def random_inputs(seed, steps, batch=(), *, gamma=0.95, dummies=0.2):
    """values, rewards, discounts, importance weights and valid, with episodes that end inside."""
    rng = np.random.default_rng(seed)
    shape = (steps, *batch)
    values, rewards = rng.normal(size=(steps + 1, *batch)), rng.normal(size=shape)
    discounts = gamma * (rng.random(shape) > 0.2)
    weights = np.exp(rng.normal(size=shape))
    valid = (rng.random(shape) >= dummies).astype(float)
    return tuple(jnp.asarray(x, float) for x in (values, rewards, discounts, weights, valid))


def brute_force(
    values, rewards, discounts, weights, valid, *, lambda_, alpha_rho, alpha_c, clip_rho, clip_c
):
    """Eq. 5 for one environment: every target is the sum of all later temporal differences."""
    steps = len(rewards)
    rhos = valid * (alpha_rho * np.minimum(clip_rho, weights) + (1 - alpha_rho) * weights)
    mixed = alpha_c * np.minimum(clip_c, weights) + (1 - alpha_c) * weights
    traces = valid * lambda_ * mixed
    targets = np.array(values)
    for s in range(steps):
        for t in range(s, steps):
            reach = np.prod(discounts[s:t] * traces[s:t])
            difference = rewards[t] + discounts[t] * values[t + 1] - values[t]
            targets[s] += reach * rhos[t] * difference
    advantages = valid * (rewards + discounts * targets[1:] - values[:-1])
    return targets[:-1], advantages, rhos


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.sampled_from([1, 2, 7]),
    batch=st.sampled_from([1, 3]),
    lambda_=st.floats(0.0, 1.0),
    alpha_rho=st.floats(0.0, 1.0),
    alpha_c=st.floats(0.0, 1.0),
    clip_rho=st.floats(0.1, 3.0),
    clip_c=st.floats(0.1, 3.0),
)
def test_equals_the_double_sum_of_eq_5(seed, steps, batch, **scalars):
    with jax.enable_x64(True):
        inputs = random_inputs(seed, steps, (batch,))
        *arrays, valid = inputs
        out = compiled(*arrays, valid=valid, **scalars)
        for column in range(batch):
            expected = brute_force(*(np.asarray(x)[:, column] for x in inputs), **scalars)
            for actual, wanted in zip(out, expected, strict=True):
                np.testing.assert_allclose(actual[:, column], wanted, rtol=1e-9, atol=1e-9)


def test_hand_computed_numbers():
    values, rewards = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, -1.0])
    discounts, weights = jnp.array([0.5, 0.5]), jnp.array([2.0, 0.5])
    out = leaky_vtrace(values, rewards, discounts, weights, lambda_=0.5, alpha_rho=0.5, alpha_c=1.0)
    # rho = 1.5, 0.5; c = 0.5, 0.25; delta = 1.5 (1 + 1 - 1), 0.5 (-1 + 2 - 2).
    np.testing.assert_allclose(out.rhos, [1.5, 0.5])
    np.testing.assert_allclose(out.targets, [1.0 + 1.5 + 0.5 * 0.5 * -0.5, 2.0 - 0.5])
    np.testing.assert_allclose(out.advantages, [1.0 + 0.5 * 1.5 - 1.0, -1.0 + 0.5 * 4.0 - 2.0])


@pytest.mark.parametrize("lambda_", [1.0, 0.7])
def test_alpha_1_is_vtrace(lambda_):
    values, rewards, discounts, weights, _ = random_inputs(0, 12)
    out = compiled(values, rewards, discounts, weights, lambda_=lambda_, clip_rho=1.2)
    errors = rlax.vtrace(values[:-1], values[1:], rewards, discounts, weights, lambda_, 1.2)
    np.testing.assert_allclose(out.targets, errors + values[:-1], rtol=1e-5, atol=1e-5)


def test_alpha_1_is_vtrace_also_where_a_weight_is_infinite():
    values, rewards, discounts, weights, _ = random_inputs(0, 12)
    weights = weights.at[5].set(jnp.inf)
    out = compiled(values, rewards, discounts, weights)
    assert out.rhos[5] == 1.0
    errors = rlax.vtrace(values[:-1], values[1:], rewards, discounts, weights)
    np.testing.assert_allclose(out.targets, errors + values[:-1], rtol=1e-5, atol=1e-5)


def rlax_leaky_vtrace(values, rewards, discounts, weights, *, alpha, lambda_):
    return rlax.leaky_vtrace_td_error_and_advantage(
        values[:-1], values[1:], rewards, discounts, weights, alpha, lambda_
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_lambda_1_is_leaky_vtrace_of_rlax(alpha):
    *arrays, _ = random_inputs(1, 12)
    out = compiled(*arrays, alpha_rho=alpha, alpha_c=alpha)
    theirs = rlax_leaky_vtrace(*arrays, alpha=alpha, lambda_=1.0)
    np.testing.assert_allclose(out.targets - arrays[0][:-1], theirs.errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.rhos * out.advantages, theirs.pg_advantage, rtol=1e-5, atol=1e-5)


def test_below_lambda_1_targets_agree_with_rlax_but_advantages_bootstrap_from_the_target():
    *arrays, _ = random_inputs(1, 12)
    out = compiled(*arrays, alpha_rho=0.3, alpha_c=0.3, lambda_=0.5)
    theirs = rlax_leaky_vtrace(*arrays, alpha=0.3, lambda_=0.5)
    np.testing.assert_allclose(out.targets - arrays[0][:-1], theirs.errors, rtol=1e-5, atol=1e-5)
    assert not np.allclose(out.rhos * out.advantages, theirs.pg_advantage, rtol=1e-2)


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_the_mixed_bootstrap_is_rlax_s(lambda_):
    *arrays, _ = random_inputs(1, 12)
    settings = {"lambda_": lambda_, "mixed_bootstrap": True}
    out = leaky_vtrace(*arrays, alpha_rho=0.3, alpha_c=0.3, **settings)
    theirs = rlax_leaky_vtrace(*arrays, alpha=0.3, lambda_=lambda_)
    np.testing.assert_allclose(out.targets - arrays[0][:-1], theirs.errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.rhos * out.advantages, theirs.pg_advantage, rtol=1e-5, atol=1e-5)


def test_alpha_0_is_importance_sampling(x64):
    values, rewards, discounts, weights, _ = random_inputs(2, 6)
    out = compiled(values, rewards, discounts, weights, alpha_rho=0.0, alpha_c=0.0)
    target = values[-1]
    for s in reversed(range(6)):
        target = values[s] + weights[s] * (rewards[s] + discounts[s] * target - values[s])
        np.testing.assert_allclose(out.targets[s], target, rtol=1e-12)


def test_on_policy_targets_are_n_step_returns(x64):
    values, rewards, _, _, _ = random_inputs(3, 4)
    out = compiled(values, rewards, jnp.full(4, 0.9), jnp.ones(4))
    expected = sum(0.9**k * rewards[k] for k in range(4)) + 0.9**4 * values[-1]
    np.testing.assert_allclose(out.targets[0], expected, rtol=1e-12)


def test_a_dummy_step_has_its_value_as_target_and_no_weight():
    *arrays, _ = random_inputs(4, 5)
    out = compiled(*arrays, valid=jnp.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    assert out.rhos[2] == 0.0
    assert out.targets[2] == arrays[0][2]
    assert out.advantages[2] == 0.0


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, -np.inf])
def test_what_a_dummy_step_says_reaches_neither_outputs_nor_gradients(nonsense):
    values, rewards, discounts, weights, _ = random_inputs(4, 5)
    valid = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0])

    def outputs(scalars, said):
        gamma, lambda_, alpha = scalars
        options = {"lambda_": lambda_, "alpha_rho": alpha, "alpha_c": alpha, "valid": valid}
        transitions = (x.at[2].set(said) for x in (rewards, gamma * discounts, weights))
        out = leaky_vtrace(values, *transitions, **options)
        return sum(jnp.sum(array) for array in out), out

    both = quick_jit(jax.grad(outputs, has_aux=True))
    results = (both((0.9, 0.8, 0.6), said) for said in (nonsense, 0.5))
    for actual, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(actual, expected)
        assert np.isfinite(actual).all()


def test_a_dummy_step_hides_the_next_episode():
    values, rewards, _, weights, _ = random_inputs(5, 5)
    valid, discounts = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0]), jnp.full(5, 0.9)
    out = compiled(values, rewards, discounts, weights, valid=valid)
    other = compiled(
        values.at[3:].add(10.0), rewards.at[2:].add(10.0), discounts, weights, valid=valid
    )
    for field in ("targets", "advantages"):
        np.testing.assert_array_equal(getattr(out, field)[:2], getattr(other, field)[:2])


def test_a_truncated_episode_bootstraps_from_its_last_observation():
    values, rewards, _, weights, _ = random_inputs(5, 3)
    valid, discounts = jnp.array([1.0, 0.0, 1.0]), jnp.full(3, 0.9)
    out = compiled(values, rewards, discounts, weights, valid=valid)
    np.testing.assert_allclose(out.advantages[0], rewards[0] + 0.9 * values[1] - values[0])


def test_heads_broadcast_as_if_alone():
    values, _, _, weights, _ = random_inputs(6, 5, (2, 3))
    _, rewards, discounts, _, valid = random_inputs(7, 5, (2,))
    gamma, lambda_ = jnp.array([0.9, 0.95, 0.5]), jnp.array([1.0, 0.8, 0.3])
    alpha = jnp.array([1.0, 0.6, 0.0])
    together = compiled(
        values,
        rewards[..., None],
        discounts[..., None] * gamma,
        weights,
        lambda_=lambda_,
        alpha_rho=alpha,
        alpha_c=alpha,
        valid=valid[..., None],
    )
    for p in range(3):
        alone = compiled(
            values[..., p],
            rewards,
            discounts * gamma[p],
            weights[..., p],
            lambda_=lambda_[p],
            alpha_rho=alpha[p],
            alpha_c=alpha[p],
            valid=valid,
        )
        for stacked, single in zip(together, alone, strict=True):
            assert stacked.shape == (5, 2, 3)
            np.testing.assert_allclose(stacked[..., p], single, rtol=1e-6)


@pytest.mark.parametrize("field", ["targets", "advantages"])
@pytest.mark.parametrize("name", ["lambda_", "alpha_rho", "alpha_c", "gamma"])
def test_gradients_equal_finite_differences(x64, name, field):
    values, rewards, discounts, weights, valid = random_inputs(8, 6, (4,), gamma=1.0)
    mix = jnp.asarray(np.random.default_rng(9).normal(size=rewards.shape))
    scalars = SCALARS | {"gamma": 0.9}

    def mixed(x):
        chosen = scalars | {name: x}
        discounted = discounts * chosen.pop("gamma")
        out = leaky_vtrace(values, rewards, discounted, weights, valid=valid, **chosen)
        return jnp.sum(mix * getattr(out, field))

    x, step, value = scalars[name], 1e-6, quick_jit(mixed)
    numeric = (value(x + step) - value(x - step)) / (2 * step)
    assert abs(numeric) > 1e-3
    np.testing.assert_allclose(quick_jit(jax.grad(mixed))(x), numeric, rtol=1e-6)


@pytest.mark.parametrize("field", ["targets", "advantages", "rhos"])
def test_values_and_importance_weights_are_constants(field):
    values, rewards, discounts, weights, valid = random_inputs(10, 6, (2,))

    def total(values, weights):
        out = leaky_vtrace(values, rewards, discounts, weights, valid=valid, **SCALARS)
        return jnp.sum(getattr(out, field))

    for gradient in jax.grad(total, argnums=(0, 1))(values, weights):
        np.testing.assert_array_equal(gradient, 0.0)


def test_under_jit():
    *arrays, valid = random_inputs(11, 6, (2,))
    outputs = (f(*arrays, valid=valid, **SCALARS) for f in (leaky_vtrace, compiled))
    for eager, jitted in zip(*outputs, strict=True):
        np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-6)


@pytest.fixture
def unchecked():
    """Users have no run-time checks of shapes, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", ["values", "discounts", "importance_weights"])
def test_wrong_lengths_are_refused(unchecked, name):
    lengths = {"values": 6, "rewards": 5, "discounts": 5, "importance_weights": 5}
    wrong = lengths | {name: 4}
    with pytest.raises(ValueError, match=f"{name} must have {lengths[name]} time steps, not 4"):
        leaky_vtrace(**{key: jnp.ones(length) for key, length in wrong.items()})

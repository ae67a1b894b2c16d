"""The squashed Gaussian against quadrature, distrax, finite differences and its own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from stacx.config import Config
from stacx.core.distributions import (
    SquashedGaussian,
    distribution,
    draw_noise,
    environment_actions,
)
from stacx.types import Box, Discrete

LOW, HIGH = (-2.0, 0.0, -1.0), (1.0, 0.5, 1.1)
SPACE = Box(LOW, HIGH)


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def policy_of(outputs, space=SPACE, **settings) -> SquashedGaussian:
    return distribution(space, outputs, Config(**settings))


def in_distrax(policy):
    """The same, put together from an independent library's parts."""
    distrax = pytest.importorskip("distrax")
    low, high = np.array(LOW), np.array(HIGH)
    affine = distrax.ScalarAffine(shift=(low + high) / 2, scale=(high - low) / 2)
    squash = distrax.Chain([affine, distrax.Tanh()])
    gaussian = distrax.Normal(policy.mean, policy.std)
    return distrax.Independent(distrax.Transformed(gaussian, squash), 1)


def test_hand_computed_parameters():
    """Section 9.3: a mean through tanh, and a deviation between exp(s_min) and exp(s_max)."""
    policy = policy_of(jnp.array([0.0, 0.5, 100.0, 0.0, 100.0, -100.0]))
    np.testing.assert_allclose(policy.mean, [0.0, np.tanh(0.5), 1.0], rtol=1e-6)
    np.testing.assert_allclose(policy.std, np.exp([-2.0, 0.0, -4.0]), rtol=1e-6)
    other = policy_of(jnp.zeros(6), log_std_min=-3.0, log_std_max=1.0)
    np.testing.assert_allclose(other.log_std, -1.0)
    np.testing.assert_array_equal(policy.mode(), policy.mean)


@pytest.mark.parametrize("outputs", [[0.0, 0.0], [0.7, -0.5], [-2.0, 3.0], [0.3, -4.0]])
def test_the_density_integrates_to_1(x64, outputs):
    """Over the environment's actions, between bounds that are not symmetric."""
    space = Box((-2.0,), (1.0,))
    policy = policy_of(jnp.array(outputs), space)

    def density(action):
        before = np.arctanh(2 * (action + 2) / 3 - 1)
        return float(jnp.exp(policy.log_prob(jnp.array([before]))))

    middle = float(environment_actions(space, policy.mean)[0])
    total, _ = integrate.quad(density, -2.0, 1.0, points=[middle], limit=200)
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_log_probabilities_are_those_of_an_independent_library(x64):
    policy, actions = policy_of(random(0, 50, 6)), random(1, 50, 3)
    taken = environment_actions(SPACE, actions)
    expected = in_distrax(policy).log_prob(taken)
    np.testing.assert_allclose(policy.log_prob(actions), expected, rtol=1e-5, atol=1e-5)


def test_divergences_are_scipy_s(x64):
    """Before squashing: KL to the standard Gaussian, and to another policy; the entropy."""
    policy, other = policy_of(random(0, 6)), policy_of(random(1, 6))

    def divergence(mean, std, mean_2, std_2):
        p, q = stats.norm(mean, std), stats.norm(mean_2, std_2)
        value, _ = integrate.quad(
            lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), mean - 12 * std, mean + 12 * std
        )
        return value

    parameters = list(zip(np.asarray(policy.mean), np.asarray(policy.std), strict=True))
    others = zip(np.asarray(other.mean), np.asarray(other.std), strict=True)
    expected = sum(divergence(*p, *q) for p, q in zip(parameters, others, strict=True))
    np.testing.assert_allclose(policy.kl(other), expected, rtol=1e-6)
    assert float(other.kl(policy)) != pytest.approx(expected, rel=1e-2)
    expected = sum(divergence(*p, 0.0, 1.0) for p in parameters)
    np.testing.assert_allclose(policy.regulariser(), expected, rtol=1e-6)
    expected = sum(stats.norm(*p).entropy() for p in parameters)
    np.testing.assert_allclose(policy.entropy(), expected, rtol=1e-12)
    np.testing.assert_allclose(policy.kl(policy), 0.0, atol=1e-12)


def test_samples_follow_the_density():
    """A histogram of the environment's actions, and their mean log-probability, the entropy."""
    count, space = 200_000, Box((-2.0,), (1.0,))
    policy = policy_of(jnp.broadcast_to(jnp.array([0.4, 1.5]), (count, 2)), space)
    actions = policy.sample(draw_noise(space, jax.random.key(0), (count,)))
    taken = np.asarray(environment_actions(space, actions))[:, 0]
    edges = np.linspace(-2.0, 1.0, 21)
    observed, _ = np.histogram(taken, edges)
    one = policy_of(jnp.array([0.4, 1.5]), space)
    fine = np.linspace(-2.0, 1.0, 20 * 200 + 1)
    middles = (fine[1:] + fine[:-1]) / 2
    before = jnp.asarray(np.arctanh(2 * (middles + 2) / 3 - 1), jnp.float32)
    density = np.exp(one.log_prob(before[:, None]))
    expected = (density * (fine[1] - fine[0])).reshape(20, 200).sum(axis=1)
    assert expected.sum() == pytest.approx(1.0, abs=1e-3)
    assert stats.chisquare(observed, expected / expected.sum() * count).pvalue > 1e-3


def test_samples_are_a_function_of_their_noise():
    policy, noise = policy_of(random(0, 7, 6)), random(1, 7, 3)
    np.testing.assert_allclose(policy.sample(noise), policy.mean + policy.std * noise, rtol=1e-6)
    drawn = draw_noise(SPACE, jax.random.key(0), (4, 7))
    assert drawn.shape == (4, 7, 3)
    assert drawn.dtype == jnp.float32
    assert len(np.unique(drawn)) == drawn.size


def test_actions_are_within_the_bounds():
    extremes = jnp.array([[-jnp.inf] * 3, [jnp.inf] * 3, [-20.0] * 3, [20.0] * 3])
    taken = environment_actions(SPACE, extremes)
    np.testing.assert_allclose(taken, [LOW, HIGH, LOW, HIGH], rtol=1e-6)
    middle = environment_actions(SPACE, jnp.zeros(3))
    np.testing.assert_allclose(middle, [-0.5, 0.25, 0.05], rtol=1e-5)
    np.testing.assert_allclose(
        environment_actions(SPACE, jnp.full(3, 0.5))[0], -0.5 + 1.5 * np.tanh(0.5), rtol=1e-6
    )
    many = environment_actions(SPACE, 3 * random(3, 10_000, 3).astype(jnp.float32))
    assert (many >= np.float32(LOW)).all()
    assert (many <= np.float32(HIGH)).all()
    choices = jnp.arange(3)
    assert environment_actions(Discrete(3), choices) is choices


@pytest.mark.parametrize("action", [9.1, 20.0, 100.0, -9.1, -20.0, -100.0])
def test_saturated_actions_leave_everything_finite_and_exact(action):
    """In single precision, where tanh is 1, and in double, where it is not yet."""
    outputs, actions = jnp.array([2.0, 0.0, -2.0, 3.0, 0.0, -3.0]), jnp.full(3, action)

    def log_prob(outputs):
        return policy_of(outputs).log_prob(actions)

    value, gradient = jax.value_and_grad(log_prob)(outputs)
    assert np.isfinite(gradient).all()
    mean, y = np.split(np.tanh(np.asarray(outputs, np.float64)), 2)
    log_std = -4 + 2 * (y + 1)
    gaussian = stats.norm(mean, np.exp(log_std)).logpdf(action)
    log_of_derivative = 2 * np.log(2) - 2 * abs(action) - 2 * np.log1p(np.exp(-2 * abs(action)))
    half = (np.array(HIGH) - np.array(LOW)) / 2
    np.testing.assert_allclose(
        value, np.sum(gaussian - log_of_derivative - np.log(half)), rtol=1e-5
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda policy: policy.log_prob(random(9, 5, 3)),
        lambda policy: policy.regulariser(),
        lambda policy: policy.entropy(),
        lambda policy: policy.kl(policy_of(random(1, 5, 6))),
    ],
    ids=["log_prob", "regulariser", "entropy", "kl"],
)
def test_gradients_equal_finite_differences(x64, function):
    outputs, direction = random(0, 5, 6), random(4, 5, 6)

    def along(step):
        return jnp.sum(function(policy_of(outputs + step * direction)))

    numeric = (along(1e-6) - along(-1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=1e-7)


def test_actions_broadcast_over_heads():
    outputs, actions = random(2, 3, 2, 4, 6), random(3, 3, 2, 3)
    log_probs = policy_of(outputs).log_prob(actions[:, :, None])
    assert log_probs.shape == (3, 2, 4)
    for p in range(4):
        alone = policy_of(outputs[:, :, p]).log_prob(actions)
        np.testing.assert_allclose(log_probs[..., p], alone, rtol=1e-6)

"""Policies against scipy and plain enumeration, and their sampling against their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from small_problem import all_actions

from stacx.config import Config
from stacx.core.distributions import Categorical, MultiCategorical, distribution, draw_noise
from stacx.types import Discrete, MultiDiscrete


def random_logits(seed=0, shape=(5, 4)):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def probabilities(logits):
    return np.exp(np.asarray(logits)) / np.exp(np.asarray(logits)).sum(axis=-1, keepdims=True)


def test_hand_computed_numbers():
    policy = Categorical(jnp.log(jnp.array([1.0, 2.0, 1.0])))
    np.testing.assert_allclose(policy.log_prob(jnp.array(1)), np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(policy.regulariser(), -1.5 * np.log(2), rtol=1e-6)
    uniform = Categorical(jnp.zeros(3))
    expected = 0.5 * np.log(0.75) + 0.5 * np.log(1.5)
    np.testing.assert_allclose(policy.kl(uniform), expected, rtol=1e-5)
    assert policy.mode() == 1


def test_agrees_with_scipy(x64):
    logits, others = random_logits(0), random_logits(1)
    p, q = probabilities(logits), probabilities(others)
    policy = Categorical(logits)
    np.testing.assert_allclose(policy.regulariser(), -stats.entropy(p, axis=1))
    np.testing.assert_allclose(policy.kl(Categorical(others)), stats.entropy(p, q, axis=1))
    actions = jnp.array([0, 3, 1, 2, 2])
    np.testing.assert_allclose(policy.log_prob(actions), np.log(p[np.arange(5), actions]))


def test_actions_broadcast_over_heads():
    logits = random_logits(2, (3, 2, 4, 5))
    actions = jnp.asarray(np.random.default_rng(3).integers(5, size=(3, 2)))
    log_probs = Categorical(logits).log_prob(actions[..., None])
    assert log_probs.shape == (3, 2, 4)
    for p in range(4):
        alone = Categorical(logits[:, :, p]).log_prob(actions)
        np.testing.assert_array_equal(log_probs[..., p], alone)


@pytest.mark.parametrize(
    "function",
    [
        lambda policy: policy.log_prob(jnp.array([0, 3, 1, 2, 2])),
        lambda policy: policy.regulariser(),
        lambda policy: policy.kl(Categorical(random_logits(1))),
    ],
    ids=["log_prob", "negative_entropy", "kl"],
)
def test_gradients_equal_finite_differences(x64, function):
    logits = random_logits(0)
    direction = random_logits(4)

    def along(step):
        return jnp.sum(function(Categorical(logits + step * direction)))

    numeric = (along(1e-6) - along(-1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=1e-7)


def test_samples_follow_the_probabilities():
    logits = random_logits(5, (6,))
    noise = Categorical.noise(jax.random.key(0), (100_000,), 6)
    actions = Categorical(jnp.broadcast_to(logits, (100_000, 6))).sample(noise)
    frequencies = np.bincount(actions, minlength=6) / 100_000
    np.testing.assert_allclose(frequencies, probabilities(logits), atol=0.005)


def test_samples_of_a_batch_are_independent():
    """Two rows with the same policy and the noise of one key agree no more often than by chance."""
    noise = Categorical.noise(jax.random.key(1), (2, 10_000), 2)
    first, second = Categorical(jnp.zeros((2, 10_000, 2))).sample(noise)
    np.testing.assert_allclose(np.mean(first == second), 0.5, atol=0.02)


def test_without_noise_a_sample_is_the_mode():
    policy = Categorical(random_logits(6, (50, 8)))
    np.testing.assert_array_equal(policy.sample(jnp.zeros((50, 8))), policy.mode())


@pytest.mark.parametrize("impossible", [0, 3, 7])
def test_impossible_actions_are_never_sampled(impossible):
    """Not even with the noise most in their favour that single precision can draw."""
    tiny = np.finfo(np.float32).tiny
    lowest, highest = -np.log(-np.log([tiny, 1.0 - 2.0**-24]))
    logits = random_logits(6, (100, 8)).at[:, impossible].set(-1e9)
    noise = jnp.full((100, 8), lowest).at[:, impossible].set(highest)
    assert not np.any(Categorical(logits).sample(noise) == impossible)


def test_impossible_actions_leave_everything_finite():
    policy = Categorical(jnp.array([0.0, -1e9, 0.0]))
    np.testing.assert_allclose(policy.regulariser(), -np.log(2), rtol=1e-6)
    np.testing.assert_allclose(policy.kl(policy), 0.0)
    gradient = jax.grad(lambda logits: Categorical(logits).regulariser())
    assert np.all(np.isfinite(gradient(jnp.array([0.0, -1e9, 0.0]))))


# --- several choices ----------------------------------------------------------------------------


SIZES = (3, 1, 4, 2)
JOINT = all_actions(SIZES)
"""Every joint action, [24, 4]."""


def of_choices(seed=0, batch=(5,)):
    return MultiCategorical(random_logits(seed, (*batch, sum(SIZES))), SIZES)


def joint_probabilities(policy):
    """The product of the choices' probabilities for every joint action, in plain numpy."""
    ends = np.cumsum(SIZES)
    choices = [
        probabilities(policy.logits[..., end - size : end])
        for end, size in zip(ends, SIZES, strict=True)
    ]
    return np.stack(
        [
            np.prod([p[..., a] for p, a in zip(choices, action, strict=True)], axis=0)
            for action in JOINT
        ],
        axis=-1,
    )


def test_log_probabilities_of_choices_are_those_of_the_product(x64):
    policy = of_choices()
    log_probs = policy.log_prob(jnp.asarray(JOINT)[:, None])
    assert log_probs.shape == (24, 5)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=0), 1.0)
    np.testing.assert_allclose(log_probs.T, np.log(joint_probabilities(policy)))


def test_entropy_and_kl_of_choices_are_those_of_the_product(x64):
    policy, other = of_choices(0), of_choices(1)
    p, q = joint_probabilities(policy), joint_probabilities(other)
    np.testing.assert_allclose(policy.regulariser(), -stats.entropy(p, axis=1))
    np.testing.assert_allclose(policy.kl(other), stats.entropy(p, q, axis=1))


def test_the_mode_of_choices_is_the_most_probable_joint_action():
    policy = of_choices(batch=(6, 7))
    best = JOINT[joint_probabilities(policy).argmax(axis=-1)]
    np.testing.assert_array_equal(policy.mode(), best)
    np.testing.assert_array_equal(policy.sample(jnp.zeros((6, 7, sum(SIZES)))), best)


def test_samples_of_choices_follow_the_joint_probabilities():
    """Those of independent choices: also the noise of one is not the noise of another."""
    policy, count = of_choices(5, batch=()), 100_000
    noise = draw_noise(MultiDiscrete(SIZES), jax.random.key(0), (count,))
    many = MultiCategorical(jnp.broadcast_to(policy.logits, (count, sum(SIZES))), SIZES)
    actions = many.sample(noise)
    assert actions.shape == (count, 4)
    index = np.ravel_multi_index(tuple(np.asarray(actions).T), SIZES)
    frequencies = np.bincount(index, minlength=24) / count
    np.testing.assert_allclose(frequencies, joint_probabilities(policy), atol=0.005)


def test_joint_actions_broadcast_over_heads():
    policy = of_choices(2, batch=(3, 2, 4))
    actions = jnp.asarray(np.random.default_rng(3).integers(SIZES, size=(3, 2, 4)))
    log_probs = policy.log_prob(actions[:, :, None])
    assert log_probs.shape == (3, 2, 4)
    for p in range(4):
        alone = MultiCategorical(policy.logits[:, :, p], SIZES).log_prob(actions)
        np.testing.assert_array_equal(log_probs[..., p], alone)


def test_one_choice_is_a_categorical_policy():
    logits, others, key = random_logits(0), random_logits(1), jax.random.key(3)
    one, same = (
        distribution(space, logits, Config()) for space in (MultiDiscrete((4,)), Discrete(4))
    )
    assert isinstance(same, Categorical)
    noise = draw_noise(Discrete(4), key, (5,))
    np.testing.assert_array_equal(draw_noise(MultiDiscrete((4,)), key, (5,)), noise)
    actions = same.sample(noise)
    np.testing.assert_array_equal(one.sample(noise), actions[:, None])
    np.testing.assert_array_equal(one.mode(), same.mode()[:, None])
    np.testing.assert_array_equal(one.log_prob(actions[:, None]), same.log_prob(actions))
    np.testing.assert_array_equal(one.regulariser(), same.regulariser())
    divergence = one.kl(MultiCategorical(others, (4,)))
    np.testing.assert_array_equal(divergence, same.kl(Categorical(others)))


@pytest.mark.parametrize("width", [3, 5])
def test_actions_of_another_width_are_refused(width):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        of_choices().log_prob(jnp.zeros((5, width), jnp.int32))


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete(SIZES)], ids=str)
def test_a_space_says_the_shapes_of_actions_and_outputs(space):
    noise = draw_noise(space, jax.random.key(0), (6, 2))
    policy = distribution(space, random_logits(0, (6, 2, space.num_outputs)), Config())
    assert policy.sample(noise).shape == policy.mode().shape == (6, 2, *space.shape)
    assert policy.sample(noise).dtype == policy.mode().dtype == jnp.int32
    assert policy.log_prob(policy.mode()).shape == (6, 2)

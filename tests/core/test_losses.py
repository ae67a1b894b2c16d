"""The loss against Algorithm 1 in plain loops, and what must and must not move it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from algorithm_1 import Squashed, gradients, kl, loss, targets
from scipy import special, stats
from small_problem import (
    DUMMIES,
    ONE_CHOICE,
    STEPS,
    TWO_CHOICES,
    TWO_NUMBERS,
    joint_policy,
    joint_trajectory,
    make_config,
    make_output,
    make_trajectory,
)
from support import quick_jit

from stacx.core.losses import actor_critic_loss, kl_loss, learner_rewards
from stacx.core.metaparameters import hyperparameters, initial_logits, outer_hyperparameters
from stacx.types import Discrete

HEADS = 3
ZETA = {
    "gamma": [0.99, 0.9, 0.6],
    "lambda": [1.0, 0.8, 0.3],
    "alpha": [1.0, 0.4, 0.7],
    "g_v": [0.25, 0.1, 0.2],
    "g_p": [1.0, 0.5, 0.8],
    "g_e": [0.01, 0.1, 0.5],
}
CONFIG = make_config(agent="stacx", clip_rho=1.3, clip_c=0.8, gamma=0.9, lambda_=0.7, alpha=0.6)


@pytest.fixture
def problem(x64):
    """A network's output, the trajectory it speaks of, and a zeta per head."""
    return make_output(HEADS), make_trajectory(), as_arrays(ZETA)


def as_arrays(zeta):
    return {name: jnp.asarray(values) for name, values in zeta.items()}


def loss_of(output, trajectory, zeta):
    return actor_critic_loss(ONE_CHOICE, output, trajectory, zeta, CONFIG)[0]


def statistics_of(output, trajectory, zeta):
    return actor_critic_loss(ONE_CHOICE, output, trajectory, zeta, CONFIG)[1]


compiled_loss, compiled_statistics = quick_jit(loss_of), quick_jit(statistics_of)
gradients_of_loss = quick_jit(jax.grad(loss_of, argnums=(0, 2)))
"""With respect to the network's output and to zeta."""


def of_head(output, zeta, p):
    """Logits, values and zeta of one head."""
    head = {name: float(values[p]) for name, values in zeta.items()}
    return output.policy[:, :, p], output.values[:, :, p], head


def expected_loss(output, trajectory, zeta):
    """The mean over heads of Algorithm 1."""
    losses = []
    for p in range(HEADS):
        logits, values, head = of_head(output, zeta, p)
        frozen = targets(logits, values, trajectory, head, CONFIG)
        losses.append(loss(logits, values, frozen, trajectory, head, CONFIG))
    return np.mean(losses)


def test_equals_algorithm_1(problem):
    np.testing.assert_allclose(compiled_loss(*problem), expected_loss(*problem), rtol=1e-12)


def inner_and_outer_zeta():
    tuned = hyperparameters(initial_logits(CONFIG), CONFIG)
    return {"inner": tuned, "outer": outer_hyperparameters(CONFIG, heads=HEADS)}


@pytest.mark.parametrize("which", ["inner", "outer"])
def test_gradients_are_those_of_an_actor_critic(x64, which):
    """In the inner loss (line 20) as in the outer (line 22), though only line 22 stops them."""
    output, trajectory, zeta = make_output(HEADS), make_trajectory(), inner_and_outer_zeta()[which]
    actual, _ = gradients_of_loss(output, trajectory, zeta)
    for p in range(HEADS):
        logits, values, head = of_head(output, zeta, p)
        frozen = targets(logits, values, trajectory, head, CONFIG)
        by_logits, by_values = gradients(logits, values, frozen, trajectory, head, CONFIG)
        np.testing.assert_allclose(actual.policy[:, :, p], by_logits / HEADS, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(actual.values[:, :, p], by_values / HEADS, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ZETA)
def test_gradients_by_zeta_equal_finite_differences(problem, name):
    """Those of gamma, lambda and alpha pass through targets and advantages."""
    output, trajectory, zeta = problem
    step, actual = 1e-6, gradients_of_loss(*problem)[1][name]
    for p in range(HEADS):
        up, down = (zeta | {name: zeta[name].at[p].add(change)} for change in (step, -step))
        difference = expected_loss(output, trajectory, up) - expected_loss(output, trajectory, down)
        assert abs(difference) > 0.0
        np.testing.assert_allclose(actual[p], difference / (2 * step), rtol=1e-6)


def scrambled(output, trajectory):
    """The same data, but for all that means nothing at dummy steps."""
    arrays = {
        "actions": lambda x: (x + 1) % 3,
        "rewards": lambda x: x + 10.0,
        "discounts": lambda x: 0.0 * x,
        "behaviour_log_probs": lambda x: x - 2.0,
    }
    policy = output.policy
    for step, environment in DUMMIES:
        policy = policy.at[step, environment].add(jnp.array([1.0, -2.0, 3.0]))
        for name, change in arrays.items():
            array = getattr(trajectory, name)
            changed = array.at[step, environment].set(change(array[step, environment]))
            trajectory = dataclasses.replace(trajectory, **{name: changed})
    # The first dummy follows a termination: nothing bootstraps from its value.
    values = output.values.at[DUMMIES[0]].add(5.0)
    return output._replace(policy=policy, values=values), trajectory


def test_dummy_steps_contribute_nothing(problem):
    output, trajectory, zeta = problem
    other = (*scrambled(output, trajectory), zeta)
    np.testing.assert_array_equal(compiled_loss(*other), compiled_loss(*problem))
    gradients = gradients_of_loss(*problem)
    jax.tree.map(np.testing.assert_array_equal, gradients_of_loss(*other), gradients)
    for step, environment in DUMMIES:
        np.testing.assert_array_equal(gradients[0].policy[step, environment], 0.0)
        np.testing.assert_array_equal(gradients[0].values[step, environment], 0.0)


def test_nothing_but_dummy_steps_is_a_loss_of_zero(problem):
    output, trajectory, zeta = problem
    trajectory = dataclasses.replace(trajectory, valid=jnp.zeros_like(trajectory.valid))
    assert compiled_loss(output, trajectory, zeta) == 0.0
    assert np.all(np.isfinite(compiled_statistics(output, trajectory, zeta).entropy))


def test_the_entropy_weight_rewards_entropy(problem):
    output, trajectory, zeta = problem
    only_entropy = zeta | {"g_v": jnp.zeros(HEADS), "g_p": jnp.zeros(HEADS)}
    gradient, _ = gradients_of_loss(output, trajectory, only_entropy)
    moved = jax.tree.map(lambda x, g: x - 0.1 * g, output, gradient)
    before, after = (compiled_statistics(out, trajectory, zeta) for out in (output, moved))
    assert np.all(after.entropy > before.entropy)


def test_rewards_are_scaled_then_clipped():
    rewards = jnp.array([[10.0, 3.0, -7.0]])
    config = make_config(reward_scale=0.2, reward_clip=1.0)
    np.testing.assert_allclose(learner_rewards(rewards, config), [[1.0, 0.6, -1.0]], rtol=1e-6)
    unclipped = make_config(reward_scale=0.2)
    np.testing.assert_allclose(learner_rewards(rewards, unclipped), [[2.0, 0.6, -1.4]], rtol=1e-6)


def test_the_loss_sees_the_learner_s_rewards(problem):
    output, trajectory, zeta = problem
    config = dataclasses.replace(CONFIG, reward_scale=0.5, reward_clip=0.4)
    seen = dataclasses.replace(trajectory, rewards=jnp.clip(0.5 * trajectory.rewards, -0.4, 0.4))
    actual = quick_jit(lambda *problem: actor_critic_loss(ONE_CHOICE, *problem, config)[0])(
        *problem
    )
    np.testing.assert_allclose(actual, compiled_loss(output, seen, zeta), rtol=1e-12)


def twice(tree):
    """Every environment twice."""
    return jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), tree)


def test_losses_are_sums(problem):
    output, trajectory, zeta = problem
    doubled = compiled_loss(twice(output), twice(trajectory), zeta)
    np.testing.assert_allclose(doubled, 2 * compiled_loss(*problem), rtol=1e-12)


@pytest.mark.parametrize("heads", [1, HEADS])
def test_kl_is_of_new_from_old_over_the_valid_states(x64, heads):
    """The mean over the heads that are judged: in the paper, head 1."""
    trajectory, old = make_trajectory(), make_output(heads)
    new = jax.tree.map(lambda x: 2.0 * x, make_output(heads, seed=5))
    p, q = (special.softmax(out.policy[:STEPS], axis=-1) for out in (new, old))
    divergences = stats.entropy(p, q, axis=-1) * trajectory.valid[..., None]
    expected = float(np.sum(divergences)) / heads
    np.testing.assert_allclose(
        kl_loss(ONE_CHOICE, new, old, trajectory, CONFIG), expected, rtol=1e-12
    )
    assert float(kl_loss(ONE_CHOICE, old, new, trajectory, CONFIG)) != pytest.approx(
        expected, rel=1e-2
    )


def test_statistics(problem):
    output, trajectory, _ = problem
    statistics = compiled_statistics(*problem)
    valid = np.asarray(trajectory.valid, bool)
    policy = special.softmax(output.policy[:STEPS], axis=-1)
    chosen = np.take_along_axis(policy, trajectory.actions[..., None, None], axis=-1)[..., 0]
    weights = chosen / np.exp(trajectory.behaviour_log_probs)[..., None]
    entropy = stats.entropy(policy, axis=-1)[valid].mean(axis=0)
    np.testing.assert_allclose(statistics.entropy, entropy, rtol=1e-12)
    np.testing.assert_allclose(statistics.importance_max, weights[valid].max(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(statistics.value_min, output.values.min(axis=(0, 1)))
    np.testing.assert_array_equal(statistics.value_max, output.values.max(axis=(0, 1)))


def test_two_choices_have_the_loss_of_their_joint_actions(x64):
    """Value, statistics and gradients, with respect to the network's output and to zeta."""
    trajectory = make_trajectory(space=TWO_CHOICES)
    sizes, joint = TWO_CHOICES.sizes, joint_trajectory(trajectory, TWO_CHOICES.sizes)

    def of_choices(output, zeta):
        return actor_critic_loss(TWO_CHOICES, output, trajectory, zeta, CONFIG)

    def of_joint_actions(output, zeta):
        output = output._replace(policy=joint_policy(output.policy, sizes))
        return actor_critic_loss(Discrete(6), output, joint, zeta, CONFIG)

    problem = make_output(HEADS, space=TWO_CHOICES), as_arrays(ZETA)
    actual, expected = (
        quick_jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))(*problem)
        for function in (of_choices, of_joint_actions)
    )
    assert np.all(np.any(actual[1][0].policy != 0.0, axis=(0, 1)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), actual, expected)


def test_two_choices_have_the_kl_of_their_joint_actions(x64):
    new, old = (make_output(HEADS, seed, TWO_CHOICES) for seed in (1, 2))
    trajectory = make_trajectory(space=TWO_CHOICES)
    joint = [out._replace(policy=joint_policy(out.policy, (2, 3))) for out in (new, old)]
    expected = kl_loss(Discrete(6), *joint, joint_trajectory(trajectory, (2, 3)), CONFIG)
    assert expected > 0.1
    actual = kl_loss(TWO_CHOICES, new, old, trajectory, CONFIG)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_numbers_have_the_loss_of_algorithm_1(x64):
    """With the divergence from a standard Gaussian in place of the entropy; and its gradients."""
    trajectory, zeta = make_trajectory(space=TWO_NUMBERS), as_arrays(ZETA)
    output = make_output(HEADS, space=TWO_NUMBERS)

    def of_numbers(output):
        return actor_critic_loss(TWO_NUMBERS, output, trajectory, zeta, CONFIG)

    (actual, statistics), gradient = quick_jit(jax.value_and_grad(of_numbers, has_aux=True))(output)
    losses = []
    for p in range(HEADS):
        *head, of_p = of_head(output, zeta, p)
        frozen = targets(*head, trajectory, of_p, CONFIG, Squashed)
        losses.append(loss(*head, frozen, trajectory, of_p, CONFIG, Squashed))
        by_outputs, by_values = gradients(*head, frozen, trajectory, of_p, CONFIG, Squashed)
        assert np.abs(by_outputs).max() > 0.1
        np.testing.assert_allclose(
            gradient.policy[:, :, p], by_outputs / HEADS, rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(gradient.values[:, :, p], by_values / HEADS, rtol=1e-9)
    np.testing.assert_allclose(actual, np.mean(losses), rtol=1e-12)
    log_std = -4 + 2 * (np.tanh(np.asarray(output.policy)[:STEPS, ..., 2:]) + 1)
    entropy = (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum(axis=-1)
    valid = np.asarray(trajectory.valid, bool)
    np.testing.assert_allclose(statistics.entropy, entropy[valid].mean(axis=0), rtol=1e-12)


def test_numbers_have_the_kl_of_their_gaussians(x64):
    new, old = (make_output(1, seed, TWO_NUMBERS) for seed in (1, 2))
    trajectory = make_trajectory(space=TWO_NUMBERS)
    expected = kl(new.policy[:, :, 0], old.policy[:, :, 0], trajectory, CONFIG, Squashed)
    assert expected > 0.1
    actual = kl_loss(TWO_NUMBERS, new, old, trajectory, CONFIG)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_dummy_steps_far_from_the_policy_have_no_weight():
    """What fills the first overlapping trajectory may have any density, in single precision."""
    trajectory = make_trajectory(space=TWO_NUMBERS)
    output = make_output(HEADS, space=TWO_NUMBERS)
    far = jnp.where(trajectory.valid, trajectory.behaviour_log_probs, -500.0)
    filled = dataclasses.replace(trajectory, behaviour_log_probs=far)
    whole, wanted = (
        actor_critic_loss(TWO_NUMBERS, output, data, as_arrays(ZETA), CONFIG)
        for data in (filled, trajectory)
    )
    jax.tree.map(np.testing.assert_array_equal, whole, wanted)

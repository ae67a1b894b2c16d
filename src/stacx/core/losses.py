"""The actor-critic loss (Algorithm 1) of every head at once, and the KL term of the outer loss."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stacx.config import Config
from stacx.core.distributions import Distribution, distribution
from stacx.core.leaky_vtrace import LeakyVTraceOutput, leaky_vtrace
from stacx.core.metaparameters import Hyperparameters
from stacx.types import ActionSpace, NetworkOutput, Trajectory


class HeadStatistics(NamedTuple):
    """What tells whether a head is healthy, each [P]."""

    entropy: Float[Array, "P"]
    value_min: Float[Array, "P"]
    value_max: Float[Array, "P"]
    importance_max: Float[Array, "P"]


def actor_critic_loss(
    space: ActionSpace,
    output: NetworkOutput,
    trajectory: Trajectory,
    zeta: Hyperparameters,
    config: Config,
) -> tuple[Float[Array, ""], HeadStatistics]:
    """Algorithm 1: value, policy and entropy losses, summed over time and batch.

    The heads' losses are averaged (Algorithm 2, line 11), or summed where they are kept apart
    (`Config.heads_apart`). Gradients with respect to what `output`
    depends on are those of an actor-critic; with respect to `zeta` the loss is differentiable
    through targets and advantages too (line 20), which is where gamma, lambda and alpha live. The
    outer loss (line 22) is the same function: its zeta is constant, so nothing more has to be
    stopped. The entropy has the sign that Eq. 1 and line 18 meant: g_e > 0 rewards it. For
    continuous actions the divergence from a standard Gaussian takes its place (section 4.2).

    Args:
        space: what the policies are distributions over.
        output: the network's output at the T+1 observations of the trajectory, P heads.
        trajectory: the data, T transitions of B environments.
        zeta: one value per head of each of `stacx.agents.METAPARAMETERS`, perhaps of `VARIANTS`.
        config: truncation levels, the scale of rewards, bounds of a Gaussian's deviation.

    Returns:
        The loss, a scalar, and the statistics of each head.
    """
    values = output.values
    valid = trajectory.valid[..., None]
    policy, log_probs, weights = _off_policy(space, output, trajectory, config)
    vtrace = _targets(values, weights, trajectory, zeta, config)
    regulariser = jnp.sum(policy.regulariser() * valid, axis=(0, 1))
    value_loss = jnp.sum(_value_errors(vtrace, values, valid), axis=(0, 1))
    # on dummy transitions rho is 0
    policy_loss = -jnp.sum(vtrace.rhos * log_probs * vtrace.advantages, axis=(0, 1))
    losses = zeta["g_v"] * value_loss + zeta["g_p"] * policy_loss + zeta["g_e"] * regulariser
    statistics = HeadStatistics(
        entropy=jnp.sum(policy.entropy() * valid, axis=(0, 1)) / jnp.maximum(jnp.sum(valid), 1.0),
        value_min=jnp.min(values, axis=(0, 1)),
        value_max=jnp.max(values, axis=(0, 1)),
        importance_max=jnp.max(jnp.where(valid, weights, 0.0), axis=(0, 1)),
    )
    loss = jnp.sum(losses) if config.heads_apart else jnp.sum(losses) / losses.shape[0]
    return loss, jax.lax.stop_gradient(statistics)


def critic_loss(
    space: ActionSpace,
    output: NetworkOutput,
    trajectory: Trajectory,
    zeta: Hyperparameters,
    config: Config,
) -> Float[Array, ""]:
    """The value loss of `actor_critic_loss` alone: for values of a policy that learns elsewhere."""
    _, _, weights = _off_policy(space, output, trajectory, config)
    vtrace = _targets(output.values, weights, trajectory, zeta, config)
    errors = _value_errors(vtrace, output.values, trajectory.valid[..., None])
    losses = zeta["g_v"] * jnp.sum(errors, axis=(0, 1))
    return jnp.sum(losses) / losses.shape[0]


def _off_policy(
    space: ActionSpace, output: NetworkOutput, trajectory: Trajectory, config: Config
) -> tuple[Distribution, Float[Array, "T B P"], Float[Array, "T B P"]]:
    """The heads' policies, log-probabilities and importance weights of the trajectory's actions."""
    policy = distribution(space, output.policy[:-1], config)
    log_probs = policy.log_prob(trajectory.actions[:, :, None])  # the same for every head
    weights = jax.lax.stop_gradient(jnp.exp(log_probs - trajectory.behaviour_log_probs[..., None]))
    return policy, log_probs, weights


def _value_errors(
    vtrace: LeakyVTraceOutput, values: Float[Array, "T_plus_1 B P"], valid: Float[Array, "T B 1"]
) -> Float[Array, "T B P"]:
    """Squared; on dummy transitions the target is the value itself, but not to the metagradient."""
    return jnp.square(vtrace.targets - values[:-1]) * valid


def _targets(
    values: Float[Array, "T_plus_1 B P"],
    weights: Float[Array, "T B P"],
    trajectory: Trajectory,
    zeta: Hyperparameters,
    config: Config,
) -> LeakyVTraceOutput:
    """Lines 2 to 16 for every head; the paper has one alpha for rho and c, and fixed truncation."""
    return leaky_vtrace(
        values,
        learner_rewards(trajectory.rewards, config)[..., None],
        trajectory.discounts[..., None] * zeta["gamma"],
        weights,
        lambda_=zeta["lambda"],
        alpha_rho=zeta.get("alpha_rho", zeta["alpha"]),
        alpha_c=zeta.get("alpha_c", zeta["alpha"]),
        clip_rho=zeta.get("clip", config.clip_rho),
        clip_c=zeta.get("clip", config.clip_c),
        valid=trajectory.valid[..., None],
        mixed_bootstrap=config.bootstrap == "mixed",
    )


def kl_loss(
    space: ActionSpace,
    new: NetworkOutput,
    old: NetworkOutput,
    trajectory: Trajectory,
    config: Config,
) -> Float[Array, ""]:
    """KL(new || old) over the trajectory's states, summed as the losses are (Eq. 3).

    The mean over the heads of `new` and `old`, of which the paper has one: head 1.
    """
    policy, before = (distribution(space, output.policy[:-1], config) for output in (new, old))
    return jnp.sum(policy.kl(before) * trajectory.valid[..., None]) / new.policy.shape[-2]


def learner_rewards(rewards: Float[Array, "T B"], config: Config) -> Float[Array, "T B"]:
    """Rewards as the loss sees them: scaled, then clipped."""
    rewards = rewards * config.reward_scale
    if config.reward_clip is None:
        return rewards
    return jnp.clip(rewards, -config.reward_clip, config.reward_clip)

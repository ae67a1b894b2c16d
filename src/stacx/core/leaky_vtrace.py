"""Leaky V-trace: off-policy value targets whose truncation of importance weights can be tuned.

V-trace truncates importance weights, and a truncation level has no useful gradient. Leaky V-trace
mixes the truncated weight with the weight itself, like a leaky rectifier, and the mixture is
differentiable. Eq. 5 of Zahavy et al. 2020, "A Self-Tuning Actor-Critic Algorithm"
(https://arxiv.org/abs/2002.12928); the recursion is Algorithm 1, lines 2 to 16.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


class LeakyVTraceOutput(NamedTuple):
    """Targets and what the policy gradient needs beside them, each [T, ...]."""

    targets: Float[Array, "T *batch"]
    """v_s."""
    advantages: Float[Array, "T *batch"]
    """r_s + discount_s v_{s+1} - V(x_s); 0 where not valid."""
    rhos: Float[Array, "T *batch"]
    """The leaky importance weights rho_s; 0 where not valid."""


def leaky_vtrace(
    values: Float[Array, "T_plus_1 *values_batch"],
    rewards: Float[Array, "T *rewards_batch"],
    discounts: Float[Array, "T *discounts_batch"],
    importance_weights: Float[Array, "T *weights_batch"],
    *,
    lambda_: ArrayLike = 1.0,
    alpha_rho: ArrayLike = 1.0,
    alpha_c: ArrayLike = 1.0,
    clip_rho: ArrayLike = 1.0,
    clip_c: ArrayLike = 1.0,
    valid: Float[Array, "T *valid_batch"] | None = None,
    mixed_bootstrap: bool = False,
) -> LeakyVTraceOutput:
    """Leaky V-trace targets and advantages (Eq. 5) of time-major trajectories.

    The axes after time are batch axes and broadcast against each other, also with the scalars: a
    last axis of heads may carry one `lambda_` per head. Gradients follow Algorithm 1: values and
    importance weights are constants, the result is differentiable in everything else. With
    alpha_rho = alpha_c = 1 this is V-trace, with 0 plain importance sampling.

    Unlike `rlax.leaky_vtrace_td_error_and_advantage`, advantages bootstrap from v_{s+1} itself also
    when lambda < 1 (Algorithm 1, line 20), unless asked for rlax's mixture.

    Args:
        values: V(x_0) ... V(x_T), [T+1, ...].
        rewards: r_s, after the action in x_s, [T, ...].
        discounts: gamma times 0 where the episode terminated after that action, [T, ...].
        importance_weights: pi(a_s | x_s) / mu(a_s | x_s), [T, ...].
        lambda_: trace decay in [0, 1].
        alpha_rho: mixture for rho; 1 truncates at `clip_rho`, 0 does not truncate.
        alpha_c: mixture for the trace c; 1 truncates at `clip_c`, 0 does not truncate. The operator
            is a sup-norm contraction if alpha_rho <= alpha_c (docs/paper_notes.md, Theorem 1).
        clip_rho: rho_bar.
        clip_c: c_bar.
        valid: 0 on dummy transitions, [T, ...]; default all ones. The trace is cut there, the
            target is V(x_s) itself and the advantage 0, so that such a step has no value or policy
            gradient, whatever its reward, discount and weight: also if they are not finite.
        mixed_bootstrap: whether advantages bootstrap from lambda v_{s+1} + (1 - lambda) V(x_{s+1}),
            as rlax's do.

    Returns:
        `LeakyVTraceOutput(targets, advantages, rhos)`, each [T, ...].

    Raises:
        ValueError: if the lengths in time do not match.
    """
    steps = rewards.shape[0]
    if values.shape[0] != steps + 1:
        raise ValueError(f"values must have {steps + 1} time steps, not {values.shape[0]}")
    for name, array in (("discounts", discounts), ("importance_weights", importance_weights)):
        if array.shape[0] != steps:
            raise ValueError(f"{name} must have {steps} time steps, not {array.shape[0]}")

    values = jax.lax.stop_gradient(values)
    weights = jax.lax.stop_gradient(importance_weights)
    if valid is not None:
        rewards, discounts, weights = (
            jnp.where(valid, array, 0.0) for array in (rewards, discounts, weights)
        )
    rhos = _leaky(weights, clip_rho, alpha_rho)
    traces = lambda_ * _leaky(weights, clip_c, alpha_c)

    deltas = rhos * (rewards + discounts * values[1:] - values[:-1])
    decays = discounts * traces
    errors = _discounted_sums(jnp.asarray(deltas), jnp.asarray(decays))
    targets = errors + values[:-1]
    bootstraps = jnp.concatenate([targets[1:], _last(values, targets)], axis=0)
    if mixed_bootstrap:
        mixture = jnp.asarray(lambda_)
        bootstraps = mixture * bootstraps + (1.0 - mixture) * values[1:]
    advantages = rewards + discounts * bootstraps - values[:-1]
    if valid is not None:
        advantages = jnp.where(valid, advantages, 0.0)
    return LeakyVTraceOutput(targets, advantages, jnp.broadcast_to(rhos, targets.shape))


def _leaky(weights: Array, clip: ArrayLike, alpha: ArrayLike) -> Array:
    """The truncated weight mixed with the weight; with alpha = 1 the former, of infinity too."""
    finite = jnp.minimum(weights, jnp.finfo(weights.dtype).max)  # 0 times infinity is not 0
    return jnp.minimum(clip, weights) * alpha + finite * (1.0 - alpha)


def _discounted_sums(deltas: Array, decays: Array) -> Array:
    """e_s = delta_s + decay_s e_{s+1}, backwards in time (Algorithm 1, lines 9 to 12)."""
    shape = jnp.broadcast_shapes(deltas.shape, decays.shape)
    deltas, decays = jnp.broadcast_to(deltas, shape), jnp.broadcast_to(decays, shape)

    def step(error: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = inputs
        error = delta + decay * error
        return error, error

    _, errors = jax.lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, decays), reverse=True)
    return errors


def _last(values: Array, like: Array) -> Array:
    return jnp.broadcast_to(values[-1:], (1, *like.shape[1:]))

"""The optimiser of the network, through which the metagradient passes (Algorithm 2, line 12)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from stacx.config import Config


def make_optimiser(config: Config) -> optax.GradientTransformation:
    """Global-norm clipping, then RMSProp with a linear schedule over the run (Table 3).

    The epsilon stays inside the root, where a parameter that never had a gradient (nu = 0) has a
    finite derivative; outside, the metagradient would be NaN.
    """
    schedule = optax.linear_schedule(
        config.learning_rate, config.end_learning_rate, config.total_updates
    )
    return optax.chain(
        _clip_by_global_norm(config.max_gradient_norm),
        _scale_by_rms(config),
        optax.scale_by_learning_rate(schedule),
    )


def _scale_by_rms(config: Config) -> optax.GradientTransformation:
    """RMSProp; its second moment may be a constant to the metagradient."""
    rms = optax.scale_by_rms(
        decay=config.rmsprop_decay,
        eps=config.rmsprop_eps,
        initial_scale=config.rmsprop_initial,
        eps_in_sqrt=True,
    )
    if config.through_second_moment:
        return rms

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        _, state = rms.update(jax.lax.stop_gradient(updates), state, params)
        scaled = jax.tree.map(
            lambda leaf, nu: leaf * jax.lax.rsqrt(nu + config.rmsprop_eps), updates, state.nu
        )
        return scaled, state

    return optax.GradientTransformation(rms.init, update)


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm`, but differentiable where the gradient is zero."""

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(updates))
        clips = square > max_norm**2
        scale = jnp.where(clips, max_norm / jnp.sqrt(jnp.where(clips, square, 1.0)), 1.0)
        return jax.tree.map(lambda leaf: leaf * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

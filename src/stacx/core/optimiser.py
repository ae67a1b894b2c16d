"""The optimiser of the network, through which the metagradient passes (Algorithm 2, line 12)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from stacx.config import Config
from stacx.types import Network


def make_optimiser(config: Config, network: Network) -> optax.GradientTransformation:
    """Global-norm clipping, then RMSProp with a linear schedule over the run (Table 3).

    Where heads are kept apart, each auxiliary head's own weights have a norm of theirs.

    The epsilon stays inside the root, where a parameter that never had a gradient (nu = 0) has a
    finite derivative; outside, the metagradient would be NaN.
    """
    schedule = optax.linear_schedule(
        config.learning_rate, config.end_learning_rate, config.total_updates
    )
    return optax.chain(
        _clip(config, network),
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


def squared_norms(
    gradient: optax.Updates, config: Config, network: Network
) -> Float[Array, "groups"]:
    """The squared norms that are clipped: of the whole gradient.

    Where heads are kept apart, of what is shared and head 1's own, then of every other head's own.
    """
    if not config.heads_apart:
        return jnp.stack([sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))])
    squares = jnp.zeros(config.heads)
    of_heads = jax.tree.leaves(network.per_head(gradient))
    for leaf, has_rows in zip(jax.tree.leaves(gradient), of_heads, strict=True):
        if has_rows:
            squares += jnp.sum(jnp.square(leaf), axis=range(1, leaf.ndim))
        else:
            squares = squares.at[0].add(jnp.sum(jnp.square(leaf)))
    return squares


def _clip(config: Config, network: Network) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm`, but differentiable where the gradient is zero."""

    def clipped(gradient: optax.Updates) -> optax.Updates:
        square, limit = squared_norms(gradient, config, network), config.max_gradient_norm
        long = square > limit**2
        scales = jnp.where(long, limit / jnp.sqrt(jnp.where(long, square, 1.0)), 1.0)
        if not config.heads_apart:
            return jax.tree.map(lambda leaf: leaf * scales[0], gradient)

        def scaled(leaf: Array, has_rows: bool) -> Array:
            rows = scales.reshape(-1, *(1,) * (leaf.ndim - 1))
            return leaf * (rows if has_rows else scales[0])

        return jax.tree.map(scaled, gradient, network.per_head(gradient))

    return optax.stateless(lambda updates, params: clipped(updates))

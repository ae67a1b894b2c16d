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
    clip = _clip_heads_apart if config.heads_apart else _clip_by_global_norm
    return optax.chain(
        clip(config, network),
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


def _clip_by_global_norm(config: Config, network: Network) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm`, but differentiable where the gradient is zero."""
    del network

    def clipped(gradient: optax.Updates) -> optax.Updates:
        square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))
        scale = _clipping_scale(jnp.asarray(square), config.max_gradient_norm)
        return jax.tree.map(lambda leaf: leaf * scale, gradient)

    return optax.stateless(lambda updates, params: clipped(updates))


def _clip_heads_apart(config: Config, network: Network) -> optax.GradientTransformation:
    """The same for what is shared and head 1 together, and for every other head by itself."""

    def clipped(gradient: optax.Updates) -> optax.Updates:
        per_head = network.per_head(gradient)
        squares = jnp.zeros(config.heads)
        for leaf, of_heads in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(per_head), strict=True
        ):
            square = jnp.square(leaf)
            if of_heads:
                squares += jnp.sum(square, axis=range(1, leaf.ndim))
            else:
                squares = squares.at[0].add(jnp.sum(square))
        scales = _clipping_scale(squares, config.max_gradient_norm)

        def scaled(leaf: Array, of_heads: bool) -> Array:
            scale = scales.reshape(-1, *(1,) * (leaf.ndim - 1)) if of_heads else scales[0]
            return leaf * scale

        return jax.tree.map(scaled, gradient, per_head)

    return optax.stateless(lambda updates, params: clipped(updates))


def _clipping_scale(square: Float[Array, "*heads"], max_norm: float) -> Float[Array, "*heads"]:
    """What brings gradients of a squared norm to no more than a norm."""
    clips = square > max_norm**2
    return jnp.where(clips, max_norm / jnp.sqrt(jnp.where(clips, square, 1.0)), 1.0)

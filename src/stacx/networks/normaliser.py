"""Observations brought to zero mean and unit variance, by what has been seen so far."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_CLIP = 10.0
"""In standard deviations, as in OpenAI Baselines' and Gymnasium's wrappers of PPO."""
_EPSILON = 1e-8
_ROUNDING = 1e-4
"""Relative to a mean, what may be float32's error: a component that never changes stays near 0."""


class Normaliser(eqx.Module):
    """Running mean and variance of each component of the observations.

    They travel with the network's parameters, to actors, checkpoints and policies, but no gradient
    reaches them.
    """

    mean: Float[Array, "*observation"]
    variance: Float[Array, "*observation"]
    count: Float[Array, ""]
    """Observations seen so far."""

    def __init__(self, observation_shape: tuple[int, ...]):
        self.mean = jnp.zeros(observation_shape)
        self.variance = jnp.ones(observation_shape)
        self.count = jnp.zeros(())

    def __call__(self, observations: Float[Array, "N *observation"]) -> Array:
        """Normalised and clipped observations."""
        mean, variance = jax.lax.stop_gradient((self.mean, self.variance))
        least = _EPSILON + (_ROUNDING * mean) ** 2
        return jnp.clip((observations - mean) / jnp.sqrt(variance + least), -_CLIP, _CLIP)

    def after(
        self, observations: Float[Array, "T B *observation"], valid: Float[Array, "T B"]
    ) -> Normaliser:
        """With more observations, but for those whose `valid` is 0 (Chan et al. 1979)."""
        weights = valid.reshape(valid.shape + (1,) * self.mean.ndim)
        observations = jnp.where(weights > 0, observations, 0.0)  # whatever they are
        new = jnp.sum(valid)
        mean = jnp.sum(observations, (0, 1)) / jnp.maximum(new, 1.0)
        variance = jnp.sum(weights * (observations - mean) ** 2, (0, 1)) / jnp.maximum(new, 1.0)
        count = self.count + new
        share = new / jnp.maximum(count, 1.0)
        difference = mean - self.mean
        return eqx.tree_at(
            lambda n: (n.mean, n.variance, n.count),
            self,
            (
                self.mean + share * difference,
                (1 - share) * (self.variance + share * difference**2) + share * variance,
                count,
            ),
        )

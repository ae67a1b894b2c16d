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
    reaches them. Pictures are divided by one deviation for all pixels, so that pixels in which
    nothing happens but a renderer's noise stay small.

    Args:
        observation_shape: without batch axes.
        pictures: whether observations are pictures, of values from 0 to 255.
    """

    mean: Float[Array, "*observation"]
    variance: Float[Array, "*observation"]
    count: Float[Array, ""]
    """Observations seen so far."""
    pictures: bool = eqx.field(static=True)

    def __init__(self, observation_shape: tuple[int, ...], *, pictures: bool = False):
        # before anything is seen, as if any value of a pixel were as likely as any other
        mean, variance = (127.5, 255**2 / 12) if pictures else (0.0, 1.0)
        self.mean = jnp.full(observation_shape, mean)
        self.variance = jnp.full(observation_shape, variance)
        self.count = jnp.zeros(())
        self.pictures = pictures

    def __call__(self, observations: Float[Array, "N *observation"]) -> Array:
        """Normalised and clipped observations."""
        mean, variance = jax.lax.stop_gradient((self.mean, self.variance))
        if self.pictures:
            variance = jnp.maximum(jnp.mean(variance), 1.0)  # noise alone is not enlarged
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

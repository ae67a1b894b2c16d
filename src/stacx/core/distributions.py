"""Policies as distributions over actions, parameterised by a network's output."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Categorical(eqx.Module):
    """A softmax policy over A discrete actions (section 9.3)."""

    logits: Float[Array, "*batch A"]
    """Unnormalised log-probabilities."""

    @property
    def log_probs(self) -> Float[Array, "*batch A"]:
        """Normalised log-probabilities."""
        return jax.nn.log_softmax(self.logits)

    def log_prob(self, actions: Int[Array, "*actions"]) -> Float[Array, "*batch"]:
        """log pi(a); `actions` broadcasts against the batch axes.

        A masked sum, not a gather: its gradient needs no scatter, which is slow on every device.
        """
        choices = jnp.arange(self.logits.shape[-1])
        return jnp.sum(jnp.where(actions[..., None] == choices, self.log_probs, 0.0), axis=-1)

    def negative_entropy(self) -> Float[Array, "*batch"]:
        """sum_a pi log pi, in nats."""
        log_probs = self.log_probs
        return jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: Categorical) -> Float[Array, "*batch"]:
        """KL(self || other), in nats."""
        log_probs = self.log_probs
        return jnp.sum(jnp.exp(log_probs) * (log_probs - other.log_probs), axis=-1)

    def mode(self) -> Int[Array, "*batch"]:
        """The most probable action."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    @staticmethod
    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], num_actions: int
    ) -> Float[Array, "*shape A"]:
        """The randomness of a batch of samples, to be drawn for a whole rollout at once."""
        return jax.random.gumbel(key, (*shape, num_actions))

    def sample(self, noise: Float[Array, "*batch A"]) -> Int[Array, "*batch"]:
        """Actions from `noise`, as the argument of a Gumbel-perturbed maximum."""
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

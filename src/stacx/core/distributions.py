"""Policies as distributions over actions, parameterised by a network's output.

Callers know no kind of action: `distribution` and `draw_noise` are all that depends on it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from stacx.types import ActionSpace, Discrete, MultiDiscrete


@runtime_checkable
class Distribution(Protocol):
    """A batch of policies over one action space, differentiable in a network's outputs."""

    def log_prob(self, actions: Int[Array, "..."]) -> Float[Array, "*batch"]:
        """log pi(a); the axes of `actions` before an action's own broadcast against the batch."""
        ...

    def negative_entropy(self) -> Float[Array, "*batch"]:
        """E[log pi], in nats."""
        ...

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """KL(self || other), in nats; `other` is over the same space."""
        ...

    def mode(self) -> Int[Array, "..."]:
        """The most probable action, [*batch, *action]."""
        ...

    def sample(self, noise: Float[Array, "..."]) -> Int[Array, "..."]:
        """Actions, [*batch, *action], from what `draw_noise` drew for this shape of batch."""
        ...


def distribution(space: ActionSpace, outputs: Float[Array, "*batch A"]) -> Distribution:
    """The policies that a network's outputs are the parameters of."""
    match space:
        case Discrete():
            return Categorical(outputs)
        case MultiDiscrete(sizes):
            return MultiCategorical(outputs, sizes)


def draw_noise(
    space: ActionSpace, key: PRNGKeyArray, shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """The randomness of a batch of samples, to be drawn for a whole rollout at once."""
    match space:
        case Discrete(n):
            return Categorical.noise(key, shape, n)
        case MultiDiscrete(sizes):
            return MultiCategorical.noise(key, shape, sizes)


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
        """What `sample` takes, for batches of this shape."""
        return jax.random.gumbel(key, (*shape, num_actions))

    def sample(self, noise: Float[Array, "*batch A"]) -> Int[Array, "*batch"]:
        """Actions from `noise`, as the argument of a Gumbel-perturbed maximum."""
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)


class MultiCategorical(eqx.Module):
    """D independent softmax policies, one for each choice that makes up an action."""

    logits: Float[Array, "*batch A"]
    """The choices' unnormalised log-probabilities, one choice after the other."""
    sizes: tuple[int, ...] = eqx.field(static=True)
    """How many alternatives each choice has; A in all."""

    @property
    def choices(self) -> tuple[Categorical, ...]:
        """The policies one by one."""
        return tuple(Categorical(logits) for logits in self._split(self.logits))

    def log_prob(self, actions: Int[Array, "*actions D"]) -> Float[Array, "*batch"]:
        """log pi(a); all axes of `actions` but the last broadcast against the batch axes."""
        choices = zip(self.choices, jnp.unstack(actions, axis=-1), strict=True)
        return _sum(choice.log_prob(chosen) for choice, chosen in choices)

    def negative_entropy(self) -> Float[Array, "*batch"]:
        """sum_a pi log pi over all joint actions, in nats."""
        return _sum(choice.negative_entropy() for choice in self.choices)

    def kl(self, other: MultiCategorical) -> Float[Array, "*batch"]:
        """KL(self || other), in nats."""
        pairs = zip(self.choices, other.choices, strict=True)
        return _sum(choice.kl(others) for choice, others in pairs)

    def mode(self) -> Int[Array, "*batch D"]:
        """The most probable action."""
        return jnp.stack([choice.mode() for choice in self.choices], axis=-1)

    @staticmethod
    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], sizes: tuple[int, ...]
    ) -> Float[Array, "*shape A"]:
        """What `sample` takes, for batches of this shape."""
        return Categorical.noise(key, shape, sum(sizes))

    def sample(self, noise: Float[Array, "*batch A"]) -> Int[Array, "*batch D"]:
        """Actions from `noise`, each choice's from its own part."""
        choices = zip(self.choices, self._split(noise), strict=True)
        return jnp.stack([choice.sample(part) for choice, part in choices], axis=-1)

    def _split(self, array: Float[Array, "*batch A"]) -> Sequence[Float[Array, "*batch _"]]:
        return jax.lax.split(array, self.sizes, axis=array.ndim - 1)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)

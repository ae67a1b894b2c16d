"""Policies as distributions over actions, parameterised by a network's output.

Callers know no kind of action: `distribution`, `draw_noise` and `environment_actions` are all that
depends on it.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from stacx.config import Config
from stacx.types import ActionSpace, Box, Discrete, MultiDiscrete


@runtime_checkable
class Distribution(Protocol):
    """A batch of policies over one action space, differentiable in a network's outputs."""

    def log_prob(self, actions: Num[Array, "..."]) -> Float[Array, "*batch"]:
        """log pi(a); the axes of `actions` before an action's own broadcast against the batch."""
        ...

    def entropy(self) -> Float[Array, "*batch"]:
        """E[-log pi], in nats."""
        ...

    def regulariser(self) -> Float[Array, "*batch"]:
        """What the entropy loss minimises, in nats."""
        ...

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """KL(self || other), in nats; `other` is over the same space."""
        ...

    def mode(self) -> Num[Array, "..."]:
        """The most probable action, [*batch, *action]."""
        ...

    def sample(self, noise: Float[Array, "..."]) -> Num[Array, "..."]:
        """Actions, [*batch, *action], from what `draw_noise` drew for this shape of batch."""
        ...


def distribution(
    space: ActionSpace, outputs: Float[Array, "*batch A"], config: Config
) -> Distribution:
    """The policies that a network's outputs are the parameters of.

    Args:
        space: of the actions.
        outputs: of policy heads.
        config: bounds of a Gaussian's deviation.
    """
    match space:
        case Discrete():
            return Categorical(outputs)
        case MultiDiscrete(sizes):
            return MultiCategorical(outputs, sizes)
        case Box():
            return SquashedGaussian.of(outputs, space, config)


def draw_noise(
    space: ActionSpace, key: PRNGKeyArray, shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """The randomness of a batch of samples, to be drawn for a whole rollout at once."""
    match space:
        case Discrete(n):
            return Categorical.noise(key, shape, n)
        case MultiDiscrete(sizes):
            return MultiCategorical.noise(key, shape, sizes)
        case Box():
            return SquashedGaussian.noise(key, (*shape, *space.shape))


def environment_actions(
    space: ActionSpace, actions: Num[Array, "*batch_action"]
) -> Num[Array, "*batch_action"]:
    """What an environment is given for actions that were sampled.

    Over a `Box` their tanh, mapped from [-1, 1] to the bounds (section 9.3); else the same.
    """
    if not isinstance(space, Box):
        return actions
    low, high = (np.array(bound, np.float32) for bound in (space.low, space.high))
    return jnp.clip(low + (high - low) * (jnp.tanh(actions) + 1) / 2, low, high)


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

    def entropy(self) -> Float[Array, "*batch"]:
        """-sum_a pi log pi, in nats."""
        log_probs = self.log_probs
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def regulariser(self) -> Float[Array, "*batch"]:
        """The entropy, with the sign that rewards it (Eq. 1, as it was meant)."""
        return -self.entropy()

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

    def entropy(self) -> Float[Array, "*batch"]:
        """-sum_a pi log pi over all joint actions, in nats."""
        return _sum(choice.entropy() for choice in self.choices)

    def regulariser(self) -> Float[Array, "*batch"]:
        """The entropy, with the sign that rewards it (Eq. 1, as it was meant)."""
        return -self.entropy()

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


class SquashedGaussian(eqx.Module):
    """The tanh of a Gaussian with independent components, mapped to a box (section 9.3).

    Actions are given and sampled before the tanh: where it is saturated its inverse is lost.
    """

    mean: Float[Array, "*batch D"]
    """Of the Gaussian; itself a tanh, so that |mean| < 1."""
    log_std: Float[Array, "*batch D"]
    """Logarithm of the Gaussian's standard deviation."""
    space: Box = eqx.field(static=True)
    """The bounds."""

    @staticmethod
    def of(outputs: Float[Array, "*batch A"], space: Box, config: Config) -> SquashedGaussian:
        """From a head's outputs: log std = s_min + (s_max - s_min)/2 (tanh y + 1)."""
        mean, y = jnp.split(jnp.tanh(outputs), 2, axis=-1)
        low, high = config.log_std_min, config.log_std_max
        return SquashedGaussian(mean, low + (high - low) / 2 * (y + 1), space)

    @property
    def std(self) -> Float[Array, "*batch D"]:
        """The Gaussian's standard deviation."""
        return jnp.exp(self.log_std)

    def log_prob(self, actions: Float[Array, "*actions D"]) -> Float[Array, "*batch"]:
        """log pi of the environment's actions, a density within the bounds.

        The derivative of the tanh is 1 - tanh(u)^2 = 4 / (e^u + e^-u)^2; its logarithm is computed
        so that it stays exact where the tanh is 1.
        """
        gaussian = -0.5 * jnp.square((actions - self.mean) / self.std) - self.log_std
        jacobian = 2 * (math.log(2) - actions - jax.nn.softplus(-2 * actions))
        half = (np.array(self.space.high) - np.array(self.space.low)) / 2
        constant = 0.5 * math.log(2 * math.pi) + np.log(half)
        return jnp.sum(gaussian - jacobian - constant, axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """Of the Gaussian, before it is squashed, in nats."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def regulariser(self) -> Float[Array, "*batch"]:
        """KL(N(mean, std) || N(0, 1)), in nats, instead of an entropy (section 4.2)."""
        square = jnp.square(self.std) + jnp.square(self.mean)
        return jnp.sum(0.5 * (square - 1) - self.log_std, axis=-1)

    def kl(self, other: SquashedGaussian) -> Float[Array, "*batch"]:
        """KL(self || other), in nats: that of the Gaussians, since squashing is one to one."""
        square = jnp.square(self.std) + jnp.square(self.mean - other.mean)
        relative = square * jnp.exp(-2 * other.log_std)
        return jnp.sum(0.5 * (relative - 1) + other.log_std - self.log_std, axis=-1)

    def mode(self) -> Float[Array, "*batch D"]:
        """The Gaussian's most probable point: the policy's median, once it is squashed."""
        return self.mean

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        """What `sample` takes, for batches of actions of this shape."""
        return jax.random.normal(key, shape)

    def sample(self, noise: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Actions from `noise`."""
        return self.mean + self.std * noise


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)

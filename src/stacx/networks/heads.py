"""The P policy and value heads, stacked: one batched computation, whatever P is."""

from __future__ import annotations

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from stacx.config import Config
from stacx.networks.layers import truncated_normal
from stacx.types import NetworkOutput


class StackedMLP(eqx.Module):
    """P independent MLPs on the same features, ReLU between layers."""

    weights: tuple[Float[Array, "P inputs outputs"], ...]
    biases: tuple[Float[Array, "P outputs"], ...]

    def __init__(
        self, key: PRNGKeyArray, heads: int, widths: tuple[int, ...], *, last_scale: float = 1.0
    ):
        keys = jax.random.split(key, len(widths) - 1)
        sizes = list(itertools.pairwise(widths))
        *hidden, last = (
            truncated_normal(k, (heads, inputs, outputs), inputs)
            for k, (inputs, outputs) in zip(keys, sizes, strict=True)
        )
        self.weights = (*hidden, last_scale * last)
        self.biases = tuple(jnp.zeros((heads, outputs)) for _, outputs in sizes)

    def __call__(
        self, features: Float[Array, "*batch F"], own: Float[Array, "P E"] | None = None
    ) -> Float[Array, "*batch P outputs"]:
        """The outputs for features, to which each MLP's `own` are appended."""
        first, bias = self.weights[0], self.biases[0]
        shared = features.shape[-1]
        if own is not None:
            bias = bias + jnp.einsum("pi,pio->po", own, first[:, shared:])
        x = jnp.einsum("...i,pio->...po", features, first[:, :shared]) + bias
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            x = jnp.einsum("...pi,pio->...po", jax.nn.relu(x), weight) + bias
        return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def bounded_fork(features: Array, bound: float) -> tuple[Array, Array]:
    """The same features twice: of the second's gradient, no more than a multiple of the first's.

    Going back, the second's cotangent is scaled down to a norm of at most `bound` times that of the
    first's; norms are over the whole array. Can be differentiated again, in reverse mode.
    """
    del bound
    return features, features


def _fork(features: Array, bound: float) -> tuple[tuple[Array, Array], None]:
    del bound
    return (features, features), None  # not the function itself: that is bounded, too


def _join(bound: float, _: None, cotangents: tuple[Array, Array]) -> tuple[Array]:
    first, second = cotangents
    allowed, square = bound**2 * jnp.sum(jnp.square(first)), jnp.sum(jnp.square(second))
    cut, anything = square > allowed, allowed > 0
    # where nothing is allowed or nothing is cut, roots and quotients have no derivative
    longest, norm = (jnp.sqrt(jnp.where(cut & anything, x, 1.0)) for x in (allowed, square))
    scale = jnp.where(anything | ~cut, longest / norm, 0.0)
    return (first + scale * second,)


bounded_fork.defvjp(_fork, _join)


class GammaEmbedding(eqx.Module):
    """What tells every head its discount: a vector times it (section 9.5; Xu et al. 2018).

    The discounts travel with the parameters, to actors, checkpoints and policies, but are not
    learned with them: the learner replaces them.
    """

    weights: Float[Array, "_ E"]
    """One row for every head, or one for all."""
    gamma: Float[Array, "P"]

    def __init__(self, key: PRNGKeyArray, heads: int, size: int, *, shared: bool):
        self.weights = truncated_normal(key, (1 if shared else heads, size), 1)
        self.gamma = jnp.zeros((heads,))

    def __call__(self) -> Float[Array, "P E"]:
        return self.gamma[:, None] * self.weights


class Heads(eqx.Module):
    """A policy head and a value head, P times (section 9.3), and what variants add to them."""

    policy: StackedMLP
    value: StackedMLP
    outer_value: StackedMLP | None
    """Values of the acting policy for the outer loss, by one MLP."""
    embedding: GammaEmbedding | None

    def __init__(self, key: PRNGKeyArray, config: Config, features: int, policy_outputs: int):
        policy_key, value_key = jax.random.split(key)
        outer_key, embedding_key = jax.random.split(jax.random.fold_in(key, 1))
        embedding, size = config.gamma_embedding, 0
        self.embedding = None
        if embedding != "none":
            size, shared = config.gamma_embedding_size, embedding == "shared"
            self.embedding = GammaEmbedding(embedding_key, config.heads, size, shared=shared)

        def mlp(key: PRNGKeyArray, heads: int, inputs: int, outputs: int) -> StackedMLP:
            widths = (inputs, *config.head_widths, outputs)
            return StackedMLP(key, heads, widths, last_scale=config.head_init)

        self.policy = mlp(policy_key, config.heads, features + size, policy_outputs)
        self.value = mlp(value_key, config.heads, features + size, 1)
        self.outer_value = mlp(outer_key, 1, features, 1) if config.has_outer_values else None

    def __call__(
        self, features: Float[Array, "T B F"], max_aux_gradient: float | None = None
    ) -> NetworkOutput:
        """What they say; `max_aux_gradient` bounds auxiliary heads' gradient in what is shared."""
        if max_aux_gradient is None or len(self.policy.biases[0]) == 1:
            return NetworkOutput(*self._outputs(slice(None), features), self._outer(features))
        mine, others = self._forked(max_aux_gradient)
        features, of_others = bounded_fork(features, max_aux_gradient)
        outputs = mine._outputs(slice(1), features), others._outputs(slice(1, None), of_others)
        policies, values = (jnp.concatenate(parts, axis=2) for parts in zip(*outputs, strict=True))
        return NetworkOutput(policies, values, self._outer(features))

    def _forked(self, bound: float) -> tuple[Heads, Heads]:
        """Itself twice; through an embedding that all share, the second has a bounded gradient."""
        if self.embedding is None or len(self.embedding.weights) > 1:
            return self, self
        mine, others = (
            eqx.tree_at(lambda heads: heads.embedding.weights, self, weights)
            for weights in bounded_fork(self.embedding.weights, bound)
        )
        return mine, others

    def _outer(self, features: Float[Array, "T B F"]) -> Float[Array, "T B 1"] | None:
        return None if self.outer_value is None else self.outer_value(features)[..., 0]

    def _outputs(
        self, heads: slice, features: Float[Array, "T B F"]
    ) -> tuple[Float[Array, "T B P A"], Float[Array, "T B P"]]:
        """Policies and values of some heads."""
        policy, value = (
            jax.tree.map(lambda leaf: leaf[heads], mlp) for mlp in (self.policy, self.value)
        )
        own = None if self.embedding is None else self.embedding()[heads]
        return policy(features, own), value(features, own)[..., 0]

    def per_head(self) -> Heads:
        """Which arrays have a row for each head; the others' leading axis has size 1."""
        heads = len(self.policy.biases[0])
        return jax.tree.map(lambda leaf: leaf.shape[0] == heads, self)

    def main(self) -> Heads:
        """Head 1 alone, with a head axis of size 1."""
        return jax.tree.map(lambda leaf: leaf[:1], self)

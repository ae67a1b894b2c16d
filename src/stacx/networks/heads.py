"""The P policy and value heads, stacked: one batched computation, whatever P is."""

from __future__ import annotations

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from stacx.networks.layers import truncated_normal


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

    def __call__(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch P outputs"]:
        x = jnp.einsum("...i,pio->...po", features, self.weights[0]) + self.biases[0]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            x = jnp.einsum("...pi,pio->...po", jax.nn.relu(x), weight) + bias
        return x


class Heads(eqx.Module):
    """A policy head and a value head, P times (section 9.3)."""

    policy: StackedMLP
    value: StackedMLP

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        heads: int,
        features: int,
        widths: tuple[int, ...],
        policy_outputs: int,
        last_scale: float = 1.0,
    ):
        policy_key, value_key = jax.random.split(key)
        self.policy = StackedMLP(
            policy_key, heads, (features, *widths, policy_outputs), last_scale=last_scale
        )
        self.value = StackedMLP(value_key, heads, (features, *widths, 1), last_scale=last_scale)

    def main(self) -> Heads:
        """Head 1 alone, with a head axis of size 1."""
        return jax.tree.map(lambda leaf: leaf[:1], self)

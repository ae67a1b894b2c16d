"""Dense and convolutional layers on batches, channels last.

Parameters start as in Haiku, the library of the paper's authors: weights normal with standard
deviation 1/sqrt(fan-in), truncated at two deviations (which leaves 0.88 of it), biases zero.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def truncated_normal(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Array:
    """Haiku's default initial weights: two-sided truncation at 2, deviation 1/sqrt(fan_in)."""
    return jax.random.truncated_normal(key, -2.0, 2.0, shape) / math.sqrt(max(fan_in, 1))


class Dense(eqx.Module):
    """x W + b over the last axis."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int):
        self.weight = truncated_normal(key, (inputs, outputs), inputs)
        self.bias = jnp.zeros((outputs,))

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return x @ self.weight.astype(x.dtype) + self.bias.astype(x.dtype)


class Conv(eqx.Module):
    """A square convolution with SAME padding on [N, H, W, C]."""

    weight: Float[Array, "size size inputs outputs"]
    bias: Float[Array, " outputs"]
    stride: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        outputs: int,
        *,
        size: int = 3,
        stride: int = 1,
    ):
        shape = (size, size, inputs, outputs)
        self.weight = truncated_normal(key, shape, size * size * inputs)
        self.bias = jnp.zeros((outputs,))
        self.stride = stride

    def __call__(self, x: Float[Array, "N H W inputs"]) -> Float[Array, "N H2 W2 outputs"]:
        y = jax.lax.conv_general_dilated(
            x,
            self.weight.astype(x.dtype),
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + self.bias.astype(x.dtype)

"""Dense and convolutional layers and max-pooling on batches, channels last.

Parameters start as in Haiku, the library of the paper's authors: weights normal with standard
deviation 1/sqrt(fan-in), truncated at two deviations (which leaves 0.88 of it), biases zero.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

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
    """A square convolution on [N, H, W, C].

    On a CPU this is XLA's fastest form, and its gradients too, unless they stand inside a loop
    (`lax.scan` and the like): there XLA does not bring them into the form of its fast kernel, and
    they take thirty times longer.
    """

    weight: Float[Array, "size size inputs outputs"]
    bias: Float[Array, " outputs"]
    stride: int = eqx.field(static=True)
    padding: Literal["SAME", "VALID"] = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        outputs: int,
        *,
        size: int = 3,
        stride: int = 1,
        padding: Literal["SAME", "VALID"] = "SAME",
    ):
        shape = (size, size, inputs, outputs)
        self.weight = truncated_normal(key, shape, size * size * inputs)
        self.bias = jnp.zeros((outputs,))
        self.stride = stride
        self.padding = padding

    def __call__(self, x: Float[Array, "N H W inputs"]) -> Float[Array, "N H2 W2 outputs"]:
        y = jax.lax.conv_general_dilated(
            x,
            self.weight.astype(x.dtype),
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + self.bias.astype(x.dtype)


def max_pool(x: Float[Array, "N H W C"]) -> Float[Array, "N H2 W2 C"]:
    """Max-pooling over 3x3 windows with stride 2 and SAME padding.

    It is done along each axis in turn, with a derivative of selects: the gradient that XLA has for
    `reduce_window`, a scatter, took a CPU longer than all convolutions. Values and derivatives are
    the same, also for equal maxima: rows last, so that the first in reading order is taken.
    """
    return _max_pool_along(_max_pool_along(x, 2), 1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool_along(x: Float[Array, "N H W C"], axis: int) -> Float[Array, "N H2 W2 C"]:
    size, stride = ([n if i == axis else 1 for i in range(4)] for n in (3, 2))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, stride, "SAME")


@_max_pool_along.defjvp
def _max_pool_along_jvp(
    axis: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    y = _max_pool_along(primals[0], axis)
    first, second, _ = _windows(primals[0], axis, -jnp.inf)
    of_first, of_second, of_third = _windows(tangents[0], axis, 0.0)
    others = jnp.where(second == y, of_second, of_third)
    return y, jnp.where(first == y, of_first, others)


def _windows(x: Array, axis: int, filler: float) -> tuple[Array, Array, Array]:
    """The first, second and third element of every window of 3 with stride 2, SAME padding."""
    length = x.shape[axis]
    outputs = -(-length // 2)
    before = length % 2  # the odd one of the filling comes last
    pads = [(0, 0)] * 4
    pads[axis] = (before, 2 * outputs + 2 - length - before)
    x = jnp.pad(x, pads, constant_values=filler)
    x = x.reshape(*x.shape[:axis], outputs + 1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in (0, 1))
    cut = functools.partial(jax.lax.slice_in_dim, axis=axis)
    return cut(even, 0, outputs), cut(odd, 0, outputs), cut(even, 1, outputs + 1)

"""Torsos: from a batch of observations [N, ...] to a batch of features [N, F].

Images are [N, H, W, C] or [N, C, H, W]: the first axis of an observation is its channels if it is
smaller than the last, as in a stack of frames [4, 84, 84].

A torso of your own is any callable pytree (an `equinox.Module`, say) that a function of an
observation's shape and a key returns; name it as `package.module:function`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.networks.layers import Conv, Dense, max_pool

Torso = Callable[[Array], Array]


class MLP(eqx.Module):
    """Flattens, then dense layers with ReLU after each (Table 2, features)."""

    layers: tuple[Dense, ...]

    def __init__(self, key: PRNGKeyArray, observation_shape: tuple[int, ...], config: Config):
        widths = (math.prod(observation_shape), *config.mlp_widths)
        keys = jax.random.split(key, max(len(config.mlp_widths), 1))
        self.layers = tuple(
            Dense(k, i, o) for k, i, o in zip(keys, widths[:-1], widths[1:], strict=False)
        )

    def __call__(self, x: Float[Array, "N *observation"]) -> Float[Array, "N F"]:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return x


class MinAtarConv(eqx.Module):
    """One VALID 3x3 convolution of 16 channels, for 10x10 observations (Young & Tian 2019).

    It is computed as a dense layer on patches: as a convolution, its weights' gradient alone takes
    longer than the rest of an update on a CPU.
    """

    conv: Dense
    output: Dense | None

    def __init__(self, key: PRNGKeyArray, observation_shape: tuple[int, ...], config: Config):
        height, width, channels = _image_shape(observation_shape, "minatar", least=3)
        conv_key, output_key = jax.random.split(key)
        self.conv = Dense(conv_key, 3 * 3 * channels, 16)
        self.output = _output_layer(output_key, (height - 2) * (width - 2) * 16, config)

    def __call__(self, x: Float[Array, "N H W C"] | Float[Array, "N C H W"]) -> Float[Array, "N F"]:
        x = jax.nn.relu(self.conv(_patches(_channels_last(x), 3)))
        return _flatten(x, self.output)


class ResidualBlock(eqx.Module):
    """ReLU, conv, ReLU, conv, and the input added (Espeholt et al. 2018, Figure 3)."""

    first: Conv
    second: Conv

    def __init__(self, key: PRNGKeyArray, channels: int):
        first, second = jax.random.split(key)
        self.first = Conv(first, channels, channels)
        self.second = Conv(second, channels, channels)

    def __call__(self, x: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        return x + self.second(jax.nn.relu(self.first(jax.nn.relu(x))))


class ResNet(eqx.Module):
    """IMPALA's deep network: sections of conv, 3x3 max-pool of stride 2, two residual blocks.

    Table 2 (Atari), with IMPALA's 16 first channels (docs/paper_notes.md). With `downsampling`
    strides the conv has stride 2 and there is no pool: Table 2, control from pixels.
    """

    convs: tuple[Conv, ...]
    blocks: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    output: Dense | None
    pools: bool = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, observation_shape: tuple[int, ...], config: Config):
        height, width, inputs = _image_shape(observation_shape, "resnet", least=1)
        *keys, output_key = jax.random.split(key, len(config.channels) + 1)
        convs, blocks, self.pools = [], [], config.downsampling == "pools"
        for section_key, channels in zip(keys, config.channels, strict=True):
            conv_key, first, second = jax.random.split(section_key, 3)
            convs.append(Conv(conv_key, inputs, channels, stride=1 if self.pools else 2))
            blocks.append((ResidualBlock(first, channels), ResidualBlock(second, channels)))
            height, width, inputs = -(-height // 2), -(-width // 2), channels
        self.convs, self.blocks = tuple(convs), tuple(blocks)
        self.output = _output_layer(output_key, height * width * inputs, config)

    def __call__(self, x: Float[Array, "N H W C"] | Float[Array, "N C H W"]) -> Float[Array, "N F"]:
        x = _channels_last(x)
        for conv, (first, second) in zip(self.convs, self.blocks, strict=True):
            x = conv(x)
            x = second(first(max_pool(x) if self.pools else x))
        return _flatten(jax.nn.relu(x), self.output)


class PlainConvs(eqx.Module):
    """VALID convolutions with ReLU after each, then a dense layer with ReLU.

    The layer is as wide as published, unless `torso_output` gives another width.
    """

    convs: tuple[Conv, ...]
    output: Dense

    def __init__(
        self,
        key: PRNGKeyArray,
        observation_shape: tuple[int, ...],
        config: Config,
        *,
        name: str,
        layers: tuple[tuple[int, int, int], ...],
        width: int,
    ):
        """Convolves with `layers`: size, stride and channels of each."""
        height, side, inputs = _image_shape(observation_shape, name, least=_least(layers))
        *keys, output_key = jax.random.split(key, len(layers) + 1)
        convs = []
        for conv_key, (size, stride, channels) in zip(keys, layers, strict=True):
            conv = Conv(conv_key, inputs, channels, size=size, stride=stride, padding="VALID")
            convs.append(conv)
            height, side = ((length - size) // stride + 1 for length in (height, side))
            inputs = channels
        self.convs = tuple(convs)
        self.output = Dense(output_key, height * side * inputs, config.torso_output or width)

    def __call__(self, x: Float[Array, "N H W C"] | Float[Array, "N C H W"]) -> Float[Array, "N F"]:
        x = _channels_last(x)
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return _flatten(x, self.output)


_shallow = functools.partial(PlainConvs, name="shallow", layers=((8, 4, 16), (4, 2, 32)), width=256)
"""IMPALA's shallow network (Espeholt et al. 2018, Figure 3, left), without its LSTM."""

_nature = functools.partial(
    PlainConvs, name="nature", layers=((8, 4, 32), (4, 2, 64), (3, 1, 64)), width=512
)
"""DQN's network (Mnih et al. 2015, Methods)."""

TORSOS: dict[str, Callable[[PRNGKeyArray, tuple[int, ...], Config], Torso]] = {
    "mlp": MLP,
    "minatar": MinAtarConv,
    "resnet": ResNet,
    "shallow": _shallow,
    "nature": _nature,
}


def _flatten(x: Array, output: Dense | None) -> Array:
    x = x.reshape(x.shape[0], -1)
    return x if output is None else jax.nn.relu(output(x))


def _output_layer(key: PRNGKeyArray, inputs: int, config: Config) -> Dense | None:
    return Dense(key, inputs, config.torso_output) if config.torso_output else None


def _least(layers: tuple[tuple[int, int, int], ...]) -> int:
    """The shortest side of an image of which VALID convolutions leave anything."""
    length = 1
    for size, stride, _ in reversed(layers):
        length = (length - 1) * stride + size
    return length


def _patches(x: Float[Array, "N H W C"], size: int) -> Float[Array, "N H2 W2 patch"]:
    """Every square patch, flattened row by row."""
    height, width = (length - size + 1 for length in x.shape[1:3])
    return jnp.concatenate(
        [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)], axis=-1
    )


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether an image has its channels first: an image has fewer channels than columns."""
    return shape[0] < shape[2]


def _channels_last(x: Array) -> Float[Array, "N H W C"]:
    return jnp.moveaxis(x, 1, -1) if _channels_first(x.shape[1:]) else x


def _image_shape(shape: tuple[int, ...], torso: str, *, least: int) -> tuple[int, int, int]:
    """Height, width and channels, wherever the channels are."""
    image = (*shape[1:], shape[0]) if len(shape) == 3 and _channels_first(shape) else shape
    if len(image) != 3 or min(image) < 1 or min(image[:2]) < least:
        raise ConfigError(
            f"--torso {torso} needs observations [height, width, channels] or "
            f"[channels, height, width], each side at least {least}, not {list(shape)}: "
            "use --torso mlp"
        )
    return image[0], image[1], image[2]

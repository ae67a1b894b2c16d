"""Between Gymnasium's spaces and arrays, of observations and of actions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.types import ActionSpace, Box, Discrete, MultiDiscrete


@dataclasses.dataclass(frozen=True)
class Observations:
    """How a batch of a space's observations becomes one array [B, *shape]."""

    shape: tuple[int, ...]
    dtype: np.dtype
    encode: Callable[[Any], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Actions:
    """What the agent chooses from, and how a batch of its choices becomes actions of a space."""

    space: ActionSpace
    decode: Callable[[np.ndarray], np.ndarray]


def observations_of(space: gymnasium.Space, env: str) -> Observations:
    """The encoding of a single environment's observation space.

    Images and other arrays of bytes (`Box` of uint8) stay as they are; every other `Box` becomes
    float32 of the same shape. `Discrete` and `MultiDiscrete` become one-hot, `MultiBinary` float32.
    `Dict` and `Tuple` become one float32 vector in the order of `gymnasium.spaces.flatten`, bytes
    in them divided by 255.

    Raises:
        ConfigError: if observations of the environment `env` cannot be one array, or are empty.
    """
    if not isinstance(space, spaces.Box):
        encode = _flattening(space, env)
        found = Observations((spaces.flatdim(space),), np.dtype(np.float32), encode)
    elif space.dtype == np.uint8:
        found = Observations(space.shape, np.dtype(np.uint8), np.asarray)
    else:
        found = Observations(space.shape, np.dtype(np.float32), _as_float)
    if 0 in found.shape:
        raise ConfigError(f"{env} has observations without a single number in them ({space})")
    return found


def _flattening(space: gymnasium.Space, env: str) -> Callable[[Any], np.ndarray]:
    """From a batch of observations to [B, `flatdim`], float32."""
    match space:
        case spaces.Box():
            scale = np.float32(1 / 255 if space.dtype == np.uint8 else 1)
            size = math.prod(space.shape)
            return lambda batch: _as_float(batch).reshape(-1, size) * scale
        case spaces.MultiBinary():
            size = math.prod(space.shape)
            return lambda batch: _as_float(batch).reshape(-1, size)
        case spaces.Discrete():
            return _one_hot(np.array([space.n]), np.array([space.start]), env)
        case spaces.MultiDiscrete():
            return _one_hot(space.nvec.reshape(-1), np.asarray(space.start).reshape(-1), env)
        case spaces.Dict():
            named = [(name, _flattening(part, env)) for name, part in space.spaces.items()]
            return lambda batch: np.concatenate([f(batch[name]) for name, f in named], axis=1)
        case spaces.Tuple():
            parts = [_flattening(part, env) for part in space.spaces]
            return lambda batch: np.concatenate(
                [f(part) for f, part in zip(parts, batch, strict=True)], axis=1
            )
    raise ConfigError(
        f"{env} has observations of {type(space).__name__}, which have no fixed size: stacx takes "
        "Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these"
    )


def actions_of(space: gymnasium.Space, env: str) -> Actions:
    """The choices of a single environment's action space, counted from 0, or its box, flattened.

    Raises:
        ConfigError: if the environment `env` has other actions, or a box without bounds.
    """
    match space:
        case spaces.Discrete():
            return Actions(Discrete(int(space.n)), _shifted(space.start, space.dtype))
        case spaces.MultiDiscrete() if len(space.shape) == 1:
            sizes = tuple(int(n) for n in space.nvec)
            return Actions(MultiDiscrete(sizes), _shifted(space.start, space.dtype))
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            return _box_actions(space, env)
    raise ConfigError(
        f"{env} has actions of {type(space).__name__} ({space}): stacx takes Discrete, "
        "MultiDiscrete of one axis, and Box of a floating type"
    )


_BOUNDLESS = 1e9
"""A bound as large as this stands for none: dm_control says 1e10, others float32's largest."""


def _box_actions(space: spaces.Box, env: str) -> Actions:
    low, high = (bound.astype(np.float32).reshape(-1) for bound in (space.low, space.high))
    if not (np.abs([low, high]) < _BOUNDLESS).all():
        raise ConfigError(
            f"{env} has actions without finite bounds ({space}), and a policy has to know how far "
            "it may go: bound them with gymnasium.wrappers.TransformAction or a "
            "gymnasium.ActionWrapper in a function of your own"
        )
    if not (low < high).all():
        raise ConfigError(
            f"{env} has actions whose lower bound is not below the upper one ({space}): leave them "
            "out with a gymnasium.ActionWrapper in a function of your own"
        )

    def decode(actions: np.ndarray) -> np.ndarray:
        shaped = actions.reshape(len(actions), *space.shape).astype(space.dtype)
        return np.clip(shaped, space.low, space.high)  # float32 may have rounded a bound

    return Actions(Box(tuple(low.tolist()), tuple(high.tolist())), decode)


def _as_float(batch: Any) -> np.ndarray:
    return np.asarray(batch, np.float32)


def _one_hot(sizes: np.ndarray, starts: np.ndarray, env: str) -> Callable[[Any], np.ndarray]:
    """From a batch of D numbers, each of `sizes` values, to as many one-hot vectors in a row."""
    sizes, starts = sizes.astype(np.int64), starts.astype(np.int64)  # unsigned ones wrap around
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    width = int(np.sum(sizes))

    def encode(batch: Any) -> np.ndarray:
        numbers = np.asarray(batch, np.int64).reshape(-1, len(sizes))
        values = numbers - starts
        outside = ((values < 0) | (values >= sizes)).any(axis=1)
        if outside.any():
            index = int(np.argmax(outside))
            raise BrokenEnvironmentError(
                f"{env} returned observations outside their space: environment {index} of "
                f"{len(numbers)} returned {np.array2string(numbers[index], threshold=8)}: "
                "mend the environment"
            )
        encoded = np.zeros((len(numbers), width), np.float32)
        np.put_along_axis(encoded, values + offsets, 1.0, axis=1)
        return encoded

    return encode


def _shifted(start: Any, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    if np.any(start):
        return lambda actions: (actions + start).astype(dtype)
    return lambda actions: actions.astype(dtype)

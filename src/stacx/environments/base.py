"""What an on-device environment is, and whether an object is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num, PRNGKeyArray

from stacx.errors import ConfigError
from stacx.imports import one_line
from stacx.types import ActionSpace, EnvironmentState, Timestep


@runtime_checkable
class OnDeviceEnvironment(Protocol):
    """One environment as pure JAX functions; stacx batches it, resets it and counts its episodes.

    It need not reset itself, and must say apart whether an episode *terminated* (no future) or was
    *truncated* (a time limit: the future is bootstrapped).
    """

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        ...

    @property
    def observation_dtype(self) -> Any:
        """Type of observations; uint8 is divided by 255 in the network, unless it normalises."""
        ...

    @property
    def action_space(self) -> ActionSpace:
        """What actions there are."""
        ...

    def reset(self, key: PRNGKeyArray) -> tuple[EnvironmentState, Array]:
        """A first state and its observation."""
        ...

    def step(
        self, key: PRNGKeyArray, state: EnvironmentState, action: Num[Array, " *action"]
    ) -> tuple[EnvironmentState, Timestep]:
        """The next state, and what is seen of the transition."""
        ...


def check_environment(environment: OnDeviceEnvironment, env: str) -> None:
    """Compares what `reset` and `step` return with what is declared; nothing is computed.

    Raises:
        ConfigError: if the environment `env` raises, or is not what `OnDeviceEnvironment` says.
    """
    try:
        problem = next(_problems(environment), None)
    except Exception as error:
        raise ConfigError(f"{env} raised {one_line(error)}") from error
    if problem:
        raise ConfigError(f"{env}: {problem}")


def _problems(environment: OnDeviceEnvironment) -> Iterator[str]:
    """What is wrong; only the first is sure, for the others may follow from it."""
    actions, shape = environment.action_space, environment.observation_shape
    if not isinstance(actions, ActionSpace):
        yield f"action_space must be a stacx.Discrete, MultiDiscrete or Box, not {actions!r}"
    if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
        yield f"observation_shape must be a tuple of ints, not {shape!r}"
    declared = jax.ShapeDtypeStruct(shape, np.dtype(environment.observation_dtype))
    key = jax.eval_shape(jax.random.key, 0)

    first = jax.eval_shape(environment.reset, key)
    if not isinstance(first, tuple) or len(first) != 2:
        yield f"reset must return (state, observation), not {_kind(first)}"
    state, observation = first
    yield from _differences("the observation of reset", observation, declared, "declared")

    action = jax.ShapeDtypeStruct(actions.shape, actions.dtype)
    second = jax.eval_shape(environment.step, key, state, action)
    if not isinstance(second, tuple) or len(second) != 2:
        yield f"step must return (state, stacx.Timestep), not {_kind(second)}"
    if not isinstance(second[1], Timestep):
        yield f"step must return (state, stacx.Timestep), not (state, {_kind(second[1])})"
    new_state, timestep = second
    yield from _differences("the state of step", new_state, state, "that of reset")
    yield from _differences("the observation of step", timestep.observation, declared, "declared")
    if not jnp.issubdtype(timestep.reward.dtype, jnp.floating) or timestep.reward.shape:
        yield f"the reward of step is {_text(timestep.reward)}, not a scalar of a floating type"
    flag = jax.ShapeDtypeStruct((), bool)
    yield from _differences("terminated", timestep.terminated, flag, "a truth value")
    yield from _differences("truncated", timestep.truncated, flag, "a truth value")
    yield from _differences("physics_error", timestep.physics_error, flag, "a truth value")


def _differences(name: str, found: Any, wanted: Any, meaning: str) -> Iterator[str]:
    """In structure, then in the shape and the type of every leaf."""
    structure: Any = jax.tree.structure(found)
    wanted_structure: Any = jax.tree.structure(wanted)
    if structure != wanted_structure:
        yield f"{name} is {structure}, not {wanted_structure} ({meaning})"
    leaves, wanted_leaves = jax.tree.leaves_with_path(found), jax.tree.leaves(wanted)
    for (path, leaf), wanted_leaf in zip(leaves, wanted_leaves, strict=True):
        if _text(leaf) != _text(wanted_leaf):
            place = name + jax.tree_util.keystr(path)
            yield f"{place} is {_text(leaf)}, not {_text(wanted_leaf)} ({meaning})"


def _kind(value: Any) -> str:
    """What kind of thing was returned, in a few words."""
    if type(value) is tuple:
        return f"a tuple of {len(value)}"
    return _text(value) if hasattr(value, "shape") else f"a {type(value).__name__}"


def _text(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"

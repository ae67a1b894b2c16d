"""Any Gymnasium environment: `gym:ID`, and what a function of a user's returns."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from stacx.environments.guard import guarded
from stacx.environments.host import HostEnvironment
from stacx.errors import ConfigError

_CONTINUOUS = {
    "Pendulum",
    "MountainCarContinuous",
    "LunarLanderContinuous",
    "BipedalWalker",
    "BipedalWalkerHardcore",
}


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`gym:ID`; arguments go to `gymnasium.make`."""
    spec = gymnasium.spec(name)
    make_one = functools.partial(gymnasium.make, name, **arguments)
    make_many = None
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        make_many = functools.partial(
            gymnasium.make_vec, name, vectorization_mode="vector_entry_point", **arguments
        )
    return _environment(f"gym:{name}", make_one, make_many, make_one())


def from_function(
    env: str, function: Callable[..., Any], arguments: dict[str, Any], first: Any
) -> HostEnvironment:
    """What a user's function makes.

    Args:
        env: its id.
        function: returns a `gymnasium.Env`; or, if it has an argument `num_envs`, a `VectorEnv` of
            so many.
        arguments: the function's other arguments.
        first: what the function has returned once (with `num_envs` 1).

    Raises:
        ConfigError: if it returned something else.
    """
    if isinstance(first, VectorEnv):
        if not takes_num_envs(function):
            raise ConfigError(
                f"{env} returned a VectorEnv, but has no argument num_envs to say how many: "
                "add it, or return one gymnasium.Env"
            )
        make_many = functools.partial(function, **arguments)
        return _environment(env, None, make_many, first)
    return _environment(env, functools.partial(function, **arguments), None, first)


def takes_num_envs(function: Callable[..., Any]) -> bool:
    """Whether a function makes batches."""
    try:
        return "num_envs" in inspect.signature(function).parameters
    except ValueError:
        return False


def names() -> dict[str, str | None]:
    """Every registered id, and why it cannot be trained on (None: it can be tried)."""
    specs = gymnasium.registry.values()
    return {spec.id: _obstacle(spec) for spec in specs if isinstance(spec.entry_point, str)}


def _obstacle(spec: Any) -> str | None:
    if spec.entry_point.startswith("ale_py"):
        return "has raw frames: use the family atari"
    if spec.entry_point.startswith("gymnasium.envs.mujoco") or spec.name in _CONTINUOUS:
        return "continuous actions, not supported yet"
    if ".box2d." in spec.entry_point and importlib.util.find_spec("Box2D") is None:
        return "needs Box2D: pip install '.[gym]' in stacx's project directory"
    return None


def _environment(
    env: str,
    make_one: Callable[..., gymnasium.Env] | None,
    make_many: Callable[..., VectorEnv] | None,
    first: gymnasium.Env | VectorEnv,
) -> HostEnvironment:
    """Batches from single environments, or by the environment's own vector entry point."""

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        options = {"render_mode": "rgb_array"} if film else {}
        if make_many is not None and (make_one is None or vectorization == "auto") and not film:
            return make_many(num_envs=num_envs)
        if make_one is None:
            raise ConfigError(f"{env} makes batches of its own, which cannot be filmed")
        make = functools.partial(make_one, **options)
        functions = [functools.partial(guarded, make, env, index) for index in range(num_envs)]
        if vectorization == "async":
            return AsyncVectorEnv(
                functions, copy=False, context="forkserver", autoreset_mode=AutoresetMode.NEXT_STEP
            )
        return SyncVectorEnv(functions, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)

    if isinstance(first, VectorEnv):
        space, action_space = first.single_observation_space, first.single_action_space
    else:
        space, action_space = first.observation_space, first.action_space
    rate = float(first.metadata.get("render_fps") or 30.0)
    first.close()
    return HostEnvironment(env, space, action_space, make_vector, steps_per_second=rate)

"""Any Gymnasium environment: `gym:ID`, and what a function of a user's returns."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import VectorEnv

from stacx.environments.host import HostEnvironment, resets_in_same_step
from stacx.environments.mujoco_warnings import leave_out_deprecations
from stacx.environments.workers import batch_of
from stacx.errors import ConfigError

_DRAWN = {"render_mode": "rgb_array"}
_MUJOCO = "gymnasium.envs.mujoco"
_ENGINES = {".box2d.": "Box2D", _MUJOCO: "mujoco"}
"""By a part of what makes an environment, the package that it needs."""


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`gym:ID` or `gym:module:ID`; arguments go to `gymnasium.make`.

    The environment's own vector entry point is used if it takes all of them.
    """
    spec = gymnasium.spec(name.rpartition(":")[2])
    create = _with_quiet_mujoco if _MUJOCO in str(spec.entry_point) else gymnasium.make
    make_one = functools.partial(create, name, **arguments)
    make_many = None
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        entry_point: Any = spec.vector_entry_point
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        if all(takes(creator, argument) for argument in arguments):
            make_many = functools.partial(
                gymnasium.make_vec, name, vectorization_mode="vector_entry_point", **arguments
            )
    first = make_one()
    return _of_single(f"gym:{name}", make_one, first, make_many=make_many, drawn=_DRAWN)


def _with_quiet_mujoco(name: str, **arguments: Any) -> gymnasium.Env:
    leave_out_deprecations()
    return gymnasium.make(name, **arguments)


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
    make_some = functools.partial(function, **arguments)
    if not isinstance(first, VectorEnv):
        if takes(function, "num_envs"):
            raise ConfigError(
                f"{env} has an argument num_envs, but returned one gymnasium.Env: remove the "
                "argument, or return a gymnasium.vector.VectorEnv of so many"
            )
        drawn = _DRAWN if takes(function, "render_mode", as_keyword=True) else {}
        return _of_single(env, make_some, first, drawn=drawn)
    if not takes(function, "num_envs"):
        raise ConfigError(
            f"{env} returned a VectorEnv, but has no argument num_envs to say how many: "
            "add it, or return one gymnasium.Env"
        )
    resets_in_same_step(_of_size(first, 1, env), env)
    return _of_batches(env, make_some, first)


def takes(function: Callable[..., Any], argument: str, *, as_keyword: bool = False) -> bool:
    """Whether a function has an argument of this name, or, `as_keyword`, any keywords."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    return argument in parameters or (as_keyword and inspect.Parameter.VAR_KEYWORD in kinds)


def names() -> dict[str, str | None]:
    """Every registered id, and why it cannot be trained on (None: it can be tried)."""
    specs = gymnasium.registry.values()
    return {spec.id: _obstacle(spec) for spec in specs if spec.entry_point is not None}


def _obstacle(spec: Any) -> str | None:
    named = isinstance(spec.entry_point, str)
    made_by = spec.entry_point if named else getattr(spec.entry_point, "__name__", "")
    if made_by.startswith("ale_py"):
        return "has raw frames: use the family atari"
    if made_by == "_raise_mujoco_py_error":
        return "is in the package gymnasium-robotics now: use version 5"
    if made_by == "_raise_shimmy_error":
        return "needs the package shimmy"
    if spec.id == "Pusher-v4":
        return "needs a version of MuJoCo below 3: use Pusher-v5"
    if spec.id == "tabular/CliffWalking-v0":
        return "its actions are a Box of integers: use CliffWalking-v1"
    for part, engine in _ENGINES.items():
        if part in made_by and importlib.util.find_spec(engine) is None:
            return f"needs {engine}: pip install '.[gym]' in stacx's project directory"
    return None


def _of_single(
    env: str,
    make_one: Callable[..., gymnasium.Env],
    first: gymnasium.Env,
    *,
    make_many: Callable[..., VectorEnv] | None = None,
    drawn: dict[str, str],
) -> HostEnvironment:
    """Batches of single environments, or by the environment's own vector entry point, if any.

    `drawn` is what makes a single environment draw pictures.

    Raises:
        ConfigError: if its `reset` is that of an old version.
    """
    if not all(takes(first.unwrapped.reset, name, as_keyword=True) for name in ("seed", "options")):
        raise ConfigError(
            f"{env} has a reset without seed and options, as old versions of Gym: write "
            "reset(self, *, seed=None, options=None), which returns an observation and a dictionary"
        )

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        if make_many is not None and vectorization == "auto" and not film:
            return make_many(num_envs=num_envs)
        make = functools.partial(make_one, **(drawn if film else {}))
        return batch_of(make, num_envs, env, processes=vectorization == "async")

    spaces = first.observation_space, first.action_space
    first.close()
    return HostEnvironment(env, *spaces, make_vector, steps_per_second=_rate(first))


def _of_batches(env: str, make_many: Callable[..., VectorEnv], first: VectorEnv) -> HostEnvironment:
    """Batches that a function of the user's makes."""

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        del vectorization
        if film:
            raise ConfigError(f"{env} makes batches of its own, which cannot be filmed")
        return _of_size(make_many(num_envs=num_envs), num_envs, env)

    spaces = first.single_observation_space, first.single_action_space
    first.close()
    return HostEnvironment(
        env, *spaces, make_vector, batches_itself=True, steps_per_second=_rate(first)
    )


def _of_size(vector: VectorEnv, num_envs: int, env: str) -> VectorEnv:
    """A batch. Raises `ConfigError` if it has another size."""
    if vector.num_envs != num_envs:
        raise ConfigError(
            f"{env} returned {vector.num_envs} environments when num_envs was {num_envs}"
        )
    return vector


def _rate(environment: gymnasium.Env | VectorEnv) -> float:
    """How fast a film of it is played."""
    return float(environment.metadata.get("render_fps") or 30.0)

"""The DM Control Suite (Tassa et al. 2018) from features: `dmc:DOMAIN-TASK`.

Observations are the parts of dm_control's observation one after the other, in its order, as
float32. Two engines compute them: envpool, in C++, and dm_control itself, the reference.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from stacx.environments import rendering
from stacx.environments.arguments import TRUTH, Range, check, is_number, number, whole
from stacx.environments.bodies import PARAMETERS, Body, changing
from stacx.environments.challenges import Challenged, Challenges
from stacx.environments.dm_control_engine import DMControl, load_task
from stacx.environments.host import HostEnvironment
from stacx.environments.workers import batch_of
from stacx.errors import ConfigError

ENGINES = ("envpool", "dm_control")
"""In the order in which they are taken, if none is named."""


class Domain(NamedTuple):
    """A physical model."""

    control_timestep: float
    """Seconds of simulated time that one step takes."""
    tasks: str
    """Separated by spaces."""


DOMAINS = {
    "acrobot": Domain(0.01, "swingup swingup_sparse"),
    "ball_in_cup": Domain(0.02, "catch"),
    "cartpole": Domain(0.01, "balance balance_sparse swingup swingup_sparse two_poles three_poles"),
    "cheetah": Domain(0.01, "run"),
    "dog": Domain(0.015, "stand walk trot run fetch"),
    "finger": Domain(0.02, "spin turn_easy turn_hard"),
    "fish": Domain(0.04, "upright swim"),
    "hopper": Domain(0.02, "stand hop"),
    "humanoid": Domain(0.025, "stand walk run run_pure_state"),
    "humanoid_CMU": Domain(0.02, "stand walk run"),
    "lqr": Domain(0.03, "lqr_2_1 lqr_6_2"),
    "manipulator": Domain(0.01, "bring_ball bring_peg insert_ball insert_peg"),
    "pendulum": Domain(0.02, "swingup"),
    "point_mass": Domain(0.02, "easy hard"),
    "quadruped": Domain(0.02, "walk run escape fetch"),
    "reacher": Domain(0.02, "easy hard"),
    "stacker": Domain(0.01, "stack_2 stack_4"),
    "swimmer": Domain(0.03, "swimmer6 swimmer15"),
    "walker": Domain(0.025, "stand walk run"),
}
"""All of dm_control's suite."""
_NONE = Challenges()
_ENGINE = Range(lambda value: value in ENGINES, "envpool or dm_control")
_CHALLENGES: dict[str, Range] = {
    **dict.fromkeys(("action_delay", "observation_delay", "reward_delay"), whole(0)),
    **dict.fromkeys(("action_noise", "observation_noise"), number(0.0)),
    **dict.fromkeys(("dropped_probability", "stuck_probability"), number(0.0, 1.0)),
    **dict.fromkeys(("dropped_steps", "stuck_steps", "action_repetition"), whole(1)),
    "dummy_dimensions": whole(0),
    "clear_buffers": TRUTH,
}
_RANGES: dict[str, Range] = {
    "camera": whole(0),
    **_CHALLENGES,
    "body": Range(
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and all(map(is_number, value))
            and value[0] <= value[1]
        ),
        "two numbers, the first not above the second",
    ),
    "body_period": whole(1),
}


def names() -> dict[str, str | None]:
    """Every task of the suite, and why it cannot be trained on (None: it can).

    Raises `ImportError` if neither engine is installed.
    """
    _installed_engines()
    return {
        f"{domain}-{task}": "its controls have no bounds" if domain == "lqr" else None
        for domain, (_, tasks) in DOMAINS.items()
        for task in tasks.split()
    }


def reference_names() -> dict[str, str | None]:
    """The same. Raises `ImportError` if dm_control is not installed."""
    if "dm_control" not in _installed_engines():
        raise ImportError("No module named 'dm_control'")
    return names()


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`dmc:DOMAIN-TASK`.

    Its arguments are `engine`, envpool or dm_control, by default the first of them that is
    installed; `camera`, the number of the camera of films, by default 0; and the fields of
    `Challenges`, `body`, two numbers, and `body_period`, which only dm_control has.

    Raises:
        ConfigError: if an argument is unknown or out of range, or the engine is not installed.
    """
    env, (domain, task) = f"dmc:{name}", name.split("-")
    check(env, arguments, {"engine": _ENGINE} | _RANGES)
    challenges = sorted(set(arguments) - {"engine", "camera"})
    default = "dm_control" if challenges else _installed_engines()[0]
    engine = arguments.get("engine", default)
    if engine not in _installed_engines():
        raise ConfigError(
            f"{env} needs the package {engine}: pip install '.[dmc]' in stacx's project directory"
        )
    rest = {name: value for name, value in arguments.items() if name != "engine"}
    load = functools.partial(load_task, domain, task)
    if engine == "dm_control":
        return of_dm_control(env, domain, task, rest, load)
    _check(env, domain, task, rest)
    if challenges:
        raise ConfigError(f"{env}: the engine envpool has no {challenges[0]}: leave out engine")
    make_filmed = functools.partial(_make_one, domain, rest, load)
    if "camera" in rest:  # films are dm_control's
        _spaces_of(env, make_filmed)
    return _of_envpool(env, domain, task, make_filmed)


def of_dm_control(
    env: str, domain: str, task: str, arguments: dict[str, Any], load: Callable[[int | None], Any]
) -> HostEnvironment:
    """Batches of a task that dm_control computes.

    Args:
        env: its id.
        domain: of the suite.
        task: of the domain.
        arguments: as `make` has them, but the engine.
        load: from a seed to a `dm_control.rl.control.Environment`.

    Raises:
        ConfigError: if an argument is unknown or out of range.
    """
    _check(env, domain, task, arguments)
    make_one = functools.partial(_make_one, domain, arguments, load)

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        if film:
            return filmed(env, num_envs, make_one)
        return batch_of(make_one, num_envs, env, processes=vectorization == "async")

    spaces = _spaces_of(env, make_one)
    return HostEnvironment(env, *spaces, make_vector, steps_per_second=rate(domain))


def _spaces_of(env: str, make_one: Callable[[], gymnasium.Env]) -> tuple[Any, Any]:
    """Observations and actions. Raises `ConfigError` if the camera is not one of the model's."""
    with contextlib.closing(make_one()) as first:
        task = first.unwrapped
        assert isinstance(task, DMControl)
        task.check_camera(env)
        return first.observation_space, first.action_space


def _make_one(
    domain: str,
    arguments: dict[str, Any],
    load: Callable[[int | None], Any],
    *,
    renderer: str | None = None,
) -> gymnasium.Env:
    """A single environment; for processes it can be pickled, which a closure cannot always."""
    challenges = Challenges(
        **{
            name: type(getattr(_NONE, name))(value)  # JSON's 0 is a whole number
            for name, value in arguments.items()
            if name in _CHALLENGES
        }
    )
    begin = unchanging(load)
    if "body" in arguments:
        low, high = arguments["body"]
        begin = _changing(domain, Body(low, high, arguments.get("body_period", 1)), load)
    task = DMControl(begin, renderer=renderer, camera=arguments.get("camera", 0))
    return task if challenges == _NONE else Challenged(task, challenges)


def unchanging(load: Callable[[int | None], Any]) -> Callable[[int | None], Callable[[], Any]]:
    """What `DMControl` takes, of a task whose body stays the same."""

    def begin(seed: int | None) -> Callable[[], Any]:
        environment = load(seed)
        return lambda: environment

    return begin


def _changing(
    domain: str, body: Body, load: Callable[[int | None], Any]
) -> Callable[[int | None], Callable[[], Any]]:
    """The same of a task whose body changes."""

    def begin(seed: int | None) -> Callable[[], Any]:
        random = np.random.default_rng(None if seed is None else [seed, 1])  # not the challenges'
        return changing(load(seed), domain, body, random)

    return begin


def _check(env: str, domain: str, task: str, arguments: dict[str, Any]) -> None:
    """Raises `ConfigError` if an argument is unknown, out of range, or has no effect."""
    check(env, arguments, _RANGES)
    if "body" not in arguments:
        if "body_period" in arguments:
            raise ConfigError(f"{env}: body_period has no effect without body")
    elif domain not in PARAMETERS or task not in PARAMETERS[domain].tasks:
        bodies = (f"{name}-{task}" for name, body in PARAMETERS.items() for task in body.tasks)
        raise ConfigError(f"{env} has no body that can change: there are {', '.join(bodies)}")
    else:
        name, nominal = PARAMETERS[domain].name, PARAMETERS[domain].nominal
        least, most = PARAMETERS[domain].limits
        if not least <= arguments["body"][0] <= arguments["body"][1] <= most:
            raise ConfigError(
                f"{env}: body, its {name} (usually {nominal:g}), must be from {least:g} to "
                f"{most:g}, not {json.dumps(arguments['body'])}"
            )


def filmed(env: str, num_envs: int, make_filmed: Callable[..., Any]) -> VectorEnv:
    """Environments that are drawn, each in a process of its own."""
    make = functools.partial(make_filmed, renderer=rendering.renderer(env))
    return batch_of(make, num_envs, env, processes=True)


def _of_envpool(
    env: str, domain: str, task: str, make_filmed: Callable[..., Any]
) -> HostEnvironment:
    from stacx.environments.envpool_engine import Pool, pool_id, spaces_of

    name = pool_id(domain, task)

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        del vectorization
        return filmed(env, num_envs, make_filmed) if film else Pool(name, num_envs)

    spaces = spaces_of(name)
    return HostEnvironment(
        env, *spaces, make_vector, batches_itself=True, steps_per_second=rate(domain)
    )


def rate(domain: str) -> float:
    """Steps of it in a second."""
    return 1 / DOMAINS[domain].control_timestep


@functools.cache
def _installed_engines() -> tuple[str, ...]:
    engines = tuple(engine for engine in ENGINES if importlib.util.find_spec(engine) is not None)
    if not engines:
        raise ImportError("No module named 'envpool' or 'dm_control'")
    return engines

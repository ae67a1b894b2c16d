"""From an id string to an environment.

`family:name` for the families below, `package.module:function` for one's own. Adding a family is
one call of `register`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium

from stacx.environments import (
    atari_family,
    dmc_family,
    gym_family,
    gymnax_family,
    pixels_family,
    playground_family,
    rwrl_family,
)
from stacx.environments.base import OnDeviceEnvironment, check_environment
from stacx.environments.gymnax_family import GymnaxEnvironment
from stacx.environments.host import HostEnvironment
from stacx.environments.patience import Caller, NoAnswer
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.imports import load_function, load_module, one_line

Environment: TypeAlias = OnDeviceEnvironment | HostEnvironment


class Family(NamedTuple):
    """An engine's environments."""

    make: Callable[[str, dict[str, Any]], Environment]
    """From a name and arguments to an environment."""
    names: Callable[[], Mapping[str, str | None]]
    """Every name, and why it cannot be trained on (None: it can)."""
    extra: str | None = None
    """The extra of stacx that installs the engine; None: it is always there."""
    imports: bool = False
    """Whether a name may be `module:NAME`, with a module whose import registers NAME."""

    @property
    def installation(self) -> str:
        """The command that installs the engine."""
        extra = f"[{self.extra}]" if self.extra else ""
        return f"pip install '.{extra}' in stacx's project directory"


FAMILIES: dict[str, Family] = {}

_MEMBERS = ("observation_shape", "observation_dtype", "action_space", "reset", "step")


def register(name: str, family: Family) -> None:
    """Makes `name:...` an environment id."""
    FAMILIES[name] = family


register("gymnax", Family(gymnax_family.make, gymnax_family.names))
register("gym", Family(gym_family.make, gym_family.names, extra="gym", imports=True))
register("atari", Family(atari_family.make, atari_family.names, extra="atari"))
register("dmc", Family(dmc_family.make, dmc_family.names, extra="dmc"))
register("dmc-pixels", Family(pixels_family.make, dmc_family.reference_names, extra="dmc"))
register("playground", Family(playground_family.make, playground_family.names, extra="playground"))
register("rwrl", Family(rwrl_family.make, rwrl_family.names, extra="dmc"))


def make(env: str, env_args: str = "{}", *, seconds: float | None = None) -> Environment:
    """The environment of an id.

    Args:
        env: `family:name`; `gym:module:ID`, with a module whose import registers the ID; or
            `package.module:function`, with a callable that returns an `OnDeviceEnvironment`, a
            gymnax or a Gymnasium environment, or, if it has an argument `num_envs`, a
            `gymnasium.vector.VectorEnv` of so many.
        env_args: the environment's parameters, a JSON object.
        seconds: how long it may take; None: for ever.

    Raises:
        ConfigError: if there is no such environment, or it cannot be made or used.
        BrokenEnvironmentError: if it was not made in time.
    """
    arguments = json.loads(env_args)
    if seconds is None:
        environment = _make(env, arguments)
    else:
        environment = _made_within(seconds, env, arguments)
    if isinstance(environment, HostEnvironment):
        environment.check()
    else:
        check_environment(environment, env)
    return environment


def _made_within(seconds: float, env: str, arguments: dict[str, Any]) -> Environment:
    caller = Caller(seconds)
    try:
        return caller.call(_make, env, arguments)
    except NoAnswer as hanging:
        raise BrokenEnvironmentError(
            f"{env} was not made within {seconds:g} s (--env-timeout): mend the environment",
            hanging.stack,
        ) from None
    finally:
        caller.close()


def code_of(env: str) -> str | None:
    """The part `module:...` of an id that names a module to be imported; None: it names none."""
    family_name, colon, name = env.partition(":")
    if family_name not in FAMILIES:
        return env if colon else None
    return name if FAMILIES[family_name].imports and ":" in name else None


def _make(env: str, arguments: dict[str, Any]) -> Environment:
    family_name, colon, name = env.partition(":")
    if not colon or not name:
        raise ConfigError(
            f"{env!r} is not an environment id: write family:name or package.module:function"
            + _suggestion(env)
        )
    family = FAMILIES.get(family_name)
    if family is None:
        return _make_own(env, arguments)
    try:
        names = family.names()
    except ImportError as error:
        raise ConfigError(
            f"{env} needs a package that is missing ({error}): {family.installation}"
        ) from error
    known = name
    if code_of(env):
        module, _, known = name.partition(":")
        load_module(module, env)
        names = family.names()
    if known not in names:
        suggestion = _suggestion(env)
        if code_of(env):  # an id that a module registers is known by both of its names
            suggestion = suggestion.replace(f"{family_name}:", f"{family_name}:{module}:")
        raise ConfigError(f"unknown environment {env!r}{suggestion}; see stacx envs")
    obstacle = names[known]
    if obstacle is not None:
        raise ConfigError(f"{env} cannot be trained on: {obstacle}")
    try:
        return family.make(name, arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"environment {env} cannot be made: {one_line(error)}") from error


def _make_own(env: str, arguments: dict[str, Any]) -> Environment:
    module = env.partition(":")[0]
    try:
        function = load_function(env)
    except ConfigError as error:
        cause = error.__cause__
        if not (isinstance(cause, ModuleNotFoundError) and cause.name == module):
            raise
        families = ", ".join(FAMILIES)
        raise ConfigError(
            f"unknown environment family {module!r} (there are: {families}), and no module of "
            f"that name in the working directory or on PYTHONPATH{_suggestion(env)}"
        ) from error
    try:
        return _adapted(env, function, arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{env} raised {one_line(error)}") from error


def _adapted(env: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Environment:
    """What a user's function returns, if it is an environment of any kind."""
    one = {"num_envs": 1} if gym_family.takes(function, "num_envs") else {}
    environment = function(**arguments | one)
    if hasattr(environment, "reset_env") and hasattr(environment, "default_params"):
        return GymnaxEnvironment(environment, environment.default_params)
    if isinstance(environment, (gymnasium.Env, gymnasium.vector.VectorEnv)):
        return gym_family.from_function(env, function, arguments, environment)
    missing = [member for member in _MEMBERS if not hasattr(environment, member)]
    if missing:
        raise ConfigError(
            f"{env} must return a Gymnasium environment, a gymnax one or a "
            f"stacx.OnDeviceEnvironment; {type(environment).__name__} lacks {', '.join(missing)}"
        )
    return environment


def _suggestion(env: str) -> str:
    """The ids that can be trained on whose name, or its part before a hyphen, is nearly that.

    Only the family that `env` names is searched, if there is one.
    """
    wanted, named = env.rpartition(":")[2].lower(), env.partition(":")[0]
    families = {named: FAMILIES[named]} if named in FAMILIES else FAMILIES
    close = {
        f"{family_name}:{name}": nearness
        for family_name, family in families.items()
        for name, obstacle in _names_or_none(family).items()
        if obstacle is None and max(nearness := _nearness(wanted, name.lower())) >= 0.8
    }
    rank = {known: (max(nearness), *nearness, known) for known, nearness in close.items()}
    best = sorted(rank, key=lambda known: rank[known], reverse=True)[:2]
    return f"; did you mean {' or '.join(best)}?" if best else ""


def _nearness(wanted: str, name: str) -> tuple[float, float]:
    """As a whole, and of the parts before a hyphen: 1 is the same."""
    whole = difflib.SequenceMatcher(None, wanted, name).ratio()
    parts = wanted.partition("-")[0], name.partition("-")[0]
    return whole, difflib.SequenceMatcher(None, *parts).ratio()


def _names_or_none(family: Family) -> Mapping[str, str | None]:
    try:
        return family.names()
    except ImportError:
        return {}

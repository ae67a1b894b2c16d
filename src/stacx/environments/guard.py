"""A wrapper that names the environment of a batch in which something went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from stacx.errors import BrokenEnvironmentError, StacxError
from stacx.imports import one_line


class EnvironmentRaised(Exception):  # noqa: N818  (it tells of an error of another's)
    """An environment raised: the message is one line, `details` the traceback.

    It survives what Gymnasium does to a worker process's exceptions, `type(error)(error)`.
    """

    def __init__(self, message: Any, details: str = ""):
        if isinstance(message, EnvironmentRaised):
            message, details = message.args
        super().__init__(message, details)
        self.details: str = details

    def __str__(self) -> str:
        return str(self.args[0])


def diagnosis(env: str, error: BaseException) -> tuple[str, str]:
    """What an environment raised, in one line, and the traceback."""
    if isinstance(error, EnvironmentRaised):
        return str(error), error.details
    return f"{env} raised {one_line(error)}", "".join(traceback.format_exception(error))


class Guard(gymnasium.Wrapper):
    """Checks what an environment returns, but not its values, and says which environment raised.

    The batch could not tell: it fails as a whole, or broadcasts what does not fit.
    """

    def __init__(self, env: gymnasium.Env, name: str, index: int):
        super().__init__(env)
        self._name = name
        self._index = index

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        try:
            outcome = self.env.reset(**arguments)
        except (Exception, SystemExit) as error:
            raise self._raised(error, "reset") from error
        observation, info = self._parts(outcome, "reset", ("observation", "info"))
        self._check(self.observation_space, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            outcome = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._raised(error, "step") from error
        names = ("observation", "reward", "terminated", "truncated", "info")
        observation, reward, terminated, truncated, info = self._parts(outcome, "step", names)
        self._check(self.observation_space, observation)
        self._check_reward(reward)
        ends = self._truth(terminated, "terminated"), self._truth(truncated, "truncated")
        if "life_lost" in info:
            info = info | {"life_lost": self._truth(info["life_lost"], "life_lost")}
        return observation, reward, *ends, info

    def _parts(self, outcome: Any, where: str, names: tuple[str, ...]) -> tuple[Any, ...]:
        """What a call returned, if it is as many things as it should be."""
        if isinstance(outcome, tuple) and len(outcome) == len(names):
            return outcome
        kind = f"a tuple of {len(outcome)}" if isinstance(outcome, tuple) else "no tuple"
        raise self._broken(f"{kind} from {where}, not ({', '.join(names)})")

    def _raised(self, error: BaseException, where: str) -> EnvironmentRaised:
        message = f"{self._name}: environment {self._index} raised {one_line(error)} in {where}"
        return EnvironmentRaised(message, traceback.format_exc())

    def _check(self, space: gymnasium.Space, observation: Any, place: str = "") -> None:
        match space:
            case spaces.Dict():
                parts: dict[Any, gymnasium.Space] = dict(space.spaces)
            case spaces.Tuple():
                parts = dict(enumerate(space.spaces))
            case _:
                self._check_array(space, observation, f"an observation{place}")
                return
        for key, part in parts.items():
            try:
                inner = observation[key]
            except (KeyError, IndexError, TypeError) as error:
                raise self._broken(f"an observation{place} without [{key!r}]") from error
            self._check(part, inner, f"{place}[{key!r}]")

    def _check_reward(self, reward: Any) -> None:
        try:
            shape = np.shape(reward)
            if shape == ():
                float(reward)
        except (TypeError, ValueError) as error:
            raise self._broken(f"a reward that is no number: {reward!r}") from error
        if shape != ():
            raise self._broken(f"a reward of shape {list(shape)}, not a number")

    def _truth(self, value: Any, name: str) -> bool:
        array = np.asarray(value, None if hasattr(value, "dtype") else object)
        if not isinstance(value, bool) and (array.dtype != np.bool_ or array.shape):
            raise self._broken(f"a {name} that is no truth value: {value!r}")
        return bool(value)

    def _check_array(self, space: gymnasium.Space, array: Any, name: str) -> None:
        try:
            shape, wanted = list(np.shape(array)), list(space.shape or ())
        except ValueError as error:
            raise self._broken(f"{name} that is no array: {array!r}") from error
        if shape != wanted:
            raise self._broken(f"{name} of shape {shape}, not {wanted} as its space says")
        dtype = np.asarray(array).dtype
        if space.dtype == np.uint8 and not np.can_cast(dtype, np.uint8, "same_kind"):
            raise self._broken(f"{name} of type {dtype}, not uint8 as its space says")

    def _broken(self, what: str) -> BrokenEnvironmentError:
        return BrokenEnvironmentError(
            f"{self._name}: environment {self._index} returned {what}: mend the environment"
        )


def guarded(make: Callable[[], gymnasium.Env], name: str, index: int) -> Guard:
    """What `make` returns, guarded."""
    try:
        return Guard(make(), name, index)
    except (StacxError, DependencyNotInstalled):
        raise
    except (Exception, SystemExit) as error:
        message = f"{name}: environment {index} raised {one_line(error)} when it was made"
        raise EnvironmentRaised(message, traceback.format_exc()) from error

"""An environment's arguments, as `--env-args` gives them, checked before an engine sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stacx.errors import ConfigError


class Range(NamedTuple):
    """What a value may be."""

    holds: Callable[[Any], bool]
    wish: str
    """As an error says it, after "must be"."""


TRUTH = Range(lambda value: isinstance(value, bool), "true or false")


def whole(least: int, most: int | None = None) -> Range:
    """A whole number in a closed interval; None: without an end."""
    wish = f"of at least {least}" if most is None else f"from {least} to {most}"
    limit = math.inf if most is None else most
    return Range(
        lambda value: type(value) is int and least <= value <= limit, f"a whole number {wish}"
    )


def number(least: float, most: float = math.inf) -> Range:
    """A finite number in a closed interval."""
    wish = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    return Range(lambda value: is_number(value) and least <= value <= most, f"a number {wish}")


def is_number(value: Any) -> bool:
    """Whether it is a finite number of JSON's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check(env: str, arguments: Mapping[str, Any], known: Mapping[str, Range]) -> None:
    """Raises `ConfigError` if an argument of `env` is not `known`, or out of its range."""
    for name, value in arguments.items():
        if name not in known:
            raise ConfigError(f"{env} has no parameter {name}: --env-args takes {', '.join(known)}")
        if not known[name].holds(value):
            raise ConfigError(f"{env}: {name} must be {known[name].wish}, not {json.dumps(value)}")

"""Functions of a user, named as `package.module:function`."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stacx.errors import ConfigError

_INSTALLED = (
    Path(__file__).parent,
    *(
        Path(sysconfig.get_path(name))
        for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    ),
)
"""Where no file is the user's: stacx, the standard library, and installed packages."""
_HINTS = {"TracerBoolConversionError": "; instead of `if`, use jnp.where or jax.lax.cond"}
"""What to do about errors whose message does not say so."""


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; the working directory is searched too.

    Raises:
        ConfigError: if the module cannot be imported or has no such function.
    """
    module_name, _, name = reference.partition(":")
    module = load_module(module_name, reference)
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"module {module_name!r} has no function {name!r}{_suggestion(name, vars(module))}"
        )
    return function


def load_module(name: str, reference: str) -> ModuleType:
    """The module `name` that a `reference` begins with; the working directory is searched too.

    Raises:
        ConfigError: if it cannot be imported.
    """
    _search_working_directory()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = one_line(error)
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            reason = f"no module {error.name!r} in the working directory or on PYTHONPATH"
        raise ConfigError(f"cannot import {name!r} of {reference!r}: {reason}") from error


def one_line(error: BaseException) -> str:
    """An error's type, the first line of its message, and where in the user's code it arose.

    JAX's messages have many lines, and most of its tracebacks is not the user's.
    """
    text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".: ")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.isfile(frame.filename)]
    own = [frame for frame in own if _is_users(Path(frame.filename))]
    if own:
        text += f" ({_shown(own[-1].filename)}:{own[-1].lineno})"
    return text + _HINTS.get(type(error).__name__, "")


def require_own(reference: str, run: Path, ask: str) -> None:
    """Refuses a function that a stored run names, unless it is in a file of the user's own.

    A run may come from anyone, and could name `subprocess:run` as its environment. Nothing is
    executed to find out.

    Args:
        reference: `package.module:function`.
        run: the run directory; what lies in there is not the user's own.
        ask: what the caller can write to have the function called all the same.

    Raises:
        ConfigError: if the function is someone else's.
    """
    _search_working_directory()
    package, *inner = reference.partition(":")[0].split(".")
    files = []  # it stays empty for what is built into Python, or was made by hand
    if package == "__main__":
        files += [Path(file) for file in [getattr(sys.modules[package], "__file__", None)] if file]
    with contextlib.suppress(ValueError):
        spec = importlib.util.find_spec(package)
        if spec is None:
            return  # nothing that could be called
        if spec.has_location and spec.origin:
            files.append(Path(spec.origin))
        files += [Path(folder, *inner) for folder in spec.submodule_search_locations or ()]
    if not files or not all(_is_users(file, run) for file in files):
        raise ConfigError(
            f"{run} names {reference!r}, which is in no file of your own: if you trust it, "
            f"add {ask}"
        )


def _suggestion(name: str, members: Mapping[str, Any]) -> str:
    functions = {key.lower(): key for key, value in members.items() if callable(value)}
    close = difflib.get_close_matches(name.lower(), functions, n=1)
    return f"; did you mean {functions[close[0]]}?" if close else ""


def _shown(file: str) -> str:
    """A path as the user would write it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _search_working_directory() -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _is_users(file: Path, *not_below: Path) -> bool:
    """Whether a file is neither installed nor in one of some directories."""
    for path in (file.absolute(), file.resolve()):
        if {"site-packages", "dist-packages"} & set(path.parts):
            return False
        for directory in (*_INSTALLED, *not_below):
            if path.is_relative_to(directory.absolute()) or path.is_relative_to(
                directory.resolve()
            ):
                return False
    return True

"""Functions of a user, named as `package.module:function`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacx.errors import ConfigError

_INSTALLED = (
    Path(__file__).parent,
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Where no file is the user's: stacx, the standard library, and installed packages."""


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; the working directory is searched too.

    Raises:
        ConfigError: if the module cannot be imported or has no such function.
    """
    module_name, _, name = reference.partition(":")
    _search_working_directory()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"cannot import {module_name!r} of {reference!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"module {module_name!r} has no function {name!r}")
    return function


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

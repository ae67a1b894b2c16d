"""Functions of a user, named as `package.module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from stacx.errors import ConfigError


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; the working directory is searched too.

    Raises:
        ConfigError: if the module cannot be imported or has no such function.
    """
    module_name, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"cannot import {module_name!r} of {reference!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"module {module_name!r} has no function {name!r}")
    return function

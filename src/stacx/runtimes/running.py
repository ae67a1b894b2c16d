"""What can go wrong in a compiled program, as errors of one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from stacx.errors import BrokenEnvironmentError, StacxError
from stacx.imports import one_line
from stacx.runtimes.hosts import noticing_lost_hosts

_LAST_CALL = re.compile(r'File "([^"]+)", line (\d+), in .*\n(?:    .*\n)*(\S.*)')
"""The last call of a traceback, perhaps its source, and the exception."""


@contextmanager
def running(env: str) -> Iterator[None]:
    """Around a compiled program that steps the environment `env`, and waits for its results.

    Raises:
        BrokenEnvironmentError: if the environment raised in a callback to Python.
        LostHostError: if another host of the run is gone.
        StacxError: if the program failed otherwise, such as for lack of memory.
    """
    try:
        with noticing_lost_hosts():
            yield
    except StacxError:
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        call = _LAST_CALL.search(str(error))
        if not call:
            raise StacxError(f"{env} cannot be run: {one_line(error)}") from error
        file, line, reason = call.groups()
        raise BrokenEnvironmentError(f"{env} raised {reason} ({file}:{line})") from error

"""What can go wrong outside Python, as errors of one line: compiled programs, and the disk."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from stacx.errors import BrokenEnvironmentError, StacxError
from stacx.imports import one_line
from stacx.runs.directory import RunDirectory

_LAST_CALL = re.compile(r'File "([^"]+)", line (\d+), in .*\n(?:    .*\n)*(\S.*)')
"""The last call of a traceback, perhaps its source, and the exception."""


@contextmanager
def running(env: str) -> Iterator[None]:
    """Around a compiled program that steps the environment `env`, and waits for its results.

    Raises:
        BrokenEnvironmentError: if the environment raised in a callback to Python.
        StacxError: if the program failed otherwise, such as for lack of memory.
    """
    try:
        yield
    except StacxError:
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        call = _LAST_CALL.search(str(error))
        if not call:
            raise StacxError(f"{env} cannot be run: {one_line(error)}") from error
        file, line, reason = call.groups()
        raise BrokenEnvironmentError(f"{env} raised {reason} ({file}:{line})") from error


@contextmanager
def writing_to(run: Path) -> Iterator[None]:
    """Around what writes to the directory of a run.

    Raises:
        StacxError: if the disk is full or cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StacxError(
            f"cannot write to {run}: {error.strerror or error}; free some space and continue from "
            f"the last checkpoint with: {resume_command(run)}"
        ) from error


def resume_command(run: Path) -> str:
    """How to go on with a run that was stopped."""
    flags = RunDirectory(run).function_flags()
    return f"stacx train --run-dir {shlex.quote(str(run))} --resume{flags}"


def evaluation_command(run: Path) -> str:
    """How to evaluate a run."""
    return f"stacx eval {shlex.quote(str(run))}{RunDirectory(run).function_flags()}"

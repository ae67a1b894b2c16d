"""What can go wrong on the disk, as errors of one line; and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacx.errors import StacxError
from stacx.runs.directory import RunDirectory


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

"""The `stacx` command: finds the subcommand, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TextIO

import stacx
from stacx.cli.parsing import fail
from stacx.errors import ConfigError, Interrupted, StacxError

_COMMANDS = {
    "train": ("stacx.cli.train", "train an agent"),
    "eval": ("stacx.cli.evaluate", "play episodes with a trained policy"),
    "reproduce": ("stacx.cli.reproduce", "train and report an experiment of the paper"),
    "plot": ("stacx.cli.plot", "draw returns and metaparameters"),
    "envs": ("stacx.cli.envs", "list environments"),
    "doctor": ("stacx.cli.doctor", "check this installation"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 done; 2 bad arguments or configuration; 1 a failure while running; 128 + signal when
        interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    code = _run_to_its_end(lambda: _run(given))
    if code:
        _leave_other_hosts(code)
    return code


def as_command(work: Callable[[], object]) -> NoReturn:
    """Runs a script's own work as `stacx` runs its commands: an error is a line and an exit code.

    Exits with 0, or as `main` returns for what `work` raises.
    """

    def run() -> int:
        work()
        return 0

    sys.exit(_run_to_its_end(run))


def _leave_other_hosts(code: int) -> None:
    """Ends a process that is one of several hosts at once, if the command has failed.

    Leaving JAX's distributed runtime in order would wait for the others, who wait for this one.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def _run_to_its_end(run: Callable[[], int]) -> int:
    """Runs something, and turns errors into lines and exit codes."""
    logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)  # the error says as much
    try:
        with _warnings_as_lines():
            code = run()
            if sys.stdout is not None:  # it is None if it was closed
                sys.stdout.flush()
            return code
    except ConfigError as error:
        fail(str(error))
        return 2
    except ModuleNotFoundError as error:  # of a user's own modules, there are other errors
        fail(f"{error.name} is not installed: pip install . in stacx's project directory")
        return 2
    except Interrupted as stop:
        fail(str(stop))
        return 128 + stop.signum
    except StacxError as error:
        if details := getattr(error, "details", ""):
            print(details.rstrip(), file=sys.stderr)
        fail(str(error))
        return 1
    except KeyboardInterrupt:
        fail("interrupted")
        return 130
    except BrokenPipeError:  # who reads has read enough
        _drop_output()
        return 1
    except OSError as error:
        on_output = error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF)
        place = error.filename or ("the output" if on_output else None)
        fail((f"cannot use {place}: " if place else "") + (error.strerror or str(error)))
        _drop_output()
        return 1


def _run(arguments: Sequence[str]) -> int:
    """Runs the command that comes first, and returns its exit code."""
    command, *rest = arguments
    if command in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if command == "--version":
        print(stacx.__version__)
        return 0
    if command not in _COMMANDS:
        raise ConfigError(f"unknown command {command!r}: use {', '.join(_COMMANDS)}")
    return int(importlib.import_module(_COMMANDS[command][0]).run(rest))


def _drop_output() -> None:
    """What is left to print would fail again, and noisily, when Python ends."""
    with contextlib.suppress(OSError, AttributeError):  # a closed output has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        fail(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in _COMMANDS.items()]
    return "\n".join(
        ["usage: stacx COMMAND ...", "", *lines, "", "stacx COMMAND --help lists its flags."]
    )


if __name__ == "__main__":
    sys.exit(main())

"""`stacx reproduce`: trains the runs of an experiment of the paper, and reports on them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from stacx.cli.parsing import parse
from stacx.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train the runs of an experiment of the paper, and write figures, tables and a report.

    What is complete is skipped, what was interrupted goes on (docs/guide.md).
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """One of learning-curves, per-domain, ablation, robustness-gamma, robustness-value-weight,
    robustness-init, adaptivity, two-alphas, runtime or started-wrong."""
    scale: str = "small"
    """small, medium or paper: how many steps, tasks and seeds."""
    suite: str = "classic"
    """classic, minatar, atari5, atari57, dmc, dmc-pixels or rwrl."""
    num_seeds: int | None = None
    """Seeds of every variant on every task; by default the suite's (the paper's 3, or more)."""
    output: Path | None = None
    """Where everything goes; by default reproduced/NAME-SUITE-SCALE."""
    tasks: tuple[str, ...] = ()
    """Only those of the suite whose names have one of these in them, such as catch cartpole."""
    jobs: int | None = None
    """Runs at once; by default one for each core, or for each GPU."""
    dry_run: bool = False
    """Only list the runs, how far they are, and how long they may take."""
    quiet: bool = False
    """Print nothing but warnings."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parsed = parse(Arguments, arguments, command="reproduce")
    for flag, number in (("--num-seeds", parsed.num_seeds), ("--jobs", parsed.jobs)):
        if number is not None and number < 1:
            raise ConfigError(f"{flag} must be positive, not {number}")
    from stacx.reproduction import EXPERIMENTS, SCALES, SUITES, reproduce

    _check_known("experiment", parsed.name, EXPERIMENTS)
    _check_known("suite", parsed.suite, SUITES)
    _check_known("scale", parsed.scale, SCALES)
    reproduce(
        EXPERIMENTS[parsed.name],
        SUITES[parsed.suite],
        scale=parsed.scale,
        num_seeds=parsed.num_seeds,
        output=parsed.output,
        tasks=parsed.tasks,
        jobs=parsed.jobs,
        dry_run=parsed.dry_run,
        quiet=parsed.quiet,
    )
    return 0


def _check_known(kind: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        close = difflib.get_close_matches(value, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown {kind} {value!r}: use {', '.join(names)}{hint}")

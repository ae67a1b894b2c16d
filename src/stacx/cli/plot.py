"""`stacx plot`: returns and metaparameters of runs over environment steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from stacx.cli.parsing import check_output, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draw the returns and metaparameters of one run, or of several side by side."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories."""
    output: Path = Path("stacx.png")
    """The figure: .png, .pdf or .svg."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parsed = parse(Arguments, arguments, command="plot")
    from stacx.errors import ConfigError
    from stacx.reporting import plot_runs

    if not parsed.run_dirs:
        raise ConfigError("stacx plot needs a run directory")
    check_output(parsed.output, "--output")
    print(plot_runs(parsed.run_dirs, parsed.output))
    return 0

"""What experiments of one's own on one task share: their flags, and the table that is kept."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from stacx.reproduction import Experiment, Suite, Task, reproduce

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def carry_out(experiment: Experiment, task: Task, *, doc: str | None, seeds: int) -> Path | None:
    """Parses the command line, trains, and returns the report; None after a dry run."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--output", type=Path, default=Path("reproduced") / experiment.name)
    parser.add_argument("--steps", type=int, default=task.steps)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    task = Task(task.env, given.steps, task.reference, task.settings, task.on_device)
    suite = Suite(task.name, {"small": (task,)}, {"small": given.seeds}, "the optimum")
    return reproduce(experiment, suite, output=given.output, dry_run=given.dry_run)


def keep_table(report: Path, table: str, name: str) -> None:
    """Copies a table of a report to `docs/results/`, with four digits of each number."""
    rows = csv.reader((report.parent / "tables" / f"{table}.csv").open())
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([*map(short, row)] for row in rows)


def short(text: str) -> str:
    """A number with four digits; anything else as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"

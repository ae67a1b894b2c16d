"""The statistics of tables of scores that were kept, without training anything again.

    python experiments/kept_scores.py docs/results/ablation.csv [MORE.csv ...]
        [--keep FILE] [--figure FILE]

Takes the `scores.csv` of reports of `stacx reproduce`, also of parts of an experiment that were
made at different times; where two have the same task and variant, the later one counts. Prints the
IQM of normalised scores of every variant, and its probability of improvement over IMPALA, with 95 %
stratified bootstrap intervals over seeds, on the tasks that all variants have; and draws IQM,
median and mean.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from of_one_task import short

from stacx.reproduction import SUITES, comparing, statistics

REFERENCES = {
    task.env: task.reference
    for suite in SUITES.values()
    for tasks in suite.tasks.values()
    for task in tasks
}
EACH = "each seed"


def main() -> None:
    """Prints the table, and perhaps keeps what it is of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--keep", type=Path, help="write all rows to this file")
    parser.add_argument("--figure", type=Path, help="draw the aggregates into this file")
    given = parser.parse_args()
    rows = read(given.tables)
    if given.keep:
        write(given.keep, list(rows.values()))
    scores, tasks = normalised(rows)
    print(f"{len(tasks)} tasks: {', '.join(tasks)}\n")
    print("| variant | IQM of normalised scores (95 %) | probability to be better than IMPALA |")
    print("|---|---|---|")
    aggregates = statistics.aggregates(scores)
    if given.figure:
        unit = f"each task's reference; {len(tasks)} tasks"
        comparing.aggregate_bars(aggregates, unit).figure.savefig(given.figure, dpi=130)
    for variant, of_variant in aggregates.items():
        better = ""
        if variant != "impala":
            better = text(
                statistics.probability_of_improvement(scores[variant], scores["impala"]), 2
            )
        print(f"| {variant} | {text(of_variant['iqm'], 3)} | {better} |")


def read(tables: list[Path]) -> dict[tuple[str, str], dict[str, str]]:
    """Rows by task and variant."""
    lines = [row for table in tables for row in csv.DictReader(table.open())]
    if not all(EACH in row for row in lines):
        raise SystemExit(f"a table has no column {EACH!r}: give the scores.csv of reports")
    return {(row["task"], row["variant"]): row for row in lines}


def write(file: Path, rows: list[dict[str, str]]) -> None:
    """The rows as one table, with four digits."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: short(value) for key, value in row.items()} for row in rows)


def normalised(
    rows: dict[tuple[str, str], dict[str, str]],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Normalised scores [seeds, tasks] by variant, and the tasks that all variants have."""
    variants = list(dict.fromkeys(variant for _, variant in rows))
    if "impala" not in variants:
        raise SystemExit("no row is of the variant impala, against which others are held")
    tasks = [
        task
        for task in dict.fromkeys(task for task, _ in rows)
        if all((task, variant) in rows for variant in variants)
    ]

    if not tasks:
        raise SystemExit("no task has all variants")

    def scores(task: str, variant: str) -> np.ndarray:
        raw = np.array([float(score) for score in rows[task, variant][EACH].split()])
        return np.asarray(REFERENCES[task].normalised(raw))

    return {
        variant: np.stack([scores(task, variant) for task in tasks], axis=1) for variant in variants
    }, tasks


def text(estimate: statistics.Estimate, digits: int) -> str:
    """A number and its interval."""
    value, low, high = (f"{number:.{digits}f}" for number in estimate)
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()

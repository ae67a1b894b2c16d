"""What is made of metaparameters over training: where they end, and two alphas held together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stacx.reporting import RunData, build_figure
from stacx.reproduction.comparing import compare, count, scores_table
from stacx.reproduction.results import Analysis, Cell, Comparison, Illustration, Results, Table
from stacx.reproduction.suites import Task

TWO_ALPHAS = "stacx-two-alphas"
"""The variant that tunes alpha_rho and alpha_c apart."""
_STILL = 1e-6
"""What single precision makes of a metaparameter that stays where it starts."""


def adaptivity(results: Results) -> Analysis:
    """Figs. 5(a) and 10 to 19: metaparameters over training, and where they end."""
    found = [cell for task in results.tasks for cell in results.of_task(task).values()]
    rows = [row for cell in found for row in _ends(cell.task, cell.data)]
    ends = Table(
        "metaparameters",
        "Where metaparameters start and end, over seeds; loss weights as fractions of their outer "
        "values, as in Fig. 5(a). Head 1 acts.",
        ("task", "metaparameter", "head", "outer", "start", "end, median", "end, min", "end, max"),
        rows,
    )
    comparisons = [
        Comparison("gamma of head 1 at the end", "its outer value, 0.995", _end(rows, "gamma", 1)),
        Comparison("gamma of head 2 at the end", "often lower", _end(rows, "gamma", 2)),
        Comparison("alpha of head 1 at the end", "lower than at first", _end(rows, "alpha", 1)),
        Comparison("alpha of head 2 at the end", "lower than at first", _end(rows, "alpha", 2)),
    ]
    traces = [
        Illustration(
            f"traces-{cell.task.name}", f"{cell.task.env}: return and metaparameters.", _trace(cell)
        )
        for cell in found
    ]
    return Analysis(comparisons, [ends, scores_table(results)], traces)


def two_alphas(results: Results) -> Analysis:
    """Fig. 5(b): how often alpha_rho is at least alpha_c, and what two alphas score."""
    paper = {"stacx": "median 364 % (Atari-57)", TWO_ALPHAS: "median 353 % (Atari-57)"}
    analysis = compare(results, baseline="stacx", paper=paper)
    cells = [
        cell
        for task in results.tasks
        for name, cell in results.of_task(task).items()
        if name == TWO_ALPHAS
    ]
    exact, nearly = alpha_shares([cell.data for cell in cells])
    shares = [
        Comparison("time with alpha_rho >= alpha_c", "91.2 %", _percent(exact)),
        Comparison("time with alpha_rho >= 0.99 alpha_c", "99.2 %", _percent(nearly)),
    ]
    traces = [
        Illustration(f"traces-{cell.task.name}", f"{cell.task.env}: two alphas.", _trace(cell))
        for cell in cells
    ]
    return Analysis(
        [*shares, *analysis.comparisons], analysis.tables, [*analysis.illustrations, *traces]
    )


def alpha_shares(runs: Iterable[RunData]) -> tuple[float, float]:
    """How often alpha_rho >= alpha_c, and alpha_rho >= 0.99 alpha_c.

    Shares of all points in time, seeds and heads of the runs, each run (a task) weighing the same.
    A head whose alphas have no gradient, as that of an acting head that is on-policy, stays where
    it starts, and does not count; NaN if there is no other.
    """
    exact, nearly = [], []
    for run in runs:
        of_heads = [
            (run.series(f"meta/alpha_rho/{head}"), run.series(f"meta/alpha_c/{head}"))
            for head in range(run.config.heads)
        ]
        rho, c = (np.stack(alphas) for alphas in zip(*of_heads, strict=True))
        seen = np.isfinite(rho) & np.isfinite(c)
        seen &= _moves(rho, seen) | _moves(c, seen)
        if seen.any():
            exact.append((rho >= c)[seen].mean())
            nearly.append((rho >= 0.99 * c)[seen].mean())
    if not exact:
        return math.nan, math.nan
    return float(np.mean(exact)), float(np.mean(nearly))


def _moves(
    alphas: Float[np.ndarray, "P K N"], seen: Bool[np.ndarray, "P K N"]
) -> Bool[np.ndarray, "P 1 1"]:
    """Which heads have more than one value, where there is any."""
    greatest = np.where(seen, alphas, -np.inf).max(axis=(1, 2), keepdims=True)
    return greatest > np.where(seen, alphas, np.inf).min(axis=(1, 2), keepdims=True)


def _ends(task: Task, run: RunData) -> list[tuple[Any, ...]]:
    """A row for each metaparameter of each head: where it started and ended, over seeds."""
    rows = []
    for name in run.config.tuned:
        outer, unit = run.config.outer_value(name), run.config.scale(name)
        start = run.config.initial_value(name) or _sigmoid(run.config.initial_logit)
        for head in range(run.config.heads):
            values = run.series(f"meta/{name}/{head}") / (unit or math.nan)
            end = values[:, -1]
            numbers = (outer, start, np.median(end), end.min(), end.max())
            rows.append((task.name, name, head + 1, *map(float, numbers)))
    return rows


def _end(rows: Sequence[tuple[Any, ...]], name: str, head: int) -> str:
    """The median over tasks of a metaparameter's end, and its extremes."""
    of_head = [row for row in rows if row[1] == name and row[2] == head]
    ends = [row[5] for row in of_head]
    if not ends:
        return "nothing is complete"
    outer = " and ".join(f"{value:g}" for value in sorted({row[3] for row in of_head}))
    middle, tasks = statistics.median(ends), count(len(ends), "task")
    span = f"{min(ends):.4f} to {max(ends):.4f}"
    text = f"{middle:.4f} (median of {tasks}; {span}; outer {outer})"
    still = sum(row[6] == row[7] and abs(row[4] - row[6]) < _STILL for row in of_head)
    if still:
        text += f"; in {still} of {tasks} it never moves, as alpha of a head that is on-policy"
    return text


def _trace(cell: Cell) -> Any:
    return build_figure([cell.data])


def _sigmoid(number: float) -> float:
    """The inverse of the logit."""
    return 1 / (1 + math.exp(-number))


def _percent(share: float) -> str:
    if math.isnan(share):
        return "no run is complete in which an alpha has moved"
    return f"{100 * share:.1f} %"

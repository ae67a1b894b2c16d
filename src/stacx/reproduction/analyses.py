"""What is made of training curves, final scores and times: from `Results` to an `Analysis`.

As every analysis, pure functions. Averages over tasks are taken where all variants have all their
seeds; a table of one task's scores has whatever is complete.
"""

from __future__ import annotations

import numpy as np

from stacx.reporting import RunData
from stacx.reproduction import figures
from stacx.reproduction.comparing import (
    NO_AVERAGE,
    PAPER_SCORES,
    aggregate_curves,
    compare,
    scores_table,
    task_curves,
)
from stacx.reproduction.results import Analysis, Comparison, Illustration, Results, Table

PAPER_MINUTES = {"impala": 70.0, "stac": 71.0, "impala-aux": 83.0, "stacx": 84.0}
"""Table 4, Atari on TPUs."""
PAPER_MINUTES_GPU = {"impala": 105.0, "stac": 129.0, "impala-aux": 106.0, "stacx": 133.0}
"""Table 4, where a GPU learns."""
_NOTHING = 1e-3
"""A normalised score that is nobody's merit."""


def learning_curves(results: Results) -> Analysis:
    """Figs. 2(a) and 3: the four agents over training and at its end."""
    analysis = compare(results, paper=PAPER_SCORES.get(results.suite.name, {}))
    tasks = results.shared_tasks()
    first = aggregate_curves(results, tasks) if tasks else []
    tasks_apart = task_curves(results, deviations=0.5, figure="Fig. 2(a)")
    illustrations = [*first, *analysis.illustrations, *tasks_apart]
    return analysis._replace(illustrations=illustrations)


def per_domain(results: Results) -> Analysis:
    """Figs. 5 to 7: a panel for each task; Figs. 8 and 9: improvements over IMPALA by task."""
    best = [
        max(cells, key=lambda name: float(cells[name].scores.mean()))
        for cells in map(results.of_task, results.shared_tasks())
    ]
    ours = ", ".join(f"{name} in {best.count(name)}" for name in results.variants)
    comparison = Comparison(
        "tasks in which an agent has the highest mean",
        "not counted in the paper",
        f"{ours} of {len(best)}" if best else NO_AVERAGE,
    )
    improvements = {agent: relative_improvements(results, agent) for agent in ("stac", "stacx")}
    table = Table(
        "improvement-over-impala",
        "By how many percent of its absolute value the mean normalised score is above IMPALA's.",
        ("task", "agent", "improvement, %"),
        [(task, agent, value) for agent, of in improvements.items() for task, value in of.items()],
    )
    drawn = task_curves(results, deviations=1.0, figure="Figs. 5 to 7")
    if any(improvements.values()):
        drawn.append(
            Illustration(
                "improvement-over-impala",
                "Mean normalised score, relative improvement over IMPALA, as in Figs. 8 and 9.",
                figures.relative_bars(
                    {agent: of for agent, of in improvements.items() if of},
                    "improvement over IMPALA, %",
                ),
            )
        )
    return Analysis([comparison], [table, scores_table(results)], drawn)


def relative_improvements(results: Results, agent: str) -> dict[str, float]:
    """(agent - IMPALA) / |IMPALA| of mean normalised scores in percent, for tasks that have both.

    Where IMPALA is at a random policy's score, a share of it is without bounds: left out.
    """
    found = {}
    for task in results.tasks:
        cells = results.of_task(task)
        if {agent, "impala"} <= cells.keys():
            ours, theirs = (float(cells[name].normalised.mean()) for name in (agent, "impala"))
            if abs(theirs) > _NOTHING:
                found[task.name] = 100 * (ours - theirs) / abs(theirs)
    return found


def ablation(results: Results) -> Analysis:
    """Fig. 2(b): nested subsets of metaparameters."""
    return compare(results, paper=PAPER_SCORES.get(results.suite.name, {}))


def runtime(results: Results) -> Analysis:
    """Table 4: the time of a run, and its ratio to IMPALA's."""
    task = results.tasks[0]
    cells = results.of_task(task)
    rates = {name: _median_rate(cell.data) for name, cell in cells.items()}
    rows = []
    for name, cell in cells.items():
        seconds, baseline = cell.seconds, cells.get("impala")
        whole = baseline.seconds if baseline else None
        rows.append(
            (
                name,
                None if seconds is None else seconds / 60,
                seconds / whole if seconds and whole else None,
                rates[name],
                rates["impala"] / rates[name] if baseline else None,
                *_quartiles_of_rate(cell.data),
                PAPER_MINUTES[name] / PAPER_MINUTES["impala"],
                PAPER_MINUTES_GPU[name] / PAPER_MINUTES_GPU["impala"],
            )
        )
    table = Table(
        "runtime",
        f"{task.env}: minutes of all processes of a run, all seeds, with start and compilation "
        "(again after an interruption); median of the metrics' steps per second; times as a "
        "multiple of IMPALA's, of the runs and of a step; the quartiles of steps per second; and "
        "the multiples of the paper's Table 4, on TPUs and with a learner on a GPU.",
        (
            *("agent", "minutes", "ratio", "steps/s", "ratio by steps/s", "lower quartile"),
            *("upper quartile", "paper", "paper, GPU learner"),
        ),
        rows,
    )
    comparisons = [
        Comparison(
            f"time of {row[0]} / IMPALA's",
            f"{row[-2]:.2f} (TPU), {row[-1]:.2f} (GPU learner)",
            "no run of IMPALA" if row[4] is None else f"{row[4]:.2f} by steps per second",
        )
        for row in rows
        if row[0] != "impala"
    ]
    ratios = {row[0]: row[4] for row in rows if row[4] is not None}
    illustrations = []
    if ratios:
        figure = figures.bars(ratios, "time per step / IMPALA's")
        caption = "Time per environment step, as a multiple of IMPALA's."
        illustrations = [Illustration("runtime", caption, figure)]
    return Analysis(comparisons, [table], illustrations)


def _median_rate(run: RunData) -> float:
    """Environment steps per second: the median over lines and seeds."""
    return float(np.nanmedian(run.series("steps_per_second")))


def _quartiles_of_rate(run: RunData) -> tuple[float, float]:
    """The quartiles of the same."""
    low, high = np.nanquantile(run.series("steps_per_second"), (0.25, 0.75))
    return float(low), float(high)

"""What is made of training curves, final scores and times: from `Results` to an `Analysis`.

As every analysis, pure functions. Averages over tasks are taken where all variants have all their
seeds; a table of one task's scores has whatever is complete.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stacx.reporting import RunData
from stacx.reproduction import figures, statistics
from stacx.reproduction.comparing import (
    NO_AVERAGE,
    PAPER_SCORES,
    aggregate_curves,
    compare,
    scores_table,
    task_curves,
)
from stacx.reproduction.results import Analysis, Cell, Comparison, Illustration, Results, Table

PAPER_MINUTES = {"impala": 70.0, "stac": 71.0, "impala-aux": 83.0, "stacx": 84.0}
"""Table 4, Atari on TPUs."""
PAPER_MINUTES_GPU = {"impala": 105.0, "stac": 129.0, "impala-aux": 106.0, "stacx": 133.0}
"""Table 4, where a GPU learns."""
DISTURBED = 0.5
"""Cores that others keep busy, above which a measurement of time is not to be trusted."""
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
    """Table 4: the time of a step, and its ratio to IMPALA's."""
    task = results.tasks[0]
    cells = results.of_task(task)
    rates = {name: _quartiles_of_rate(cell.data) for name, cell in cells.items()}
    rows = []
    for name, cell in cells.items():
        low, rate, high = rates[name]
        rows.append(
            (
                *(name, rate, low, high),
                rates["impala"][1] / rate if "impala" in rates else None,
                PAPER_MINUTES[name] / PAPER_MINUTES["impala"],
                PAPER_MINUTES_GPU[name] / PAPER_MINUTES_GPU["impala"],
                cell.others,
                None if cell.seconds is None else cell.seconds / 60,
            )
        )
    table = Table(
        "runtime",
        f"{task.env}: the metrics' steps per second, median and quartiles; time of a step as a "
        "multiple of IMPALA's, here and in the paper's Table 4, on TPUs and with a learner on a "
        "GPU; how many cores were busy with anything else meanwhile, at worst (nothing should be); "
        "and minutes of all processes of a run, with start and compilation, after an interruption "
        "again.",
        (
            *("agent", "steps/s", "lower quartile", "upper quartile", "ratio"),
            *("paper", "paper, GPU learner", "cores busy otherwise", "minutes"),
        ),
        rows,
    )
    comparisons = [
        Comparison(
            f"time of a step of {row[0]} / IMPALA's",
            f"{row[5]:.2f} (TPU), {row[6]:.2f} (GPU learner)",
            "no run of IMPALA" if row[4] is None else f"{row[4]:.2f}",
        )
        for row in rows
        if row[0] != "impala"
    ]
    comparisons += _disturbance(cells)
    illustrations = []
    if "impala" in rates:
        times = {
            name: statistics.Estimate(*(rates["impala"][1] / rate for rate in (middle, high, low)))
            for name, (low, middle, high) in rates.items()
        }
        figure = figures.estimates({"": times}, "time per step / IMPALA's")
        caption = (
            "Time per environment step, as a multiple of IMPALA's median; from the quartiles of "
            "steps per second."
        )
        illustrations = [Illustration("runtime", caption, figure)]
    return Analysis(comparisons, [table], illustrations)


def _disturbance(cells: Mapping[str, Cell]) -> list[Comparison]:
    """Whether others used the machine while time was measured."""
    others = [cell.others for cell in cells.values() if cell.others is not None]
    if not others:
        return []
    worst = max(others)
    text = f"{worst:.1f} cores on average"
    if worst > DISTURBED:
        text += ": do not trust the ratios, and measure again on a quiet machine"
    return [Comparison("what else kept the machine busy, at worst", "not in the paper", text)]


def _quartiles_of_rate(run: RunData) -> tuple[float, float, float]:
    """Environment steps per second: lower quartile, median and upper one over lines and seeds."""
    rates = run.series("steps_per_second")
    low, middle, high = map(float, np.nanquantile(rates, (0.25, 0.5, 0.75)))
    return low, middle, high

"""What is made of the results of each experiment: pure functions from `Results` to an `Analysis`.

Averages over tasks are taken where all variants have all their seeds; a table of one task's scores
has whatever is complete.
"""

from __future__ import annotations

import math
import statistics as plain_statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stacx.reporting import RunData, build_figure
from stacx.reproduction import figures, statistics
from stacx.reproduction.comparing import (
    NO_AVERAGE,
    PAPER_SCORES,
    aggregate_curves,
    compare,
    count,
    scores_table,
    task_curves,
    with_bounds,
)
from stacx.reproduction.results import Analysis, Cell, Comparison, Illustration, Results, Table
from stacx.reproduction.suites import Task

TWO_ALPHAS = "stacx-two-alphas"
"""The variant that tunes alpha_rho and alpha_c apart."""
PAPER_MINUTES = {"impala": 70.0, "stac": 71.0, "impala-aux": 83.0, "stacx": 84.0}
"""Table 4, Atari on TPUs."""
PAPER_MINUTES_GPU = {"impala": 105.0, "stac": 129.0, "impala-aux": 106.0, "stacx": 133.0}
"""Table 4, where a GPU learns."""
_NOTHING = 1e-3
"""A normalised score that is nobody's merit."""
_EQUAL = 0.005
"""Normalised scores that are nearer to each other than that count as equal."""
_STILL = 1e-6
"""What single precision makes of a metaparameter that stays where it starts."""
_LOST, _RECOVERED = 0.6, 0.95
"""Shares of well-set IMPALA's score."""


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


def robustness_of_gamma(results: Results) -> Analysis:
    """Fig. 4(a)."""
    return _robustness(results, "gamma", "outer discount", "72 %")


def robustness_of_value_weight(results: Results) -> Analysis:
    """Fig. 4(b)."""
    return _robustness(results, "g_v", "outer weight of the value loss, g_v", "80 %")


def _robustness(results: Results, setting: str, meaning: str, paper: str) -> Analysis:
    values = _values_of(results.variants, "stacx", setting)
    agents = ("impala", "stacx")
    bars = {
        agent: _by_value(results, [perturbed_name(agent, setting, v) for v in values], values)
        for agent in agents
    }
    comparisons = _wins(bars["stacx"], bars["impala"], paper)
    tasks = [task for task in results.tasks if results.of_task(task)]
    illustrations = []
    if tasks:
        illustrations = [
            Illustration(
                "cells",
                "Mean of the final scores over seeds, and their standard deviation, as in Fig. 4.",
                figures.grouped_bars(tasks, values, bars, meaning),
            ),
            Illustration(
                "differences",
                "STACX's mean less IMPALA's, in normalised scores.",
                figures.differences(
                    [task.name for task in tasks],
                    values,
                    _differences(tasks, values, bars["stacx"], bars["impala"]),
                    meaning,
                ),
            ),
        ]
    return Analysis(comparisons, [scores_table(results)], illustrations)


def _wins(
    ours: Mapping[Any, Float[np.ndarray, " K"]],
    theirs: Mapping[Any, Float[np.ndarray, " K"]],
    paper: str,
) -> list[Comparison]:
    """In how many of the cells that both have STACX's mean is above IMPALA's, and how surely.

    Where both reach the top, that is chance: differences of less than `_EQUAL` are none. Also in
    how many cells every run of one is above every run of the other, and the mean of all cells.
    """
    both = [key for key in ours if key in theirs]
    cells = "cells in which STACX's mean is above IMPALA's"
    if not both:
        return [Comparison(cells, paper, "no cell is complete")]
    differences = [float(ours[key].mean() - theirs[key].mean()) for key in both]
    wins = sum(difference > _EQUAL for difference in differences)
    ties = sum(abs(difference) <= _EQUAL for difference in differences)
    and_ties = f"; {ties} more are equal within {_EQUAL:g}" if ties else ""
    above = sum(bool(ours[key].min() > theirs[key].max() + _EQUAL) for key in both)
    below = sum(bool(ours[key].max() < theirs[key].min() - _EQUAL) for key in both)
    scores = {
        agent: np.stack([of_agent[key] for key in both], axis=1)
        for agent, of_agent in (("STACX", ours), ("IMPALA", theirs))
    }
    better = statistics.probability_of_improvement(scores["STACX"], scores["IMPALA"])
    means = statistics.aggregates(scores)
    return [
        Comparison(cells, paper, f"{wins / len(both):.0%} ({wins} of {len(both)}{and_ties})"),
        Comparison(
            "probability that a run of STACX is above one of IMPALA, over cells",
            "not in the paper",
            with_bounds(better),
        ),
        Comparison(
            "cells in which all runs of one are above all of the other's",
            "not in the paper",
            f"STACX {above}, IMPALA {below}",
        ),
        Comparison(
            "mean normalised score of all cells",
            "not in the paper",
            ", ".join(f"{agent} {with_bounds(means[agent]['mean'])}" for agent in scores),
        ),
    ]


def robustness_of_starts(results: Results) -> Analysis:
    """Fig. 4(c): where all metaparameters start, or gamma alone."""
    kinds = {"all-start": "all metaparameters", "gamma-starts": "gamma alone"}
    values = _values_of(results.variants, "stacx", "all-start")
    bars = {
        label: _by_value(results, [perturbed_name("stacx", kind, v) for v in values], values)
        for kind, label in kinds.items()
    }
    tasks = [task for task in results.tasks if results.of_task(task)]
    comparisons = [
        Comparison(
            f"largest less smallest mean of five starts, {label}: median over tasks",
            "no number in the text: performance does not change too much",
            _spread(results.tasks, values, bars[label]),
        )
        for label in bars
    ]
    illustrations = []
    if tasks:
        figure = figures.grouped_bars(tasks, values, bars, "start of the inner values")
        caption = "Mean of the final scores over seeds, and their standard deviation."
        illustrations = [Illustration("starts", caption, figure)]
    usual = perturbed_name("stacx", "all-start", values[0]) if values else ""
    against_usual = compare(results, baseline=usual)
    return Analysis(
        [*comparisons, *against_usual.comparisons],
        against_usual.tables,
        [*illustrations, *against_usual.illustrations],
    )


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


def started_wrong(results: Results) -> Analysis:
    """What is kept of well-set IMPALA's normalised score where agents start badly."""
    wrong = [name for name in results.variants if "-wrong-" in name]
    kinds = list(dict.fromkeys(name.partition("-wrong-")[2] for name in wrong))
    starters = [name for name in wrong if name.endswith("-all")]
    rows = [
        (task.name, name, *_kept(results.of_task(task), name))
        for task in results.tasks
        for name in wrong
        if name in results.of_task(task)
    ]
    columns = ("task", "variant", "normalised score", "well-set IMPALA's", "share kept")
    caption = "Mean over seeds; a share has a meaning where well-set IMPALA is above random."
    tables = [Table("kept", caption, columns, rows), scores_table(results)]
    kept = {(task, name): share for task, name, _, _, share in rows if share is not None}
    recovered = [
        Comparison(
            f"of the starts that leave IMPALA {_LOST:.0%} or less, those that leave {agent} "
            f"{_RECOVERED:.0%} or more",
            "not in the paper",
            "{} of {}".format(*recoveries(kept, agent)),
        )
        for agent in ("stac", "stacx")
    ]
    tasks = [t for t in results.shared_tasks() if results.normalised("impala", [t]).mean() > 0]
    if not tasks:
        missing = Comparison("share kept", "not in the paper", NO_AVERAGE)
        return Analysis([*recovered, missing], tables)
    shares = _shares_of_mean(results, tasks, wrong)
    comparisons = [
        Comparison(
            f"{name}: share kept of well-set IMPALA's mean score", "-", with_bounds(shares[name])
        )
        for name in starters
    ]
    panels = {
        agent: {kind: shares[f"{agent}-wrong-{kind}"] for kind in kinds}
        for agent in ("impala", "stac", "stacx")
    }
    colours = {agent: style[0] for agent, style in figures.line_styles(list(panels)).items()}
    figure = figures.estimates(panels, "mean normalised score / well-set IMPALA's", colours=colours)
    caption = "Mean normalised score over tasks, as a share of well-set IMPALA's; 95 % intervals."
    return Analysis([*recovered, *comparisons], tables, [Illustration("kept", caption, figure)])


# --- parts of analyses, and what experiments share with them ---


def perturbed_name(agent: str, setting: str, value: float | str) -> str:
    """The name of a variant in which a setting has a value, a number or already its text."""
    text = value if isinstance(value, str) else f"{value:g}"
    return f"{agent}-{setting}-{text}"


def logit(probability: float) -> float:
    """The inverse of the sigmoid."""
    return math.log(probability / (1 - probability))


def sigmoid(number: float) -> float:
    """The inverse of the logit."""
    return 1 / (1 + math.exp(-number))


def recoveries(kept: Mapping[tuple[str, str], float], agent: str) -> tuple[int, int]:
    """How many of the starts at which IMPALA is lost an agent recovers from, and how many it has.

    Args:
        kept: the share of well-set IMPALA's score, by task and by variant, `AGENT-wrong-START`.
        agent: stac or stacx.
    """
    found = [
        kept[task, f"{agent}-{start}"]
        for (task, name), share in kept.items()
        if (start := name.removeprefix("impala-")) != name
        and share <= _LOST
        and (task, f"{agent}-{start}") in kept
    ]
    return sum(share >= _RECOVERED for share in found), len(found)


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


def _values_of(variants: Sequence[str], agent: str, setting: str) -> list[str]:
    """The values of a setting, as they stand in variants' names."""
    prefix = f"{agent}-{setting}-"
    return [name.removeprefix(prefix) for name in variants if name.startswith(prefix)]


def _by_value(
    results: Results, names: Sequence[str], values: Sequence[str]
) -> dict[tuple[str, str], Float[np.ndarray, " K"]]:
    """Normalised scores of the cells there are, by task's id and value."""
    return {
        (task.env, value): results.cells[task.env, name].normalised
        for task in results.tasks
        for name, value in zip(names, values, strict=True)
        if (task.env, name) in results.cells
    }


def _differences(
    tasks: Sequence[Task], values: Sequence[str], ours: Mapping[Any, Any], theirs: Mapping[Any, Any]
) -> Float[np.ndarray, "tasks values"]:
    """The differences of means; NaN where a cell is missing."""

    def difference(key: tuple[str, str]) -> float:
        both = key in ours and key in theirs
        return float(ours[key].mean() - theirs[key].mean()) if both else math.nan

    return np.array([[difference((task.env, value)) for value in values] for task in tasks])


def _spread(tasks: Sequence[Task], values: Sequence[str], bars: Mapping[Any, Any]) -> str:
    spreads = []
    for task in tasks:
        means = [bars[task.env, value].mean() for value in values if (task.env, value) in bars]
        if len(means) == len(values):
            spreads.append(float(max(means) - min(means)))
    if not spreads:
        return NO_AVERAGE
    return f"{np.median(spreads):.2f} of the normalised score ({len(spreads)} tasks)"


def _ends(task: Task, run: RunData) -> list[tuple[Any, ...]]:
    """A row for each metaparameter of each head: where it started and ended, over seeds."""
    rows = []
    for name in run.config.tuned:
        outer, unit = run.config.outer_value(name), run.config.scale(name)
        start = run.config.initial_value(name) or sigmoid(run.config.initial_logit)
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
    middle, tasks = plain_statistics.median(ends), count(len(ends), "task")
    span = f"{min(ends):.4f} to {max(ends):.4f}"
    text = f"{middle:.4f} (median of {tasks}; {span}; outer {outer})"
    still = sum(row[6] == row[7] and abs(row[4] - row[6]) < _STILL for row in of_head)
    if still:
        text += f"; in {still} of {tasks} it never moves, as alpha of a head that is on-policy"
    return text


def _trace(cell: Cell) -> Any:
    return build_figure([cell.data])


def _median_rate(run: RunData) -> float:
    """Environment steps per second: the median over lines and seeds."""
    return float(np.nanmedian(run.series("steps_per_second")))


def _quartiles_of_rate(run: RunData) -> tuple[float, float]:
    """The quartiles of the same."""
    low, high = np.nanquantile(run.series("steps_per_second"), (0.25, 0.75))
    return float(low), float(high)


def _kept(cells: Mapping[str, Cell], name: str) -> tuple[float, float | None, float | None]:
    """A variant's normalised score, well-set IMPALA's, and the share; None where it has none."""
    score = float(cells[name].normalised.mean())
    if "impala" not in cells:
        return score, None, None
    well_set = float(cells["impala"].normalised.mean())
    return score, well_set, score / well_set if well_set > 0 else None


def _shares_of_mean(
    results: Results, tasks: Sequence[Task], names: Sequence[str]
) -> dict[str, statistics.Estimate]:
    well_set = results.normalised("impala", tasks)
    return {
        name: statistics.ratio_of_means(results.normalised(name, tasks), well_set) for name in names
    }


def _percent(share: float) -> str:
    if math.isnan(share):
        return "no run is complete in which an alpha has moved"
    return f"{100 * share:.1f} %"

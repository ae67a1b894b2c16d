"""What is made of wrong values: outer ones, as in Fig. 4, and inner ones at the start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from stacx.reproduction import figures, statistics
from stacx.reproduction.comparing import NO_AVERAGE, compare, scores_table, with_bounds
from stacx.reproduction.results import Analysis, Cell, Comparison, Illustration, Results, Table
from stacx.reproduction.suites import Task

_EQUAL = 0.005
"""Normalised scores that are nearer to each other than that count as equal."""
_LOST, _RECOVERED = 0.6, 0.95
"""Shares of well-set IMPALA's score."""


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
    losses = len(both) - wins - ties
    others = f"; {ties} are equal within {_EQUAL:g}, and in {losses} IMPALA's is above"
    above = sum(bool(ours[key].min() > theirs[key].max() + _EQUAL) for key in both)
    below = sum(bool(ours[key].max() < theirs[key].min() - _EQUAL) for key in both)
    scores = {
        agent: np.stack([of_agent[key] for key in both], axis=1)
        for agent, of_agent in (("STACX", ours), ("IMPALA", theirs))
    }
    better = statistics.probability_of_improvement(scores["STACX"], scores["IMPALA"])
    means = statistics.aggregates(scores)
    return [
        Comparison(cells, paper, f"{wins / len(both):.0%} ({wins} of {len(both)}{others})"),
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


def perturbed_name(agent: str, setting: str, value: float | str) -> str:
    """The name of a variant in which a setting has a value, a number or already its text."""
    text = value if isinstance(value, str) else f"{value:g}"
    return f"{agent}-{setting}-{text}"


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

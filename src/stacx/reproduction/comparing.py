"""What is said of any experiment's scores: tables, aggregates, profiles and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from stacx.reproduction import figures, statistics
from stacx.reproduction.results import Analysis, Comparison, Illustration, Results, Table
from stacx.reproduction.suites import Task

PAPER_SCORES: dict[str, dict[str, str]] = {
    "atari57": {"impala": "median 243 %", "stacx": "median 364 % (section 4.1)"},
    "dmc": {"impala": "mean 217", "stac": "mean 389 (abstract; by section 4.2's trends STAC's)"},
    "dmc-pixels": {"impala": "mean 108", "stacx": "mean 202 (abstract; by the trends STACX's)"},
    "rwrl": {"impala": "mean 195", "stac": "mean 295 (abstract; by the trends STAC's)"},
}
"""Normalised scores in the text, by suite and agent; those of other agents are in figures only."""
ATARI5_WEIGHTS = {
    "atari:BattleZone": 0.3820,
    "atari:DoubleDunk": 0.0679,
    "atari:NameThisGame": 0.3108,
    "atari:Phoenix": 0.1241,
    "atari:Qbert": 0.0805,
}
"""Of log10(1 + score in %), refitted from the data of Aitchison et al. 2023 (R^2 0.988)."""
_NAMES = {"iqm": "IQM", "median": "median", "mean": "mean"}
_CURVE_POINTS = 40
_MOST_PROFILES = 7
"""More lines than that cannot be told apart in one panel."""
_WITH_HEADS = ("stacx", "impala-aux")
"""How the names of variants with auxiliary heads begin."""
NO_AVERAGE = "no task has all variants complete"


def compare(
    results: Results, baseline: str = "impala", paper: Mapping[str, str] | None = None
) -> Analysis:
    """Scores, aggregates, performance profile, and improvement over a baseline if it is there.

    Args:
        results: of any experiment.
        baseline: the variant that others are held against.
        paper: what the paper has for some variants; None: it has no such experiment.
    """
    tasks = results.shared_tasks()
    if not tasks:
        missing = Comparison("normalised scores", "", NO_AVERAGE)
        return Analysis([missing], [scores_table(results)])
    scores = _scores(results, tasks)
    aggregates = statistics.aggregates(scores)
    unknown = "" if paper is None else "no number in the text"
    comparisons = [
        Comparison(
            f"{name}, normalised score",
            (paper or {}).get(name, unknown),
            _score_text(results, aggregates[name]),
        )
        for name in results.variants
    ]
    tables = [_aggregates_table(results, tasks, aggregates)]
    illustrations = [aggregate_bars(aggregates, results.suite.unit), _profile(results, scores)]
    if baseline in results.variants:
        improvements = {
            name: statistics.probability_of_improvement(scores[name], scores[baseline])
            for name in results.variants
            if name != baseline
        }
        tables.append(_improvements_table(improvements, baseline))
        illustrations.append(_improvements(improvements, baseline))
    return Analysis(comparisons, [*tables, scores_table(results)], illustrations)


def scores_table(results: Results) -> Table:
    """Final scores by task and variant."""
    rows = []
    for task in results.tasks:
        for name, cell in results.of_task(task).items():
            raw = cell.scores
            rows.append(
                (
                    *(task.env, name, raw.size, int(cell.data.env_steps[-1])),
                    *map(float, (raw.mean(), raw.std(), raw.min(), raw.max())),
                    float(cell.normalised.mean()),
                    " ".join(f"{score:.7g}" for score in raw),
                )
            )
    return Table(
        "scores",
        "Final scores: mean training return over the last 5 % of the steps (the last return there "
        "is, where no episode ended in them); mean, standard "
        "deviation (of the seeds there are: divided by their number) and extremes over seeds, the "
        "mean normalised, and each seed's.",
        (
            "task",
            "variant",
            "seeds",
            "steps",
            *("mean", "std", "min", "max", "normalised", "each seed"),
        ),
        rows,
    )


def _scores(results: Results, tasks: Sequence[Task]) -> dict[str, Float[np.ndarray, "K tasks"]]:
    return {name: results.normalised(name, tasks) for name in results.variants}


def _score_text(results: Results, aggregates: Mapping[str, statistics.Estimate]) -> str:
    """A variant's score in the unit in which the paper has those of the suite."""
    median, mean = aggregates["median"], aggregates["mean"]
    if results.suite.name.startswith("atari"):
        return f"median {with_bounds(median)}"
    if results.suite.name in PAPER_SCORES:
        return f"mean {1000 * mean.value:.0f} ({1000 * mean.low:.0f} to {1000 * mean.high:.0f})"
    bounds = f"{median.low:.2f} to {median.high:.2f}"
    return f"median {median.value:.2f} ({bounds}), mean {mean.value:.2f}"


def _aggregates_table(
    results: Results, tasks: Sequence[Task], aggregates: Mapping[str, Mapping[str, Any]]
) -> Table:
    atari5 = {task.env for task in tasks} == set(ATARI5_WEIGHTS)
    columns = ["variant", *(f"{x}{y}" for x in ("IQM", "median", "mean") for y in ("", " 95 %"))]
    columns += ["median of 57 games, estimated from 5", "57 games 95 %"] * atari5
    medians = _atari5_medians(results, tasks) if atari5 else {}
    rows = []
    for name, of_variant in aggregates.items():
        row: list[Any] = [name]
        for estimate in of_variant.values():
            row += [estimate.value, f"{estimate.low:.3f} to {estimate.high:.3f}"]
        if atari5:
            median = medians[name]
            row += [median.value, f"{median.low:.3f} to {median.high:.3f}"]
        rows.append(row)
    return Table(
        "aggregates",
        f"Normalised scores (1: {results.suite.unit}) over {count(len(tasks), 'task')} and all "
        "seeds, with 95 % stratified bootstrap intervals over seeds. A task of which some variant "
        "is not complete, as when a seed diverged, is left out for all of them.",
        columns,
        rows,
    )


def _improvements_table(improvements: Mapping[str, Any], baseline: str) -> Table:
    return Table(
        "improvement",
        f"Probability of improvement over {baseline}, averaged over tasks; 0.5: none.",
        ("variant", "probability", "95 %"),
        [(name, e.value, f"{e.low:.2f} to {e.high:.2f}") for name, e in improvements.items()],
    )


def _improvements(improvements: Mapping[str, statistics.Estimate], baseline: str) -> Illustration:
    return Illustration(
        "improvement",
        f"Probability of improvement over {baseline}, with 95 % intervals: how often a run is "
        "better than one of the baseline, averaged over tasks.",
        figures.probabilities(improvements, baseline),
    )


def aggregate_curves(results: Results, tasks: Sequence[Task]) -> list[Illustration]:
    """Figs. 2(a) and 3: scores over tasks in training, as the IQM and as the paper has them.

    The paper has the median over Atari's games, and the mean of other suites' tasks. Empty if
    nothing has ended.
    """
    curves = {name: _curves(results, name, tasks) for name in results.variants}
    points = np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS
    seen = np.all([np.isfinite(curve).all(axis=(0, 1)) for curve in curves.values()], axis=0)
    if not seen.any():
        return []
    shown = {name: curve[..., seen] for name, curve in curves.items()}
    paper = "median" if results.suite.name.startswith("atari") else "mean"
    whose = {"iqm": "", "median": ", as in Fig. 2(a)", "mean": ", as in Fig. 3"}
    return [
        Illustration(
            "curves" if kind == "iqm" else f"curves-{kind}",
            f"{_NAMES[kind]} of normalised scores over {count(len(tasks), 'task')} and all seeds "
            f"during training{whose[kind]}, with 95 % stratified bootstrap intervals; from where "
            "every run has ended an episode.",
            figures.aggregate_curves(
                statistics.curves(shown, kind), points[seen], _NAMES[kind], results.suite.unit
            ),
        )
        for kind in ("iqm", paper)
    ]


def _curves(results: Results, name: str, tasks: Sequence[Task]) -> Float[np.ndarray, "K tasks N"]:
    """Normalised returns at even points of training: the newest of each run until then."""
    shares = np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS
    sampled = []
    for task in tasks:
        cell = results.cells[task.env, name]
        steps = cell.data.env_steps
        places = np.searchsorted(steps, shares * steps[-1] * (1 + 1e-9), side="right") - 1
        sampled.append(np.where(places >= 0, cell.curve[:, np.maximum(places, 0)], np.nan))
    return np.stack(sampled, axis=1)


def task_curves(results: Results, *, deviations: float, figure: str) -> list[Illustration]:
    """Returns over training, a panel for each task.

    Args:
        results: of any experiment.
        deviations: how many standard deviations the bands have on each side.
        figure: which one of the paper has such bands.
    """
    if not results.cells:
        return []
    bands = "half a standard deviation" if deviations == 0.5 else "a standard deviation"
    caption = f"Mean return over seeds for each task; bands are {bands}, as in {figure}."
    return [Illustration("tasks", caption, figures.task_curves(results, deviations))]


def aggregate_bars(aggregates: Mapping[str, Mapping[str, Any]], unit: str) -> Illustration:
    """IQM, median and mean of every variant.

    Args:
        aggregates: of `statistics.aggregates`.
        unit: what a score of 1 is.
    """
    panels = {
        title: {name: aggregates[name][key] for name in aggregates} for key, title in _NAMES.items()
    }
    return Illustration(
        "aggregates",
        "Normalised scores at the end, with 95 % stratified bootstrap intervals.",
        figures.estimates(panels, f"normalised score (1: {unit})"),
    )


def _profile(results: Results, scores: Mapping[str, Float[np.ndarray, "K tasks"]]) -> Illustration:
    everything = np.concatenate([of_variant.ravel() for of_variant in scores.values()])
    low, high = float(everything.min()), float(np.quantile(everything, 0.98))
    margin = max(0.05 * (high - low), 0.01)
    thresholds = np.linspace(low - margin, high + margin, 101)
    shares = statistics.performance_profiles(scores, thresholds)
    return Illustration(
        "profile",
        "Performance profile: the share of runs, over tasks and seeds, above a score, with 95 % "
        "intervals. Higher is better.",
        figures.profiles(_panels(shares), thresholds, results.suite.unit),
    )


def _panels(lines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As many lines a panel as can be told apart; agents with auxiliary heads have their own."""
    if len(lines) <= _MOST_PROFILES:
        return [dict(lines)]
    with_heads = {name: line for name, line in lines.items() if name.startswith(_WITH_HEADS)}
    others = {name: line for name, line in lines.items() if name not in with_heads}
    groups = [list(group.items()) for group in (others, with_heads) if group]
    return [
        dict(group[start : start + _MOST_PROFILES])
        for group in groups
        for start in range(0, len(group), _MOST_PROFILES)
    ]


def atari5_median(percentages: Mapping[str, float]) -> float:
    """The estimated median over 57 games, in %, from five games' human-normalised scores in %.

    For STACX's published scores it is 374 %, where the median is 300.6 %, and 226 % for IMPALA's,
    where it is 191.8 %: compare agents by it, not papers.
    """
    total = sum(
        weight * math.log10(1 + max(0.0, percentages[game]))
        for game, weight in ATARI5_WEIGHTS.items()
    )
    return float(10**total - 1)


def _atari5_medians(results: Results, tasks: Sequence[Task]) -> dict[str, statistics.Estimate]:
    """The same of every variant, 1 being 100 %."""
    games = [task.env for task in tasks]

    def median(x: Float[np.ndarray, "K tasks"]) -> float:
        return atari5_median(dict(zip(games, 100 * x.mean(axis=0), strict=True))) / 100

    return statistics.of_each(_scores(results, tasks), median)


def with_bounds(estimate: statistics.Estimate) -> str:
    """A share and its interval, in percent."""
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"


def count(number: int, thing: str) -> str:
    """1 task, 2 tasks."""
    return f"{number} {thing}{'s' * (number != 1)}"

"""Aggregate statistics with stratified bootstrap intervals, by rliable (Agarwal et al. 2021).

Scores are arrays [seeds, tasks]. Seeds are drawn anew within each task, so that an interval says
how much a result would change with other seeds, on the same tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from stacx.errors import ConfigError
from stacx.imports import one_line

LEAST_SEEDS = 2
"""Of one seed there is nothing to draw anew."""
DRAWS = 2000
"""Bootstrap samples of an interval of aggregates."""
_FEWER_DRAWS = 500
"""Of what costs more: curves, profiles and probabilities."""


class Estimate(NamedTuple):
    """A number, or an array of them, and the bounds of its 95 % interval."""

    value: Any
    low: Any
    high: Any


def check_installed() -> None:
    """Whether rliable is there.

    Raises:
        ConfigError: if not, or if it does not fit to what else is installed; naming the extra.
    """
    try:
        import rliable.library  # noqa: F401
    except Exception as error:  # its dependencies may break on newer versions of theirs
        raise ConfigError(
            f"statistics need rliable, of the extra stacx[report], which cannot be imported "
            f"({one_line(error)}): pip install '.[report]' in stacx's project directory"
        ) from error


def aggregates(scores: Mapping[str, Float[np.ndarray, "K tasks"]]) -> dict[str, dict[str, Any]]:
    """IQM, median and mean of each variant's scores.

    The IQM is the mean of the middle half of all seeds' scores on all tasks; the median is that of
    the tasks' means, as the paper's median over games.

    Returns:
        An `Estimate` by variant and by "iqm", "median", "mean".
    """
    from rliable import metrics

    functions = (metrics.aggregate_iqm, metrics.aggregate_median, metrics.aggregate_mean)
    estimates = _intervals(scores, lambda x: np.array([f(x) for f in functions]), DRAWS)
    return {
        variant: {
            name: Estimate(*(float(part[index]) for part in estimate))
            for index, name in enumerate(("iqm", "median", "mean"))
        }
        for variant, estimate in estimates.items()
    }


def of_each(
    scores: Mapping[str, Float[np.ndarray, "K tasks"]], function: Callable[[Any], float]
) -> dict[str, Estimate]:
    """Any number that a function makes of a variant's scores."""
    estimates = _intervals(scores, lambda x: np.array([function(x)]), DRAWS)
    return {
        name: Estimate(*(float(part[0]) for part in estimate))
        for name, estimate in estimates.items()
    }


def curves(scores: Mapping[str, Float[np.ndarray, "K tasks N"]], kind: str) -> dict[str, Estimate]:
    """The "iqm", "median" or "mean", as of `aggregates`, at each of N points of training."""
    functions = {
        "iqm": _iqm_of_points,
        "median": lambda x: np.median(x.mean(axis=0), axis=0),
        "mean": lambda x: x.mean(axis=(0, 1)),
    }
    return _intervals(scores, functions[kind], _FEWER_DRAWS)


def performance_profiles(
    scores: Mapping[str, Float[np.ndarray, "K tasks"]], thresholds: Float[np.ndarray, " T"]
) -> dict[str, Estimate]:
    """The share of runs, over seeds and tasks, that score above each threshold."""

    def above(x: Float[np.ndarray, "K tasks"]) -> Float[np.ndarray, " T"]:
        return (x[..., None] > thresholds).mean(axis=(0, 1))

    return _intervals(scores, above, _FEWER_DRAWS)


def probability_of_improvement(
    scores: Float[np.ndarray, "K tasks"], baseline: Float[np.ndarray, "L tasks"]
) -> Estimate:
    """How probable it is that a run scores above one of the baseline, on a random task."""
    from rliable import metrics

    def probability(x: Any, y: Any) -> Float[np.ndarray, " 1"]:
        return np.array([metrics.probability_of_improvement(x, y)])

    estimate = _intervals({"": (scores, baseline)}, probability, _FEWER_DRAWS)[""]
    return Estimate(*(float(part[0]) for part in estimate))


def ratio_of_means(
    scores: Float[np.ndarray, "K tasks"], baseline: Float[np.ndarray, "L tasks"]
) -> Estimate:
    """The mean score over seeds and tasks as a multiple of the baseline's."""

    def ratio(x: Any, y: Any) -> Float[np.ndarray, " 1"]:
        return np.array([x.mean() / y.mean()])

    estimate = _intervals({"": (scores, baseline)}, ratio, DRAWS)[""]
    return Estimate(*(float(part[0]) for part in estimate))


def _iqm_of_points(x: Float[np.ndarray, "K tasks N"]) -> Float[np.ndarray, " N"]:
    """rliable's `aggregate_iqm` at every point at once."""
    import scipy.stats

    return scipy.stats.trim_mean(x.reshape(-1, x.shape[-1]), 0.25, axis=0)


def _intervals(scores: Mapping[str, Any], function: Any, draws: int) -> dict[str, Estimate]:
    from rliable import library

    with _same_draws_each_time():
        values, bounds = library.get_interval_estimates(dict(scores), function, reps=draws)
    return {name: Estimate(values[name], *bounds[name]) for name in scores}


@contextlib.contextmanager
def _same_draws_each_time() -> Iterator[None]:
    """rliable draws from NumPy's global generator: it is seeded, and then put back."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)

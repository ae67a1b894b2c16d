"""Aggregates and their intervals, against scipy and by hand."""

import builtins
import sys

import numpy as np
import pytest
import scipy.stats
from support import message_of

from stacx.errors import ConfigError
from stacx.reproduction import statistics

SCORES = np.array([[0.1, 0.9, 0.4], [0.3, 1.5, 0.2], [0.2, 0.7, 0.5], [0.5, 0.8, 0.3]])
"""Four seeds, three tasks."""


def test_aggregates_by_hand():
    found = statistics.aggregates({"a": SCORES})["a"]
    assert found["mean"].value == pytest.approx(SCORES.mean())
    assert found["median"].value == pytest.approx(np.median(SCORES.mean(axis=0)))
    middle = np.sort(SCORES.ravel())[3:9]  # of twelve, without the lowest and highest three
    assert found["iqm"].value == pytest.approx(middle.mean())


def test_intervals_hold_the_estimate_and_shrink_with_more_seeds():
    random = np.random.default_rng(0)
    many, few = (random.normal(size=(seeds, 5)) for seeds in (200, 4))
    widths = {}
    for name, scores in (("many", many), ("few", few)):
        value, low, high = statistics.aggregates({name: scores})[name]["mean"]
        assert low < value < high
        widths[name] = high - low
    assert widths["many"] < 0.4 * widths["few"]
    expected = 2 * 1.96 * many.std(axis=0).mean() / np.sqrt(200 * 5)
    assert widths["many"] == pytest.approx(expected, rel=0.1)


def test_seeds_are_drawn_within_tasks():
    """Without spread over seeds there is none in the interval, however tasks differ."""
    value, low, high = statistics.aggregates({"a": np.tile([0.0, 1.0, 5.0], (3, 1))})["a"]["mean"]
    assert value == low == high == pytest.approx(2.0)


def test_the_same_scores_give_the_same_intervals_and_leave_numpy_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = statistics.aggregates({"a": SCORES})
    assert np.random.random() == expected
    assert statistics.aggregates({"a": SCORES}) == first


@pytest.mark.parametrize(
    ("kind", "statistic"),
    [
        ("iqm", lambda scores: scipy.stats.trim_mean(scores, 0.25, axis=None)),
        ("median", lambda scores: np.median([task.mean() for task in scores.T])),
        ("mean", np.mean),
    ],
)
def test_a_curve_is_a_statistic_at_every_point(kind, statistic):
    curves = np.random.default_rng(1).normal(size=(4, 3, 6))
    value, low, high = statistics.curves({"a": curves}, kind)["a"]
    np.testing.assert_allclose(value, [statistic(curves[..., i]) for i in range(6)])
    assert (low <= value).all()
    assert (value <= high).all()


def test_a_profile_is_the_share_of_runs_above():
    value, _, _ = statistics.performance_profiles({"a": SCORES}, np.array([0.0, 0.45, 2.0]))["a"]
    np.testing.assert_allclose(value, [1.0, 6 / 12, 0.0])


def test_the_probability_of_improvement_by_hand():
    """Of the four pairs of the first task three are won; of the second all, one by half."""
    ours, theirs = np.array([[1.0, 5.0], [3.0, 6.0]]), np.array([[0.0, 5.0], [2.0, 1.0]])
    assert statistics.probability_of_improvement(ours, theirs).value == pytest.approx(
        (3 / 4 + 3.5 / 4) / 2
    )
    same = statistics.probability_of_improvement(ours, ours)
    assert same.value == pytest.approx(0.5)


def test_a_ratio_of_means():
    value, low, high = statistics.ratio_of_means(SCORES, 2 * SCORES)
    assert value == pytest.approx(0.5)
    assert low < 0.5 < high


def test_without_rliable_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("rliable"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "rliable.library", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError) as caught:
        statistics.check_installed()
    message = message_of(caught)
    assert "stacx[report]" in message
    assert "pip install '.[report]'" in message


def test_with_rliable_nothing_is_said():
    statistics.check_installed()

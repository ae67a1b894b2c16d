"""Final scores: the last 5 % of a run's steps, by hand."""

from pathlib import Path

import numpy as np

from stacx.config import Config
from stacx.reporting import RunData
from stacx.reproduction.scores import final_scores, learning_curve


def data_of(*seeds, steps=None, episodes=None):
    """A run from each seed's returns; by default 100 points of 10 steps each."""
    steps = steps or [10 * (k + 1) for k in range(len(seeds[0]))]
    lines = {}
    for seed, returns in enumerate(seeds):
        for index, (at, value) in enumerate(zip(steps, returns, strict=True)):
            ended = value is not None if episodes is None else episodes[index]
            lines[seed, at] = {"episode_return": value, "episodes": int(ended)}
    return RunData(Path("run"), Config(), np.array(steps), list(range(len(seeds))), lines)


def test_the_mean_over_the_last_twentieth_for_each_seed():
    returns = [float(k) for k in range(1, 101)]
    scores = final_scores(data_of(returns, [2 * r for r in returns]))
    np.testing.assert_allclose(scores, [98.0, 196.0])  # 96 to 100


def test_a_line_at_the_windows_edge_is_outside():
    """95 % of 100 steps is not within the last 5 %."""
    np.testing.assert_allclose(final_scores(data_of([7.0, 1.0], steps=[95, 100])), [1.0])
    np.testing.assert_allclose(final_scores(data_of([7.0, 1.0], steps=[96, 100])), [4.0])


def test_null_lines_are_left_out():
    returns = [0.0] * 95 + [None, 4.0, None, 8.0, None]
    np.testing.assert_allclose(final_scores(data_of(returns)), [6.0])


def test_a_return_that_is_only_repeated_counts_once():
    """Long episodes: in most intervals none ends, and metrics repeat the last return."""
    returns = [0.0] * 95 + [4.0, 4.0, 4.0, 4.0, 8.0]
    episodes = [True] * 95 + [True, False, False, False, True]
    np.testing.assert_allclose(final_scores(data_of(returns, episodes=episodes)), [6.0])


def test_without_any_in_the_window_the_last_one_counts():
    np.testing.assert_allclose(final_scores(data_of([3.0] * 50 + [None] * 50)), [3.0])
    returns, episodes = [3.0] * 50 + [9.0] * 50, [True] * 51 + [False] * 49
    np.testing.assert_allclose(final_scores(data_of(returns, episodes=episodes)), [9.0])


def test_without_any_episode_there_is_no_score():
    assert np.isnan(final_scores(data_of([None] * 100))).all()


def test_curves_hold_the_last_return_and_have_none_before_the_first():
    curve = learning_curve(data_of([None, 1.0, None, None, 3.0]))
    np.testing.assert_array_equal(curve, [[np.nan, 1.0, 1.0, 1.0, 3.0]])

"""From statistics inside the compiled program to lines of metrics."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from stacx.agents import METAPARAMETERS
from stacx.config import Config
from stacx.runs.lines import metric_lines, runaway_heads, summary
from stacx.runtimes.statistics import IntervalStatistics

CONFIG = Config(agent="stacx", seed=7, num_seeds=2, num_envs=4, trajectory_length=5)
EMPTY = IntervalStatistics.empty(3, METAPARAMETERS)


def statistics(**fields):
    """Of one seed, over ten updates."""
    return dataclasses.replace(EMPTY, updates=jnp.int32(10), **fields)


def lines_of(first, second, previous=()):
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    return metric_lines(CONFIG, 30, both, 1234.56, {line["seed"]: line for line in previous})


def test_each_seed_has_its_own_line():
    ended = {"episodes": jnp.int32(4), "return_sum": jnp.array(10.0), "length_sum": jnp.array(82.0)}
    first, second = lines_of(statistics(**ended), statistics())
    assert (first["seed"], second["seed"]) == (7, 8)
    for line in (first, second):
        assert line["updates"] == 30
        assert line["env_steps"] == 600
        assert line["steps_per_second"] == 1234.6
    assert (first["episodes"], first["episode_return"], first["episode_length"]) == (4, 2.5, 20.5)
    assert (second["episodes"], second["episode_return"]) == (0, None)


def test_without_an_episode_the_last_return_stays():
    before = {"seed": 8, "episode_return": 3.0, "episode_length": 9.0, "skipped_updates": 2}
    first, second = lines_of(statistics(), statistics(skipped=jnp.int32(5)), [before])
    assert first["episode_return"] is None
    assert (second["episode_return"], second["episode_length"]) == (3.0, 9.0)
    assert second["skipped_updates"] == 7


def test_means_are_over_the_updates_that_were_not_skipped():
    means = jax.tree.map(lambda leaf: leaf + 12.0, EMPTY.means)
    learned = statistics(means=means, skipped=jnp.int32(4))
    line, nothing = lines_of(learned, statistics(skipped=jnp.int32(10)))
    assert line["loss"] == line["entropy/2"] == 2.0
    assert math.isnan(nothing["loss"])


def test_means_of_the_outer_loss_are_over_the_metaparameters_updates():
    means = jax.tree.map(lambda leaf: leaf + 12.0, EMPTY.means)
    some = statistics(means=means, meta_updates=jnp.int32(3))
    line, none = lines_of(some, statistics(means=means))
    for name in ("outer_loss", "kl", "metagradient_norm"):
        assert line[name] == 4.0
        assert math.isnan(none[name])
    assert line["gradient_norm"] == none["gradient_norm"] == pytest.approx(1.2)


def test_what_is_per_head_has_a_key_per_head():
    values = {"value_min": jnp.array([-1.0, -2.0, -3.0])}
    gamma = EMPTY.latest | {"gamma": jnp.array([0.9, 0.8, 0.7])}
    line, _ = lines_of(statistics(lows=values, latest=gamma), statistics())
    assert [line[f"value_min/{head}"] for head in range(3)] == [-1.0, -2.0, -3.0]
    assert [line[f"meta/gamma/{head}"] for head in range(3)] == pytest.approx([0.9, 0.8, 0.7])


def heads_with(*ranges):
    return {
        f"value_{end}/{head}": float(value)
        for head, pair in enumerate(ranges)
        for end, value in zip(("min", "max"), pair, strict=True)
    }


@pytest.mark.parametrize(
    ("ranges", "heads"),
    [
        ([(-1, 1), (-99, 0), (0, 99)], []),
        ([(0, 0.1), (0, 99), (0, 101)], [2]),
        ([(-50, 0), (-4999, 0), (-5001, 0)], [2]),
        ([(0, 1), (0, math.nan), (-math.inf, 0)], [1, 2]),
        ([(0, 1e9)], []),
    ],
)
def test_a_head_runs_away_at_a_hundred_times_head_1(ranges, heads):
    assert runaway_heads(heads_with(*ranges)) == heads


def test_the_summary_is_the_mean_over_seeds():
    first, second = lines_of(
        statistics(latest=EMPTY.latest | {"gamma": jnp.array([0.9, 0, 0])}),
        statistics(latest=EMPTY.latest | {"gamma": jnp.array([0.7, 0, 0])}),
    )
    assert summary([first, second])["gamma"] == pytest.approx(0.8)
    assert summary([first, second])["episode_return"] is None
    assert summary([first | {"episode_return": 3.0}, second])["episode_return"] == 3.0
    both = [first | {"episode_return": 3.0}, second | {"episode_return": 5.0}]
    assert summary(both)["episode_return"] == 4.0

"""What one update adds to an interval, where something went wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stacx.agents import METAPARAMETERS
from stacx.runtimes.statistics import EpisodeEnds, IntervalStatistics
from stacx.types import Trajectory, UpdateMetrics

STEPS, BATCH, HEADS = 3, 2, 2
SCALARS = ("loss", "outer_loss", "kl", "gradient_norm", "metagradient_norm")
PER_HEAD = ("entropy", "value_min", "value_max", "importance_max")
EMPTY = IntervalStatistics.empty(HEADS, METAPARAMETERS)


def make_metrics(value, *, skipped=False, meta_step=True) -> UpdateMetrics:
    """All metrics are `value`, plus the head."""
    heads = jnp.asarray(value + np.arange(HEADS), jnp.float32)
    return UpdateMetrics(
        **dict.fromkeys(SCALARS, jnp.float32(value)),
        **dict.fromkeys(PER_HEAD, heads),
        meta_step=jnp.asarray(meta_step),
        skipped=jnp.asarray(skipped),
        skipped_in_a_row=jnp.int32(skipped),
        metaparameters=dict.fromkeys(METAPARAMETERS, heads),
    )


def make_trajectory(**fields) -> Trajectory:
    ones = jnp.ones((STEPS, BATCH))
    values = {
        "actions": ones.astype(jnp.int32),
        "rewards": ones,
        "discounts": ones,
        "valid": ones,
        "behaviour_log_probs": -ones,
        "observations": jnp.ones((STEPS + 1, BATCH, 4)),
        "starts": jnp.zeros((STEPS + 1, BATCH), bool),
        "recurrent_state": (),
    }
    return Trajectory(**values | fields)


def make_ends(ended) -> EpisodeEnds:
    """Returns and lengths count up over steps and environments."""
    count = jnp.arange(STEPS * BATCH).reshape(STEPS, BATCH)
    ended = jnp.asarray(ended, bool)
    return EpisodeEnds(ended, returns=count * 10.0, lengths=count, physics_errors=ended)


NO_ENDS = make_ends(np.zeros((STEPS, BATCH)))


def after(*metrics, trajectory=None, transitions=NO_ENDS) -> IntervalStatistics:
    interval, add = EMPTY, jax.jit(IntervalStatistics.add)
    for entry in metrics:
        interval = add(interval, entry, trajectory or make_trajectory(), transitions)
    return interval


def test_sums_extremes_and_the_latest():
    interval = after(make_metrics(3.0), make_metrics(-5.0), make_metrics(1.0))
    assert int(interval.updates) == 3
    assert int(interval.skipped) == int(interval.episodes) == 0
    assert float(interval.means["kl"]) == -1.0
    np.testing.assert_array_equal(interval.means["entropy"], [-1.0, 2.0])
    np.testing.assert_array_equal(interval.lows["value_min"], [-5.0, -4.0])
    np.testing.assert_array_equal(interval.highs["value_max"], [3.0, 4.0])
    np.testing.assert_array_equal(interval.latest["gamma"], [1.0, 2.0])


def test_skipped_updates_are_counted_and_left_out_of_the_means():
    skipped = make_metrics(np.nan, skipped=True)
    interval = after(make_metrics(3.0), skipped, make_metrics(1.0), skipped)
    assert int(interval.updates) == 4
    assert int(interval.skipped) == 2
    for name in SCALARS:
        assert float(interval.means[name]) == 4.0, name


def test_only_episodes_that_end_count():
    ended = np.zeros((STEPS, BATCH), bool)
    ended[0, 1] = ended[2, 0] = True  # numbers 1 and 4
    interval = after(make_metrics(0.0), make_metrics(0.0), transitions=make_ends(ended))
    assert int(interval.episodes) == 4
    assert float(interval.return_sum) == 2 * (10.0 + 40.0)
    assert float(interval.length_sum) == 2 * (1 + 4)
    assert int(interval.physics_errors) == 4


def test_a_broken_return_of_an_episode_that_goes_on_does_not_count():
    transitions = NO_ENDS._replace(returns=jnp.full((STEPS, BATCH), jnp.nan))
    assert float(after(make_metrics(0.0), transitions=transitions).return_sum) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_rewards_and_observations_are_counted(bad):
    good = make_trajectory()
    trajectory = make_trajectory(
        rewards=good.rewards.at[1, 0].set(bad), observations=good.observations.at[2, :, 3].set(bad)
    )
    interval = after(make_metrics(0.0), make_metrics(0.0), trajectory=trajectory)
    assert int(interval.bad_rewards) == 2 * 1
    assert int(interval.bad_observations) == 2 * 2


def test_whole_numbers_are_never_bad():
    trajectory = make_trajectory(observations=jnp.ones((STEPS + 1, BATCH, 4), jnp.uint8))
    assert int(after(make_metrics(0.0), trajectory=trajectory).bad_observations) == 0


def test_an_interval_keeps_its_types():
    """The program's loop carries it."""
    interval = after(make_metrics(0.0))
    for leaf, empty in zip(jax.tree.leaves(interval), jax.tree.leaves(EMPTY), strict=True):
        assert (leaf.shape, leaf.dtype) == (empty.shape, empty.dtype)

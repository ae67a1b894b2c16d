"""Rollouts, updates and their order: the same whatever the chunks, and each seed by itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runtimes import (
    RECURRENT,
    SEED,
    TUNED,
    Case,
    assert_close,
    assert_same_bits,
    differ,
    lane,
    make_runtime,
)
from support import Walk

from stacx.agents import METAPARAMETERS
from stacx.core.distributions import Categorical
from stacx.runtimes.on_device import OnDeviceRuntime, TrainState
from stacx.types import Box, MultiDiscrete


@pytest.fixture(scope="module", params=["tuned", "recurrent"])
def case(request) -> Case:
    return request.getfixturevalue(request.param)


def test_the_same_bits_whatever_the_chunks(case):
    whole = case.after(7)
    assert int(whole.iteration[0]) == int(whole.interval.updates[0]) == 7
    for chunks in ((3, 4), (1,) * 7, (0, 7, 0)):
        assert_same_bits(case.after(*chunks), whole)
    assert differ(case.after(6).learner, whole.learner)


def test_a_state_restored_from_its_arrays_goes_on_the_same(case):
    """As after a checkpoint: nothing is remembered outside of the state."""
    halfway = jax.tree.map(np.asarray, case.after(3))
    assert_same_bits(case.after(4, start=halfway), case.after(7))


def test_the_abstract_state_is_that_of_a_state(case):
    state, abstract = case.after(1), case.runtime.abstract_state()
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        for name in ("shape", "dtype", "sharding"):
            assert getattr(leaf, name) == getattr(other, name)


def test_everything_moves(tuned):
    before, after = tuned.start, tuned.after(7)
    for name in ("parameters", "optimiser", "logits", "meta_optimiser"):
        assert differ(getattr(before.learner, name), getattr(after.learner, name)), name


def test_clearing_the_interval_clears_nothing_else(tuned):
    state = tuned.after(3)
    cleared = tuned.runtime.clear_interval(tuned.copy(state))
    assert_same_bits(cleared.interval, tuned.start.interval)
    assert_same_bits(eqx.tree_at(lambda s: s.interval, cleared, state.interval), state)


SEEDS = 2


@pytest.fixture(scope="module", params=[True, False])
def side_by_side(request) -> Case:
    """One after the other, as on a CPU, or as the batch that they are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnDeviceRuntime, "_one_by_one", request.param)
        case = Case(RECURRENT | {"num_seeds": SEEDS})
        case.after(1)  # traces it
    return case


def test_seeds_that_are_a_batch_reset_only_where_one_ended(monkeypatch):
    monkeypatch.setattr(OnDeviceRuntime, "_one_by_one", False)
    runtime = make_runtime(num_seeds=SEEDS)
    start, few = runtime.abstract_state(), np.int32(1)
    assert " cond[" in str(jax.make_jaxpr(runtime._run_chunk)(start, few))
    monkeypatch.setattr(OnDeviceRuntime, "_batch_axis", None)
    assert " cond[" not in str(jax.make_jaxpr(runtime._run_chunk)(start, few))


def test_seeds_side_by_side_are_single_runs(side_by_side, recurrent):
    together = side_by_side.after(7)
    np.testing.assert_array_equal(together.seed, [SEED, SEED + 1])
    for index in range(SEEDS):
        alone = recurrent.after(7, start=lane(side_by_side.start, index))
        assert_close(lane(together, index), alone)


def test_the_first_seed_starts_as_a_single_run_does(side_by_side, recurrent):
    assert_close(lane(side_by_side.start, 0), recurrent.start)


def test_seeds_differ_from_start_to_end(side_by_side):
    for state in (side_by_side.start, side_by_side.after(7)):
        one, other = (lane(state, index) for index in range(SEEDS))
        for name in ("learner", "environments"):
            assert differ(getattr(one, name), getattr(other, name)), name


def test_seeds_draw_different_actions(recurrent):
    other = eqx.tree_at(lambda s: s.seed, recurrent.start, recurrent.start.seed + 1)
    assert differ(*(recurrent.rollout(state)[2].actions for state in (recurrent.start, other)))


def test_every_iteration_draws_anew(recurrent):
    """The same parameters in the same states, at another iteration."""
    later = eqx.tree_at(lambda s: s.iteration, recurrent.start, recurrent.start.iteration + 1)
    assert differ(*(recurrent.rollout(state)[2].actions for state in (recurrent.start, later)))


def position_and_time(observations):
    return observations[..., :7].argmax(-1) - 3, np.rint(observations[..., 7] * 5)


def test_a_trajectory_is_what_happened(case):
    """Every transition follows from the walk's rules, the dummy ones included."""
    _, _, trajectory, transitions = case.rollout(case.after(2))
    position, time = position_and_time(np.asarray(trajectory.observations))
    ends = (np.abs(position) >= 3) | (time >= 5)
    valid = ~ends[:-1]
    moved = position[:-1] + np.asarray(trajectory.actions) - 1
    assert 0 < ends[:-1].sum() < ends[:-1].size
    np.testing.assert_array_equal(trajectory.valid, valid)
    np.testing.assert_array_equal(trajectory.starts[1:], ends[:-1])
    np.testing.assert_array_equal(position[1:][valid], moved[valid])
    np.testing.assert_array_equal(time[1:], np.where(valid, time[:-1] + 1, 0))
    np.testing.assert_array_equal(trajectory.rewards, np.where(valid, np.abs(moved), 0))
    np.testing.assert_array_equal(trajectory.discounts, ~(valid & (np.abs(moved) >= 3)))
    np.testing.assert_array_equal(transitions.ended, valid & ends[1:])


def test_trajectories_follow_each_other(case):
    """The next one begins where this one ended."""
    last, recurrent_state, trajectory, _ = case.rollout(case.start)
    _, _, following, _ = case.rollout(case.after(1))
    np.testing.assert_array_equal(trajectory.observations[-1], following.observations[0])
    np.testing.assert_array_equal(trajectory.starts[-1], following.starts[0])
    np.testing.assert_array_equal(last.observations, following.observations[0])
    assert_close(recurrent_state, following.recurrent_state)
    assert trajectory.starts[0].all()


def test_log_probabilities_are_those_of_the_network_along_the_trajectory(case):
    """Act step by step, or unroll from the first recurrent state: the same policy."""
    state, network = case.after(2), case.runtime.network
    _, _, trajectory, _ = case.rollout(state)
    parameters = jax.tree.map(lambda leaf: leaf[0], state.learner.parameters)
    output, _ = jax.jit(network.unroll)(
        parameters, trajectory.observations, trajectory.starts, trajectory.recurrent_state
    )
    policy = Categorical(output.policy[:-1, :, 0])
    assert_close(policy.log_prob(trajectory.actions), trajectory.behaviour_log_probs)
    assert trajectory.starts[1:].any()
    assert np.ptp(trajectory.behaviour_log_probs) > 0.01
    assert set(np.unique(trajectory.actions)) == {0, 1, 2}


def test_on_policy_data_has_importance_weights_of_1(case):
    weights = case.after(1).interval.highs["importance_max"][0]
    assert weights[0] == pytest.approx(1.0, abs=1e-5)
    if len(weights) > 1:
        assert abs(weights[1] - 1.0) > 1e-4  # an auxiliary head is off-policy


def test_interval_statistics_are_those_of_the_updates(tuned):
    """Iteration by iteration in NumPy, from the trajectories and the metrics of each update."""
    iterations, learner = 4, tuned.runtime.learner
    update = jax.jit(learner.update)
    metrics, transitions, state = [], [], tuned.start
    for _ in range(iterations):
        *_, trajectory, transition = tuned.rollout(state)
        one = jax.tree.map(lambda leaf: leaf[0], state.learner)
        metrics.append(update(one, trajectory)[1]._asdict())
        transitions.append(transition)
        state = tuned.after(1, start=state)
    interval = lane(state, 0).interval
    ended, returns, lengths = (
        np.stack([getattr(transition, name) for transition in transitions])
        for name in ("ended", "returns", "lengths")
    )
    assert interval.updates == iterations
    assert interval.episodes == ended.sum() > 0
    assert_close(interval.return_sum[0], returns[ended].sum())
    assert_close(interval.length_sum[0], lengths[ended].sum())
    assert interval.skipped == interval.bad_observations == interval.bad_rewards == 0

    def gathered(name, gather):
        return gather([entry[name] for entry in metrics], axis=0)

    for name, value in interval.means.items():
        assert_close(value[0], gathered(name, np.sum))
    assert_close(interval.lows["value_min"][0], gathered("value_min", np.min))
    for name in ("value_max", "importance_max"):
        assert_close(interval.highs[name][0], gathered(name, np.max))
    assert set(interval.latest) == set(METAPARAMETERS)
    for name, value in interval.latest.items():
        assert_close(value[0], metrics[-1]["metaparameters"][name])


def broken(state: TrainState) -> TrainState:
    """With parameters of which every gradient is not a number."""
    spoilt = jax.tree.map(lambda leaf: leaf * jnp.nan, state.learner.parameters)
    return eqx.tree_at(lambda s: s.learner.parameters, state, spoilt)


def test_it_stops_when_too_many_updates_in_a_row_are_skipped(case):
    """After three, as the config says; a further chunk does nothing more."""
    start = broken(case.start)
    stopped = case.after(10, start=start)
    assert int(stopped.iteration[0]) == int(stopped.interval.skipped[0]) == 3
    assert int(stopped.learner.skipped_in_a_row[0]) == 3
    assert_same_bits(case.after(10, start=stopped), stopped)
    assert_same_bits(case.after(2, 8, start=start), stopped)


def test_a_skipped_update_between_others_does_not_stop_it(tuned):
    """Two in a row are allowed, however often."""
    state = tuned.after(2, start=broken(tuned.start))
    parameters = tuned.start.learner.parameters
    state = eqx.tree_at(lambda s: s.learner.parameters, state, parameters)
    state = tuned.after(5, start=state)
    assert int(state.iteration[0]) == 7
    assert int(state.interval.skipped[0]) == 2
    assert int(state.learner.skipped_in_a_row[0]) == 0


class TwoWalks(Walk):
    """A walk whose step is the difference of two choices."""

    action_space = MultiDiscrete((3, 2))

    def step(self, key, state, action):
        return super().step(key, state, action[0] - action[1])


def test_actions_of_two_choices():
    """Head 1 is on-policy, and the environment is given what the trajectory says."""
    case = Case(TUNED, TwoWalks())
    _, _, trajectory, _ = case.rollout(case.start)
    actions = np.asarray(trajectory.actions)
    assert actions.shape == (*trajectory.rewards.shape, 2)
    np.testing.assert_array_equal(actions.max(axis=(0, 1)), [2, 1])
    position, _ = position_and_time(np.asarray(trajectory.observations))
    valid = np.asarray(trajectory.valid, bool)
    moved = position[:-1] + actions[..., 0] - actions[..., 1] - 1
    np.testing.assert_array_equal(position[1:][valid], moved[valid])

    after = case.after(1)
    weights = after.interval.highs["importance_max"][0]
    assert weights[0] == pytest.approx(1.0, abs=1e-5)
    assert int(after.interval.skipped[0]) == 0
    assert differ(case.start.learner.parameters, after.learner.parameters)
    assert case.runtime.policy_specification()["action_sizes"] == [3, 2]


class Slope(Walk):
    """A walk whose steps are numbers between -2 and 1, and whose observation is its position."""

    action_space = Box((-2.0,), (1.0,))

    def reset(self, key):
        state = (jax.random.uniform(key), jnp.int32(0))
        return state, self.observe(state)

    def step(self, key, state, action):
        return super().step(key, state, action[0] + 1)

    def observe(self, state):
        return jnp.zeros(8).at[0].set(state[0]).at[7].set(state[1] / 5)


def test_actions_that_are_numbers():
    """The trajectory keeps what is sampled; the environment is given its tanh, within bounds."""
    case = Case(TUNED, Slope())
    _, _, trajectory, _ = case.rollout(case.start)
    actions = np.asarray(trajectory.actions)
    assert actions.shape == (*trajectory.rewards.shape, 1)
    assert np.ptp(actions) > 0.1
    position = np.asarray(trajectory.observations)[..., 0]
    valid = np.asarray(trajectory.valid, bool)
    moved = position[:-1] + -2 + 3 * (np.tanh(actions[..., 0]) + 1) / 2
    np.testing.assert_allclose(position[1:][valid], moved[valid], rtol=1e-5, atol=1e-6)

    after = case.after(1)
    weights = after.interval.highs["importance_max"][0]
    assert weights[0] == pytest.approx(1.0, abs=1e-4)
    assert int(after.interval.skipped[0]) == 0
    assert differ(case.start.learner.parameters, after.learner.parameters)
    specification = case.runtime.policy_specification()
    assert (specification["action_low"], specification["action_high"]) == ([-2.0], [1.0])


def test_what_a_policy_must_know(tuned):
    assert tuned.runtime.policy_specification() == {
        "observation_shape": [8],
        "observation_dtype": "float32",
        "num_actions": 3,
    }

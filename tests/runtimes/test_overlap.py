"""Overlapping trajectories are windows on what others would say, in both runtimes."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from small_actors import PATIENCE, STEPS, Acting, Supervision, as_numpy, closed, plain_loop
from small_runtimes import RECURRENT, Case, assert_close
from small_runtimes import STEPS as LENGTH

from stacx.config import Config
from stacx.core.distributions import distribution
from stacx.core.parts import inner_and_outer
from stacx.runtimes.exchange import Exchange

STANDING = {"learning_rate": 1e-30, "end_learning_rate": 0.0}
"""Parameters that updates do not move: every step of a window was taken by the same policy."""
OF_STEPS = ("actions", "rewards", "discounts", "valid", "behaviour_log_probs")


@pytest.fixture(scope="module", params=[2, 4], ids=lambda overlap: f"overlap {overlap} of {LENGTH}")
def windows(request):
    """An on-device runtime, and its first trajectories."""
    case = Case(RECURRENT | STANDING | {"overlap": request.param})
    states = [case.start]
    for _ in range(6):
        states.append(case.after(1, start=states[-1]))
    return case, states, [case.rollout(state)[2] for state in states[:-1]]


def test_each_window_goes_on_where_the_last_one_left_off(windows):
    case, _, trajectories = windows
    new = case.runtime.config.new_steps
    for one, following in itertools.pairwise(trajectories):
        for name in OF_STEPS:
            shared = getattr(following, name)[:-new]
            np.testing.assert_array_equal(shared, getattr(one, name)[new:], err_msg=name)
        for name in ("observations", "starts"):
            shared = getattr(following, name)[:-new]
            np.testing.assert_array_equal(shared, getattr(one, name)[new:], err_msg=name)


def test_the_next_batch_is_what_the_inner_loss_has_after_it(windows):
    """Xu et al. 2018: with as many outer steps as new ones, the outer loss is one batch ahead.

    As far as trajectories overlap.
    """
    case, _, trajectories = windows
    new = case.runtime.config.new_steps
    shared = min(new, case.runtime.config.overlap)
    config = dataclasses.replace(case.runtime.config, tune="gamma", outer_steps=new, burn_in=0)
    parameters = jax.tree.map(lambda leaf: leaf[0], case.start.learner.parameters)
    for one, following in itertools.pairwise(trajectories):
        _, outer = inner_and_outer(case.runtime.network, parameters, one, config)
        inner, _ = inner_and_outer(case.runtime.network, parameters, following, config)
        for name in OF_STEPS:
            ahead, after = getattr(outer, name)[-shared:], getattr(inner, name)[-shared:]
            assert len(ahead) == shared
            np.testing.assert_array_equal(ahead, after, err_msg=name)


def test_new_steps_are_those_of_a_run_without_overlap(windows):
    """With trajectories as short as a window's new part, and the same seed."""
    case, _, trajectories = windows
    new = case.runtime.config.new_steps
    plain = Case(RECURRENT | STANDING | {"trajectory_length": new})
    state = plain.start
    for trajectory in trajectories:
        alone = plain.rollout(state)[2]
        for name in (*OF_STEPS, "observations", "starts"):
            last = getattr(trajectory, name)[-len(getattr(alone, name)) :]
            assert_close(last, getattr(alone, name))
        state = plain.after(1, start=state)


def test_nothing_before_the_first_step_is_valid(windows):
    case, _, trajectories = windows
    overlap = case.runtime.config.overlap
    first = trajectories[0]
    assert not first.valid[:overlap].any()
    assert first.valid[overlap:].any()
    assert first.starts[overlap].all()
    assert not first.starts[:overlap].any()


def test_memory_at_a_window_s_start_leads_to_its_policy(windows):
    """Unrolled from the state stored with it, a window is as probable as when it was sampled."""
    case, states, trajectories = windows
    parameters = jax.tree.map(lambda leaf: leaf[0], states[0].learner.parameters)
    unroll = jax.jit(case.runtime.network.unroll)
    for trajectory in trajectories:
        data = trajectory.observations, trajectory.starts, trajectory.recurrent_state
        output, _ = unroll(parameters, *data)
        policy = distribution(
            case.runtime.network.action_space, output.policy[:-1, :, 0], case.runtime.config
        )
        valid = np.asarray(trajectory.valid, bool)
        assert_close(
            policy.log_prob(trajectory.actions)[valid], trajectory.behaviour_log_probs[valid]
        )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(trajectories[-1].recurrent_state)) > 0


def test_steps_are_counted_once(windows):
    case, states, _ = windows
    config = case.runtime.config
    assert config.batch_steps == config.new_steps * config.num_envs
    assert int(states[-1].iteration[0]) == 6
    lengths = np.asarray(states[-1].interval.length_sum)
    assert 0 < lengths <= 6 * config.batch_steps


def rollouts(acting, count):
    exchange, taken = Exchange(1, lag=0), []
    actor = acting.start(exchange, Supervision())
    for number in range(count):
        exchange.publish(number, {jax.devices()[0]: acting.parameters(number)})
        taken.append(as_numpy(exchange.get(number, PATIENCE).rollout))
    assert closed(exchange, actor)
    return taken


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_an_actor_s_windows_are_those_of_a_plain_loop(overlap):
    """With other parameters every time; before the first step there is nothing valid."""
    acting, count = Acting(overlap=overlap), 6
    steps, last, state = [], [], None
    for start, new, seen in plain_loop(acting, range(count)):
        state = start if state is None else state
        steps.append(new)
        last.append(seen)
    for number, rollout in enumerate(rollouts(acting, count)):
        past = [step for new in steps[: number + 1] for step in new][-STEPS:]
        trajectory = rollout.trajectory
        missing = STEPS - len(past)
        assert not trajectory.valid[:missing].any()
        assert not trajectory.starts[:missing].any()
        observations, starts, actions, log_probs, states, transitions = zip(*past, strict=True)
        seen = last[number]
        np.testing.assert_array_equal(
            trajectory.observations[missing:], np.stack([*observations, seen[0]])
        )
        np.testing.assert_array_equal(trajectory.starts[missing:], np.stack([*starts, seen[1]]))
        np.testing.assert_array_equal(trajectory.actions[missing:], np.stack(actions))
        assert_close(trajectory.behaviour_log_probs[missing:], np.stack(log_probs))
        assert_close(trajectory.recurrent_state, states[0] if not missing else state)
        for name in ("rewards", "discounts", "valid"):
            wanted = np.stack([getattr(transition, name) for transition in transitions])
            np.testing.assert_array_equal(getattr(trajectory, name)[missing:], wanted)
        for name in ("ended", "returns", "lengths"):
            wanted = np.stack([getattr(step[-1], name) for step in steps[number]])
            np.testing.assert_array_equal(getattr(rollout.ends, name), wanted)


def test_the_paper_s_windows():
    """Table 3, control: n = 40 with an overlap of 30, so that one starts every 10 steps."""
    config = Config(env="dmc:walker-walk")
    assert (config.trajectory_length, config.overlap, config.new_steps) == (40, 30, 10)
    assert config.batch_steps == 10 * 24
    assert config.total_updates == 125_000

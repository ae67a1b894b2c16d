"""An actor's trajectories are those of a plain loop, and what goes wrong in its environments."""

import dataclasses
import multiprocessing
import threading
import time

import jax
import numpy as np
import pytest
from host_games import Faulty, Pictures
from small_actors import BATCH, PATIENCE, Acting, Supervision, as_numpy, closed, plain_loop
from small_runtimes import assert_close
from support import quick_jit

from stacx.core.distributions import Categorical
from stacx.environments import HostVector
from stacx.environments.patience import stack_of
from stacx.errors import BrokenEnvironmentError
from stacx.runtimes.exchange import Exchange


@pytest.fixture(scope="module")
def acting():
    return Acting()


def rollouts(acting, versions, supervisor=None, *, number=0, stride=1):
    """The rollouts that an actor makes with the parameters of these versions, one after another."""
    exchange, taken = Exchange(1, lag=0), []
    actor = acting.start(exchange, supervisor or Supervision(), number=number, stride=stride)
    for place, version in enumerate(versions):
        n = number + place * stride  # with lag 0, trajectory n is made with what is called n
        exchange.publish(n, {jax.devices()[0]: acting.parameters(version)})
        delivery = exchange.get(n, PATIENCE)
        assert delivery.version == n
        taken.append(delivery.rollout)
    assert closed(exchange, actor)
    return [as_numpy(rollout) for rollout in taken]


def assert_is(rollout, start, steps, last):
    """A rollout holds what the loop has noted."""
    trajectory = rollout.trajectory
    observations, starts, actions, log_probs, _, transitions = zip(*steps, strict=True)
    np.testing.assert_array_equal(trajectory.observations, np.stack([*observations, last[0]]))
    np.testing.assert_array_equal(trajectory.starts, np.stack([*starts, last[1]]))
    np.testing.assert_array_equal(trajectory.actions, np.stack(actions))
    assert_close(trajectory.behaviour_log_probs, np.stack(log_probs))
    assert_close(trajectory.recurrent_state, start)
    for name in ("rewards", "discounts", "valid"):
        wanted = np.stack([getattr(transition, name) for transition in transitions])
        np.testing.assert_array_equal(getattr(trajectory, name), wanted)
    for name in ("ended", "returns", "lengths"):
        wanted = np.stack([getattr(transition, name) for transition in transitions])
        np.testing.assert_array_equal(getattr(rollout.ends, name), wanted)


def test_rollouts_are_those_of_a_plain_loop(acting):
    """With other parameters each, the second of two actors: trajectories 3, 5 and 7."""
    taken = rollouts(acting, (1, 2, 3), number=3, stride=2)
    wanted = plain_loop(acting, (1, 2, 3), number=3, stride=2)
    for rollout, noted in zip(taken, wanted, strict=True):
        assert_is(rollout, *noted)
    trajectories = [rollout.trajectory for rollout in taken]
    assert sum(trajectory.starts[1:].sum() for trajectory in trajectories) >= 3
    assert len({trajectory.actions.tobytes() for trajectory in trajectories}) == 3


def test_memory_is_carried_across_trajectories_and_reset_inside(acting):
    """Unrolled from its first recurrent state, a trajectory leads to that of the next one."""

    @quick_jit
    def unroll(parameters, trajectory, starts):
        """The log-probabilities of a trajectory's actions, and the recurrent state before x_T."""
        acted = jax.tree.map(lambda x: x[:-1], (trajectory.observations, starts))
        output, state = acting.network.unroll(parameters, *acted, trajectory.recurrent_state)
        return Categorical(output.policy[:, :, 0]).log_prob(trajectory.actions), state

    one, other = (rollout.trajectory for rollout in rollouts(acting, (1, 1)))
    parameters = acting.parameters(1)
    assert_close(one.recurrent_state, acting.network.initial_state(BATCH))
    log_probs, state = unroll(parameters, one, one.starts)
    assert_close(log_probs, one.behaviour_log_probs)
    assert_close(state, other.recurrent_state)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(state)) > 0.01

    log_probs, _ = unroll(parameters, other, other.starts)
    assert_close(log_probs, other.behaviour_log_probs)
    log_probs, _ = unroll(parameters, other, np.zeros_like(other.starts))
    assert np.abs(log_probs - other.behaviour_log_probs).max() > 1e-3


def test_the_abstract_rollout_is_that_of_a_rollout(acting):
    (rollout,) = rollouts(acting, (1,))
    abstract = acting.inference.abstract_rollout()
    assert jax.tree.structure(rollout) == jax.tree.structure(abstract)
    for leaf, other in zip(jax.tree.leaves(rollout), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)


def test_pictures_stay_bytes():
    acting, seen = Acting(Pictures), []
    program = acting.inference._compiled_act

    def act(*arguments):
        seen.append(arguments[-2])
        return program(*arguments)

    acting.inference._compiled_act = act
    (rollout,) = rollouts(acting, (1,))
    assert rollout.trajectory.observations.dtype == np.uint8
    assert {observations.dtype for observations in seen} == {np.dtype(np.uint8)}
    assert 70 <= rollout.trajectory.observations[..., 0, 0, 0].min() <= 130
    assert acting.inference.abstract_rollout().trajectory.observations.dtype == np.uint8


def faulty(acting, fault, **arguments):
    """The same programs on environments in which something goes wrong."""
    return Acting(Faulty, acting.inference, fault=fault, **arguments)


@pytest.mark.parametrize(("fault", "says"), [("error", "RuntimeError"), ("quit", "SystemExit: 0")])
def test_after_an_error_all_episodes_begin_anew(acting, tmp_path, fault, says):
    """One environment raises in step 4 of trajectory 0: a dummy transition for the whole batch."""
    supervisor = Supervision()
    broken = faulty(acting, fault, once=str(tmp_path / "done"))
    one, other = rollouts(broken, (1, 1), supervisor)
    trajectory = one.trajectory
    ((reason, details),) = supervisor.reasons
    assert reason.startswith("host_games:Faulty: environment 0 raised " + says)
    assert reason.endswith(" in step")
    assert "\n" not in reason
    assert "in outcome\n" in details
    assert supervisor.seeds == 2

    np.testing.assert_array_equal(trajectory.valid[3], 0.0)
    np.testing.assert_array_equal(trajectory.rewards[3], 0.0)
    np.testing.assert_array_equal(trajectory.discounts[3], 1.0)
    assert not one.ends.ended[3].any()
    assert trajectory.starts[4].all()
    assert not trajectory.starts[3].all()
    vector = HostVector(acting.environment, BATCH)
    vector.reset(seed=1007)
    np.testing.assert_array_equal(trajectory.observations[4], vector.observations)
    np.testing.assert_array_equal(other.trajectory.observations[0], vector.observations)
    assert other.trajectory.valid[0].all()
    np.testing.assert_array_equal(other.ends.lengths[0], 1)


def end_of(acting, supervisor):
    """What an actor closes the exchange with."""
    exchange = Exchange(1000)
    acting.publish(exchange, 0)
    actor = acting.start(exchange, supervisor)
    actor.join(PATIENCE)
    assert not actor.is_alive()
    with pytest.raises((BrokenEnvironmentError, RuntimeError, ArithmeticError)) as caught:
        exchange.get(0, 0.0)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "place", "says"),
    [
        ("nan", "step", "returned observations that are not finite: environment 0 of 3 returned "),
        ("nan_reward", "step", "returned rewards that are not finite: environment 0 of 3 returned"),
        ("wrong_shape", "step", ": environment 0 returned an observation of shape [2], not [3]"),
        ("wrong_shape", "reset", ": environment 0 returned an observation of shape [2], not [3]"),
    ],
)
def test_what_no_environment_may_return_ends_an_actor(acting, fault, place, says):
    supervisor = Supervision()
    error = end_of(faulty(acting, fault, place=place), supervisor)
    assert isinstance(error, BrokenEnvironmentError)
    assert says in str(error)
    assert supervisor.reasons == []


def test_a_supervisor_ends_an_actor(acting):
    """Environments raise again after they were restarted, until that is too often."""
    supervisor = Supervision(most=2)
    assert str(end_of(faulty(acting, "error"), supervisor)) == "too many"
    assert len(supervisor.reasons) == 3


def test_any_other_error_ends_an_actor(acting, monkeypatch):
    def act(*_):
        raise ZeroDivisionError("in the program")

    monkeypatch.setattr(acting.inference, "_compiled_act", act)
    error = end_of(acting, Supervision())
    assert isinstance(error, ZeroDivisionError)


def test_an_actor_that_hangs_can_be_given_up(acting):
    """It ends without a word when its environments return."""
    exchange, supervisor = Exchange(1, lag=0), Supervision()
    broken = faulty(acting, "hang", seconds=1.0)
    broken.publish(exchange, 0)
    actor = broken.start(exchange, supervisor)
    deadline = time.monotonic() + PATIENCE
    while actor.busy_seconds < 0.3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stack = actor.give_up_if_busy(0.3)
    assert "in hang\n" in stack
    assert "time.sleep(0.05)" in stack
    actor.join(PATIENCE)
    assert actor.abandoned
    assert not actor.is_alive()
    assert exchange.get(0, 0.01) is None
    assert supervisor.reasons == []
    assert actor not in threading.enumerate()


def test_no_process_is_left_of_environments_that_hang_while_they_are_made(acting, tmp_path):
    once = tmp_path / "once"
    broken = faulty(acting, "hang", place="worker", once=str(once))
    broken.config = dataclasses.replace(broken.config, vectorization="async")
    actor = broken.start(Exchange(1), Supervision())
    deadline = time.monotonic() + PATIENCE
    while not (once.exists() and ", in _check_spaces\n" in stack_of(actor)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert multiprocessing.active_children()
    assert actor.give_up_if_busy(0.0)
    actor.join(PATIENCE)
    assert not actor.is_alive()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("owner", [HostVector, Faulty])
def test_no_process_is_left_of_an_actor_given_up_before_there_were_any(acting, monkeypatch, owner):
    """Before there was a batch, or while it makes an environment of its own, for its spaces."""
    broken = faulty(acting, "hang", place="worker")
    broken.config = dataclasses.replace(broken.config, vectorization="async")
    init, given_up = owner.__init__, threading.Event()

    def make(self, *arguments, **options):
        given_up.wait(PATIENCE)
        init(self, *arguments, **options)

    monkeypatch.setattr(owner, "__init__", make)
    actor = broken.start(Exchange(1), Supervision())
    deadline = time.monotonic() + PATIENCE
    while actor.give_up_if_busy(0.0) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    given_up.set()
    actor.join(PATIENCE)
    assert not actor.is_alive()
    assert not multiprocessing.active_children()


def test_an_actor_that_has_left_its_environments_is_not_given_up(acting, monkeypatch):
    """Another one would make the trajectory that it is about to hand over, a second time."""
    exchange, handed_over = Exchange(1), []
    acting.publish(exchange, 0)
    put = exchange.put

    def noted(number, delivery):
        handed_over.append(number)
        put(number, delivery)

    monkeypatch.setattr(exchange, "put", noted)
    actor = acting.start(exchange, Supervision())
    deadline = time.monotonic() + PATIENCE
    while len(handed_over) < 2:  # the second one has to wait
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert actor.give_up_if_busy(0.0) is None
    assert not actor.abandoned
    for _ in range(3):
        assert exchange.get(0, PATIENCE) is not None
    assert closed(exchange, actor)
    assert handed_over[:3] == [0, 1, 2]


def test_an_actor_cannot_leave_its_environments_while_it_is_given_up(acting, monkeypatch):
    """They answer in the moment after it was found to be busy."""
    exchange, answered = Exchange(1), threading.Event()
    acting.publish(exchange, 0)
    step = HostVector.step

    def slow(vector, actions):
        answered.wait(PATIENCE)
        return step(vector, actions)

    monkeypatch.setattr(HostVector, "step", slow)
    actor = acting.start(exchange, Supervision())
    abandon = actor.abandon

    def late():
        answered.set()
        time.sleep(0.2)
        return abandon()

    monkeypatch.setattr(actor, "abandon", late)
    deadline = time.monotonic() + PATIENCE
    while (stack := actor.give_up_if_busy(0.3)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "in step\n" in stack or "in _in_environments\n" in stack
    actor.join(PATIENCE)
    assert not actor.is_alive()
    assert exchange.size == 0

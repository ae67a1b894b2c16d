"""The pump asks, joins, drops and replaces as it should, whatever actors do; Ray is played."""

import dataclasses
import random
import time
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_actors import Acting

from stacx.config import Config
from stacx.errors import BrokenEnvironmentError, StacxError
from stacx.runtimes import ray_pool
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.ray_actor import Failed, Made
from stacx.runtimes.ray_cluster import RayCluster
from stacx.runtimes.ray_crew import said
from stacx.runtimes.ray_pool import RayPool, batch_of, default_max_lag
from stacx.runtimes.supervision import Supervision

SECONDS = {f"time/actor_{name}": 1.0 for name in ("environment", "inference", "waiting")}


class PlayedActor:
    """An actor whose answers the test gives."""

    def __init__(self, config, index, stride):
        self.config, self.index, self.stride, self.dead = config, index, stride, False
        self.calls = []
        for name in ("prepare", "roll_out", "answer"):
            setattr(self, name, SimpleNamespace(remote=self._method(name)))

    def _method(self, name):
        def call(*arguments):
            future = Future()
            self.calls.append((name, arguments, future))
            return SimpleNamespace(future=lambda: future)

        return call

    def pending(self, name):
        return [
            (args, future)
            for called, args, future in self.calls
            if called == name and not future.done()
        ]


class PlayedRay:
    """Of Ray what the pool uses."""

    exceptions = ray.exceptions

    def __init__(self):
        self.actors, self.stored, self.options_given = [], [], []

    def remote(self, _):
        return self

    def options(self, **options):
        self.options_given.append(options)

        def remote(*arguments):
            self.actors.append(PlayedActor(*arguments))
            return self.actors[-1]

        return SimpleNamespace(remote=remote)

    def put(self, value):
        self.stored.append(value)
        return SimpleNamespace(place=len(self.stored) - 1)

    def kill(self, handle):
        handle.dead = True

    def is_initialized(self):
        return True


def rollout_of(number):
    """What fits into the batch of these tests, and can be told from others."""
    return np.full((2, 1), number)


class PlayedCluster(RayCluster):
    def store_bytes(self):
        return 5

    def close(self):
        pass


class Played:
    """A pool of actors that a test plays, without its thread."""

    def __init__(self, *, queue_size=1, parts=1, room=0, **given):
        self.ray = PlayedRay()
        cluster = object.__new__(PlayedCluster)
        cluster.ray, cluster.actor_options = self.ray, {}
        self.config = Config(
            env="gym:CartPole-v1",
            actors="ray",
            num_envs=parts,
            queue_size=queue_size,
            actor_envs=1,
            **given,
        )
        self.supervision = Supervision(self.config)
        self.pool = RayPool(self.config, cluster, self.supervision, lambda x: x, parts)
        self.pool._begin = lambda: None
        self.exchange = Exchange(queue_size + room)
        self.pool.start(self.exchange, 0)
        self.updates = 0
        self.publish()
        self.turn()

    def publish(self):
        self.pool.publish(self.updates, {"weights": jnp.full(3, self.updates)})

    def turn(self):
        """Until nothing happens any more."""
        while True:
            while not self.pool._arrived.empty():
                self.pool._turn()
            self.pool._look_around(ray_pool.time.monotonic())
            self.pool._ask()
            if self.pool._arrived.empty():
                return

    def actor(self, index):
        """The one that is in this place now."""
        return [actor for actor in self.ray.actors if actor.index == index][-1]

    def answer(self, index, name, value=None):
        ((arguments, future),) = self.actor(index).pending(name)
        if isinstance(value, BaseException):
            future.set_exception(value)
        else:
            future.set_result(value)
        self.turn()
        return arguments

    def begin(self, *indices):
        for index in indices:
            self.answer(index, "prepare", "10.0.0.1")

    def make(self, index):
        """Has an actor deliver; returns the number, seed and reference it was given."""
        ((arguments, future),) = self.actor(index).pending("roll_out")
        future.set_result(Made(rollout_of(arguments[0]), SECONDS))
        self.turn()
        return arguments

    def is_asked(self, index):
        return len(self.actor(index).pending("roll_out")) == 1


@pytest.fixture(autouse=True)
def batches_are_lists_of_numbers(monkeypatch):
    monkeypatch.setattr(ray_pool, "batch_of", lambda rollouts: [int(r.flat[0]) for r in rollouts])


def test_actors_are_asked_as_they_are_ready_and_numbers_are_never_twice():
    played = Played(num_actors=3, queue_size=9)
    assert not played.is_asked(0)
    played.begin(0, 2)
    assert [played.is_asked(index) for index in range(3)] == [True, False, True]
    numbers = [played.make(index)[0] for index in (0, 2, 0, 0, 2)]
    played.begin(1)
    numbers += [played.make(1)[0] for _ in range(2)]
    assert numbers == [0, 2, 3, 6, 5, 1, 4]
    delivered = [played.exchange.get(0, 0.0).rollout for _ in range(7)]
    assert delivered == [[number] for number in numbers]


def test_what_actors_are_made_with():
    played = Played(num_actors=2, actor_cpus=0.5)
    options = played.ray.options_given[0]
    assert (options["num_cpus"], options["scheduling_strategy"]) == (0.5, "SPREAD")
    config = played.actor(0).config
    assert (config.num_envs, config.actor_envs) == (1, 0)
    assert played.actor(1).stride == 2


def test_parameters_are_stored_once_a_version_and_the_newest_are_given():
    played = Played(num_actors=2, queue_size=9)
    played.begin(0, 1)
    assert len(played.ray.stored) == 1
    assert played.make(0)[2].place == 0
    assert len(played.ray.stored) == 1  # nothing new to store
    played.updates = 1
    played.publish()
    played.make(0)
    ((arguments, _),) = played.actor(0).pending("roll_out")
    assert arguments[2].place == 1
    np.testing.assert_array_equal(played.ray.stored[1]["weights"], np.full(3, 1))
    assert isinstance(played.ray.stored[1]["weights"], np.ndarray)
    for version in (2, 3, 4):  # in which nobody asks
        played.updates = version
        played.publish()
    assert len(played.ray.stored) == 2


def test_parts_are_joined_to_batches_whose_version_is_the_oldest():
    played = Played(num_actors=3, parts=2, queue_size=9)
    played.begin(0, 1, 2)
    played.make(0)
    assert played.exchange.get(0, 0.0) is None
    played.updates = 1
    played.publish()
    played.make(0)
    delivery = played.exchange.get(0, 0.0)
    assert (delivery.rollout, delivery.version) == ([0, 3], 0)
    played.updates = 2
    played.publish()
    played.make(0)  # asked for with version 1, and the next with 2
    played.make(0)
    delivery = played.exchange.get(0, 0.0)
    assert (delivery.rollout, delivery.version) == ([6, 9], 1)


def test_a_batch_is_its_parts_side_by_side():
    acting = Acting()
    one = jax.tree.map(
        lambda leaf: np.arange(leaf.size).astype(leaf.dtype).reshape(leaf.shape),
        acting.inference.abstract_rollout(),
    )
    assert batch_of([one]) is one
    two = batch_of([one, jax.tree.map(lambda x: (x + 1).astype(x.dtype), one)])
    for leaf, wanted in zip(
        *map(jax.tree.leaves, (two, acting.inference.abstract_rollout(6))), strict=True
    ):
        assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)
    trajectory = two.trajectory
    np.testing.assert_array_equal(trajectory.rewards[:, :3], one.trajectory.rewards)
    np.testing.assert_array_equal(trajectory.rewards[:, 3:], one.trajectory.rewards + 1)
    states, before = map(
        jax.tree.leaves, (trajectory.recurrent_state, one.trajectory.recurrent_state)
    )
    for state, part in zip(states, before, strict=True):
        np.testing.assert_array_equal(state, np.concatenate([part, part + 1]))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    actors=st.integers(1, 7),
    parts=st.integers(1, 3),
    queue=st.integers(1, 3),
    bound=st.integers(3, 9),
)
def test_nothing_is_older_than_allowed_and_all_that_is_dropped_is_counted(
    seed, actors, parts, queue, bound
):
    """Actors and the learner do what they can in any order, some actors seldom.

    A batch for which there is no room waits in the pump, as if the queue had one place more.
    """
    dice = random.Random(seed)
    played = Played(
        num_actors=actors, parts=parts, queue_size=queue, max_lag=max(bound, queue + 2), room=1
    )
    played.begin(*range(actors))
    slow = [dice.random() ** 2 for _ in range(actors)]
    made, learned, taken = {}, 0, None
    for _ in range(150):
        index = dice.randrange(actors)
        blocked = played.exchange.size > queue
        if not blocked and dice.random() < slow[index] and played.is_asked(index):
            number, _, reference = played.make(index)
            made[number] = int(played.ray.stored[reference.place]["weights"][0])
        elif taken is None:
            taken = played.exchange.get(0, 0.0)
        else:
            lags = [played.updates - made[number] for number in taken.rollout]
            assert max(lags) == played.updates - taken.version <= played.pool._max_lag
            learned, taken = learned + len(lags), None
            played.updates += 1
            played.publish()
            played.turn()
    kept = (
        len(played.pool._parts) + played.exchange.size * parts + len(taken.rollout if taken else ())
    )
    assert len(made) == learned + kept + played.pool.counts["dropped_rollouts"]
    assert played.pool._crew.at_work == sum(played.is_asked(index) for index in range(actors))


def test_no_more_is_asked_for_than_the_bound_allows():
    """Three updates: what is learned, one that waits, and one that is made."""
    played = Played(num_actors=9, max_lag=3)
    played.begin(*range(9))
    assert sum(map(played.is_asked, range(9))) == 2
    played.make(0)
    assert sum(map(played.is_asked, range(9))) == 1  # and one waits in the queue
    played.exchange.get(0, 0.0)
    played.updates = 1
    played.publish()
    played.turn()
    assert sum(map(played.is_asked, range(9))) == 2


def test_by_default_the_bound_lets_all_actors_work():
    config = Config(env="gym:CartPole-v1", actors="ray", num_actors=50, queue_size=2)
    assert default_max_lag(config, 1) == 108
    assert default_max_lag(config, 4) == 34
    played = Played(num_actors=50, parts=4, queue_size=2)
    played.begin(*range(50))
    assert all(map(played.is_asked, range(50)))


def died():
    return ray.exceptions.ActorDiedError()


def test_an_actor_that_dies_is_replaced_at_once_and_then_later_each_time(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=2)
    played.begin(0, 1)
    played.make(1)
    pauses = []
    for _ in range(8):
        before, start = len(played.ray.actors), now[0]
        kind = "roll_out" if played.actor(0).pending("roll_out") else "prepare"
        played.answer(0, kind, died())
        while len(played.ray.actors) == before:
            now[0] += 0.5
            played.turn()
        pauses.append(now[0] - start)
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    assert played.pool.counts["actor_replacements"] == 8
    assert all(
        actor.dead
        for actor in played.ray.actors
        if actor.index == 0 and actor is not played.actor(0)
    )
    assert played.pool.metrics()["actors"] == 1
    played.begin(0)
    played.exchange.get(0, 0.0)
    played.make(0)
    assert played.pool.metrics()["actors"] == 2
    played.answer(0, "roll_out", died())
    played.turn()
    assert not played.actor(0).dead  # once it has delivered, the next is there at once


def test_who_is_lost_is_said_but_not_for_each(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=5)
    played.begin(*range(5))
    played.make(0)
    for index in range(5):
        played.answer(index, "roll_out", died())
    now[0] += 11
    played.turn()
    messages = [message for message, _ in played.supervision._warnings]
    assert [m.partition(":")[0] for m in messages] == ["lost, to be replaced"] * 2
    assert "actor 0 on node 10.0.0.1: ActorDiedError" in messages[0]
    assert messages[1].endswith("(and 3 more)")
    assert not any(is_restart for _, is_restart in played.supervision._warnings)


def test_actors_that_find_no_room_are_spoken_of_once(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=3)
    played.begin(0, 1)
    said_so_far = played.supervision._warnings
    for seconds, count in ((29, 0), (2, 1), (300, 1)):
        now[0] += seconds
        played.turn()
        assert len(said_so_far) == count
    assert said_so_far[0][0].startswith("2 of 3 remote actors are in service; the others begin, ")
    played.begin(2)
    now[0] += 1
    played.turn()
    played.answer(2, "roll_out", died())
    now[0] += 31
    played.turn()
    assert [message[:6] for message, _ in said_so_far][1:] == ["lost, ", "2 of 3"]


def test_what_a_dead_actor_answers_late_is_not_taken():
    played = Played(num_actors=1, env_timeout=5.0)
    played.begin(0)
    old = played.actor(0)
    ((arguments, future),) = old.pending("roll_out")
    crew = played.pool._crew
    crew.lose(crew.places[0], died())
    played.turn()
    future.set_result(Made(rollout_of(arguments[0]), SECONDS))
    played.turn()
    assert played.exchange.size == 0
    played.begin(0)
    assert played.make(0)[0] == arguments[0]  # the same rollout, by another


def test_actors_that_die_before_any_has_delivered_end_the_run(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=2)
    for _ in range(3):
        played.answer(0, "prepare", died())
        now[0] += 60
        played.turn()
    with pytest.raises(StacxError, match=r"actor 0: ActorDiedError.*4 times, before any"):
        played.answer(0, "prepare", died())


def test_environments_that_fail_are_counted_and_begin_with_another_seed():
    played = Played(num_actors=2, max_env_restarts=1)
    played.begin(0, 1)
    before = played.answer(0, "roll_out", Failed("it broke", "trace", hangs=False))
    ((after, _),) = played.actor(0).pending("roll_out")
    assert after[0] == before[0]  # the number of what was not made
    assert after[1] != before[1]
    assert not played.actor(0).dead
    with pytest.warns(
        match=r"it broke \(actor 0 on node 10.0.0.1\); its batch is restarted \(1 of"
    ):
        played.supervision.give_warnings()
    with pytest.raises(
        BrokenEnvironmentError, match="one more than --max-env-restarts 1"
    ) as caught:
        played.answer(1, "roll_out", Failed("it broke", "trace", hangs=False))
    assert caught.value.details == "trace"


def test_an_actor_that_hangs_in_its_environments_is_replaced_as_a_process():
    played = Played(num_actors=1)
    played.begin(0)
    hanging = played.actor(0)
    played.answer(0, "roll_out", Failed("no answer", "stack", hangs=True))
    played.turn()
    assert hanging.dead
    assert played.actor(0) is not hanging
    assert played.pool.counts["actor_replacements"] == 0  # a restart of environments, no death


def test_an_actor_that_is_stuck_as_a_whole_is_replaced(monkeypatch):
    """One that is only slow answers, and is left to its work."""
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=2, env_timeout=10.0)
    played.begin(0, 1)
    slow, stuck = played.actor(0), played.actor(1)
    for _ in range(5):
        now[0] += 10.5
        played.turn()
        if slow.pending("answer"):
            played.answer(0, "answer")
    assert not slow.dead
    assert stuck.dead
    assert played.pool.counts["actor_replacements"] == 1


def test_an_actor_that_dies_while_it_waits_is_not_asked_twice_afterwards(monkeypatch):
    """It was late, has delivered, may not be asked for more yet, and then its answer is missing."""
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=3, max_lag=3, env_timeout=10.0)
    played.begin(0, 1, 2)
    now[0] += 11
    played.turn()
    late = next(index for index in range(3) if played.actor(index).pending("answer"))
    played.make(late)
    assert not played.is_asked(late)
    played.answer(late, "answer", died())
    played.turn()
    assert played.pool._crew.places[late] not in played.pool._idle
    played.begin(late)
    played.exchange.get(0, 0.0)
    played.updates = 1
    played.publish()
    for index in range(3):
        if played.is_asked(index):
            played.make(index)
            played.exchange.get(0, 0.0)
    assert all(len(played.actor(index).pending("roll_out")) <= 1 for index in range(3))


def test_what_ray_says_of_an_actor_that_cannot_be_made_is_its_reason():
    text = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::A\x1b[39m\n"
        "  File x\nModuleNotFoundError: No module named 'stacx'\n"
    )
    error = ray.exceptions.ActorDiedError.__new__(ray.exceptions.ActorDiedError)
    error.error_msg = error.base_error_msg = text
    assert said(error) == "ActorDiedError: ModuleNotFoundError: No module named 'stacx'"
    assert said(ray.exceptions.ObjectStoreFullError("full.\nof it")).endswith(": full")
    assert said(TimeoutError()) == "TimeoutError"


def test_an_actor_whose_rollout_waits_to_be_looked_at_is_not_stuck(monkeypatch):
    """The pump waits for a slow learner, for longer than environments may take."""
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=1, env_timeout=10.0)
    played.begin(0)
    ((arguments, future),) = played.actor(0).pending("roll_out")
    now[0] += 9
    future.set_result(Made(rollout_of(arguments[0]), SECONDS))
    for _ in range(4):
        now[0] += 11
        played.pool._look_around(now[0])
        for _, question in played.actor(0).pending("answer"):
            question.set_result(None)
    assert not played.actor(0).dead
    played.turn()
    assert played.exchange.get(0, 0.0).rollout == [0]
    assert played.pool.counts["actor_replacements"] == 0


def test_a_run_without_actors_ends_after_a_while(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=3, actor_timeout=30.0, min_actors=2)
    played.begin(0)
    now[0] += 29
    played.pool.look_after()
    now[0] += 2
    with pytest.raises(StacxError, match="1 of at least 2 remote actors are in service, for 30 s"):
        played.pool.look_after()
    played.begin(1)
    played.pool.look_after()
    now[0] += 100
    played.pool.look_after()
    played.answer(1, "roll_out", died())
    now[0] += 29
    played.pool.look_after()
    now[0] += 2
    with pytest.raises(StacxError, match="1 of at least 2"):
        played.pool.look_after()


def task_error(cause):
    return ray.exceptions.RayTaskError("roll_out", "trace", cause).as_instanceof_cause()


def test_what_a_node_lacks_ends_a_run_that_begins_but_not_one_under_way():
    played = Played(num_actors=2)
    lacking = StacxError("actor 0 on node 10.0.0.2: no package")
    with pytest.raises(StacxError, match="no package") as caught:
        played.answer(0, "prepare", task_error(lacking))
    assert caught.value is lacking
    played = Played(num_actors=2)
    played.begin(1)
    played.make(1)
    played.answer(0, "prepare", task_error(lacking))
    assert played.pool.counts["actor_replacements"] == 1


def test_errors_of_an_actor_end_the_run_but_a_full_store_does_not():
    played = Played(num_actors=1)
    played.begin(0)
    played.answer(0, "roll_out", task_error(ray.exceptions.ObjectStoreFullError("full")))
    assert played.pool.counts["actor_replacements"] == 1
    played.begin(0)
    with pytest.raises(
        StacxError, match=r"actor 0 on node 10\.0\.0\.1: ZeroDivisionError: of ours"
    ):
        played.answer(0, "roll_out", task_error(ZeroDivisionError("of ours")))


def test_metrics_are_of_the_time_since_the_last_line(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: now[0])
    played = Played(num_actors=2, queue_size=9)
    played.begin(0, 1)
    played.make(0), played.make(1)
    now[0] += 4
    metrics = played.pool.metrics()
    steps = played.config.new_steps  # of one environment each
    assert metrics == {
        "actors": 2,
        "actor_steps_per_second": 2 * steps / 4,
        "object_store_bytes": 5,
    }
    now[0] += 4
    assert played.pool.metrics()["actor_steps_per_second"] == 0.0
    assert [watch.read() for watch in played.pool.watches] == [SECONDS, SECONDS]


def test_the_thread_ends_with_the_exchange_and_tells_it_of_errors():
    played = Played(num_actors=1)
    del played.pool._begin
    pool = played.pool
    played.exchange = Exchange(1)
    pool.start(played.exchange, 0)
    deadline = time.monotonic() + 30
    while len(played.ray.actors) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ((_, future),) = played.actor(0).pending("prepare")
    future.set_exception(task_error(StacxError("no package")))
    with pytest.raises(StacxError, match="no package"):
        played.exchange.get(0, 30.0)
    pool.close()
    assert all(actor.dead for actor in played.ray.actors[1:])


def test_no_actor_is_started_any_more_while_all_are_ended():
    """The thread may be in the middle of that, if it takes long."""
    played = Played(num_actors=3)
    played.begin(0)
    before = len(played.ray.actors)
    played.pool.close()
    assert all(actor.dead for actor in played.ray.actors)
    played.pool._look_around(ray_pool.time.monotonic())
    assert len(played.ray.actors) == before


def test_hosts_share_no_numbers(monkeypatch):
    numbers = Counter()
    for host in range(2):
        monkeypatch.setattr(ray_pool.jax, "process_count", lambda: 2)
        monkeypatch.setattr(ray_pool.jax, "process_index", lambda host=host: host)
        played = Played(num_actors=3, queue_size=9)
        played.begin(0, 1, 2)
        numbers.update(played.make(index)[0] for index in (0, 1, 2, 0, 1, 2))
    assert sorted(numbers) == list(range(12))
    assert set(numbers.values()) == {1}


def test_a_config_is_refused_that_remote_actors_cannot_follow():
    config = Config(env="gym:CartPole-v1", actors="ray")
    for settings_given, says in [
        ({"max_lag": 2}, r"--max-lag must be 0, or at least 3 \(2 more than --queue-size\), not 2"),
        ({"actor_envs": 3}, "--actor-envs 3 must divide --num-envs 16"),
        ({"min_actors": 9}, "--min-actors 9 must be at most --num-actors 1"),
        ({"deterministic": True}, "--deterministic needs --actors threads"),
        ({"actor_devices": (0,)}, "--actor-devices has no effect with --actors ray"),
        ({"env": "__main__:make"}, "__main__:make cannot be found by remote actors"),
        ({"ray_env": "[]"}, "--ray-env must be a JSON object"),
        ({"actor_cpus": 0.0}, "--actor-cpus must be positive"),
        ({"actors": "threads", "max_lag": 9}, "--max-lag has no effect without --actors ray"),
    ]:
        with pytest.raises(StacxError, match=says):
            dataclasses.replace(config, **settings_given)

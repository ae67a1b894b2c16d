"""Actors and a learner together: every update is the learner's own, and the lag is as said."""

import dataclasses
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_games import Corridor, environment_of
from small_runtimes import assert_close, assert_same_bits, differ
from support import message_of, quick_jit

from stacx.config import Config
from stacx.errors import BrokenEnvironmentError, ConfigError, TrainingWarning
from stacx.runtimes import actor_learner, devices
from stacx.runtimes.actor import Delivery
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.randomness import iteration_key, start_key
from stacx.runtimes.supervision import Supervision

SETTINGS = {
    "agent": "stac",
    "tune": "gamma",
    "steps": 400,
    "seed": 5,
    "num_envs": 2,
    "trajectory_length": 4,
    "mlp_widths": (4,),
    "lstm_size": 3,
}


def make_runtime(function=Corridor, arguments=None, **settings) -> ActorLearnerRuntime:
    environment = environment_of(function, **arguments or {})
    return ActorLearnerRuntime(Config(env=environment.env, **SETTINGS | settings), environment)


def never():
    return False


class Recorded:
    """What a runtime's learner got and gave, update by update."""

    def __init__(self, runtime, updates):
        self.deliveries, self.states, self.published = [], [], []
        state = runtime.init()
        self.start = jax.tree.map(np.array, state)
        runtime.prepare(state)
        publish = runtime._exchange.publish

        def note(version, parameters):
            self.published.append((version, parameters))
            publish(version, parameters)

        runtime._exchange.publish = note
        update = runtime._compiled_update

        def noted(state, rollout):
            self.deliveries.append(jax.tree.map(np.array, rollout))
            state, parameters = update(state, rollout)
            self.states.append(jax.tree.map(np.array, state))
            return state, parameters

        runtime._compiled_update = noted
        self.end = runtime.run(state, updates, never)
        (self.line,) = runtime.complete([{"env_steps": 0, "episode_return": None}])
        self.farewell = runtime.farewell()


@pytest.fixture(scope="module")
def recorded():
    runtime = make_runtime(deterministic=True, num_actors=2)
    recorded = Recorded(runtime, 6)
    runtime.close()
    recorded.runtime = runtime
    return recorded


def one(state):
    return jax.tree.map(lambda leaf: leaf[0], state)


def test_every_update_is_the_learners_own(recorded):
    @quick_jit
    def update(state, rollout):
        learner, metrics = recorded.runtime.learner.update(state.learner, rollout.trajectory)
        return learner, state.interval.add(metrics, rollout.trajectory, rollout.ends)

    befores = [recorded.start, *recorded.states]
    for before, rollout, after in zip(befores, recorded.deliveries, recorded.states, strict=False):
        learner, interval = update(one(before), rollout)
        assert_close(learner, one(after).learner)
        assert_close(interval, one(after).interval)
    assert [int(state.iteration[0]) for state in recorded.states] == [1, 2, 3, 4, 5, 6]
    assert differ(recorded.start.learner.parameters, recorded.states[-1].learner.parameters)


def test_what_is_published_are_the_updated_parameters(recorded):
    """Also after the learner has reused its memory."""
    assert [version for version, _ in recorded.published] == [1, 2, 3, 4, 5, 6]
    for (_, parameters), state in zip(recorded.published, recorded.states, strict=True):
        assert_same_bits(
            jax.tree.map(np.asarray, parameters[jax.devices()[0]]), one(state).learner.parameters
        )


@pytest.mark.parametrize("seed", [0, 5])
def test_the_start_and_every_trajectory_have_randomness_of_their_own(recorded, seed):
    keys = [start_key(jnp.int32(seed)), *(iteration_key(jnp.int32(seed), i) for i in jnp.arange(9))]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == 10
    init = quick_jit(recorded.runtime.learner.init)
    state = one(make_runtime(seed=seed).init())
    assert_close(state.learner, init(keys[0]))
    assert all(differ(state.learner.parameters, init(key).parameters) for key in keys[1:])


def test_two_actors_see_different_episodes(recorded):
    hues = {rollout.trajectory.observations[0, 0, 2].item() for rollout in recorded.deliveries[:2]}
    assert len(hues) == 2
    first, second, third = (rollout.trajectory for rollout in recorded.deliveries[:3])
    np.testing.assert_array_equal(first.observations[-1], third.observations[0])
    assert first.starts[0].all()
    assert second.starts[0].all()


def test_a_fixed_lag_is_as_many_updates_as_there_are_actors(recorded):
    """Lags of the first six: 0, 1, 2, 2, 2, 2."""
    assert recorded.line["lag_max"] == 2
    assert recorded.line["lag_mean"] == pytest.approx(9 / 6)
    assert recorded.line["environment_restarts"] == 0


def test_time_is_broken_down(recorded):
    shares = {k: v for k, v in recorded.line.items() if k.startswith("time/")}
    assert set(shares) == {
        "time/learner_learning",
        "time/learner_saving",
        "time/learner_waiting",
        "time/actor_environment",
        "time/actor_inference",
        "time/actor_waiting",
    }
    assert all(0.0 <= share <= 1.0 for share in shares.values())
    for kind in ("learner", "actor"):
        assert sum(v for k, v in shares.items() if kind in k) <= 1.001
    assert shares["time/learner_learning"] > 0
    time, sentence = recorded.farewell
    assert time.startswith("time: learner learning ")
    assert sentence == "the run was too short to tell what held it up"


def test_a_longer_run_tells_what_held_it_up(monkeypatch):
    monkeypatch.setattr(actor_learner, "_TELLING", 0.0)
    runtime = make_runtime()
    sentence = Recorded(runtime, 1).farewell[1]
    runtime.close()
    assert " is the bottleneck: " in sentence or " are in balance: " in sentence


def test_the_abstract_state_is_that_of_a_state(recorded):
    abstract = recorded.runtime.abstract_state()
    assert jax.tree.structure(abstract) == jax.tree.structure(recorded.end)
    for leaf, other in zip(jax.tree.leaves(recorded.end), jax.tree.leaves(abstract), strict=True):
        for name in ("shape", "dtype", "sharding"):
            assert getattr(leaf, name) == getattr(other, name)


def test_clearing_the_interval_clears_nothing_else(recorded):
    cleared = recorded.runtime.clear_interval(recorded.end)
    assert_same_bits(cleared.interval, recorded.start.interval)
    assert_same_bits(
        eqx.tree_at(lambda s: s.interval, cleared, recorded.end.interval), recorded.end
    )


def test_what_a_policy_must_know(recorded):
    assert recorded.runtime.policy_specification() == {
        "observation_shape": [3],
        "observation_dtype": "float32",
        "num_actions": 3,
    }


def copy(runtime, state):
    """A state that the runtime may take the memory of."""
    put = lambda leaf, abstract: jax.device_put(np.array(leaf), abstract.sharding)  # noqa: E731
    return jax.tree.map(put, state, runtime.abstract_state())


def test_the_policy_lag_is_counted_in_updates(recorded, monkeypatch):
    """Versions 6, 6 and 5 are 0, 1 and 3 updates old when it is their turn."""
    runtime, versions = recorded.runtime, iter((6, 6, 5))
    monkeypatch.setattr(runtime, "_updates", 6)
    monkeypatch.setattr(
        runtime, "_next_delivery", lambda _: Delivery(recorded.deliveries[0], next(versions))
    )
    runtime.run(copy(runtime, recorded.states[-1]), 3, never)
    for mean, most in ((4 / 3, 3), (0.0, 0)):  # then a new interval begins
        (line,) = runtime.complete([{"env_steps": 0, "episode_return": None}])
        assert (line["lag_mean"], line["lag_max"]) == (pytest.approx(mean), most)


def test_it_stops_when_it_is_asked_to(recorded, monkeypatch):
    """Although there would be more to learn from."""
    runtime, asked = recorded.runtime, iter((False, False, True))
    monkeypatch.setattr(runtime._exchange, "get", lambda *_: Delivery(recorded.deliveries[0], 0))
    state = runtime.run(copy(runtime, recorded.start), 9, lambda: next(asked))
    assert int(state.iteration[0]) == 2


def test_once_asked_to_stop_it_does_not_mind_errors(recorded, monkeypatch):
    """What ended the environments may be the same signal."""
    runtime, asked = recorded.runtime, []

    def get(*_):
        asked.append(True)
        raise BrokenEnvironmentError("gone")

    monkeypatch.setattr(runtime._exchange, "get", get)
    state = runtime.run(copy(runtime, recorded.start), 9, lambda: bool(asked))
    assert int(state.iteration[0]) == 0
    with pytest.raises(BrokenEnvironmentError, match="gone"):
        runtime.run(state, 9, never)


def test_restarts_are_warned_of_unless_it_is_asked_to_stop(recorded, monkeypatch):
    """Actors count them in threads of their own."""
    runtime, asked = recorded.runtime, []
    supervision = Supervision(runtime.config)
    monkeypatch.setattr(runtime, "_supervision", supervision)

    def get(*_):
        supervision.count_restart("gone", "")
        asked.append(True)
        return Delivery(recorded.deliveries[0], 0) if len(asked) == 2 else None

    monkeypatch.setattr(runtime._exchange, "get", get)
    state = runtime.run(copy(runtime, recorded.start), 1, lambda: bool(asked))
    assert int(state.iteration[0]) == 0
    supervision._warnings.clear()
    with pytest.warns(TrainingWarning) as caught:
        runtime.run(state, 1, never)
    assert [str(warning.message) for warning in caught] == [
        "gone; its batch is restarted (2 of at most 3 times)"
    ]


def test_it_stops_when_too_many_updates_in_a_row_are_skipped(recorded, monkeypatch):
    runtime = recorded.runtime
    rollout = recorded.deliveries[0]
    spoilt = eqx.tree_at(lambda r: r.trajectory.rewards, rollout, replace_fn=lambda x: x * np.nan)
    monkeypatch.setattr(
        runtime, "config", dataclasses.replace(runtime.config, max_skipped_updates=3)
    )
    monkeypatch.setattr(runtime, "_next_delivery", lambda _: Delivery(spoilt, 0))
    state = runtime.run(copy(runtime, recorded.start), 9, never)
    assert int(state.iteration[0]) == int(state.learner.skipped_in_a_row[0]) == 3


def seeds_of(runtime, actors):
    return [runtime._supervision.next_seed(actor) for actor in actors]


def test_seeds_of_environments_do_not_depend_on_who_asks_first():
    """Each actor has its own, each batch of it another, and a resumed run others again."""
    runtime = make_runtime(num_actors=2)
    one, other = make_runtime(num_actors=2), make_runtime(num_actors=2)
    first, second, again = seeds_of(one, (0, 1, 0))
    assert seeds_of(other, (1, 0, 0)) == [second, first, again]
    resumed = make_runtime(num_actors=2)
    resumed._supervision.first_update = 7
    other_seed = make_runtime(num_actors=2, seed=6)
    seeds = [seed for each in (runtime, resumed, other_seed) for seed in seeds_of(each, (0, 0, 1))]
    assert len(set(seeds)) == len(seeds)


def test_actors_wait_when_the_queue_is_full():
    """The learner takes nothing: two trajectories wait, and each actor holds another."""
    runtime = make_runtime(num_actors=2, queue_size=2)
    runtime.prepare(runtime.init())
    try:
        deadline = time.monotonic() + 60
        while runtime._exchange.size < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        assert runtime._exchange.size == 2
        assert sum(actor.number // 2 for actor in runtime._pool.actors) == 2
    finally:
        runtime.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_seeds": 2}, "--num-seeds must be 1 for host_games:Corridor, whose environments st"),
        ({"actor_devices": (0, 1)}, "--actor-devices 0 1: there is only device 0, each to be nam"),
        ({"learner_devices": (3,)}, "--learner-devices 3: there is only device 0, each to be nam"),
        ({"actor_devices": (0, 0)}, "--actor-devices 0 0: there is only device 0, each to be nam"),
    ],
)
def test_what_cannot_be_run_is_refused(settings, says):
    with pytest.raises(ConfigError) as caught:
        make_runtime(**settings)
    assert message_of(caught).startswith(says)


def test_parts_of_a_batch_must_fit_into_that_of_a_host(monkeypatch):
    """Before anything of Ray is started."""
    monkeypatch.setattr(actor_learner, "own_part", lambda count: range(count // 2))
    monkeypatch.setattr(devices, "own_part", lambda count: range(count // 2))
    with pytest.raises(
        ConfigError, match="--actor-envs 4 must divide the 2 environments of each h"
    ):
        make_runtime(actors="ray", num_envs=4, actor_envs=4)

"""What remote actors make is what a thread makes; without Ray, in this process."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from host_games import Faulty
from small_actors import BATCH, PATIENCE, STEPS, Acting, Supervision, as_numpy, closed

from stacx.environments import HostEnvironment
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.inference import Rollout
from stacx.runtimes.ray_actor import Failed, Made, RemoteActor, as_one_actor

SEED = 7
"""Of environments: the first that the supervision of the tests gives."""


def actor_of(acting, *, index=0, stride=1, **settings):
    actor = RemoteActor(dataclasses.replace(acting.config, **settings), index, stride)
    actor._environment, actor._inference = acting.environment, acting.inference
    return actor


@pytest.fixture(scope="module")
def acting():
    return Acting()


def test_its_rollouts_are_those_of_a_thread(acting):
    """Also their continuation: the second goes on where the first ended."""
    exchange, taken = Exchange(1, lag=0), []
    thread = acting.start(exchange, Supervision(), number=3, stride=2)
    actor = actor_of(acting, stride=2)
    for number, version in ((3, 1), (5, 2)):
        parameters = acting.parameters(version)
        exchange.publish(number, {jax.devices()[0]: parameters})
        wanted = exchange.get(number, PATIENCE).rollout
        made = actor.roll_out(number, SEED, as_numpy(parameters))
        assert isinstance(made, Made)
        taken.append(made.rollout)
        leaves = jax.tree.leaves(made.rollout)
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
        for leaf, other in zip(leaves, jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(leaf, other, strict=True)
    assert closed(exchange, thread)
    assert closed(actor._exchange, actor._actor)
    first, second = (rollout.trajectory for rollout in taken)
    np.testing.assert_array_equal(first.observations[-1], second.observations[0])


def test_it_tells_where_its_time_went_since_the_last_rollout(acting):
    actor = actor_of(acting)
    reports = [actor.roll_out(n, SEED, acting.parameters(0)).seconds for n in range(3)]
    assert closed(actor._exchange, actor._actor)
    totals = actor._actor.stopwatch.read()
    assert all(value > 0 for report in reports for value in report.values())
    for name in ("time/actor_environment", "time/actor_inference"):
        assert sum(report[name] for report in reports) == pytest.approx(totals[name], abs=1e-3)


def test_environments_that_raise_are_reported_and_others_made(acting, tmp_path):
    """With the next seed; the first fails in its fourth step, and once only."""
    acting = Acting(Faulty, fault="error", once=str(tmp_path / "once"))
    actor = actor_of(acting)
    outcome = [actor.roll_out(n, SEED, acting.parameters(0)) for n in range(1)]
    assert isinstance(outcome[0], Failed)
    assert not outcome[0].hangs
    assert "raised RuntimeError: the simulator broke" in outcome[0].reason
    assert "Traceback" in outcome[0].details
    again = actor.roll_out(0, SEED + 1, acting.parameters(0))
    assert isinstance(again, Made)
    fresh = actor_of(Acting()).roll_out(0, SEED + 1, acting.parameters(0))
    for leaf, other in zip(*map(jax.tree.leaves, (again.rollout, fresh.rollout)), strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_environments_that_hang_are_reported_with_their_stack(acting, tmp_path):
    acting = Acting(Faulty, fault="hang", once=str(tmp_path / "once"), seconds=30.0)
    acting.inference = Acting().inference  # compiled beforehand, below
    warm = actor_of(Acting(inference=acting.inference))
    warm.roll_out(0, SEED, acting.parameters(0))
    actor = actor_of(acting, env_timeout=0.5)
    outcome = actor.roll_out(0, SEED, acting.parameters(0))
    assert isinstance(outcome, Failed)
    assert outcome.hangs
    assert outcome.reason == "host_games:Faulty has not answered for 0.5 s (--env-timeout)"
    assert "in hang" in outcome.details


def test_environments_that_cannot_be_used_end_the_run(acting):
    acting = Acting(Faulty, fault="nan")
    actor = actor_of(acting)
    with pytest.raises(BrokenEnvironmentError, match="observations that are not finite"):
        actor.roll_out(0, SEED, acting.parameters(0))


def test_it_makes_its_environments_and_programs_itself(acting):
    """From nothing but the config."""
    config = dataclasses.replace(acting.config, env="host_games:Corridor", env_args="{}")
    actor = RemoteActor(config, 0, 1)
    assert actor.prepare().count(".") == 3
    assert isinstance(actor._environment, HostEnvironment)
    made = actor.roll_out(0, SEED, acting.parameters(0))
    wanted = actor_of(acting).roll_out(0, SEED, acting.parameters(0))
    for leaf, other in zip(*map(jax.tree.leaves, (made.rollout, wanted.rollout)), strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert made.rollout.trajectory.rewards.shape == (STEPS, BATCH)
    assert isinstance(made.rollout, Rollout)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"env": "host_games:Nothing"}, "module 'host_games' has no function 'Nothing'"),
        ({"env_args": json.dumps({"no": 1})}, "got an unexpected keyword argument 'no'"),
    ],
)
def test_what_a_node_lacks_is_said_with_its_address(acting, settings, says):
    config = dataclasses.replace(acting.config, **{"env": "host_games:Corridor", **settings})
    with pytest.raises(ConfigError) as caught:
        RemoteActor(config, 3, 1).prepare()
    message = str(caught.value)
    assert message.startswith("actor 3 on node ")
    assert says in message


def test_an_actor_of_a_few_environments_has_a_config_of_its_own(acting):
    config = dataclasses.replace(
        acting.config, env="gym:CartPole-v1", num_envs=8, actors="ray", actor_envs=2
    )
    own = as_one_actor(config, 2)
    assert (own.num_envs, own.actor_envs) == (2, 0)
    assert own.differences(config) == ["num_envs"]

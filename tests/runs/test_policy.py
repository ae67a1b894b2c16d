"""A trained policy is used elsewhere, without any code of the run."""

import pickle
import shutil
import subprocess
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import message_of
from tiny_runs import TWO_SEEDS, change_config, final_arrays, newest_checkpoint, spoil, tiny_config

import stacx
from stacx.networks import ActorCriticNetwork
from stacx.runs import CheckpointWarning
from stacx.runs.checkpoints import Checkpoints
from stacx.runtimes.arrays import flatten
from stacx.types import Discrete, MultiDiscrete

SHAPE = (10, 5)


def observations(batch):
    """Boards of Catch, one-hot: each has a ball and a paddle."""
    rng = np.random.default_rng(batch)
    boards = np.zeros((batch, *SHAPE), np.float32)
    boards[np.arange(batch), rng.integers(9, size=batch), rng.integers(5, size=batch)] = 1
    boards[np.arange(batch), 9, rng.integers(5, size=batch)] = 1
    return boards


@pytest.fixture
def policy(tiny_run):
    """Feed-forward; its last layer is enlarged, so that its actions differ."""
    return sharpened(stacx.load(tiny_run().directory))


@pytest.fixture
def recurrent_policy(tiny_run):
    return sharpened(stacx.load(tiny_run(**TWO_SEEDS).directory))


def sharpened(policy):
    policy.parameters = jax.tree.map(lambda leaf: 30 * leaf, policy.parameters)
    return policy


def test_a_batch_is_its_observations_one_by_one(policy):
    boards = observations(20)
    actions, state = policy.act(boards)
    assert state is None
    assert actions.shape == (20,)
    assert jnp.issubdtype(actions.dtype, jnp.integer)
    assert len(set(actions.tolist())) > 1
    singles = [policy.act(board)[0] for board in boards]
    assert all(action.shape == () for action in singles)
    assert [int(action) for action in singles] == actions.tolist()


def test_actions_are_what_gymnasium_takes(policy):
    """Its spaces check types; inside a transformation they stay JAX's."""
    single, batch = policy.act(observations(1)[0])[0], policy.act(observations(3))[0]
    assert gymnasium.spaces.Discrete(3).contains(single)
    assert gymnasium.spaces.MultiDiscrete([3, 3, 3], dtype=np.int32).contains(batch)
    inside = jax.jit(lambda board: policy.act(board)[0])(observations(1)[0])
    assert int(inside) == single


def test_without_a_key_the_most_probable_action_is_taken(policy):
    boards = observations(5)
    greedy = policy.act(boards)[0]
    sampled = np.array([policy.act(boards, None, jax.random.key(i))[0] for i in range(200)])
    assert len(np.unique(sampled)) == policy.num_actions
    counts = np.stack([np.bincount(column, minlength=3) for column in sampled.T])
    np.testing.assert_array_equal(np.argmax(counts, axis=1), greedy)


def test_a_key_decides_the_sample(policy):
    boards, key = observations(50), jax.random.key(4)
    first, second = (policy.act(boards, None, key)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(policy.act(boards, None, jax.random.key(5))[0]) != first).any()


def test_memory_is_threaded_through_the_calls(recurrent_policy):
    boards = observations(6)
    _, state = recurrent_policy.act(boards)
    assert jax.tree.map(jnp.shape, state) == ((6, 4), (6, 4))
    _, later = recurrent_policy.act(boards, state)
    assert not np.array_equal(later[0], state[0])
    _, fresh = recurrent_policy.act(boards, None)
    np.testing.assert_array_equal(fresh[0], state[0])


def test_one_observation_has_memory_too(recurrent_policy):
    boards, state, states = observations(3), None, None
    for board in boards:
        action, state = recurrent_policy.act(board, state)
        actions, states = recurrent_policy.act(board[None], states)
        assert action.shape == ()
        assert action == actions[0]
        np.testing.assert_array_equal(state[0], states[0])


@pytest.mark.parametrize("shape", [(5, 10), (2, 5, 10), (10,), (), (1, 1, 10, 5)])
def test_another_shape_is_refused(policy, shape):
    with pytest.raises(ValueError, match="must have shape") as caught:
        policy.act(np.zeros(shape))
    message = message_of(caught)
    assert "[10, 5] or [B, 10, 5]" in message
    assert f"not {list(shape)}" in message


def test_observations_are_converted(policy):
    """Bytes would be taken for an image by a network for floats, and divided by 255."""
    boards = observations(20)
    for same in (boards.astype(np.uint8), boards.astype(float).tolist(), boards == 1):
        np.testing.assert_array_equal(policy.act(same)[0], policy.act(boards)[0])


class Learner(NamedTuple):
    parameters: Any


class State(NamedTuple):
    learner: Learner


def of_two_choices(run):
    """Turns a run into one of an environment with two choices; returns its parameters."""
    space = MultiDiscrete((2, 4))
    network = ActorCriticNetwork(tiny_config(), SHAPE, np.float32, space)
    parameters = jax.tree.map(lambda leaf: 30 * leaf, network.init(jax.random.key(0)))
    one_seed = jax.tree.map(lambda leaf: leaf[None], parameters)
    shapes = {"observation_shape": list(SHAPE), "observation_dtype": "float32"}
    metadata = shapes | {"action_sizes": [2, 4]}
    Checkpoints(run / "checkpoints").save(10**6, flatten(State(Learner(one_seed))), metadata)
    return network, parameters


def test_a_policy_of_two_choices(tiny_run):
    run = tiny_run().directory
    network, parameters = of_two_choices(run)
    policy = stacx.load(run)
    assert policy.action_space == MultiDiscrete((2, 4))
    with pytest.raises(AttributeError, match="no num_actions: actions are MultiDiscrete"):
        _ = policy.num_actions
    jax.tree.map(np.testing.assert_array_equal, policy.parameters, parameters)

    boards = observations(20)
    starts = jnp.zeros((1, 20), bool)
    logits = network.unroll(parameters, jnp.asarray(boards)[None], starts, ())[0].policy[0, :, 0]
    best = np.stack([logits[:, :2].argmax(-1), logits[:, 2:].argmax(-1)], axis=-1)
    assert (np.ptp(best, axis=0) > 0).all()
    actions, _ = policy.act(boards)
    np.testing.assert_array_equal(actions, best)
    np.testing.assert_array_equal(policy.act(boards[0])[0], best[0])
    sampled = np.stack([policy.act(boards, None, jax.random.key(i))[0] for i in range(100)])
    np.testing.assert_array_equal(np.unique(sampled[..., 0]), range(2))
    np.testing.assert_array_equal(np.unique(sampled[..., 1]), range(4))


def test_each_seed_has_its_policy(tiny_run):
    directory = tiny_run(**TWO_SEEDS).directory
    arrays = final_arrays(directory)
    for seed, index in ((None, 0), (3, 0), (4, 1)):
        parameters = stacx.load(directory, seed).parameters
        for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
            stored = arrays[".learner.parameters" + jax.tree_util.keystr(path)]
            np.testing.assert_array_equal(leaf, stored[index], strict=True)


def test_a_policy_says_what_it_is(tiny_run):
    run = tiny_run()
    policy = stacx.load(run.directory)
    assert policy.steps == run.metrics()[-1]["env_steps"] == 2000
    assert repr(policy) == (
        "Policy(stac on gymnax:Catch-bsuite after 2,000 steps: float32 [10, 5] -> Discrete(n=3))"
    )


@pytest.mark.parametrize("seed", [-1, 2, 5])
def test_no_such_seed(tiny_run, seed):
    directory = tiny_run(**TWO_SEEDS).directory
    with pytest.raises(stacx.ConfigError, match=f"has seeds 3 to 4, not {seed}"):
        stacx.load(directory, seed)


def test_what_cannot_be_loaded(tmp_path, tiny_run):
    with pytest.raises(stacx.ConfigError, match="is not a run directory"):
        stacx.load(tmp_path / "nothing")
    run = tiny_run().directory
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(stacx.CheckpointError, match="there is no checkpoint"):
        stacx.load(run)


def test_a_function_that_a_run_names_is_not_called(tiny_run, monkeypatch, tmp_path):
    trace = tmp_path / "executed"
    monkeypatch.setattr(subprocess, "getoutput", lambda *_: trace.touch())
    run = tiny_run().directory
    change_config(run, torso="subprocess:getoutput")
    with pytest.raises(stacx.ConfigError) as caught:
        stacx.load(run)
    assert message_of(caught).endswith("if you trust it, add torso='subprocess:getoutput'")
    with pytest.raises(stacx.ConfigError, match="is a run with torso 'subprocess:getoutput', not"):
        stacx.load(run, torso="mlp")
    assert not trace.exists()
    with pytest.raises(stacx.ConfigError, match="must return a callable"):
        stacx.load(run, torso="subprocess:getoutput")
    assert trace.exists()


def test_loading_a_policy_does_not_look_at_its_environment(tiny_run):
    run = tiny_run().directory
    change_config(run, env="subprocess:getoutput", env_args='{"cmd": "false"}')
    assert stacx.load(run).num_actions == 3
    assert stacx.load(run).action_space == Discrete(3)


def test_a_damaged_checkpoint_is_no_policy(tiny_run):
    run = tiny_run().directory
    newest = newest_checkpoint(run)
    shutil.copytree(newest, newest.with_name("50"))
    spoil(newest, "flip")
    with pytest.warns(CheckpointWarning, match="using the one before, 50"):
        stacx.load(run)


def test_nothing_is_pickled(tiny_run, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("unpickled")

    run = tiny_run(**TWO_SEEDS).directory
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    assert stacx.load(run).act(observations(1)[0])[0].shape == ()
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    for file in files:
        start = file.read_bytes()[:2]
        assert not (start[:1] == b"\x80" and start[1:] <= b"\x05"), f"{file} looks like a pickle"

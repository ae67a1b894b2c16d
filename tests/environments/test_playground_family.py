"""MuJoCo Playground's tasks: what is listed, episodes' ends, unstable physics, and dm_control's."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from support import message_of

from stacx.environments import (
    FAMILIES,
    VectorEnvironment,
    drawing,
    make,
    playground_family,
    rendering,
)
from stacx.environments.dm_control_engine import load_task
from stacx.environments.playground_family import PlaygroundState
from stacx.errors import ConfigError

TASKS = playground_family.TASKS.split()
CARTPOLE = "playground:CartpoleSwingup"
STEPS = 3
ACTIONS = np.array([-1, -1, 0.5, 1, 0], np.float32)


def refusal(env, **arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        make(env, json.dumps(arguments))
    return message_of(caught)


def short(env=CARTPOLE, **arguments):
    return make(env, json.dumps({"episode_length": STEPS} | arguments))


@pytest.fixture(scope="module")
def steps():
    """A batch of two, its step, and what it was after its reset and each of five steps."""
    vector = VectorEnvironment(short())
    step = jax.jit(vector.step)
    keys = jax.random.split(jax.random.key(0), 2)
    states, transitions = [jax.jit(vector.reset)(keys)], []
    for action in ACTIONS:
        state, transition = step(keys, states[-1], np.full((2, 1), action))
        states.append(state)
        transitions.append(transition)
    return step, keys, states, transitions


def test_the_tasks_are_playgrounds():
    assert set(TASKS) == set(playground_family._suite().ALL_ENVS)
    assert list(FAMILIES["playground"].names()) == TASKS


@pytest.mark.parametrize("name", ["BallInCup", "CheetahRun", "ReacherEasy", "WalkerWalk"])
def test_tasks_can_be_made(name):
    """Traced, not compiled; reacher only because a method of MuJoCo has its old name again."""
    environment = make(f"playground:{name}")
    assert len(environment.observation_shape) == 1
    assert environment.observation_dtype == jnp.float32
    space = environment.action_space
    assert space.shape == (len(space.low),)
    np.testing.assert_array_equal(space.low, -1.0)
    np.testing.assert_array_equal(space.high, 1.0)


def test_an_episode_is_truncated_at_its_length_and_begins_anew(steps):
    _, _, states, transitions = steps
    ended = [bool(transition.ended.all()) for transition in transitions]
    assert ended == [False, False, True, False, False]
    assert [int(state.environments.steps[0]) for state in states] == [0, 1, 2, 3, 0, 1]
    assert all(transition.discounts.all() for transition in transitions)
    assert [float(transition.valid[0]) for transition in transitions] == [1, 1, 1, 0, 1]
    np.testing.assert_array_equal(states[4].observations, states[0].observations)  # the same key
    assert not any(transition.physics_errors.any() for transition in transitions)
    assert not np.array_equal(states[0].observations[0], states[0].observations[1])


def test_unstable_physics_end_an_episode_at_what_was_seen_before(steps):
    """The second simulation gets a velocity that is not a number."""
    step, keys, states, transitions = steps
    before = states[1]
    data = before.environments.playground.data
    broken = data.replace(qvel=data.qvel.at[1].set(jnp.nan))
    environments = PlaygroundState(
        before.environments.playground.replace(data=broken), before.environments.steps
    )
    state = eqx.tree_at(lambda s: s.environments, before, environments)
    state, transition = step(keys, state, np.full((2, 1), ACTIONS[1]))
    np.testing.assert_array_equal(transition.ended, [False, True])
    np.testing.assert_array_equal(transition.physics_errors, [False, True])
    np.testing.assert_array_equal(transition.discounts, 1.0)
    assert float(transition.rewards[0]) == float(transitions[1].rewards[0])
    assert float(transition.rewards[1]) == 0.0
    assert np.isfinite(state.observations).all()
    state, transition = step(keys, state, np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(transition.valid, [1.0, 0.0])
    assert not transition.physics_errors.any()
    state, transition = step(keys, state, np.zeros((2, 1), np.float32))
    assert np.isfinite(state.observations).all()
    assert float(transition.rewards[1]) > 0


def test_it_is_dm_controls_cartpole(steps):
    """From the same state, with the same actions: by Euler's method here, there by RK4."""
    _, _, states, transitions = steps
    environment = load_task("cartpole", "swingup", 0)
    environment.reset()
    data = states[0].environments.playground.data
    with environment.physics.reset_context():
        environment.physics.data.qpos[:] = data.qpos[0]
        environment.physics.data.qvel[:] = data.qvel[0]
    for index, action in enumerate(ACTIONS[:STEPS]):
        seen = environment.step([action])
        wanted = np.concatenate([seen.observation["position"], seen.observation["velocity"]])
        np.testing.assert_allclose(states[index + 1].observations[0], wanted, atol=3e-3)
        np.testing.assert_allclose(transitions[index].rewards[0], seen.reward, atol=3e-3)


def test_actions_are_repeated_and_their_rewards_added_up(steps):
    _, keys, states, transitions = steps
    environment = short(action_repeat=2)
    first = jax.tree.map(lambda leaf: leaf[0], states[0].environments)
    step = jax.jit(environment.step)
    _, timestep = step(keys[0], first, ACTIONS[:1])
    np.testing.assert_allclose(timestep.observation, states[2].observations[0], atol=1e-5)
    rewards = sum(float(transition.rewards[0]) for transition in transitions[:2])
    np.testing.assert_allclose(timestep.reward, rewards, rtol=1e-5)
    assert environment.steps_per_second == pytest.approx(50.0)
    assert not timestep.truncated
    assert step(keys[0], first._replace(steps=jnp.int32(STEPS - 2)), ACTIONS[:1])[1].truncated


def test_a_state_is_drawn(steps):
    try:
        rendering.renderer(CARTPOLE, rendering.MUJOCO)
    except rendering.NoRendererError as error:
        pytest.skip(str(error))
    state = jax.tree.map(lambda leaf: leaf[0], steps[2][0].environments)
    environment = short()
    picture = environment.render(state)
    playgrounds = environment._environment.render(state.playground, 240, 320, camera=0)
    np.testing.assert_array_equal(picture, playgrounds)
    assert picture.dtype == np.uint8
    assert picture.std() > 1
    assert drawing.frames_per_second(environment) == pytest.approx(100.0)


def test_arguments_that_do_not_fit():
    assert refusal(CARTPOLE, length=3).startswith(
        f"{CARTPOLE} has no parameter length: --env-args takes episode_length, action_repeat"
    )
    assert refusal(CARTPOLE, episode_length=0).endswith(
        "episode_length must be a whole number of at least 1, not 0"
    )
    assert refusal(CARTPOLE, ctrl_dt=0.015) == (
        f"{CARTPOLE}: ctrl_dt (0.015 s) must be a multiple of sim_dt (0.01 s)"
    )


def test_without_playground_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(playground_family.importlib.util, "find_spec", lambda name: None)
    assert refusal(CARTPOLE) == (
        f"{CARTPOLE} needs a package that is missing (No module named 'mujoco_playground'): "
        "pip install '.[playground]' in stacx's project directory"
    )


def test_names_that_do_not_fit():
    message = refusal("playground:CartpoleBallance")
    assert "did you mean playground:CartpoleBalance" in message
    assert refusal("playground:Go1Joystick").startswith("unknown environment")


@pytest.mark.slow
def test_what_is_deprecated_in_a_model_is_not_told(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mujoco.set_mju_user_warning(None)
    make("playground:CheetahRun")
    assert "deprecated" not in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""Every gymnax environment that is listed can be trained on, and is gymnax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import message_of

from stacx.core.distributions import draw_noise, environment_actions
from stacx.environments import FAMILIES, VectorEnvironment, make
from stacx.errors import ConfigError
from stacx.types import Discrete

NAMES = FAMILIES["gymnax"].names()
TRAINABLE = [name for name, obstacle in NAMES.items() if obstacle is None]
BATCH = 3


def slow(name):
    """Marks the environments that take long to compile."""
    marks = [pytest.mark.slow] if name.endswith("-MinAtar") else []
    return pytest.param(name, marks=marks)


def unroll(environment, key, steps=30):
    """The states after each of some steps with random actions, and the transitions."""
    vector, shape = VectorEnvironment(environment), (steps, BATCH)
    keys = jax.random.split(key, shape)
    space = environment.action_space
    if isinstance(space, Discrete):
        actions = jax.random.randint(key, shape, 0, space.n)
    else:
        actions = environment_actions(space, draw_noise(space, key, shape))

    def step(state, inputs):
        state, transition = vector.step(inputs[0], state, inputs[1])
        return state, (state, transition)

    return jax.lax.scan(step, vector.reset(keys[0]), (keys, actions))[1]


def test_most_of_gymnax_can_be_trained_on():
    assert len(TRAINABLE) >= 20
    assert {"CartPole-v1", "Acrobot-v1", "Catch-bsuite", "MemoryChain-bsuite"} <= set(TRAINABLE)
    assert {"Pendulum-v1", "MountainCarContinuous-v0", "Reacher-misc"} <= set(TRAINABLE)
    assert len([name for name in TRAINABLE if name.endswith("-MinAtar")]) == 5


@pytest.mark.parametrize("name", [slow(name) for name in TRAINABLE])
def test_30_random_steps(name):
    environment = make(f"gymnax:{name}")
    states, transitions = jax.jit(lambda key: unroll(environment, key))(jax.random.key(0))
    observations = states.observations
    assert observations.shape == (30, BATCH, *environment.observation_shape)
    assert observations.dtype == environment.observation_dtype == jnp.float32
    assert np.isfinite(observations).all()
    assert np.isfinite(transitions.rewards).all()
    gymnax_environment, params = environment.gymnax
    space, actions = environment.action_space, gymnax_environment.action_space(params)
    if isinstance(space, Discrete):
        assert space.n == actions.n
    else:
        low, high = (np.broadcast_to(bound, actions.shape) for bound in (actions.low, actions.high))
        np.testing.assert_array_equal(np.float32([space.low, space.high]), [low, high])


@pytest.fixture(scope="module")
def cartpole():
    """CartPole with a time limit of 12, and what 40 steps of it return."""
    environment = make("gymnax:CartPole-v1", '{"max_steps_in_episode": 12}')
    return environment, *jax.jit(lambda key: unroll(environment, key, 40))(jax.random.key(1))


def test_the_time_limit_truncates_unless_the_pole_fell_too(cartpole):
    _, states, transitions = cartpole
    fallen = np.abs(states.observations[..., 2]) > np.radians(12)
    at_limit = transitions.lengths == 12
    np.testing.assert_array_equal(transitions.ended, at_limit | fallen)
    np.testing.assert_array_equal(transitions.discounts == 0.0, fallen)
    for some in (at_limit & ~fallen, fallen & ~at_limit, at_limit & fallen):
        assert some.any()


def gymnax_episodes(environment, params, key, steps, time_limit):
    """Gymnax environments, reset by hand: observations, rewards and whether it terminated."""

    @jax.jit
    def both(state, keys, actions):
        stepped = jax.vmap(lambda *x: environment.step_env(*x, params))(keys, state, actions)
        return stepped, jax.vmap(lambda key: environment.reset_env(key, params))(keys)

    keys = jax.random.split(key, (steps, BATCH))
    actions = np.asarray(jax.random.randint(key, (steps, BATCH), 0, 2))
    _, state = jax.vmap(lambda key: environment.reset_env(key, params))(keys[0])
    ended, rows = np.zeros(BATCH, bool), []
    for step_keys, step_actions in zip(keys, actions, strict=True):
        (observations, stepped, rewards, terminated, _), fresh = both(
            state, step_keys, step_actions
        )
        observations = np.where(ended[:, None], fresh[0], observations)
        rows.append((observations, np.where(ended, 0, rewards), np.where(ended, False, terminated)))
        state = jax.tree.map(
            lambda new, old, ended=ended: np.where(ended, new, old), fresh[1], stepped
        )
        ended = ~ended & (np.asarray(terminated) | (np.asarray(stepped.time) >= time_limit))
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_cartpole_is_gymnaxs_own_for_the_same_keys(cartpole):
    environment, states, transitions = cartpole
    observations, rewards, terminated = gymnax_episodes(
        *environment.gymnax, jax.random.key(1), steps=40, time_limit=12
    )
    np.testing.assert_allclose(states.observations, observations, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(transitions.rewards, rewards)
    np.testing.assert_array_equal(transitions.discounts, 1.0 - terminated)
    assert 0 < terminated.sum() < transitions.ended.sum()


def test_discrete_observations_are_one_hot():
    environment = make("gymnax:FrozenLake-misc")
    raw, params = environment.gymnax
    state, observation = jax.jit(environment.reset)(jax.random.key(0))
    inputs = (jax.random.key(0), state, jnp.int32(2))
    _, timestep = jax.jit(environment.step)(*inputs)
    after, *_ = jax.jit(raw.step_env)(*inputs, params)
    assert environment.observation_shape == (16,)
    assert environment.observation_dtype == jnp.float32
    np.testing.assert_array_equal(observation, np.eye(16)[0])
    np.testing.assert_array_equal(timestep.observation, np.eye(16)[int(after)])


def test_env_args_are_fields_of_env_params():
    environment = make("gymnax:CartPole-v1", '{"gravity": 3.0, "max_steps_in_episode": 7}')
    _, params = environment.gymnax
    assert (params.gravity, params.max_steps_in_episode) == (3.0, 7)
    assert params.masscart == 1.0


def test_env_args_are_arguments_of_the_constructor():
    assert make("gymnax:DeepSea-bsuite", '{"size": 5}').observation_shape == (5, 5)


def test_an_unknown_env_arg_is_refused_with_those_that_exist():
    with pytest.raises(ConfigError) as caught:
        make("gymnax:DeepSea-bsuite", '{"size": 5, "depth": 3}')
    message = message_of(caught)
    assert "depth" in message
    assert "size" in message.partition("takes")[2]
    assert "max_steps_in_episode" in message.partition("takes")[2]


def test_an_env_arg_of_a_wrong_type_is_refused():
    with pytest.raises(ConfigError, match=r"gymnax:CartPole-v1 .*TypeError"):
        make("gymnax:CartPole-v1", '{"max_steps_in_episode": "many"}')


def test_mnist_is_refused_instead_of_downloaded(monkeypatch):
    from gymnax.utils import load_mnist

    monkeypatch.setattr(load_mnist, "load_mnist", lambda: pytest.fail("downloads"))
    assert "download" in NAMES["MNISTBandit-bsuite"]
    with pytest.raises(ConfigError) as caught:
        make("gymnax:MNISTBandit-bsuite")
    assert "downloads MNIST" in message_of(caught)

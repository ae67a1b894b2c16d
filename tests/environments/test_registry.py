"""From an id to an environment, and one clear line where there is none."""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from gymnax.environments.classic_control import CartPole
from gymnax.environments.environment import Environment, EnvParams, EnvState
from support import Walk, as_module, message_of

from stacx.environments import FAMILIES, Family, OnDeviceEnvironment, make, register
from stacx.environments.atari_family import rom_ids
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.types import Discrete, Timestep


def refusal(env, env_args="{}") -> str:
    """Why an environment is refused."""
    with pytest.raises(ConfigError) as caught:
        make(env, env_args)
    return message_of(caught)


@pytest.mark.parametrize(
    ("env", "suggestion"),
    [
        ("CartPole-v1", "gymnax:CartPole-v1 or gym:CartPole-v1"),
        ("gymnax:CartPole", "gymnax:CartPole-v1"),
        ("gymnax:Cartpole-v1", "gymnax:CartPole-v1"),
        ("gymnax:CartPole-v0", "gymnax:CartPole-v1"),
        ("gymnax:breakout", "gymnax:Breakout-MinAtar"),
        ("gymnax:Breakout-v5", "gymnax:Breakout-MinAtar"),
        ("gymnax:MountainCar", "gymnax:MountainCar-v0"),
        ("gymnax:Pendulum-v2", "gymnax:Pendulum-v1"),
        ("mygame:Catsh", "gymnax:Catch-bsuite"),
        ("gym:CartPole", "gym:CartPole-v1 or gym:CartPole-v0"),
        ("gym:Lunarlander-v2", "gym:LunarLander-v3"),
        ("atari:Brekout", "atari:Breakout"),
        ("atari:pong", "atari:Pong"),
        ("atari:Pong-v5", "atari:Pong"),
        ("atari:up_n_down", "atari:UpNDown"),
        ("breakout", "atari:Breakout or gymnax:Breakout-MinAtar"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(env, suggestion):
    assert f"; did you mean {suggestion}?" in refusal(env)


def test_an_unknown_family_says_which_there_are():
    message = refusal("gymanx:CartPole-v1")
    assert "'gymanx'" in message
    assert "there are: gymnax" in message
    assert "did you mean gymnax:CartPole-v1" in message


@pytest.mark.parametrize("env", ["", "gymnax:", "gymnax"])
def test_an_id_has_two_parts(env):
    assert "write family:name or package.module:function" in refusal(env)


@pytest.mark.parametrize("env", ["gymnax:xyzzy", "jumanji:Snake-v1"])
def test_what_is_far_from_everything_has_no_suggestion(env):
    assert "did you mean" not in refusal(env)


@pytest.fixture
def family():
    """Registers a family of one's own until the test ends."""
    yield lambda **fields: register("mine", Family(**fields))
    FAMILIES.pop("mine")


def test_a_registered_family(family):
    family(make=lambda name, arguments: Walk(), names=lambda: {"Walk": None, "Run": "too fast"})
    assert isinstance(make("mine:Walk"), Walk)
    assert "cannot be trained on: too fast" in refusal("mine:Run")
    assert "did you mean mine:Walk" in refusal("mine:Walks")


def no_engine():
    raise ImportError("No module named 'engine'")


@pytest.mark.parametrize(
    ("extra", "wish"),
    [("mine", "pip install '.[mine]' in stacx's"), (None, "pip install '.' in stacx's")],
)
def test_a_missing_engine_says_how_to_install_it(family, extra, wish):
    family(make=lambda name, arguments: Walk(), names=no_engine, extra=extra)
    message = refusal("mine:Walk")
    assert "No module named 'engine'" in message
    assert wish in message
    assert "did you mean" in refusal("gymnax:Cartpole-v1")  # the others still work


def test_atari_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py.roms", None)
    rom_ids.cache_clear()
    message = refusal("atari:Pong")
    assert message.startswith("atari:Pong needs a package that is missing (")
    assert message.endswith("): pip install '.[atari]' in stacx's project directory")


def test_a_family_that_raises(family):
    family(make=lambda name, arguments: 1 / 0, names=lambda: {"Walk": None})
    assert "mine:Walk cannot be made: ZeroDivisionError: division by zero (" in refusal("mine:Walk")


def own(monkeypatch, function) -> str:
    """The id of a user's own function."""
    return as_module(monkeypatch, function=function) + ":function"


def test_an_environment_that_is_not_made_in_time(monkeypatch):
    def function():
        time.sleep(30)

    env = own(monkeypatch, function)
    with pytest.raises(BrokenEnvironmentError) as caught:
        make(env, seconds=2.0)
    assert message_of(caught) == (
        f"{env} was not made within 2 s (--env-timeout): mend the environment"
    )
    assert "in function" in caught.value.details


def test_a_users_own_environment_with_its_arguments(monkeypatch):
    class Sized(Walk):
        def __init__(self, actions):
            self.action_space = Discrete(actions)

    env = own(monkeypatch, Sized)
    environment = make(env, '{"actions": 7}')
    assert isinstance(environment, OnDeviceEnvironment)
    assert environment.action_space == Discrete(7)
    assert "unexpected keyword argument 'size'" in refusal(env, '{"size": 7}')


def test_a_users_own_gymnax_environment(monkeypatch):
    environment = make(own(monkeypatch, CartPole))
    assert environment.observation_shape == (4,)
    assert environment.action_space == Discrete(2)


class Camera(Environment):
    """A gymnax environment of a user's own: images."""

    actions = spaces.Discrete(3)
    image = jnp.full((2, 2, 1), 255, jnp.uint8)

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=5)

    def reset_env(self, key, params):
        return self.image, EnvState(time=0)

    def step_env(self, key, state, action, params):
        return self.image, EnvState(time=state.time + 1), 1, False, {}

    def action_space(self, params):
        return self.actions

    def observation_space(self, params):
        return spaces.Box(0, 255, (2, 2, 1))


def test_images_of_a_gymnax_environment_stay_bytes(monkeypatch):
    environment = make(own(monkeypatch, Camera))
    assert environment.observation_dtype == np.uint8
    assert environment.reset(jax.random.key(0))[1].dtype == np.uint8


def test_what_terminates_at_the_time_limit_is_not_truncated(monkeypatch):
    class Short(Camera):
        default_params = EnvParams(max_steps_in_episode=2)

        def step_env(self, key, state, action, params):
            image, state, *_ = super().step_env(key, state, action, params)
            return image, state, 0.0, action == 2, {}

    environment = make(own(monkeypatch, Short))
    key, state = jax.random.key(0), EnvState(time=1)
    for action, terminated in ((0, False), (2, True)):
        _, timestep = environment.step(key, state, jnp.int32(action))
        assert bool(timestep.terminated) == terminated
        assert bool(timestep.truncated) != terminated


def test_a_gymnax_environment_that_cannot_be_used(monkeypatch):
    class Boundless(Camera):
        actions = spaces.Box(-jnp.inf, jnp.inf, (2,))

    class Broken(Camera):
        def reset_env(self, key, params):
            return jnp.zeros(3) @ jnp.zeros(4), EnvState(time=0)

    assert "bounds must be finite" in refusal(own(monkeypatch, Boundless))
    assert "raised TypeError: dot_general requires" in refusal(own(monkeypatch, Broken))


def test_no_such_module_or_function(monkeypatch):
    assert refusal("not_written:function") == (
        "unknown environment family 'not_written' (there are: gymnax, gym, atari, dmc, dmc-pixels, "
        "playground, rwrl), and no module of that name in the working directory or on PYTHONPATH"
    )
    assert "cannot import 'no.such.module'" in refusal("no.such.module:function")
    module = as_module(monkeypatch, number=3)
    assert refusal(f"{module}:number") == f"module '{module}' has no function 'number'"


def test_a_function_that_raises(monkeypatch):
    def function():
        raise KeyError("missing\nand more lines")

    assert refusal(own(monkeypatch, function)).startswith(
        "users_own_module:function raised KeyError"
    )


def test_a_function_that_returns_something_else(monkeypatch):
    class Half:
        observation_shape = (3,)
        action_space = Discrete(2)

        def reset(self, key): ...

    assert refusal(own(monkeypatch, lambda: None)).endswith(
        "NoneType lacks observation_shape, observation_dtype, action_space, reset, step"
    )
    assert refusal(own(monkeypatch, Half)).endswith("Half lacks observation_dtype, step")


class Good:
    """Nothing is wrong here."""

    observation_shape = (2,)
    observation_dtype = jnp.float32
    action_space = Discrete(2)

    def reset(self, key):
        return {"time": 0, "place": jnp.zeros(2)}, jnp.zeros(2)

    def step(self, key, state, action):
        state = {"time": state["time"] + 1, "place": state["place"] + action}
        return state, Timestep(state["place"], 1.0, state["time"] > 5, False)


def test_nothing_is_wrong(monkeypatch):
    assert isinstance(make(own(monkeypatch, Good)), Good)


def declares(**members):
    return type("Declares", (Good,), members)


def resets(state=None, observation=None):
    """A `reset` that returns something else."""

    def reset(self, key):
        good_state, good_observation = Good.reset(self, key)
        return state or good_state, good_observation if observation is None else observation

    return declares(reset=reset)


def steps(**changes):
    """A `step` that returns something else."""

    def step(self, key, state, action):
        new_state, timestep = Good.step(self, key, state, action)
        new_state = changes.get("state", new_state)
        return new_state, timestep._replace(**{k: v for k, v in changes.items() if k != "state"})

    return declares(step=step)


def returns(method, value):
    return declares(**{method: lambda *arguments: value})


def branches(self, key, state, action):
    if state["time"] > 5:
        return state, Timestep(state["place"], 1.0, True, False)
    return Good.step(self, key, state, action)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (
            declares(action_space=2),
            ": action_space must be a stacx.Discrete, Multi",
        ),
        (declares(observation_shape=2), ": observation_shape must be a tuple of ints, not 2"),
        (declares(observation_shape=[2]), ": observation_shape must be a tuple of ints, not [2]"),
        (declares(observation_dtype="pixels"), " raised TypeError: data type 'pixels'"),
        (
            declares(observation_shape=(3,)),
            ": the observation of reset is float32[2], not float32[3] (declared)",
        ),
        (
            declares(observation_dtype=jnp.uint8),
            ": the observation of reset is float32[2], not uint8[2] (declared)",
        ),
        (resets(observation={"a": jnp.zeros(2)}), ": the observation of reset is PyTreeDef("),
        (
            returns("reset", jnp.zeros(2)),
            ": reset must return (state, observation), not float32[2]",
        ),
        (returns("reset", (1, 2, 3)), ": reset must return (state, observation), not a tuple of 3"),
        (returns("reset", [1, 2]), ": reset must return (state, observation), not a list"),
        (returns("reset", "nothing"), " raised TypeError: "),
        (
            returns("step", ({}, jnp.zeros(2), 1.0, False, {})),
            ": step must return (state, stacx.Timestep), not a tuple of 5",
        ),
        (
            returns("step", ({}, (jnp.zeros(2), 1.0, False))),
            ": step must return (state, stacx.Timestep), not (state, a tuple of 3)",
        ),
        (
            returns("step", Timestep(jnp.zeros(2), 1.0, False, False)),
            ": step must return (state, stacx.Timestep), not a Timestep",
        ),
        (declares(reset=lambda self: None), " raised TypeError: "),
        (declares(step=lambda *arguments: int("x")), " raised ValueError: invalid literal for int"),
        (declares(step=branches), " raised TracerBoolConversionError: Attempted boolean conv"),
        (
            steps(observation=jnp.zeros(3)),
            ": the observation of step is float32[3], not float32[2] (declared)",
        ),
        (
            steps(observation=jnp.zeros(2, jnp.int32)),
            ": the observation of step is int32[2], not float32[2] (declared)",
        ),
        (steps(reward=1), ": the reward of step is int32[], not a scalar of a floating type"),
        (steps(reward=jnp.zeros(1)), ": the reward of step is float32[1], not a scalar of a fl"),
        (steps(physics_error=0), ": physics_error is int32[], not bool[] (a truth value)"),
        (steps(terminated=0.0), ": terminated is float32[], not bool[] (a truth value)"),
        (steps(truncated=jnp.zeros(1, bool)), ": truncated is bool[1], not bool[] (a truth value)"),
        (steps(state={"time": 0}), ": the state of step is PyTreeDef("),
        (
            steps(state={"time": 0.5, "place": jnp.zeros(2)}),
            ": the state of step['time'] is float32[], not int32[] (that of reset)",
        ),
        (
            steps(state={"time": 0, "place": jnp.zeros(3)}),
            ": the state of step['place'] is float32[3], not float32[2] (that of reset)",
        ),
    ],
)
def test_what_is_wrong_with_an_environment_is_said_before_training(
    monkeypatch, environment, complaint
):
    message = refusal(own(monkeypatch, environment))
    assert message.startswith("users_own_module:function" + complaint)


def test_an_error_says_where_it_arose_and_what_to_do(monkeypatch):
    message = refusal(own(monkeypatch, declares(step=branches)))
    before, hint, rest = message.partition("; instead of `if`, use jnp.where or jax.lax.cond")
    assert (bool(hint), rest) == (True, "")
    line = before.removesuffix(")").rpartition("test_registry.py:")[2]
    assert Path(__file__).read_text().splitlines()[int(line) - 1].strip().startswith("if state")


def test_the_check_computes_nothing(monkeypatch):
    """Tracing sees the shapes of huge arrays without making them."""

    class Huge(Good):
        def reset(self, key):
            return {"time": 0, "place": jnp.zeros((2**20, 2**20))}, jnp.zeros(2)

        def step(self, key, state, action):
            return state, Timestep(jnp.zeros(2), jnp.sum(state["place"]), False, False)

    assert make(own(monkeypatch, Huge)).action_space == Discrete(2)

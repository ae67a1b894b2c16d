"""Environments of Gymnasium by their ids, and of a user's own."""

import importlib.util
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from scripted_games import OwnBatch, Scripted
from support import as_module, message_of

from stacx.environments import HostEnvironment, HostVector, gym_family, make
from stacx.errors import ConfigError
from stacx.types import Box, Discrete


def refusal(env, env_args="{}") -> str:
    """Why an environment is refused."""
    with pytest.raises(ConfigError) as caught:
        make(env, env_args)
    return message_of(caught)


def engine(environment, **options):
    """What steps a batch of three."""
    vector = environment.make_vector(3, **options)
    vector.close()
    return vector


def test_an_id_is_an_environment():
    environment = make("gym:CartPole-v1")
    assert isinstance(environment, HostEnvironment)
    assert environment.observation_shape == (4,)
    assert environment.observation_dtype == np.float32
    assert environment.action_space == Discrete(2)
    assert environment.frames_per_step == 1
    assert environment.scores is None
    assert environment.steps_per_second == 50
    assert make("gym:FrozenLake-v1").observation_shape == (16,)  # one-hot


def test_arguments_go_to_gymnasium():
    lake = make("gym:FrozenLake-v1", '{"map_name": "8x8"}')
    assert lake.observation_shape == (64,)
    short = HostVector(make("gym:MountainCar-v0", '{"max_episode_steps": 2}'), 1)
    short.reset(0)
    ends = [bool(short.step(np.ones(1, np.int32)).ended[0]) for _ in range(3)]
    assert ends == [False, True, False]
    assert "cannot be made: TypeError" in refusal("gym:CartPole-v1", '{"gravity": 1}')


@pytest.mark.slow
@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("env", "arguments"),
    [("gym:HalfCheetah-v5", "{}"), ("dmc:cheetah-run", '{"engine": "dm_control"}')],
)
def test_mujoco_does_not_repeat_what_is_deprecated_for_every_environment(
    env, arguments, vectorization, capfd, caplog, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    vector = HostVector(make(env, arguments), 2, vectorization=vectorization)
    vector.reset(0)
    vector.close()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


def test_the_environments_own_batch_is_used_where_there_is_one():
    cartpole, car = make("gym:CartPole-v1"), make("gym:MountainCar-v0")
    assert isinstance(engine(cartpole), CartPoleVectorEnv)
    assert isinstance(engine(cartpole, vectorization="sync"), SyncVectorEnv)
    assert isinstance(engine(car), SyncVectorEnv)
    batch = engine(make("gym:CartPole-v1", '{"max_episode_steps": 7}'))
    assert isinstance(batch, CartPoleVectorEnv)
    assert batch.max_episode_steps == 7
    own = engine(make("gym:CartPole-v1", '{"disable_env_checker": true}'))  # it does not take this
    assert isinstance(own, SyncVectorEnv)


def test_processes_by_option():
    vector = make("gym:CartPole-v1").make_vector(3, vectorization="async")
    assert isinstance(vector, AsyncVectorEnv)
    assert vector.processes == []
    assert vector.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP  # known before the reset
    vector.reset()
    assert len(vector.processes) == 3
    vector.close()
    engine(make("gym:CartPole-v1"), vectorization="async")  # closed without a reset


def test_environment_i_gets_the_seed_plus_i():
    vector = HostVector(make("gym:CartPole-v1"), 3, vectorization="sync")
    vector.reset(5)
    for index, observation in enumerate(vector.observations):
        wanted, _ = gymnasium.make("CartPole-v1").reset(seed=5 + index)
        np.testing.assert_array_equal(observation, wanted)


def test_an_environment_that_the_user_registered(monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    gymnasium.register("mine/Pole-v0", entry_point=CartPoleEnv, max_episode_steps=9)
    assert make("gym:mine/Pole-v0").observation_shape == (4,)


REGISTERING = """
import gymnasium

gymnasium.register(
    "mine/Pole-v3", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=9
)
"""


def test_an_environment_that_a_module_registers(monkeypatch, tmp_path):
    """Gymnasium's own form; the module is imported in worker processes, too."""
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registering_games.py").write_text(REGISTERING)
    environment = make("gym:registering_games:mine/Pole-v3")
    assert environment.observation_shape == (4,)
    vector = environment.make_vector(2, vectorization="async")
    observations, _ = vector.reset(seed=0)
    assert observations.shape == (2, 4)
    vector.close()
    assert refusal("gym:registering_games:mine/Pool-v3") == (
        "unknown environment 'gym:registering_games:mine/Pool-v3'; did you mean "
        "gym:registering_games:mine/Pole-v3?; see stacx envs"
    )
    assert refusal("gym:no_games:Pole-v3") == (
        "cannot import 'no_games' of 'gym:no_games:Pole-v3': no module 'no_games' in the working "
        "directory or on PYTHONPATH"
    )


def test_ids_that_cannot_be_trained_on():
    names = gym_family.names()
    assert names["CartPole-v1"] is None
    assert names["Pendulum-v1"] is names["BipedalWalker-v3"] is None
    assert names["HalfCheetah-v2"] == "is in the package gymnasium-robotics now: use version 5"
    assert names["GymV21Environment-v0"] == "needs the package shimmy"
    refused = "gym:GymV21Environment-v0 cannot be trained on: needs the package shimmy"
    assert refusal("gym:GymV21Environment-v0") == refused
    assert "use CliffWalking-v1" in refusal("gym:tabular/CliffWalking-v0")


@pytest.mark.filterwarnings("ignore")  # of old versions, and SWIG's
def test_every_other_id_can_be_made():
    ids = [name for name, obstacle in gym_family.names().items() if obstacle is None]
    assert len(ids) > 10
    for name in ids:
        make(f"gym:{name}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SWIG's: as errors they crash Box2D
def test_an_argument_changes_the_actions():
    assert make("gym:CarRacing-v3").action_space == Box((-1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert make("gym:CarRacing-v3", '{"continuous": false}').action_space == Discrete(5)


def test_box2d_may_be_missing(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "Box2D" else find(name)
    )
    assert refusal("gym:LunarLander-v3") == (
        "gym:LunarLander-v3 cannot be trained on: needs Box2D: pip install '.[gym]' in stacx's "
        "project directory"
    )


def test_raw_frames_of_atari_are_refused(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("ALE/Pong-v5", entry_point="ale_py.env:AtariEnv")
    monkeypatch.setitem(gymnasium.registry, "ALE/Pong-v5", spec)
    assert "has raw frames: use the family atari" in refusal("gym:ALE/Pong-v5")


def own(monkeypatch, function) -> str:
    """The id of a user's own function."""
    return as_module(monkeypatch, function=function) + ":function"


def test_a_function_that_returns_an_environment(monkeypatch):
    env = own(monkeypatch, lambda length: Scripted([(length, 0)] * 9))
    environment = make(env, '{"length": 2}')
    assert isinstance(engine(environment), SyncVectorEnv)
    vector = HostVector(environment, 2)
    vector.reset(0)
    assert [vector.step(np.zeros(2, np.int32)).ended.all() for _ in range(3)] == [
        False,
        True,
        False,
    ]


def test_a_function_that_returns_batches(monkeypatch):
    env = own(
        monkeypatch, lambda num_envs, unit: OwnBatch(num_envs, rewards=np.full(num_envs, unit))
    )
    environment = make(env, '{"unit": 5}')
    vector = HostVector(environment, 4, vectorization="sync")  # there is no other way
    assert isinstance(vector.vector, OwnBatch)
    vector.reset(0)
    np.testing.assert_array_equal(vector.step(np.zeros(4, np.int32)).rewards, [5.0] * 4)
    with pytest.raises(ConfigError, match="makes batches of its own, which cannot be filmed"):
        HostVector(environment, 1, film=True)


class NeverResets(OwnBatch):
    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012


class Old(Scripted):
    def reset(self):
        return self.observe()


class SaysNothing(OwnBatch):
    metadata = {}  # noqa: RUF012


class Speaks(Scripted):
    observation_space = gymnasium.spaces.Text(5)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (
            lambda: OwnBatch(4),
            " returned a VectorEnv, but has no argument num_envs to say how many: add it, or "
            "return one gymnasium.Env",
        ),
        (
            lambda num_envs: Scripted([]),
            " has an argument num_envs, but returned one gymnasium.Env: remove the argument, or "
            "return a gymnasium.vector.VectorEnv of so many",
        ),
        (
            lambda: gymnasium.wrappers.TimeLimit(Old([]), 9),
            " has a reset without seed and options, as old versions of Gym: write reset(self, *, "
            "seed=None, options=None), which returns an observation and a dictionary",
        ),
        (lambda num_envs: OwnBatch(8), " returned 8 environments when num_envs was 1"),
        (NeverResets, " does not reset its episodes (autoreset_mode is Disabled): make it with"),
        (
            SaysNothing,
            " is a VectorEnv that does not say how it resets its episodes: give its class metadata "
            '= {"autoreset_mode": AutoresetMode.NEXT_STEP}, or SAME_STEP',
        ),
        (lambda: Speaks([]), " has observations of Text, which have no fixed size: stacx takes"),
        (lambda: Scripted, " must return a Gymnasium environment, a gymnax one or a stacx.OnDev"),
        (lambda: 1 / 0, " raised ZeroDivisionError: division by zero ("),
        (lambda num_envs: 3, " must return a Gymnasium environment, a gymnax one or a stacx.OnDev"),
    ],
)
def test_a_function_that_returns_what_cannot_be_used(monkeypatch, function, complaint):
    message = refusal(own(monkeypatch, function))
    assert message.startswith("users_own_module:function" + complaint)


def test_a_function_that_returns_too_few(monkeypatch):
    environment = make(own(monkeypatch, lambda num_envs: OwnBatch(min(num_envs, 2))))
    with pytest.raises(ConfigError) as caught:
        HostVector(environment, 3)
    assert message_of(caught) == (
        "users_own_module:function returned 2 environments when num_envs was 3"
    )


def test_only_a_film_needs_pictures(monkeypatch):
    asked = []

    def function(render_mode=None):
        asked.append(render_mode)
        return gymnasium.make("CartPole-v1", render_mode=render_mode)

    def of_keywords(**options):
        return function(**options)

    for wanted in (function, of_keywords):
        asked.clear()
        environment = make(own(monkeypatch, wanted))
        engine(environment)
        assert set(asked) == {None}
        vector = HostVector(environment, 1, film=True)
        vector.reset(0)
        assert asked[-1] == "rgb_array"
        (picture,) = vector.render()
        assert picture.shape == (400, 600, 3)
        vector.close()


def test_an_environment_without_pictures(monkeypatch):
    environment = make(own(monkeypatch, lambda: Scripted([(9, 9)])))  # it takes no render_mode
    monkeypatch.setattr(Scripted, "render", lambda self: None)
    vector = HostVector(environment, 1, film=True)
    vector.reset(0)
    assert vector.render() == []

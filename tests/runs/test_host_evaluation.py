"""Episodes of environments that step on the CPU are counted once each, whole, and raw."""

import dataclasses
import functools
import sys
import threading
import time

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode
from support import message_of
from tiny_runs import tiny_config

import stacx
from stacx.environments import gym_family, make
from stacx.environments.host import HostEnvironment, HostVector
from stacx.networks import ActorCriticNetwork
from stacx.runs import record_episode
from stacx.types import Discrete


class Game(gymnasium.Env):
    """With seed s every episode has s + 1 steps, each of which pays its action.

    Even seeds end by truncation, odd ones by termination. What it shows is the time, as pictures
    do. It goes wrong at the time that a fault is given for.
    """

    observation_space = spaces.Box(0, 1000, (1,), np.float32)
    action_space = spaces.Discrete(100)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, longer=0, raises=None, quits=None, nan=None, lives=(), render_mode=None):
        self.longer, self.raises, self.nan, self.lives = longer, raises, nan, lives
        self.quits = quits
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        self.seed = self.seed if seed is None else seed
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        if self.time == self.raises:
            raise RuntimeError("no more\nof this")
        if self.time == self.quits:
            sys.exit(0)
        over = self.time == self.seed + 1 + self.longer
        reward = np.nan if self.time == self.nan else float(action)
        seen = np.full(1, self.time, np.float32)
        info = {"life_lost": self.time in self.lives}
        return seen, reward, over and self.seed % 2 == 1, over and self.seed % 2 == 0, info

    def render(self):
        if self.render_mode is None:
            return None
        return np.full((4, 5, 3), self.time, np.uint8)


def environment_of(function=Game, **arguments) -> HostEnvironment:
    return gym_family.from_function("o:f", function, arguments, function(**arguments))


def make_policy(preference, **settings):
    """Prefers action 1 to action 0 by so many nats, whatever it sees; takes no other."""
    config = tiny_config(agent="impala", tune="none", mlp_widths=(), **settings)
    network = ActorCriticNetwork(config, (1,), np.float32, Discrete(100))
    logits = jnp.full((1, 100), -1000.0).at[0, :2].set(jnp.array([0.0, preference]))
    parameters = eqx.tree_at(
        lambda tree: tree.heads.policy.biases[0],
        jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0))),
        logits,
    )
    return stacx.Policy(config, network, parameters, (1,), np.dtype(np.float32))


class Counting(stacx.Policy):
    """Its action is how often it has been asked since an episode's start: a memory."""

    def __init__(self):
        vars(self).update(vars(make_policy(0.0)))

    def initial_state(self, batch=1):
        return jnp.full(batch, 50)

    def act_on_batch(self, observations, state, key, parameters=None, starts=None):
        state = jnp.where(starts, 0, state)
        return state, state + 1


def test_each_environment_plays_as_many_episodes_as_the_others():
    """Environments 0 to 31, of which the first eight play twice."""
    greedy = stacx.evaluate(make_policy(1.0), environment_of(), episodes=40, greedy=True)
    assert sorted(greedy.lengths) == sorted([*range(1, 33), *range(1, 9)])
    np.testing.assert_array_equal(greedy.returns, greedy.lengths)  # only action 1
    few = stacx.evaluate(make_policy(1.0), environment_of(), episodes=3, seed=5, greedy=True)
    assert sorted(few.lengths) == [6, 7, 8]


def test_sampling_takes_every_action_as_often_as_the_policy_says():
    policy, environment = make_policy(1.0), environment_of()
    sampled = stacx.evaluate(policy, environment, episodes=64, seed=2)
    share = sampled.returns.sum() / sampled.lengths.sum()
    assert share == pytest.approx(np.e / (1 + np.e), abs=0.05)
    again = stacx.evaluate(policy, environment, episodes=64, seed=2)
    np.testing.assert_array_equal(again.returns, sampled.returns)


def test_memory_is_reset_where_an_episode_starts():
    outcome = stacx.evaluate(Counting(), environment_of(), episodes=40)
    np.testing.assert_array_equal(outcome.returns, outcome.lengths * (outcome.lengths - 1) / 2)


def test_a_lost_life_resets_memory_and_does_not_end_an_episode():
    outcome = stacx.evaluate(Counting(), environment_of(lives=(2, 3)), episodes=1, seed=5)
    assert outcome.lengths.tolist() == [6]
    assert outcome.returns.tolist() == [0 + 1 + 0 + 0 + 1 + 2]


def test_episodes_that_do_not_end():
    policy = make_policy(0.0)
    with pytest.raises(stacx.StacxError) as caught:
        stacx.evaluate(policy, environment_of(), episodes=3, seed=4, most_steps=6)
    assert message_of(caught) == ("1 of 3 episodes had not ended, one of them after 6 steps")
    outcome = stacx.evaluate(policy, environment_of(longer=2), episodes=33, most_steps=34)
    assert outcome.lengths.max() == 34  # of an environment; the first one has another to play


def test_a_last_step_that_is_the_last_one_allowed():
    """The episode has ended, also where another one of that environment is to come."""
    environment = environment_of(lambda: gymnasium.wrappers.TimeLimit(Game(100), 3))
    outcome = stacx.evaluate(make_policy(0.0), environment, episodes=70, most_steps=3)
    assert outcome.lengths.tolist() == [3] * 70


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"raises": 2}, "o:f: environment 1 raised RuntimeError: no more ("),
        ({"quits": 2}, "o:f: environment 1 raised SystemExit: 0 ("),
        ({"nan": 2}, "o:f returned rewards that are not finite: environment 1 of 4 returned nan"),
    ],
)
def test_what_goes_wrong_is_the_environments_fault(fault, complaint, monkeypatch):
    closed = []
    close = HostVector.close
    monkeypatch.setattr(HostVector, "close", lambda self, **o: closed.append(close(self, **o)))
    with pytest.raises(stacx.BrokenEnvironmentError) as caught:
        stacx.evaluate(make_policy(0.0), environment_of(**fault), episodes=4)
    assert message_of(caught).startswith(complaint)
    assert ("of this" in caught.value.details) == ("raises" in fault)
    assert len(closed) == 1


class Quitting(gymnasium.vector.VectorEnv):
    """A batch of a user's own that ends the program."""

    single_observation_space = Game.observation_space
    single_action_space = Game.action_space
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs):
        self.num_envs = num_envs

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 1), np.float32), {}

    def step(self, actions):
        sys.exit(0)


def test_a_batch_that_ends_the_program_does_not():
    environment = gym_family.from_function("o:f", Quitting, {}, Quitting(1))
    with pytest.raises(stacx.BrokenEnvironmentError, match="o:f raised SystemExit: 0"):
        stacx.evaluate(make_policy(0.0), environment, episodes=2)


@pytest.fixture
def hanging(monkeypatch):
    """Makes a method of the game hang; at most until the test ends."""
    end = threading.Event()

    def hang(method):
        def hanging(*_, **__):
            end.wait(60)

        monkeypatch.setattr(Game, method, hanging)

    yield hang
    end.set()


@pytest.mark.parametrize("method", ["__init__", "reset", "step", "render"])
def test_environments_that_do_not_answer(hanging, method):
    policy, environment = make_policy(0.0, env_timeout=1.0, num_envs=2), environment_of()
    hanging(method)
    began = time.monotonic()
    filmed = method == "render"
    play = record_episode if filmed else functools.partial(stacx.evaluate, episodes=4)
    with pytest.raises(stacx.BrokenEnvironmentError) as caught:
        play(policy, environment)
    assert time.monotonic() - began < 30
    seconds = "1" if filmed else "2"  # a batch of one, or of two times two
    assert message_of(caught) == (
        f"o:f has not answered for {seconds} s (--env-timeout 1): mend the environment"
    )
    assert ", in hanging\n" in caught.value.details


def test_environments_that_do_not_close_have_been_played(hanging):
    policy, environment = make_policy(0.0, env_timeout=0.5), environment_of()
    hanging("close")
    assert stacx.evaluate(policy, environment, episodes=3).lengths.tolist() == [1, 2, 3]


def test_a_film_has_the_first_and_the_last_state():
    frames = record_episode(make_policy(0.0), environment_of(), seed=6)
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(8))
    assert frames[0].shape == (4, 5, 3)
    assert len(record_episode(make_policy(0.0), environment_of(), seed=6, most_frames=3)) == 3


class Grey(Game):
    def render(self):
        return np.zeros((4, 5), np.uint8)


def takes_no_render_mode():
    return Game()


class Undrawn(Game):
    def render(self):
        raise NotImplementedError


@pytest.mark.parametrize("function", [takes_no_render_mode, Grey, Undrawn])
def test_an_environment_without_pictures_cannot_be_filmed(function):
    with pytest.raises(stacx.ConfigError) as caught:
        record_episode(make_policy(0.0), environment_of(function))
    assert message_of(caught) == (
        "o:f cannot be drawn: its render returns no picture [H, W, 3]. A function that makes it "
        "needs an argument render_mode, to pass it on, and the environment metadata = "
        '{"render_modes": ["rgb_array"]}'
    )


def test_a_package_that_is_missing_for_pictures(monkeypatch):
    def render(_):
        raise DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(Game, "render", render)
    with pytest.raises(stacx.ConfigError) as caught:
        record_episode(make_policy(0.0), environment_of())
    assert message_of(caught) == (
        "o:f cannot be drawn, since a package is missing (pygame is not installed): pip install "
        "'.[gym]' in stacx's project directory"
    )


@pytest.mark.parametrize("play", [functools.partial(stacx.evaluate, episodes=1), record_episode])
def test_batches_are_made_as_in_the_run(play):
    environment, asked = environment_of(), []

    def make_vector(num_envs, *, vectorization="auto", film=False):
        asked.append(vectorization)
        return environment.make_vector(num_envs, film=film)

    noted = dataclasses.replace(environment, make_vector=make_vector)
    play(make_policy(0.0, vectorization="async"), noted)
    assert asked == ["async"]


def test_a_game_of_atari_is_played_and_filmed():
    environment = make("atari:Pong", '{"max_num_frames_per_episode": 80, "num_threads": 1}')
    config = tiny_config(agent="impala", tune="none", mlp_widths=(4,))
    shape = environment.observation_shape
    network = ActorCriticNetwork(config, shape, np.uint8, environment.action_space)
    policy = stacx.Policy(
        config, network, network.init(jax.random.key(0)), shape, np.dtype(np.uint8)
    )
    outcome = stacx.evaluate(policy, environment, episodes=2)
    assert outcome.lengths.max() <= 20  # the frames of no-ops count
    frames = record_episode(policy, environment)
    assert {frame.shape for frame in frames} == {(210, 160, 3)}
    assert len(frames) - 1 in outcome.lengths

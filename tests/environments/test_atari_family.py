"""Atari as IMPALA saw it, against the emulator stepped frame by frame."""

import json

import ale_py
import numpy as np
import pytest
from support import message_of

from stacx.environments import HostVector, atari_family, make
from stacx.environments.atari_family import reference_scores, rom_ids
from stacx.errors import ConfigError
from stacx.types import Discrete


def game(name, num_envs=1, *, film=False, seed=0, **settings) -> HostVector:
    """A batch that has been reset."""
    environment = make(f"atari:{name}", json.dumps({"num_threads": 1} | settings))
    vector = HostVector(environment, num_envs, film=film)
    vector.reset(seed)
    return vector


def frames_of(vector):
    """How many frames each episode has lasted."""
    return vector.vector.step(np.zeros(vector.num_envs, np.int64))[4]["episode_frame_number"]


def random_steps(vector, steps, seed=0):
    """Transitions of random actions."""
    dice, actions = np.random.default_rng(seed), vector.environment.action_space.n
    return [vector.step(dice.integers(0, actions, vector.num_envs)) for _ in range(steps)]


@pytest.fixture(scope="module")
def emulator():
    """Breakout in the emulator itself."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path("breakout"))
    return ale


def test_every_fourth_frame_is_the_maximum_of_two_in_grey(emulator):
    """The whole picture, without shrinking it, bit for bit; rewards are sums over four frames."""
    emulator.reset_game()
    vector = game("Breakout", noop_max=0, img_height=210, img_width=160, stack_num=2)
    np.testing.assert_array_equal(vector.observations[0, -1], emulator.getScreenGrayscale())
    actions, dice = emulator.getMinimalActionSet(), np.random.default_rng(0)
    paid = 0.0
    for _ in range(150):
        action, frames, reward = dice.integers(0, 4, 1), [], 0.0
        for _ in range(4):
            reward += emulator.act(actions[action[0]])
            frames.append(emulator.getScreenGrayscale())
        transition = vector.step(action)
        np.testing.assert_array_equal(vector.observations[0, -1], np.maximum(*frames[-2:]))
        assert transition.rewards[0] == reward
        paid += reward
    assert paid > 0
    assert not emulator.game_over()


def areas(pixels, fewer):
    """[fewer, pixels]: how much of each new pixel is covered by each old one."""
    edges = np.arange(fewer + 1) * pixels / fewer
    low, high, old = edges[:-1, None], edges[1:, None], np.arange(pixels)
    covered = (np.minimum(high, old + 1) - np.maximum(low, old)).clip(0)
    return covered / covered.sum(axis=1, keepdims=True)


def test_pictures_are_shrunk_to_84_by_84():
    """A pixel is the mean of the area that it covers, rounded."""
    vector, large = game("Breakout"), game("Breakout", img_height=210, img_width=160)
    assert vector.environment.observation_shape == (4, 84, 84)
    assert vector.environment.observation_dtype == vector.observations.dtype == np.uint8
    for action in (1, 2, 3, 3, 0):
        vector.step(np.array([action]))
        large.step(np.array([action]))
        means = areas(210, 84) @ large.observations[0, -1].astype(float) @ areas(160, 84).T
        assert np.abs(vector.observations[0, -1] - means).max() < 0.501


def test_a_stack_of_four_moves_by_one():
    vector = game("Breakout", 2)
    for _ in range(3):
        before = vector.observations.copy()
        random_steps(vector, 1)
        np.testing.assert_array_equal(vector.observations[:, :-1], before[:, 1:])
        assert (vector.observations[:, -1] != before[:, -1]).any()


def test_a_step_takes_four_frames():
    vector = game("Pong", noop_max=0)
    assert vector.environment.frames_per_step == 4
    assert vector.environment.steps_per_second == 15
    assert frames_of(vector) == [4]
    assert frames_of(vector) == [8]
    twice = game("Pong", noop_max=0, frameskip=2)
    assert twice.environment.frames_per_step == 2
    assert twice.environment.steps_per_second == 30
    assert frames_of(twice) == [2]


def test_an_episode_starts_with_up_to_thirty_no_ops():
    """Their number is drawn from the seed; the greatest is among them."""
    waits = frames_of(game("Pong", 6)) - 4
    assert len(set(waits)) > 3
    assert waits.max() <= 30
    np.testing.assert_array_equal(frames_of(game("Pong", 2, seed=1)) - 4, waits[1:3])
    assert set(frames_of(game("Pong", 6, noop_max=1)) - 4) == {0, 1}
    assert atari_family.SETTINGS["noop_max"] == 30


def test_the_frame_cap_truncates():
    vector = game("Pong", 2, noop_max=0, max_num_frames_per_episode=20)
    rows = random_steps(vector, 6)
    assert [row.ended.all() for row in rows] == [False] * 4 + [True, False]
    assert all((row.discounts == 1).all() for row in rows)
    np.testing.assert_array_equal([row.valid[0] for row in rows], [1, 1, 1, 1, 1, 0])
    assert atari_family.SETTINGS["max_num_frames_per_episode"] == 108_000


def test_sticky_actions_are_off_unless_asked_for():
    """Without them, the same actions lead to the same pictures, whatever the seed."""

    def play(**settings):
        vector = game("Breakout", 2, noop_max=0, **settings)
        for action in (1, 2, 2, 3, 2, 2, 3, 3):
            vector.step(np.array([action, action]))
        return vector.observations

    one, other = play()
    np.testing.assert_array_equal(one, other)
    assert (play(repeat_action_probability=0.9) != one).any()


def test_a_game_has_its_own_actions_or_all_of_the_console():
    assert make("atari:Breakout").action_space == Discrete(4)
    assert make("atari:Breakout", '{"full_action_space": true}').action_space == Discrete(18)


def test_rewards_are_raw():
    assert max(row.rewards.max() for row in random_steps(game("Qbert"), 60)) == 25


def test_a_lost_life_ends_an_episode_for_the_learner_only():
    """Nothing is bootstrapped and memory is reset; the game and its return go on."""
    vector = game("Breakout", 2)
    lives = vector.vector._lives.copy()
    np.testing.assert_array_equal(lives, [5, 5])
    returns, deaths = np.zeros(2), np.zeros(2, int)
    dice = np.random.default_rng(0)
    dying = np.zeros(2, bool)
    while not dying.any():
        transition = vector.step(dice.integers(0, 4, 2))
        now = vector.vector._lives.copy()
        lost, dying = (now < lives) & ~transition.ended, transition.ended
        np.testing.assert_array_equal(transition.discounts == 0, lost | dying)
        np.testing.assert_array_equal(vector.starts, lost)
        np.testing.assert_array_equal(transition.valid, [1, 1])
        returns += transition.rewards
        np.testing.assert_array_equal(transition.returns, returns)
        lives, deaths = now, deaths + lost
    assert deaths[dying].tolist() == [4] * dying.sum()  # the fifth ended the game
    assert returns[dying].max() > 0
    after = vector.step(np.zeros(2, np.int32))
    np.testing.assert_array_equal(after.valid, ~dying)
    np.testing.assert_array_equal(vector.starts, dying)


def test_a_lost_life_may_mean_nothing():
    vector = game("Breakout", 2, episodic_life=False)
    rows = random_steps(vector, 60)
    assert (vector.vector._lives < 5).any()
    assert all((row.discounts == 1).all() for row in rows if not row.ended.any())
    assert not vector.starts.any()


def test_a_game_without_lives():
    vector = game("Pong")
    rows = random_steps(vector, 30)
    assert not vector.vector._lives.any()
    assert all(row.discounts == 1 for row in rows)


def test_a_film_shows_the_console_in_colour():
    """Its twin sees the same game, through sticky actions and a game's end."""
    vector = game("Breakout", 2, film=True, repeat_action_probability=0.25)
    twin, seen = vector.vector._twin, []
    step = twin.step
    twin.step = lambda actions: seen.append(step(actions)) or seen[-1]
    ended = 0
    for seed in range(250):
        (transition,) = random_steps(vector, 1, seed=seed)
        _, rewards, _, _, info = seen[-1]
        np.testing.assert_array_equal(rewards, transition.rewards)
        np.testing.assert_array_equal(info["lives"], vector.vector._lives)
        ended += transition.ended.sum()
    assert ended > 0
    pictures = vector.render()
    assert [picture.shape for picture in pictures] == [(210, 160, 3)] * 2
    assert pictures[0].dtype == np.uint8
    assert (pictures[0] != pictures[0][..., :1]).any()  # not grey
    grey = pictures[0] @ np.array([0.299, 0.587, 0.114])
    shrunk = areas(210, 84) @ grey @ areas(160, 84).T
    assert np.abs(vector.observations[0, -1] - shrunk).max() < 2
    vector.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"frame_skip": 2}, " has no parameter frame_skip: --env-args takes episodic_life, repeat"),
        ({"frameskip": 0}, ": frameskip must be a whole number of at least 1, not 0"),
        ({"stack_num": 0}, ": stack_num must be a whole number of at least 1, not 0"),  # hangs
        ({"img_height": -3}, ": img_height must be a whole number of at least 1, not -3"),
        ({"noop_max": 2.5}, ": noop_max must be a whole number of at least 0, not 2.5"),
        ({"stack_num": True}, ": stack_num must be a whole number of at least 1, not true"),
        ({"episodic_life": "no"}, ': episodic_life must be true or false, not "no"'),
        (
            {"repeat_action_probability": 2},
            ": repeat_action_probability must be a number from 0 to 1, not 2",
        ),
    ],
)
def test_settings_that_cannot_be(settings, complaint):
    with pytest.raises(ConfigError) as caught:
        make("atari:Pong", json.dumps(settings))
    assert message_of(caught).startswith("atari:Pong" + complaint)


def test_all_57_games_are_there():
    assert len(reference_scores()) == 57
    assert reference_scores().keys() <= rom_ids().keys()
    assert len(rom_ids()) > 57
    assert rom_ids()["UpNDown"] == "up_n_down"
    assert make("atari:Tetris").scores is None  # not one of the 57


@pytest.mark.parametrize(
    ("name", "random", "human"),
    [
        ("Alien", 227.8, 7127.7),
        ("Breakout", 1.7, 30.5),
        ("Pong", -20.7, 14.6),
        ("MontezumaRevenge", 0.0, 4753.3),
        ("VideoPinball", 16256.9, 17667.9),
        ("Skiing", -17098.1, -4336.9),
    ],
)
def test_published_scores(name, random, human):
    scores = reference_scores()[name]
    assert scores == (random, human)
    assert (scores.normalised(random), scores.normalised(human)) == (0, 1)

"""Each challenge against sequences worked out by hand from the suite's rules."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from stacx.environments.challenges import Challenged, Challenges, Delay, Sensors


class Counting(gymnasium.Env):
    """Shows how often it was observed, and (twice) the last action; pays the number of the step."""

    observation_space = spaces.Dict(
        {"count": spaces.Box(-np.inf, np.inf, ()), "action": spaces.Box(-np.inf, np.inf, (2,))}
    )
    action_space = spaces.Box(np.array([-1.0, -0.8]), np.array([1.1, 0.8]), dtype=np.float64)

    def __init__(self, length=1000):
        self.count, self.steps, self.length = -1, 0, length
        self.taken = []

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.observe(np.zeros(2)), {}

    def step(self, action):
        self.taken.append(action.copy())
        self.time, self.steps = self.time + 1, self.steps + 1
        return self.observe(action), float(self.steps), False, self.time == self.length, {}

    def observe(self, action):
        self.count += 1
        return {"action": action, "count": np.float64(self.count)}


def challenged(length=1000, **challenges) -> Challenged:
    environment = Challenged(Counting(length), Challenges(**challenges))
    environment.first, _ = environment.reset(seed=0)
    return environment


def play(environment, actions):
    """Observations, rewards, and what the environment was given; resets where an episode ends."""
    observations, rewards = [environment.first], []
    for action in actions:
        observation, reward, _, truncated, _ = environment.step(np.array([action, 0.0]))
        observations.append(observation)
        rewards.append(reward)
        if truncated:
            observations.append(environment.reset()[0])
    return np.array(observations), rewards, np.array(environment.unwrapped.taken)[:, 0]


def test_no_challenge_changes_nothing():
    observations, rewards, taken = play(challenged(), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(observations, [[0, 0, 0], [0.1, 0, 1], [0.2, 0, 2], [0.3, 0, 3]])
    assert rewards == [1, 2, 3]
    np.testing.assert_array_equal(taken, [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, [0, 1, 2, 3, 4]), (1, [0, 0, 1, 2, 3]), (3, [0, 0, 0, 0, 1])]
)
def test_a_delay_returns_the_item_of_that_many_calls_ago(steps, expected):
    delay = Delay(steps)
    assert [delay(item) for item in range(5)] == expected


def test_actions_are_delayed_across_episodes():
    """The first item is repeated until it is due."""
    _, _, taken = play(challenged(length=2, action_delay=2), [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_array_equal(taken, [0.1, 0.1, 0.1, 0.2, 0.3])


def test_observations_are_delayed_across_episodes():
    """A reset is an observation, too: episodes of two steps have three."""
    observations, _, _ = play(challenged(length=2, observation_delay=2), [0.0] * 4)
    np.testing.assert_array_equal(observations[:, 2], [0, 0, 0, 1, 2, 3, 4])


def test_rewards_are_delayed_across_episodes():
    _, rewards, _ = play(challenged(length=2, reward_delay=3), [0.0] * 6)
    assert rewards == [1, 1, 1, 1, 2, 3]


def test_buffers_may_be_cleared_with_every_episode():
    settings = {
        "action_delay": 1,
        "observation_delay": 1,
        "reward_delay": 1,
        "action_repetition": 2,
    }
    environment = challenged(length=3, clear_buffers=True, **settings)
    observations, rewards, taken = play(environment, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_array_equal(taken, [0.1, 0.1, 0.2, 0.4, 0.4, 0.5])
    assert rewards == [1, 1, 2, 4, 4, 5]
    np.testing.assert_array_equal(observations[:, 2], [0, 0, 1, 2, 4, 4, 5, 6, 8])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (2, [0.1, 0.1, 0.3, 0.3, 0.5, 0.5]),
        (3, [0.1, 0.1, 0.1, 0.4, 0.4, 0.4]),
    ],
)
def test_actions_are_held(steps, expected):
    _, _, taken = play(challenged(action_repetition=steps), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_array_equal(taken, expected)


def test_what_is_held_went_through_the_delay_with_the_others():
    _, _, taken = play(challenged(action_delay=1, action_repetition=2), [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_array_equal(taken, [0.1, 0.1, 0.2, 0.2, 0.4])


def test_noise_of_actions_is_clipped_to_their_bounds_and_held_with_them():
    environment = challenged(action_noise=1.0, action_repetition=2)
    play(environment, [0.0] * 4000)
    taken = np.array(environment.unwrapped.taken)
    np.testing.assert_array_equal(taken[::2], taken[1::2])
    assert (taken.min(axis=0) == [-1.0, -0.8]).all()
    assert (taken.max(axis=0) == [1.1, 0.8]).all()
    assert np.median(taken[:, 0]) == pytest.approx(0.0, abs=0.1)
    assert np.mean(taken[:, 0] >= 1.1) == pytest.approx(0.1357, abs=0.03)  # 1 - Phi(1.1)
    assert abs(np.corrcoef(taken[::2].T)[0, 1]) < 0.1


def test_noise_of_observations_is_independent_in_every_component():
    sensors = Sensors(Challenges(observation_noise=0.3), 3, np.random.default_rng(0))
    read = np.array([sensors(np.array([1.0, 2.0, 3.0])) for _ in range(4000)])
    np.testing.assert_allclose(read.mean(axis=0), [1.0, 2.0, 3.0], atol=0.03)
    np.testing.assert_allclose(read.std(axis=0), 0.3, atol=0.02)
    assert np.abs(np.corrcoef(read.T) - np.eye(3)).max() < 0.06


class Scripted(np.random.Generator):
    """`random` returns these rows, one a call."""

    def __init__(self, *rows):
        super().__init__(np.random.PCG64())
        self.rows = [np.array(row) for row in rows]

    def random(self, shape):
        return self.rows.pop(0)


GOOD, BAD = 0.9, 0.1


def read_by(challenges, size, *rows):
    """What sensors read of 1, 2, 3, ... in every component."""
    sensors = Sensors(challenges, size, Scripted(*rows))
    return np.array([sensors(np.full(size, float(k + 1))) for k in range(len(rows))])


def test_dropped_sensors_read_zero_for_their_time():
    """The chance is drawn anew only by sensors that work."""
    challenges = Challenges(dropped_probability=0.5, dropped_steps=2)
    read = read_by(challenges, 2, [BAD, GOOD], [GOOD, GOOD], [GOOD, BAD], [BAD, GOOD], [GOOD, BAD])
    np.testing.assert_array_equal(read[:, 0], [0, 0, 3, 0, 0])
    np.testing.assert_array_equal(read[:, 1], [1, 2, 0, 0, 0])


def test_stuck_sensors_repeat_what_they_read_last():
    challenges = Challenges(stuck_probability=0.5, stuck_steps=2)
    read = read_by(challenges, 2, [GOOD, BAD], [BAD, GOOD], [GOOD, GOOD], [GOOD, GOOD], [BAD, GOOD])
    np.testing.assert_array_equal(read[:, 0], [1, 1, 1, 4, 4])
    np.testing.assert_array_equal(read[:, 1], [1, 1, 3, 4, 5])  # nothing was read before the first


def test_a_sensor_may_be_stuck_at_a_zero_that_was_dropped():
    """Each call draws for dropping first, then for sticking."""
    challenges = Challenges(dropped_probability=0.5, stuck_probability=0.5, stuck_steps=2)
    rows = [[GOOD], [GOOD], [BAD], [GOOD], [GOOD], [BAD], [GOOD], [GOOD], [GOOD], [GOOD]]
    sensors = Sensors(challenges, 1, Scripted(*rows))
    read = [float(sensors(np.array([k]))[0]) for k in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert read == [1, 0, 0, 0, 5]


def test_how_often_sensors_fail():
    """A share p of working components begins to fail at every call."""
    sensors = Sensors(
        Challenges(dropped_probability=0.05, dropped_steps=5), 1000, np.random.default_rng(1)
    )
    failing = np.mean([sensors(np.ones(1000)) == 0 for _ in range(300)])
    assert failing == pytest.approx(5 * 0.05 / (0.95 + 5 * 0.05), abs=0.01)


def test_dummies_come_last_and_are_neither_delayed_nor_repeated():
    environment = challenged(dummy_dimensions=4, observation_delay=3, stuck_probability=1.0)
    assert environment.observation_space.shape == (7,)
    observations, _, _ = play(environment, [0.0] * 500)
    np.testing.assert_array_equal(observations[:, 2], 0.0)
    dummies = observations[:, 3:]
    assert len(np.unique(dummies)) == dummies.size
    assert np.abs(dummies.mean(axis=0)).max() < 0.15
    np.testing.assert_allclose(dummies.std(axis=0), 1.0, atol=0.1)


def test_randomness_follows_the_seed():
    settings = {"action_noise": 0.1, "observation_noise": 0.1, "dummy_dimensions": 2}
    settings |= {"dropped_probability": 0.3, "stuck_probability": 0.3}

    def unrolled(seed):
        environment = Challenged(Counting(), Challenges(**settings))
        environment.first, _ = environment.reset(seed=seed)
        return play(environment, [0.1] * 20)[0]

    np.testing.assert_array_equal(unrolled(3), unrolled(3))
    assert not np.array_equal(unrolled(3), unrolled(4))


def test_a_seed_begins_everything_anew():
    environment = challenged(action_delay=2, observation_delay=2, reward_delay=2)
    play(environment, [0.5] * 5)
    environment.unwrapped.taken.clear()
    environment.first, _ = environment.reset(seed=1)
    observations, rewards, taken = play(environment, [0.1, 0.2])
    np.testing.assert_array_equal(taken, [0.1, 0.1])
    assert rewards == [6, 6]
    np.testing.assert_array_equal(observations[:, 2], [6, 6, 6])

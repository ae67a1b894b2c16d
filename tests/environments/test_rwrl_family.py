"""The combined challenges have the suite's tasks and numbers, and train as any other task."""

import numpy as np
import pytest

from stacx.environments import HostVector, make, rwrl_family
from stacx.environments.challenges import Challenges
from stacx.environments.rwrl_family import BODIES, DIFFICULTIES

SIZES = {"cartpole-swingup": 5, "walker-walk": 24, "quadruped-walk": 78, "humanoid-walk": 67}
ACTIONS = {"cartpole-swingup": 1, "walker-walk": 6, "quadruped-walk": 12, "humanoid-walk": 21}
DUMMIES = {"easy": 10, "medium": 20, "hard": 50}


@pytest.mark.parametrize("name", rwrl_family.names())
def test_the_twelve_environments(name):
    task, _, difficulty = name.rpartition("-")
    environment = make(f"rwrl:{name}")
    assert environment.observation_shape == (SIZES[task] + DUMMIES[difficulty],)
    assert environment.action_space.shape == (ACTIONS[task],)
    vector = HostVector(environment, 1)
    vector.reset(0)
    transition = vector.step(np.zeros((1, ACTIONS[task]), np.float32))
    assert np.isfinite(vector.observations).all()
    assert 0.0 <= transition.rewards[0] <= 1.0
    vector.close()


def test_the_quadruped_s_actions_are_not_symmetric():
    space = make("rwrl:quadruped-walk-easy").action_space
    np.testing.assert_allclose(space.low, [-1.0, -1.0, -0.8] * 4)
    np.testing.assert_allclose(space.high, [1.0, 1.1, 0.8] * 4)


def test_the_numbers_of_the_difficulties():
    """From the suite's `get_combined_challenge`."""
    easy, medium, hard = (Challenges(**DIFFICULTIES[name]) for name in ("easy", "medium", "hard"))
    both = [(c.action_delay, c.observation_delay, c.reward_delay) for c in (easy, medium, hard)]
    assert both == [(3, 3, 10), (6, 6, 20), (9, 9, 40)]
    noise = [(c.action_noise, c.observation_noise) for c in (easy, medium, hard)]
    assert noise == [(0.1, 0.1), (0.3, 0.3), (1.0, 1.0)]
    sensors = [(c.dropped_probability, c.dropped_steps) for c in (easy, medium, hard)]
    assert sensors == [(0.01, 1), (0.05, 5), (0.1, 10)]
    assert sensors == [(c.stuck_probability, c.stuck_steps) for c in (easy, medium, hard)]
    assert [c.action_repetition for c in (easy, medium, hard)] == [1, 2, 3]
    assert not any(c.clear_buffers for c in (easy, medium, hard))
    bodies = {domain: tuple(of.values()) for domain, of in BODIES.items()}
    assert bodies == {
        "cartpole": ((0.9, 1.1), (0.7, 1.7), (0.5, 2.3)),
        "walker": ((0.225, 0.25), (0.225, 0.4), (0.225, 0.55)),
        "quadruped": ((0.25, 0.3), (0.25, 0.8), (0.25, 1.4)),
        "humanoid": ((0.6, 0.8), (0.5, 0.9), (0.4, 1.0)),
    }


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_every_episode_has_a_body_of_its_own(difficulty):
    """Of ten, drawn evenly, some are in each half of the range."""
    environment = make(f"rwrl:cartpole-swingup-{difficulty}").make_vector(1).envs[0].unwrapped
    poles = []
    for seed in range(10):
        environment.reset(seed=seed)
        poles.append(2 * environment._environment.physics.named.model.geom_size["pole_1"][1])
    low, high = BODIES["cartpole"][difficulty]
    assert low <= min(poles) < (low + high) / 2 < max(poles) <= high
    assert len(set(poles)) == 10


def test_rewards_come_later_and_observations_too():
    """Over two episodes, from the same seed with the same actions: sequences that are shifted."""

    def played(arguments):
        vector = HostVector(make("dmc:cartpole-swingup", arguments), 1)
        vector.reset(0)
        seen, rewards, random = [vector.observations[0].copy()], [], np.random.default_rng(0)
        for _ in range(1100):
            action = random.uniform(-1, 1, (1, 1)).astype(np.float32)
            transition = vector.step(action)
            seen.append(vector.observations[0].copy())
            if transition.valid[0]:
                rewards.append(transition.rewards[0])
        vector.close()
        return np.array(seen), np.array(rewards)

    seen, rewards = played('{"engine": "dm_control"}')
    late, late_rewards = played('{"reward_delay": 10, "observation_delay": 3}')
    np.testing.assert_array_equal(late_rewards[10:], rewards[:-10])
    np.testing.assert_array_equal(late_rewards[:10], rewards[0])
    np.testing.assert_array_equal(late[3:], seen[:-3])
    np.testing.assert_array_equal(late[:3], seen[[0, 0, 0]])
    assert len(rewards) == 1099  # one transition led to the second episode


def test_quadrupeds_start_upright():
    environment = make("rwrl:quadruped-walk-easy").make_vector(1).envs[0].unwrapped
    for seed in range(5):
        environment.reset(seed=seed)
        physics = environment._environment.physics
        assert float(physics.torso_upright()) == pytest.approx(1.0)
        assert physics.data.ncon == 0
    yaws = {tuple(np.round(_root(environment, seed), 3)) for seed in range(5)}
    assert len(yaws) == 5


def _root(environment, seed):
    environment.reset(seed=seed)
    return environment._environment.physics.named.data.qpos["root"][3:]


def test_a_challenge_can_be_changed():
    environment = make("rwrl:walker-walk-hard", '{"dummy_dimensions": 3, "body": [0.225, 0.225]}')
    assert environment.observation_shape == (27,)
    plain = make("dmc:walker-run", '{"dummy_dimensions": 3}')
    assert plain.observation_shape == (27,)
    assert not plain.batches_itself


@pytest.mark.parametrize("name", ["cartpole-swingup-easy", "walker-walk-hard"])
def test_unstable_physics_end_an_episode_under_challenges(name):
    """What delays and sensors hold stays finite."""
    vector = HostVector(make(f"rwrl:{name}"), 2)
    vector.reset(0)
    actions = np.zeros((2, *vector.environment.action_space.shape), np.float32)
    vector.step(actions)
    task = vector.vector.envs[1].unwrapped
    task._environment.physics.data.qvel[0] = np.nan
    transition = vector.step(actions)
    np.testing.assert_array_equal(transition.physics_errors, [False, True])
    np.testing.assert_array_equal(transition.ended, [False, True])
    np.testing.assert_array_equal(transition.discounts, 1.0)
    assert np.isfinite(vector.observations).all()
    dummy = vector.step(actions)
    np.testing.assert_array_equal(dummy.valid, [1.0, 0.0])
    assert not dummy.physics_errors.any()
    for _ in range(30):  # the longest delay is over
        vector.step(actions)
        assert np.isfinite(vector.observations).all()
    vector.close()

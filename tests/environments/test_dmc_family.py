"""DM Control: two engines behind one id, which agree, and what is refused."""

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from support import message_of

from stacx.environments import HostVector, dmc_family, envpool_engine, make
from stacx.environments.dm_control_engine import DMControl, load_suite, load_task
from stacx.environments.dmc_family import DOMAINS, unchanging
from stacx.environments.envpool_engine import Pool, pool_id, spaces_of
from stacx.errors import ConfigError

TASKS = [(domain, task) for domain, known in DOMAINS.items() for task in known.tasks.split()]
DM_CONTROL = '{"engine": "dm_control"}'


def refusal(env, arguments="{}") -> str:
    with pytest.raises(ConfigError) as caught:
        make(env, arguments)
    return message_of(caught)


def test_every_task_of_the_suite_is_listed():
    assert set(TASKS) == set(load_suite().ALL_TASKS)
    assert list(dmc_family.names()) == [f"{domain}-{task}" for domain, task in TASKS]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("domain", "task"), TASKS)
def test_both_engines_show_the_same_spaces(domain, task):
    """envpool has more parts for some tasks, and another order: the suite's are taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = load_task(domain, task, 0)
    wanted = environment.observation_spec()
    observed, taken = spaces_of(pool_id(domain, task))
    assert [(name, part.shape) for name, part in wanted.items()] == [
        (name, part.shape) for name, part in observed.spaces.items()
    ]
    bounds = environment.action_spec()
    np.testing.assert_allclose(taken.low, bounds.minimum, rtol=1e-6)
    np.testing.assert_allclose(taken.high, bounds.maximum, rtol=1e-6)
    assert DOMAINS[domain].control_timestep == pytest.approx(environment.control_timestep())
    if domain != "lqr":
        assert environment._step_limit == pytest.approx(1000)


# --- the same physics ----------------------------------------------------------------------------
# envpool tells no positions, but for these tasks they follow from what is seen.


def of_cartpole(seen):
    x, cosine, sine = seen["position"]
    return [x, np.arctan2(sine, cosine)], seen["velocity"]


def as_seen(seen):
    return seen["position"], seen["velocity"]


def of_cheetah(seen):
    return [0.0, *seen["position"]], seen["velocity"]


def of_pendulum(seen):
    cosine, sine = seen["orientation"]
    return [np.arctan2(sine, cosine)], seen["velocity"]


def of_acrobot(seen):
    """Both arms' directions are seen; the second joint turns against the first arm."""
    sines, cosines = np.split(seen["orientations"], 2)
    upper, lower = np.arctan2(sines, cosines)
    return [upper, lower - upper], seen["velocity"]


def of_walker(seen):
    """Seven bodies' directions are seen: the torso's, and down each leg."""
    cosines, sines = seen["orientations"].reshape(7, 2).T
    torso, *legs = np.arctan2(sines, cosines)
    joints = -np.concatenate([np.diff([torso, *legs[:3]]), np.diff([torso, *legs[3:]])])
    joints = (joints + np.pi) % (2 * np.pi) - np.pi
    return [seen["height"].item() - 1.3, 0.0, torso, *joints], seen["velocity"]


STATES = {
    ("cartpole", "balance"): of_cartpole,
    ("cartpole", "swingup"): of_cartpole,
    ("cartpole", "balance_sparse"): of_cartpole,
    ("ball_in_cup", "catch"): as_seen,
    ("point_mass", "easy"): as_seen,
    ("cheetah", "run"): of_cheetah,
    ("hopper", "stand"): of_cheetah,
    ("hopper", "hop"): of_cheetah,
    ("reacher", "easy"): as_seen,
    ("reacher", "hard"): as_seen,
    ("pendulum", "swingup"): of_pendulum,
    ("acrobot", "swingup"): of_acrobot,
    ("walker", "stand"): of_walker,
    ("walker", "walk"): of_walker,
    ("walker", "run"): of_walker,
    ("humanoid", "run_pure_state"): as_seen,
}
"""From an observation to the positions and velocities of the simulation."""


def flat(seen):
    return np.concatenate([np.ravel(part) for part in seen.values()])


@pytest.mark.parametrize(("domain", "task"), STATES)
def test_both_engines_compute_the_same(domain, task):
    """The same actions from the same states: observations, rewards, and the episode's end.

    Every ten steps one engine takes over the other's state: contacts are chaotic, and tiny
    differences grow.
    """
    pool = Pool(pool_id(domain, task), 1)
    seen, _ = pool.reset(seed=3)
    environment = load_task(domain, task, 0)
    environment.reset()
    random, rewards = np.random.default_rng(0), []
    low, high = pool.single_action_space.low, pool.single_action_space.high
    for step in range(1000):
        if step % 10 == 0:
            positions, velocities = STATES[domain, task]({k: v[0] for k, v in seen.items()})
            with environment.physics.reset_context():
                environment.physics.data.qpos[:] = positions
                environment.physics.data.qvel[:] = velocities
            if domain == "reacher":  # its target is a part of the model
                named = environment.physics.named
                finger = named.data.geom_xpos["finger", :2]
                named.model.geom_pos["target", :2] = finger + seen["to_target"][0]
                environment.physics.forward()
        action = random.uniform(low, high)
        if domain == "point_mass":  # towards its target, where there are rewards
            action = np.clip(-3 * seen["position"][0] - seen["velocity"][0], low, high)
        seen, reward, terminated, truncated, info = pool.step(action[None])
        timestep = environment.step(action)
        assert truncated[0] == timestep.last() == (step == 999)
        assert not terminated[0]
        assert not info["physics_error"][0]
        np.testing.assert_allclose(flat(timestep.observation), flat(seen), atol=1e-4)
        assert reward[0] == pytest.approx(timestep.reward, abs=1e-4)
        rewards.append(reward[0])
    if domain not in ("ball_in_cup", "hopper", "reacher", "pendulum", "acrobot"):  # nothing here
        assert np.ptp(rewards) > 0.03
    environment.close()


# --- the wrappers --------------------------------------------------------------------------------


@pytest.fixture(params=["{}", DM_CONTROL], ids=["envpool", "dm_control"])
def walker(request):
    return make("dmc:walker-walk", request.param)


def test_observations_are_one_vector_in_the_suite_s_order(walker):
    assert walker.observation_shape == (24,)
    assert walker.observation_dtype == np.float32
    assert walker.action_space.low == (-1.0,) * 6
    vector = HostVector(walker, 2)
    vector.reset(5)
    seen = vector.vector.reset(seed=5)[0]
    by_name = np.concatenate(
        [seen[name].reshape(2, -1) for name in ("orientations", "height", "velocity")], axis=1
    )
    np.testing.assert_allclose(by_name, vector.observations, rtol=1e-6)
    vector.close()


def test_episodes_are_truncated_after_1000_steps(walker):
    vector = HostVector(walker, 2)
    vector.reset(0)
    assert vector.vector.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    for _ in range(999):
        assert not vector.step(np.zeros((2, 6), np.float32)).ended.any()
    last = vector.step(np.zeros((2, 6), np.float32))
    assert last.ended.all()
    assert last.discounts.all()
    before = vector.observations.copy()
    dummy = vector.step(np.zeros((2, 6), np.float32))
    assert not dummy.valid.any()
    assert vector.starts.all()
    assert not np.allclose(before, vector.observations)
    vector.close()


def test_seeds_decide_the_episodes(walker):
    vector = HostVector(walker, 3)

    def first(seed):
        vector.reset(seed)
        seen = [vector.observations.copy()]
        for _ in range(3):
            vector.step(np.full((3, 6), 0.5, np.float32))
            seen.append(vector.observations.copy())
        return np.array(seen)

    one, other, none, again = first(1), first(2), first(0), first(1)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(none, first(0))
    assert not np.allclose(one, other)
    assert not np.allclose(one, none)
    assert not np.allclose(one[:, 0], one[:, 1])
    vector.close()


@pytest.mark.parametrize("broken", ["action", "qpos", "qvel"])
def test_unstable_physics_end_an_episode_and_are_counted(broken):
    environment = DMControl(unchanging(lambda seed: load_task("walker", "walk", seed)))
    environment.reset(seed=0)
    seen, reward, *_ = environment.step(np.zeros(6))
    assert reward > 0
    action = np.zeros(6)
    if broken == "action":
        action[:] = np.nan
    else:
        getattr(environment._environment.physics.data, broken)[2] = np.nan
    unstable = environment.step(action)
    assert unstable[1:] == (0.0, False, True, {"physics_error": True})
    np.testing.assert_array_equal(unstable[0]["velocity"], seen["velocity"])
    assert np.isfinite(environment.reset()[0]["velocity"]).all()
    assert environment.step(np.zeros(6))[4] == {"physics_error": False}


def test_a_vector_counts_them():
    vector = HostVector(make("dmc:walker-walk", DM_CONTROL), 2)
    vector.reset(0)
    actions = np.zeros((2, 6), np.float32)
    vector.step(actions)
    actions[1] = np.nan
    transition = vector.step(actions)
    np.testing.assert_array_equal(transition.ended, [False, True])
    np.testing.assert_array_equal(transition.discounts, 1.0)
    assert np.isfinite(vector.observations).all()
    np.testing.assert_array_equal(transition.physics_errors, [False, True])
    transition = vector.step(np.zeros((2, 6), np.float32))
    np.testing.assert_array_equal(transition.valid, [1.0, 0.0])
    assert not transition.physics_errors.any()
    vector.close()


class Fake:
    """Stands for envpool's batch: what the second environment returns at step 2 is not finite."""

    def __init__(self, part):
        self.part, self.time = part, 0

    def reset(self):
        return {
            "orientations": np.zeros((2, 14)),
            "height": np.ones(2),
            "velocity": np.zeros((2, 9)),
        }, {}

    def step(self, actions):
        self.time += 1
        seen, _ = self.reset()
        rewards = np.ones(2)
        if self.time == 2:
            (rewards if self.part == "reward" else seen[self.part])[1] = np.inf
        return seen, rewards, np.zeros(2, bool), np.zeros(2, bool), {}


@pytest.mark.parametrize("part", ["reward", "height", "velocity"])
def test_a_pool_that_returns_what_is_not_finite_is_made_anew(monkeypatch, part):
    import envpool

    made = []

    def make_fake(name, num_envs, seed):
        made.append(seed)
        return Fake(part if len(made) == 1 else "nothing")

    vector = HostVector(make("dmc:walker-walk"), 2)
    monkeypatch.setattr(envpool, "make_gymnasium", make_fake)
    vector.reset(5)
    actions = np.zeros((2, 6), np.float32)
    assert not vector.step(actions).ended.any()
    broken = vector.step(actions)
    assert broken.ended.all()
    assert broken.discounts.all()
    np.testing.assert_array_equal(broken.rewards, [1, 0])
    np.testing.assert_array_equal(broken.physics_errors, [False, True])
    assert np.isfinite(vector.observations).all()
    assert not vector.step(actions).valid.any()
    assert vector.starts.all()
    assert made == [5, 7]
    assert vector.step(actions).valid.all()


def test_lqr_cannot_be_trained_on():
    assert refusal("dmc:lqr-lqr_2_1") == (
        "dmc:lqr-lqr_2_1 cannot be trained on: its controls have no bounds"
    )


@pytest.mark.filterwarnings("ignore")
def test_lqr_terminates():
    """The one domain whose episodes have no time limit: they end at the goal."""
    environment = load_task("lqr", "lqr_2_1", 0)
    task = DMControl(unchanging(lambda seed: environment))
    task.reset()
    with environment.physics.reset_context():
        environment.physics.data.qpos[:] = 0.0
        environment.physics.data.qvel[:] = 0.0
    *_, terminated, truncated, _ = task.step(np.zeros(1))
    assert terminated
    assert not truncated


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("dmc:walker-wlak", "unknown environment 'dmc:walker-wlak'; did you mean dmc:walker-w"),
        ("dmc:waker-walk", "unknown environment 'dmc:waker-walk'; did you mean dmc:walker-w"),
        ("dmc:cartpole", "unknown environment 'dmc:cartpole'; did you mean dmc:cartpole-"),
        (
            "dmc:humanoid-CMU-run",
            "unknown environment 'dmc:humanoid-CMU-run'; did you mean dmc",
        ),
        (
            "dmc-pixels:reacher-esy",
            "unknown environment 'dmc-pixels:reacher-esy'; did you mean dmc",
        ),
        (
            "rwrl:walker-walk",
            "unknown environment 'rwrl:walker-walk'; did you mean rwrl:wal",
        ),
        (
            "rwrl:walker-run-easy",
            "unknown environment 'rwrl:walker-run-easy'; did you mean rwrl:wal",
        ),
    ],
)
def test_an_unknown_task_is_told_the_nearest(env, message):
    assert refusal(env).startswith(message)


WALKER = "dmc:walker-walk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"engine": "mujoco"}', 'engine must be envpool or dm_control, not "mujoco"'),
        ('{"engine": "envpool", "reward_delay": 1}', "the engine envpool has no reward_delay"),
        ('{"camera": -1}', "camera must be a whole number of at least 0, not -1"),
        ('{"action_delay": 1.5}', "action_delay must be a whole number of at least 0, not 1.5"),
        (
            '{"action_repetition": 0}',
            "action_repetition must be a whole number of at least 1, n",
        ),
        (
            '{"dropped_probability": 1.1}',
            "dropped_probability must be a number from 0 to 1, not 1",
        ),
        ('{"stuck_steps": true}', "stuck_steps must be a whole number of at least 1, not true"),
        (
            '{"observation_noise": -0.1}',
            "observation_noise must be a number of at least 0, not -",
        ),
        ('{"clear_buffers": 1}', "clear_buffers must be true or false, not 1"),
        ('{"body": 0.3}', "body must be two numbers, the first not above the second"),
        ('{"body": [0.3, 0.2]}', "body must be two numbers, the first not above"),
        (
            '{"body": [0, 0.2]}',
            "body, its thigh_length (usually 0.225), must be from 0.02 to 2, not [0, 0.2]",
        ),
        (
            '{"body": [0.2, 3]}',
            "body, its thigh_length (usually 0.225), must be from 0.02 to 2, not [0.2, 3]",
        ),
        ('{"body_period": 2}', "body_period has no effect without body"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    assert refusal(WALKER, arguments).startswith(f"{WALKER}: {message}")


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        (WALKER, '{"camera": 2}'),
        (WALKER, '{"camera": 2, "engine": "dm_control"}'),
        (WALKER, '{"camera": 2, "reward_delay": 1}'),
        ("rwrl:walker-walk-easy", '{"camera": 2}'),
    ],
)
def test_a_camera_that_the_model_has_not(env, arguments):
    assert refusal(env, arguments) == f"{env}: camera must be from 0 to 1, not 2"


def test_an_unknown_argument_is_told_the_known_ones():
    message = refusal(WALKER, '{"delay": 1}')
    assert message.startswith(
        f"{WALKER} has no parameter delay: --env-args takes engine, camera, act"
    )


def test_a_task_without_a_body_that_can_change():
    message = refusal("dmc:fish-swim", '{"body": [0.2, 0.3]}')
    assert message.startswith("dmc:fish-swim has no body that can change: there are cartpole-bal")


@pytest.fixture
def without(monkeypatch):
    """Takes engines away."""
    find = importlib.util.find_spec

    def take(*missing):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in missing else find(name)
        )
        dmc_family._installed_engines.cache_clear()

    yield take
    monkeypatch.undo()
    dmc_family._installed_engines.cache_clear()


def test_an_engine_that_is_not_installed(without):
    without("envpool")
    assert not make(WALKER).batches_itself  # dm_control takes its place
    hint = "pip install '.[dmc]' in stacx's project directory"
    assert refusal(WALKER, '{"engine": "envpool"}') == f"{WALKER} needs the package envpool: {hint}"
    without("dm_control")
    assert make(WALKER).batches_itself
    assert refusal(WALKER, DM_CONTROL) == f"{WALKER} needs the package dm_control: {hint}"
    missing = "needs a package that is missing (No module named 'dm_control')"
    assert refusal("rwrl:walker-walk-easy") == f"rwrl:walker-walk-easy {missing}: {hint}"
    assert refusal("dmc-pixels:walker-walk") == f"dmc-pixels:walker-walk {missing}: {hint}"
    without("dm_control", "envpool")
    assert refusal(WALKER).startswith(f"{WALKER} needs a package that is missing (No module named")


def test_names_of_the_pool():
    assert pool_id("humanoid_CMU", "run") == "HumanoidCMURun-v1"
    assert pool_id("lqr", "lqr_2_1") == "LqrLqr21-v1"
    assert pool_id("ball_in_cup", "catch") == "BallInCupCatch-v1"
    assert set(envpool_engine._OBSERVED) <= {pool_id(*names) for names in TASKS}


MODELS = """
import gc, threading
from stacx.environments.dm_control_engine import load_task

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def some():
    models = [load_task("cartpole", "swingup", 0) for _ in range(4)]

some()
before = resident()
for _ in range(3):
    threads = [threading.Thread(target=some) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
gc.collect()
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_models_that_threads_are_done_with_leave_no_memory_behind():
    """glibc keeps what was freed for the thread that had it: 240 MiB of the sky's texture."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MODELS], capture_output=True, text=True, check=True
    )
    assert float(ended.stdout) < 80

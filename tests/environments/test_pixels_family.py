"""Pictures of DM Control: their order, what renders them, and what happens where nothing does."""

import functools
import json
import os
import sys

import numpy as np
import pytest
from gymnasium import spaces
from support import message_of

from stacx.config import Config
from stacx.environments import HostVector, make, pixels_family, rendering
from stacx.environments.dm_control_engine import DMControl
from stacx.environments.pixels_family import Pixels, picture_space
from stacx.errors import ConfigError

ENV = "dmc-pixels:cartpole-balance"


EFFECTS = {"shadows": False, "reflections": True}


class Drawn(DMControl):
    """Stands for a task: picture number n has n in every channel, and step n pays n.

    It becomes unstable at step `breaks`, if there is one.
    """

    def __init__(self, length, breaks=None):
        self.observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (1,))})
        self.action_space = spaces.Box(-1, 1, (1,))
        self.length, self.time, self.render_mode = length, 0, "rgb_array"
        self.breaks = breaks
        self.actions = []

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return {"a": np.zeros(1)}, {"seed": seed}

    def step(self, action):
        self.time += 1
        self.actions.append(float(action[0]))
        if self.time == self.breaks:
            return {"a": np.zeros(1)}, 0.0, False, True, {"physics_error": True}
        over = self.time == self.length
        return {"a": np.zeros(1)}, float(self.time), False, over, {"physics_error": False}

    def picture(self, height, width, **effects):
        self.effects = effects
        return np.full((height, width, 3), self.time, np.uint8)


def shown(observation):
    """The number of each picture of a stack."""
    height, width, channels = observation.shape
    assert observation.dtype == np.uint8
    stack = observation.reshape(height * width, channels // 3, 3)
    assert (stack == stack[:1, :, :1]).all()
    return stack[0, :, 0].tolist()


def test_pictures_are_stacked_with_the_newest_last():
    environment = Pixels(Drawn(10), size=2, action_repeat=1, frame_stack=3, **EFFECTS)
    observation, info = environment.reset(seed=4)
    assert info == {"seed": 4}
    assert environment.observation_space == picture_space(2, 3)
    assert environment.observation_space.contains(observation)
    assert shown(observation) == [0, 0, 0]
    assert [shown(environment.step(np.zeros(1))[0]) for _ in range(3)] == [
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
    ]
    assert shown(environment.reset()[0]) == [0, 0, 0]


def test_an_action_is_repeated_and_its_rewards_are_summed():
    task = Drawn(5)
    environment = Pixels(task, size=2, action_repeat=3, frame_stack=1, **EFFECTS)
    environment.reset()
    observation, reward, terminated, truncated, info = environment.step(np.full(1, 0.5))
    assert (shown(observation), reward, terminated, truncated) == ([3], 6.0, False, False)
    observation, reward, terminated, truncated, info = environment.step(np.full(1, 0.25))
    assert (shown(observation), reward, terminated, truncated) == ([5], 9.0, False, True)
    assert info == {"physics_error": False}
    assert task.actions == [0.5, 0.5, 0.5, 0.25, 0.25]
    assert task.effects == EFFECTS


def test_unstable_physics_are_not_drawn():
    environment = Pixels(Drawn(10, breaks=4), size=2, action_repeat=3, frame_stack=2, **EFFECTS)
    environment.reset()
    environment.step(np.zeros(1))
    observation, *rest = environment.step(np.zeros(1))
    assert shown(observation) == [3, 3]
    assert rest == [0.0, False, True, {"physics_error": True}]


@pytest.mark.parametrize(("given", "used"), [(None, "0"), ("2", "2")])
def test_mesa_gets_no_threads_of_its_own_unless_told(given, used, monkeypatch):
    monkeypatch.setenv("LP_NUM_THREADS", given or "")  # so that it is restored
    if given is None:
        monkeypatch.delenv("LP_NUM_THREADS")
    monkeypatch.setattr(pixels_family, "DMControl", lambda *_, **__: Drawn(1))
    settings = {"size": 2, "action_repeat": 1, "frame_stack": 1} | EFFECTS
    pixels_family._make_one(lambda seed: None, settings, renderer="egl", camera=0)
    assert os.environ["LP_NUM_THREADS"] == used


@pytest.fixture(autouse=True)
def forgetting():
    rendering._failure.cache_clear()
    yield
    rendering._failure.cache_clear()


def trials(monkeypatch, **programs):
    """What each renderer's trial does; those that are not named fail."""

    def run(command, *, env, **options):
        program = programs.get(env["MUJOCO_GL"], "raise SystemExit('no such thing')")
        return original([sys.executable, "-c", program], env=env, **options)

    original = rendering.subprocess.run
    monkeypatch.setattr(rendering.subprocess, "run", run)
    monkeypatch.delenv("MUJOCO_GL", raising=False)


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        rendering.renderer(ENV)
    return message_of(caught)


def test_the_first_renderer_that_draws_is_taken(monkeypatch):
    trials(monkeypatch, egl="pass", osmesa="pass")
    assert rendering.renderer(ENV) == "egl"


def test_another_is_tried_where_one_fails_or_hangs(monkeypatch):
    monkeypatch.setattr(rendering, "_PATIENCE", 1.0)
    trials(monkeypatch, egl="import time; time.sleep(60)", osmesa="pass")
    assert rendering.renderer(ENV) == "osmesa"


def test_all_are_tried_before_an_environment_must_have_been_made():
    assert len(rendering._RENDERERS) * rendering._PATIENCE < Config().env_timeout


def test_the_user_s_own_choice_is_the_only_one(monkeypatch):
    trials(monkeypatch, egl="pass", osmesa="pass")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.renderer(ENV) == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert refusal().startswith(
        f"{ENV} cannot be drawn here (MUJOCO_GL is glfw): glfw failed (no such thing). On Debian"
    )


def test_where_nothing_draws_the_packages_are_named(monkeypatch):
    monkeypatch.setattr(rendering, "_PATIENCE", 1.0)
    trials(monkeypatch, egl="import time; time.sleep(60)", osmesa="raise ImportError('OSMesa')")
    assert refusal() == (
        f"{ENV} cannot be drawn here: egl has drawn nothing within 1 s; osmesa failed "
        "(ImportError: OSMesa). On Debian and Ubuntu a renderer comes with apt-get install "
        "libegl1 libegl-mesa0 libgl1-mesa-dri or apt-get install libosmesa6"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"size": 0}', "size must be a whole number from 1 to 480, not 0"),
        ('{"size": 481}', "size must be a whole number from 1 to 480, not 481"),
        ('{"camera": -1}', "camera must be a whole number of at least 0, not -1"),
        ('{"frame_stack": "two"}', 'frame_stack must be a whole number of at least 1, not "two"'),
        ('{"shadows": 0}', "shadows must be true or false, not 0"),
        ('{"reflections": 0}', "reflections must be true or false, not 0"),
        ('{"action_repeat": 1.5}', "action_repeat must be a whole number of at least 1, not 1.5"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(ConfigError) as caught:
        make(ENV, arguments)
    assert message_of(caught) == f"{ENV}: {message}"


def test_a_camera_that_the_model_has_not(monkeypatch):
    trials(monkeypatch, egl="pass")
    with pytest.raises(ConfigError) as caught:
        make(ENV, '{"camera": 2}')
    assert message_of(caught) == f"{ENV}: camera must be from 0 to 1, not 2"


def test_an_unknown_argument_is_told_the_known_ones():
    with pytest.raises(ConfigError, match="no parameter height: --env-args takes size, camera"):
        make(ENV, '{"height": 84}')


@functools.cache
def can_draw() -> bool:
    try:
        rendering.renderer(ENV)
    except ConfigError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"camera": 1}, {"shadows": False}, {"reflections": False}])
def test_settings_of_pictures_make_them_different(other):
    if not can_draw():
        pytest.skip("nothing draws here")
    seen = []
    for settings in ({}, other, other):
        vector = HostVector(make("dmc-pixels:walker-walk", json.dumps({"size": 64} | settings)), 1)
        vector.reset(0)
        seen.append(vector.observations.copy())
        vector.close(terminate=True)
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(seen[1], seen[2])


@pytest.mark.slow
def test_real_pictures():
    """Other scenes look different, and the pole is seen to move."""
    if not can_draw():
        pytest.skip("nothing draws here")
    environment = make(ENV, '{"size": 32, "action_repeat": 2}')
    assert environment.observation_shape == (32, 32, 3)
    assert environment.observation_dtype == np.uint8
    assert environment.frames_per_step == 2
    assert environment.batches_itself
    vector = HostVector(environment, 2)
    vector.reset(0)
    first = vector.observations.copy()
    assert first.std() > 5
    assert (first[0] != first[1]).any()
    for _ in range(10):
        transition = vector.step(np.ones((2, 1), np.float32))
    assert (vector.observations != first).any()
    assert 0 < transition.rewards[0] <= 2
    assert [picture.shape for picture in vector.render()] == [(240, 320, 3)] * 2
    vector.close(terminate=True)
    assert pixels_family.SETTINGS["size"] == 84

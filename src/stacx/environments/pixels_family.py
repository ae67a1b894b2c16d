"""The DM Control Suite from pictures: `dmc-pixels:DOMAIN-TASK`.

Every environment is a process of its own, which draws with EGL or OSMesa, whichever works.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from stacx.environments import dmc_family, rendering
from stacx.environments.arguments import TRUTH, check, whole
from stacx.environments.dm_control_engine import DMControl, load_task
from stacx.environments.host import HostEnvironment
from stacx.environments.workers import batch_of

_LARGEST = 480
"""What MuJoCo's buffer is high."""
SETTINGS: dict[str, Any] = {
    "size": 84,
    "camera": 0,
    "action_repeat": 1,
    "frame_stack": 1,
    "shadows": True,
    "reflections": True,
}
"""Height and width in pixels, number of the camera, steps of the task that an action is repeated
for, pictures that are shown at once, whether things have shadows, and whether floors mirror them.
The paper says none of these; 84, the first camera, shadows and reflections are those of Tassa et
al. 2018, and a recurrent agent needs no stack."""


class Pixels(gymnasium.Wrapper):
    """Shows pictures [size, size, 3 * frame_stack], the newest last, in place of features.

    Where the simulation becomes unstable, the last picture is repeated.

    Args:
        env: the task, with a renderer.
        size: height and width.
        action_repeat: steps of the task in one of this; rewards are summed.
        frame_stack: how many pictures; an episode's first one stands for those before it.
        shadows: whether things have them.
        reflections: whether floors show them.
    """

    def __init__(
        self,
        env: DMControl,
        *,
        size: int,
        action_repeat: int,
        frame_stack: int,
        shadows: bool,
        reflections: bool,
    ):
        super().__init__(env)
        self._task = env
        self._size = size
        self._action_repeat = action_repeat
        self._effects = {"shadows": shadows, "reflections": reflections}
        self._pictures: deque[np.ndarray] = deque(maxlen=frame_stack)
        self.observation_space = picture_space(size, frame_stack)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        _, info = self._task.reset(seed=seed, options=options)
        picture = self._picture()
        self._pictures.extend([picture] * (self._pictures.maxlen or 1))
        return self._stacked(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._action_repeat):
            _, reward, terminated, truncated, info = self._task.step(action)
            total += reward
            if terminated or truncated:
                break
        broken = info["physics_error"]
        self._pictures.append(self._pictures[-1] if broken else self._picture())
        return self._stacked(), total, terminated, truncated, info

    def _picture(self) -> np.ndarray:
        return self._task.picture(self._size, self._size, **self._effects)

    def _stacked(self) -> np.ndarray:
        return np.concatenate(self._pictures, axis=-1)


def _make_one(
    load: Callable[[int | None], Any], settings: dict[str, Any], *, renderer: str, camera: int
) -> gymnasium.Env:
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa draws in this process, one of many
    drawn = DMControl(dmc_family.unchanging(load), renderer=renderer, camera=camera)
    return Pixels(drawn, **settings)


def picture_space(size: int, frame_stack: int) -> spaces.Box:
    """Of observations."""
    return spaces.Box(0, 255, (size, size, 3 * frame_stack), np.uint8)


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`dmc-pixels:DOMAIN-TASK`; arguments are those of `SETTINGS`.

    Raises:
        ConfigError: if an argument is unknown or out of range, or nothing can be drawn here.
    """
    env, (domain, task) = f"dmc-pixels:{name}", name.split("-")
    ranges = dict.fromkeys(SETTINGS, whole(1))
    ranges |= {
        "size": whole(1, _LARGEST),
        "camera": whole(0),
        "shadows": TRUTH,
        "reflections": TRUTH,
    }
    check(env, arguments, ranges)
    settings = SETTINGS | arguments
    camera = settings.pop("camera")
    renderer = rendering.renderer(env)
    load = functools.partial(load_task, domain, task)
    make_one = functools.partial(_make_one, load, settings, renderer=renderer, camera=camera)

    def make_vector(num_envs: int, *, vectorization: str = "auto", film: bool = False) -> VectorEnv:
        del vectorization, film
        return batch_of(make_one, num_envs, env, processes=True)

    undrawn = DMControl(dmc_family.unchanging(load), camera=camera)
    undrawn.check_camera(env)
    taken = undrawn.action_space
    undrawn.close()
    return HostEnvironment(
        env,
        picture_space(settings["size"], settings["frame_stack"]),
        taken,
        make_vector,
        batches_itself=True,
        frames_per_step=settings["action_repeat"],
        steps_per_second=dmc_family.rate(domain) / settings["action_repeat"],
    )

"""DM Control's tasks as Gymnasium environments, computed by dm_control itself.

Pictures are made in processes of their own (`stacx.environments.rendering`): a process chooses its
renderer when it first imports dm_control, and a renderer may hang.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from stacx.environments.mujoco_warnings import leave_out_deprecations
from stacx.errors import ConfigError

Observation = Mapping[str, np.ndarray]

_NO_RENDERER = "disabled"
_VARIABLE = "MUJOCO_GL"
_SKY = "./common/skybox.xml"
_IMPORTING = threading.Lock()
"""Actors make their environments in threads; the variable is the process's."""


def load_suite(renderer: str | None = None) -> Any:
    """The module `dm_control.suite`; its first import in a process decides how that draws.

    Args:
        renderer: egl or osmesa; None: nothing is drawn in this process, and no display is missed.
    """
    with _IMPORTING:
        if "dm_control.suite" not in sys.modules:
            _import_suite(renderer)
    from dm_control import suite

    return suite


def _import_suite(renderer: str | None) -> None:
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = renderer or _NO_RENDERER
    try:
        from dm_control.suite import common
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
    leave_out_deprecations()
    if renderer is None:  # the sky's texture is 11 of the 11.3 MiB of most models
        sky = common.ASSETS[_SKY]
        common.ASSETS[_SKY] = re.sub(rb'(width|height)="\d+"', rb'\1="8"', sky)


class DMControl(gymnasium.Env):
    """A task of dm_control, with observations as a dictionary in dm_control's order.

    An episode that ends with a discount of 0 has terminated, any other was truncated. Where the
    simulation becomes unstable the episode is truncated, with the last good observation, no reward
    and `info["physics_error"]`.

    Args:
        begin: from a seed to what returns the `dm_control.rl.control.Environment` of each episode.
        renderer: with which pictures are made: egl or osmesa; None: there are none.
        camera: number of the camera of these.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (as Gymnasium has it)

    def __init__(
        self,
        begin: Callable[[int | None], Callable[[], Any]],
        *,
        renderer: str | None = None,
        camera: int = 0,
    ):
        load_suite(renderer)
        self._begin = begin
        self._camera = camera
        self.render_mode = "rgb_array" if renderer else None
        self._next = begin(None)
        self._environment = self._next()
        specification = self._environment.observation_spec()
        self.observation_space = spaces.Dict(
            OrderedDict((name, _box(part.shape)) for name, part in specification.items())
        )
        bounds = self._environment.action_spec()
        self.action_space = spaces.Box(bounds.minimum, bounds.maximum, dtype=np.float64)
        self._seen: Observation = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:  # some tasks draw their model, too
            self._next = self._begin(seed)
        self._environment = self._next()
        self._seen = self._environment.reset().observation
        return self._seen, {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        from dm_control.rl.control import PhysicsError

        try:
            timestep = self._environment.step(action)
        except PhysicsError:
            return self._seen, 0.0, False, True, {"physics_error": True}
        self._seen = timestep.observation
        terminated = timestep.last() and timestep.discount == 0.0
        truncated = timestep.last() and not terminated
        return self._seen, float(timestep.reward), terminated, truncated, {"physics_error": False}

    def render(self) -> Any:
        return self.picture(240, 320)

    def picture(
        self, height: int, width: int, *, shadows: bool = True, reflections: bool = True
    ) -> np.ndarray:
        """What the camera sees, [height, width, 3]."""
        flags = {"shadow": shadows, "reflection": reflections}
        picture = self._environment.physics.render(
            height, width, camera_id=self._camera, render_flag_overrides=flags
        )
        return np.asarray(picture, np.uint8)

    def close(self) -> None:
        self._environment.close()

    def check_camera(self, env: str) -> None:
        """Raises `ConfigError` if the model has no such camera; `env` is the id for the error."""
        cameras = self._environment.physics.model.ncam
        if self._camera >= cameras:
            raise ConfigError(f"{env}: camera must be from 0 to {cameras - 1}, not {self._camera}")


def load_task(domain: str, task: str, seed: int | None) -> Any:
    """A `dm_control.rl.control.Environment` of the suite."""
    return load_suite().load(domain, task, task_kwargs={"random": seed})


def _box(shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float64)

"""DM Control's tasks computed by envpool: a batch of them in threads of C++."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

_UPRIGHT_QUADRUPED = ("egocentric_state", "torso_velocity", "torso_upright", "imu", "force_torque")
_DOG = (
    *("joint_angles", "joint_velocites", "torso_pelvis_height", "z_projection"),  # sic
    *("torso_com_velocity", "inertial_sensors", "foot_forces", "touch_sensors", "actuator_state"),
)
_HUMANOID = (
    *("joint_angles", "head_height", "extremities", "torso_vertical", "com_velocity", "velocity"),
)
_OBSERVED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("DogStand-v1", "DogWalk-v1", "DogTrot-v1", "DogRun-v1"), _DOG),
    "FingerSpin-v1": ("position", "velocity", "touch"),
    "FishUpright-v1": ("joint_angles", "upright", "velocity"),
    "FishSwim-v1": ("joint_angles", "upright", "target", "velocity"),
    **dict.fromkeys(("HumanoidStand-v1", "HumanoidWalk-v1", "HumanoidRun-v1"), _HUMANOID),
    "HumanoidRunPureState-v1": ("position", "velocity"),
    **dict.fromkeys(("QuadrupedWalk-v1", "QuadrupedRun-v1"), _UPRIGHT_QUADRUPED),
    "QuadrupedEscape-v1": (*_UPRIGHT_QUADRUPED, "origin", "rangefinder"),
    "QuadrupedFetch-v1": (*_UPRIGHT_QUADRUPED, "ball_state", "target_position"),
}
"""What dm_control shows, in its order, where envpool has the parts of a whole domain, or another
order."""


def pool_id(domain: str, task: str) -> str:
    """envpool's name of a task: `humanoid_CMU`, `run` is `HumanoidCMURun-v1`."""
    parts = (domain + "_" + task).split("_")
    return "".join(part[:1].upper() + part[1:] for part in parts) + "-v1"


class Pool(VectorEnv):
    """A batch of one task, with next-step autoreset, and observations in dm_control's order.

    envpool seeds a batch when it makes it, so a seed makes another one. Where a simulation returns
    what is not finite, the episodes of the whole batch are truncated, and it is made anew: a single
    environment of it cannot be reset.

    Args:
        name: envpool's, as of `pool_id`.
        num_envs: how many environments.
    """

    def __init__(self, name: str, num_envs: int):
        self._name = name
        self._shown = tuple(spaces_of(name)[0].spaces)
        self._pool: Any = None
        self._seed = 0
        self._fresh = False
        self._last: dict[str, np.ndarray] = {}
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        observed, taken = spaces_of(name)
        self.single_observation_space, self.single_action_space = observed, taken
        self.observation_space = batch_space(observed, num_envs)
        self.action_space = batch_space(taken, num_envs)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        del options
        if seed is not None:
            self._seed = seed[0] if isinstance(seed, list) else seed
        if seed is not None or self._pool is None:
            self._make()
        self._fresh = False
        observations, _ = self._pool.reset()
        self._last = self._observed(observations)
        return self._last, {}

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        zeros, none = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if self._fresh:  # this step takes every environment to a new episode
            self._seed += self.num_envs
            self._make()
            observations, info = self.reset()
            return observations, zeros, none, none, info | {"physics_error": none}
        raw, rewards, terminations, truncations, _ = self._pool.step(actions)
        observations, broken = self._observed(raw), ~np.isfinite(rewards)
        for part in observations.values():
            broken |= ~np.isfinite(part.reshape(self.num_envs, -1)).all(axis=1)
        if broken.any():
            self._fresh = True
            rewards, terminations = np.where(broken, 0.0, rewards), terminations & ~broken
            truncations = ~terminations
            observations = {
                name: np.where(broken.reshape(-1, *[1] * (part.ndim - 1)), self._last[name], part)
                for name, part in observations.items()
            }
        self._last = observations
        return observations, rewards, terminations, truncations, {"physics_error": broken}

    def close_extras(self, **arguments: Any) -> None:
        del arguments
        self._pool = None  # its destructor ends the threads

    def _observed(self, raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: raw[name] for name in self._shown}

    def _make(self) -> None:
        import envpool

        # envpool takes seeds of 32 bits
        self._pool = envpool.make_gymnasium(
            self._name, num_envs=self.num_envs, seed=self._seed % 2**31
        )


def spaces_of(name: str) -> tuple[Any, Any]:
    """Observations and actions of a task; nothing is simulated."""
    import envpool

    specification = envpool.make_spec(name)
    parts: Any = specification.gymnasium_observation_space.spaces
    boxes = OrderedDict(
        (key, spaces.Box(-np.inf, np.inf, parts[key].shape, np.float64))
        for key in _OBSERVED.get(name, parts)
    )
    bounds: Any = specification.gymnasium_action_space
    return spaces.Dict(boxes), spaces.Box(bounds.low, bounds.high, dtype=np.float64)

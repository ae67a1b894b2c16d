"""The combined challenges of the Real-World RL suite (section 4.2): `rwrl:DOMAIN-TASK-DIFFICULTY`.

The tasks and their numbers are those of the suite (Dulac-Arnold et al. 2020, docs/dm_control.md).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stacx.environments import dmc_family
from stacx.environments.dm_control_engine import load_suite, load_task
from stacx.environments.host import HostEnvironment

TASKS = ("cartpole-swingup", "walker-walk", "quadruped-walk", "humanoid-walk")

DIFFICULTIES: dict[str, dict[str, Any]] = {
    "easy": {
        "action_delay": 3,
        "observation_delay": 3,
        "reward_delay": 10,
        "action_noise": 0.1,
        "observation_noise": 0.1,
        "dropped_probability": 0.01,
        "stuck_probability": 0.01,
        "dummy_dimensions": 10,
    },
    "medium": {
        "action_delay": 6,
        "observation_delay": 6,
        "reward_delay": 20,
        "action_noise": 0.3,
        "observation_noise": 0.3,
        "dropped_probability": 0.05,
        "dropped_steps": 5,
        "stuck_probability": 0.05,
        "stuck_steps": 5,
        "action_repetition": 2,
        "dummy_dimensions": 20,
    },
    "hard": {
        "action_delay": 9,
        "observation_delay": 9,
        "reward_delay": 40,
        "action_noise": 1.0,
        "observation_noise": 1.0,
        "dropped_probability": 0.1,
        "dropped_steps": 10,
        "stuck_probability": 0.1,
        "stuck_steps": 10,
        "action_repetition": 3,
        "dummy_dimensions": 50,
    },
}
"""What is not named is the same at every difficulty: as a challenge is by default."""

BODIES: dict[str, dict[str, tuple[float, float]]] = {
    "cartpole": {"easy": (0.9, 1.1), "medium": (0.7, 1.7), "hard": (0.5, 2.3)},
    "walker": {"easy": (0.225, 0.25), "medium": (0.225, 0.4), "hard": (0.225, 0.55)},
    "quadruped": {"easy": (0.25, 0.3), "medium": (0.25, 0.8), "hard": (0.25, 1.4)},
    "humanoid": {"easy": (0.6, 0.8), "medium": (0.5, 0.9), "hard": (0.4, 1.0)},
}
"""Between which values `stacx.environments.bodies.PARAMETERS` are drawn, before every episode."""


def names() -> dict[str, str | None]:
    """All twelve. Raises `ImportError` if dm_control is not installed."""
    dmc_family.reference_names()
    return {f"{task}-{difficulty}": None for task in TASKS for difficulty in DIFFICULTIES}


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`rwrl:DOMAIN-TASK-DIFFICULTY`.

    Its arguments are `camera`, and the challenges that are to differ, as those of `dmc:`.

    Raises:
        ConfigError: if an argument is unknown or out of range.
    """
    domain, task, difficulty = name.split("-")
    body = list(BODIES[domain][difficulty])
    settings = DIFFICULTIES[difficulty] | {"body": body} | arguments
    load = _load_quadruped if domain == "quadruped" else functools.partial(load_task, domain, task)
    return dmc_family.of_dm_control(f"rwrl:{name}", domain, task, settings, load)


def _load_quadruped(seed: int | None) -> Any:
    """A quadruped that starts upright, unlike dm_control's, which starts in any orientation."""
    from dm_control.rl import control

    move: Any = load_suite().quadruped.Move

    class Upright(move):  # type: ignore[misc]
        def initialize_episode(self, physics: Any) -> None:
            yaw = self.random.uniform(0, 2 * np.pi)
            _lift(physics, (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)))
            super(move, self).initialize_episode(physics)

    original = load_task("quadruped", "walk", None)
    speed = original.task._desired_speed
    return control.Environment(
        original.physics,
        Upright(desired_speed=speed, random=seed),
        time_limit=20.0,
        control_timestep=original.control_timestep(),
    )


def _lift(physics: Any, orientation: tuple[float, ...]) -> None:
    """Raises the body by centimetres until it touches nothing."""
    from dm_control.rl.control import PhysicsError

    for centimetres in range(10_000):
        try:
            with physics.reset_context():
                physics.named.data.qpos["root"][:3] = 0.0, 0.0, centimetres / 100
                physics.named.data.qpos["root"][3:] = orientation
        except PhysicsError:  # too many contacts
            continue
        if physics.data.ncon == 0:
            return
    raise RuntimeError("no height at which the quadruped touches nothing")

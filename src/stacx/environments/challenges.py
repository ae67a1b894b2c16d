"""The challenges of the Real-World RL suite (Dulac-Arnold et al. 2020), on any task of dm_control.

Delays, noise, dropped and stuck sensors, repeated actions, and dimensions that mean nothing (bodies
that change are in `stacx.environments.bodies`). As in the suite, nothing of this is reset between
episodes: the first observations and rewards of an episode are the last ones of the one before.
Unlike there, randomness is the environment's own and follows its seed.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


@dataclasses.dataclass(frozen=True)
class Challenges:
    """How hard a task is made; by default not at all."""

    action_delay: int = 0
    """Control steps."""
    observation_delay: int = 0
    """Control steps."""
    reward_delay: int = 0
    """Control steps."""
    action_noise: float = 0.0
    """Standard deviation of what is added to every component, before the bounds clip it."""
    observation_noise: float = 0.0
    """Standard deviation of what is added to every component."""
    dropped_probability: float = 0.0
    """With which a sensor that works begins to read 0, for each component and step."""
    dropped_steps: int = 1
    """For how many."""
    stuck_probability: float = 0.0
    """With which a sensor that works begins to repeat itself, for each component and step."""
    stuck_steps: int = 1
    """For how many."""
    action_repetition: int = 1
    """Control steps for which an action is held; those given meanwhile are lost."""
    dummy_dimensions: int = 0
    """Components at the end of an observation that are N(0, 1)."""
    clear_buffers: bool = False
    """Whether delays, sensors and held actions begin anew with an episode; not so in the suite."""


class Delay:
    """Item number k - d at the k-th call of all, or the first one."""

    def __init__(self, steps: int):
        self._items: deque[Any] = deque(maxlen=steps + 1)

    def __call__(self, item: Any) -> Any:
        """Takes the newest item, and returns the one that is due."""
        while len(self._items) < (self._items.maxlen or 1) - 1:
            self._items.append(item)
        self._items.append(item)
        return self._items[0]


class Sensors:
    """Noise, then components that read 0, then components that repeat what was read last.

    Args:
        challenges: how often, for how long.
        size: components of an observation.
        random: where randomness comes from.
    """

    def __init__(self, challenges: Challenges, size: int, random: np.random.Generator):
        self._challenges = challenges
        self._random = random
        self._dropped = np.zeros(size, np.int64)
        self._stuck = np.zeros(size, np.int64)
        self._last: np.ndarray | None = None

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """What is read of an observation, [size]."""
        known = self._challenges
        read = observation + self._normal(known.observation_noise, observation.shape)
        read = np.where(
            self._fails(self._dropped, known.dropped_probability, known.dropped_steps), 0.0, read
        )
        stuck = self._fails(self._stuck, known.stuck_probability, known.stuck_steps)
        if self._last is not None:
            read = np.where(stuck, self._last, read)
        self._last = read
        return read

    def _normal(self, deviation: float, shape: tuple[int, ...]) -> Any:
        return self._random.normal(0.0, deviation, shape) if deviation else 0.0

    def _fails(self, left: np.ndarray, probability: float, steps: int) -> np.ndarray:
        """Which components fail now; `left` counts for how many calls each still does."""
        if probability:
            begins = (left == 0) & (self._random.random(left.shape) < probability)
            left[begins] = steps
        failing = left > 0
        left[failing] -= 1
        return failing


class Challenged(gymnasium.Wrapper):
    """A task of dm_control under challenges; its observation is one vector, dummies last.

    Args:
        env: the task, whose observation is a dictionary.
        challenges: which.
    """

    def __init__(self, env: gymnasium.Env, challenges: Challenges):
        super().__init__(env)
        self._challenges = challenges
        self._size = spaces.flatdim(env.observation_space)
        size = self._size + challenges.dummy_dimensions
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self._random = np.random.default_rng()
        self._clear()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self._random = np.random.default_rng(seed)
        if seed is not None or self._challenges.clear_buffers:
            self._clear()
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observed(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self._taken(action))
        return self._observed(observation), self._reward(reward), terminated, truncated, info

    def _clear(self) -> None:
        known = self._challenges
        self._action, self._reward = Delay(known.action_delay), Delay(known.reward_delay)
        self._observation = Delay(known.observation_delay)
        self._sensors = Sensors(known, self._size, self._random)
        self._held: np.ndarray | None = None
        self._held_for = 0

    def _taken(self, action: np.ndarray) -> np.ndarray:
        """What the actuators do: the action that is due, with noise, for as long as it is held."""
        space: Any = self.env.action_space
        due = self._action(np.array(action, np.float64))
        noise = self._challenges.action_noise
        if noise:
            due = due + self._random.normal(0.0, noise, due.shape)
        due = np.clip(due, space.low, space.high)
        if self._held is None or self._held_for >= self._challenges.action_repetition:
            self._held, self._held_for = due, 0
        self._held_for += 1
        return self._held

    def _observed(self, observation: Any) -> np.ndarray:
        flat = np.concatenate([np.ravel(part) for part in observation.values()])
        due = self._observation(self._sensors(flat))
        dummies = self._random.normal(size=self._challenges.dummy_dimensions)
        return np.concatenate([due, dummies])

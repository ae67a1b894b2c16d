"""Gymnasium environments for tests: a walk that only its seed decides, and what may go wrong."""

import multiprocessing
import os
import random
import time

import gymnasium
import numpy as np
from gymnasium import spaces

from stacx.environments import gym_family


class Corridor(gymnasium.Env):
    """A walk with steps -1, 0 or 1: terminates at -3 and 3, is truncated at time 5.

    It starts at -1, 0 or 1, as its seed says. Observations are position, time and `hue`, a number
    that every reset draws; the reward is the new position.

    Args:
        delay: a step takes up to so many seconds, each time others.
    """

    observation_space = spaces.Box(-9.0, 9.0, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, delay: float = 0.0):
        self._delay = delay
        self._dice = random.Random()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.time = int(self.np_random.integers(-1, 2)), 0
        self.hue = float(self.np_random.random())
        return self.observe(), {}

    def step(self, action):
        time.sleep(self._delay * self._dice.random())
        self.position, self.time = self.position + int(action) - 1, self.time + 1
        terminated = abs(self.position) >= 3
        truncated = self.time >= 5 and not terminated
        return self.observe(), float(self.position), terminated, truncated, {}

    def observe(self):
        return np.array([self.position, self.time, self.hue], np.float32)


class Pictures(Corridor):
    """The same as pictures of bytes."""

    observation_space = spaces.Box(0, 255, (3, 1, 1), np.uint8)

    def observe(self):
        return (super().observe() * 10 + 100).astype(np.uint8).reshape(3, 1, 1)


class Faulty(Corridor):
    """Does something wrong at the fourth step that it takes, in its second reset, or when made.

    Args:
        fault: a method's name.
        place: step, reset, or worker: the constructor, in a process of its own.
        once: a file; the fault happens only while there is none, and makes it.
        seconds: how long it hangs.
    """

    def __init__(self, fault: str, place: str = "step", once: str = "", seconds: float = 60.0):
        super().__init__()
        self._fault, self._place, self._once, self._seconds = fault, place, once, seconds
        self._calls = {"step": 0, "reset": 0}
        in_worker = multiprocessing.parent_process() is not None
        if self._place == "worker" and in_worker and self.is_time():
            getattr(self, self._fault)()

    def is_time(self) -> bool:
        if not self._once:
            return True
        try:
            os.close(os.open(self._once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def outcome(self, place, result):
        self._calls[place] += 1
        late = self._calls[place] >= {"step": 4, "reset": 2}[place]
        if place == self._place and late and self.is_time():
            return getattr(self, self._fault)(*result)
        return result

    def reset(self, *, seed=None, options=None):
        return self.outcome("reset", super().reset(seed=seed, options=options))

    def step(self, action):
        return self.outcome("step", super().step(action))

    def error(self, *_):
        raise RuntimeError("the simulator broke: 100 % of it\nin two")

    def quit(self, *_):
        raise SystemExit(0)

    def die(self, *_):
        os._exit(3)

    def hang(self, *result):
        """It returns in the end."""
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            time.sleep(0.05)
        return result

    def nan(self, observation, *others):
        return observation * np.nan, *others

    def nan_reward(self, observation, _, *others):
        return observation, np.nan, *others

    def wrong_shape(self, observation, *others):
        return observation[:2], *others


def environment_of(function, **arguments):
    """As `stacx.environments.make` does for `host_games:NAME`."""
    name = f"host_games:{function.__name__}"
    return gym_family.from_function(name, function, arguments, function(**arguments))

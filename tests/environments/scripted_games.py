"""Gymnasium environments that do what a script says; worker processes import this file."""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

NEVER = 1000


class Scripted(gymnasium.Env):
    """Observations are the episode's number and the time in it, rewards the time.

    Args:
        script: for each episode, when it terminates and when it is truncated.
        lives: (episode, time) pairs at which a life is lost.
    """

    observation_space = spaces.Box(0, NEVER, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, script, lives=()):
        self.script, self.lives = script, lives
        self.episode, self.time = -1, 0

    def reset(self, *, seed=None, options=None):
        self.episode = self.episode + 1 if seed is None else 0
        self.time = 0
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        terminates, truncated = self.script[self.episode]
        info = {"life_lost": True} if (self.episode, self.time) in self.lives else {}
        ends = self.time == terminates, self.time == truncated
        return self.observe(), float(self.time), *ends, info

    def observe(self):
        return np.array([self.episode, self.time], np.float32)


class Broken(gymnasium.Env):
    """Environment 1 of a batch that is reset with seed 0 goes wrong: in `reset` or at step 3.

    Args:
        fault: what happens.
        space: of observations, which are zeros.
    """

    action_space = spaces.Discrete(3)

    def __init__(self, fault, space=None):
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32) if space is None else space
        self.fault, self.bad, self.time = fault, False, 0

    def reset(self, *, seed=None, options=None):
        self.bad = seed == 1
        self.time = 0
        if self.bad and self.fault == "raise in reset":
            raise RuntimeError("no luck at all\nand more lines")
        if self.bad and self.fault == "reset alone":
            return self.zeros(self.observation_space)
        return self.zeros(self.observation_space), {}

    def step(self, action):
        self.time += 1
        observation, reward = self.zeros(self.observation_space), 1.0
        ends, info = {"terminated": False, "truncated": False}, {}
        if self.bad and self.time == 3:
            match self.fault:
                case "raise":
                    raise RuntimeError("no luck at all\nand more lines")
                case ("observation", wrong):
                    observation = wrong
                case ("reward", wrong):
                    reward = wrong
                case ("terminated" | "truncated" as end, wrong):
                    ends[end] = wrong
                case ("life_lost", wrong):
                    info = {"life_lost": wrong}
                case "too few":
                    return observation, reward, False, {}
                case "hang":
                    while True:
                        pass
        return observation, reward, *ends.values(), info

    def zeros(self, space):
        if isinstance(space, spaces.Dict):
            return {name: self.zeros(part) for name, part in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self.zeros(part) for part in space.spaces)
        return np.zeros(space.shape, space.dtype)


class OwnBatch(VectorEnv):
    """A vector environment of a user's own, whose step returns what `changes` says.

    Args:
        num_envs: how many.
        dtype: of observations.
        changes: observations, rewards, terminations, truncations or info.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs, dtype=np.float32, **changes):
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(0, 200, (2,), dtype)
        self.single_action_space = spaces.Discrete(3)
        self.dtype, self.changes = dtype, changes

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 2), self.dtype), {}

    def step(self, actions):
        results = {
            "observations": np.zeros((self.num_envs, 2), self.dtype),
            "rewards": np.ones(self.num_envs),
            "terminations": np.zeros(self.num_envs, bool),
            "truncations": np.zeros(self.num_envs, bool),
            "info": {},
        }
        return tuple((results | self.changes).values())

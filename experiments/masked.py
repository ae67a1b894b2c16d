"""CartPole without velocities: what they are can only be told from what was seen before.

stacx train --env masked:make --lstm-size 64        in this directory
"""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.wrappers import TransformObservation

POSITIONS = [0, 2]
"""Of the cart and of the pole, among position, velocity, angle, angular velocity."""


def make() -> gymnasium.Env:
    """CartPole-v1 whose observations are two numbers."""
    env = gymnasium.make("CartPole-v1")
    space = env.observation_space
    assert isinstance(space, gymnasium.spaces.Box)
    masked = gymnasium.spaces.Box(space.low[POSITIONS], space.high[POSITIONS], dtype=np.float32)
    return TransformObservation(env, lambda observation: observation[POSITIONS], masked)

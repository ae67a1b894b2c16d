"""A trajectory, a config and a network small and smooth enough for finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stacx.config import Config
from stacx.types import Box, Discrete, MultiDiscrete, NetworkOutput, Trajectory

STEPS, BATCH, FEATURES, ACTIONS = 7, 3, 4, 3
DUMMIES = ((2, 0), (5, 1))
"""(step, environment): the first follows a termination, the second a truncation."""
WIDTH = 5
ONE_CHOICE, TWO_CHOICES = Discrete(ACTIONS), MultiDiscrete((2, 3))
TWO_NUMBERS = Box((-1.0, -1.0), (1.0, 1.0))


def make_config(**settings) -> Config:
    """A config of the classic suite with raw rewards."""
    defaults = {"num_envs": BATCH, "trajectory_length": STEPS, "reward_scale": 1.0}
    return Config(**defaults | settings)


def make_trajectory(seed: int = 0, space=ONE_CHOICE) -> Trajectory:
    """Off-policy data with an episode that terminates and one that is truncated."""
    rng = np.random.default_rng(seed)
    discounts, valid = np.ones((STEPS, BATCH)), np.ones((STEPS, BATCH))
    starts = np.zeros((STEPS + 1, BATCH), bool)
    discounts[1, 0] = 0.0
    for step, environment in DUMMIES:
        valid[step, environment] = 0.0
        starts[step + 1, environment] = True
    return Trajectory(
        actions=make_actions(rng, space),
        rewards=jnp.asarray(rng.normal(size=(STEPS, BATCH)), float),
        discounts=jnp.asarray(discounts, float),
        valid=jnp.asarray(valid, float),
        behaviour_log_probs=jnp.asarray(np.log(rng.uniform(0.1, 0.9, (STEPS, BATCH))), float),
        observations=jnp.asarray(rng.normal(size=(STEPS + 1, BATCH, FEATURES)), float),
        starts=jnp.asarray(starts),
        recurrent_state=(),
    )


def make_actions(rng, space):
    if isinstance(space, Box):
        return jnp.asarray(rng.normal(size=(STEPS, BATCH, *space.shape)), float)
    high = space.n if isinstance(space, Discrete) else space.sizes
    return jnp.asarray(rng.integers(high, size=(STEPS, BATCH, *space.shape)), jnp.int32)


def make_output(heads: int, seed: int = 1, space=ONE_CHOICE) -> NetworkOutput:
    """What some network could say of the trajectory's observations."""
    rng = np.random.default_rng(seed)
    return NetworkOutput(
        policy=jnp.asarray(rng.normal(size=(STEPS + 1, BATCH, heads, space.num_outputs)), float),
        values=jnp.asarray(rng.normal(size=(STEPS + 1, BATCH, heads)), float),
    )


class TinyNetwork:
    """A `stacx.types.Network`: one tanh layer, and linear heads."""

    def __init__(self, heads: int, action_space=ONE_CHOICE):
        self.heads = heads
        self.action_space = action_space

    def init(self, key):
        torso, policy, value = jax.random.split(key, 3)
        return {
            "torso": jax.random.normal(torso, (FEATURES, WIDTH)),
            "policy": jax.random.normal(policy, (self.heads, WIDTH, self.action_space.num_outputs)),
            "value": jax.random.normal(value, (self.heads, WIDTH)),
        }

    def initial_state(self, batch):
        return ()

    def unroll(self, parameters, observations, starts, recurrent_state, *, main_head_only=False):
        heads = slice(1) if main_head_only else slice(None)
        features = self.features(parameters, observations)
        policy = jnp.einsum("tbi,pia->tbpa", features, parameters["policy"][heads])
        values = jnp.einsum("tbi,pi->tbp", features, parameters["value"][heads])
        return NetworkOutput(policy, values), ()

    def having_seen(self, parameters, observations, valid):
        raise NotImplementedError

    def features(self, parameters, observations):
        return jnp.tanh(observations @ parameters["torso"])


# --- several choices as one: each joint action is a choice, its logit the sum of its parts' -------


def all_actions(sizes) -> np.ndarray:
    """Every joint action, [prod(sizes), D]."""
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=-1)


def joint_policy(policy, sizes):
    """Logits of the joint actions."""
    offsets = np.cumsum([0, *sizes[:-1]])
    chosen = all_actions(sizes) + offsets
    return jnp.sum(policy[..., chosen], axis=-1)


def joint_trajectory(trajectory: Trajectory, sizes) -> Trajectory:
    """The same with the numbers of the joint actions."""
    actions = np.ravel_multi_index(tuple(np.moveaxis(np.asarray(trajectory.actions), -1, 0)), sizes)
    return dataclasses.replace(trajectory, actions=jnp.asarray(actions, jnp.int32))

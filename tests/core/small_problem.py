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
WIDTH, EMBEDDED = 5, 2
ONE_CHOICE, TWO_CHOICES = Discrete(ACTIONS), MultiDiscrete((2, 3))
TWO_NUMBERS = Box((-1.0, -1.0), (1.0, 1.0))


def make_config(**settings) -> Config:
    """A config of the classic suite with raw rewards, and heads together as in the paper."""
    defaults = {"num_envs": BATCH, "trajectory_length": STEPS, "reward_scale": 1.0}
    return Config(**defaults | {"max_aux_gradient": None} | settings)


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
    """A `stacx.types.Network`: one tanh layer, and linear heads; what variants need, if asked."""

    def __init__(self, heads: int, action_space=ONE_CHOICE, *, outer_values=False, embedding=0):
        self.heads = heads
        self.action_space = action_space
        self.outer_values = outer_values
        self.embedding = embedding
        """Rows of weights of the gamma embedding: none, one, or one a head."""

    def init(self, key):
        torso, policy, value, outer, *embedding = jax.random.split(key, 7)
        width = WIDTH + (EMBEDDED if self.embedding else 0)
        parameters = {
            "torso": jax.random.normal(torso, (FEATURES, WIDTH)),
            "policy": jax.random.normal(policy, (self.heads, width, self.action_space.num_outputs)),
            "value": jax.random.normal(value, (self.heads, width)),
        }
        if self.outer_values:
            parameters["outer"] = jax.random.normal(outer, (1, WIDTH))
        if self.embedding:
            parameters["embedding"] = jax.random.normal(embedding[0], (self.embedding, EMBEDDED))
            parameters["gamma"] = jnp.zeros((self.heads,))
        return parameters

    def initial_state(self, batch):
        return ()

    def unroll(self, parameters, observations, starts, recurrent_state, *, main_head_only=False):
        heads = slice(1) if main_head_only else slice(None)
        shared = self.features(parameters, observations)
        features = jnp.stack([shared] * self.heads, axis=2)[:, :, heads]
        if self.embedding:
            told = (parameters["gamma"][:, None] * parameters["embedding"])[heads]
            told = jnp.broadcast_to(told, (*features.shape[:-1], EMBEDDED))
            features = jnp.concatenate([features, told], axis=-1)
        policy = jnp.einsum("tbpi,pia->tbpa", features, parameters["policy"][heads])
        values = jnp.einsum("tbpi,pi->tbp", features, parameters["value"][heads])
        outer = None
        if self.outer_values:
            outer = jnp.einsum("tbi,pi->tbp", shared, parameters["outer"])
        return NetworkOutput(policy, values, outer), ()

    def per_head(self, parameters):
        return {name: name not in ("torso", "outer") for name in parameters}

    def conditioned_on(self, parameters, gamma):
        return parameters | {"gamma": gamma}

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

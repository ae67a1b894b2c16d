"""Whole episodes of a trained policy, in parallel."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from stacx.environments import OnDeviceEnvironment, VectorEnvironment
from stacx.errors import BrokenEnvironmentError, ConfigError, StacxError
from stacx.runs.failures import running
from stacx.runs.policy import Policy
from stacx.types import Parameters

_CHUNK = 100
"""Steps between two looks at whether every episode has ended."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Undiscounted raw returns, and lengths, of one episode per environment."""

    returns: np.ndarray
    lengths: np.ndarray


def evaluate(
    policy: Policy,
    environment: OnDeviceEnvironment,
    *,
    episodes: int,
    seed: int = 0,
    greedy: bool = False,
    most_steps: int = 100_000,
) -> Evaluation:
    """The first episode of each of `episodes` environments, so that short ones do not count more.

    Raises:
        ConfigError: if `episodes` is not positive.
        BrokenEnvironmentError: if the environment returned what is not finite.
        StacxError: if an episode has not ended after `most_steps` steps.
    """
    if episodes <= 0:
        raise ConfigError(f"--episodes must be positive, not {episodes}")
    vector = VectorEnvironment(environment)

    def step(parameters: Parameters, carry: Any, key: Array) -> tuple[Any, None]:
        state, recurrent, finished, returns, lengths, bad = carry
        bad["observations"] |= ~finished & ~_finite(state.observations)
        act_key, env_key = jax.random.split(key)
        actions, recurrent = policy.act_on_batch(
            state.observations, recurrent, None if greedy else act_key, parameters
        )
        state, transition = vector.step(jax.random.split(env_key, episodes), state, actions)
        bad["rewards"] |= ~finished & ~_finite(transition.rewards)
        first_end = transition.ended & ~finished
        returns = jnp.where(first_end, transition.returns, returns)
        lengths = jnp.where(first_end, transition.lengths, lengths)
        return (state, recurrent, finished | transition.ended, returns, lengths, bad), None

    @jax.jit
    def chunk(parameters: Parameters, carry: Any, key: Array) -> Any:
        steps = functools.partial(step, parameters)
        return jax.lax.scan(steps, carry, jax.random.split(key, _CHUNK))[0]

    start_key, step_key = jax.random.split(jax.random.key(seed))
    carry = (
        jax.jit(vector.reset)(jax.random.split(start_key, episodes)),
        policy.initial_state(episodes),
        jnp.zeros((episodes,), bool),
        jnp.zeros((episodes,)),
        jnp.zeros((episodes,), jnp.int32),
        {name: jnp.zeros((episodes,), bool) for name in ("observations", "rewards")},
    )
    for index in range(-(-most_steps // _CHUNK)):
        with running(policy.config.env):
            chunk_key = jax.random.fold_in(step_key, index)
            carry = jax.block_until_ready(chunk(policy.parameters, carry, chunk_key))
        for name, bad in carry[5].items():
            if bool(jnp.any(bad)):
                raise BrokenEnvironmentError(
                    f"{policy.config.env} returned {name} that are not finite, in {int(bad.sum())} "
                    f"of {episodes} episodes: mend the environment"
                )
        if bool(jnp.all(carry[2])):
            return Evaluation(np.asarray(carry[3]), np.asarray(carry[4]))
    raise StacxError(
        f"{int(jnp.sum(~carry[2]))} of {episodes} episodes had not ended after {most_steps} steps"
    )


def _finite(values: Array) -> Array:
    """Which rows of [B, ...] have finite entries only."""
    return jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))


def record_episode(
    policy: Policy,
    environment: OnDeviceEnvironment,
    *,
    seed: int = 0,
    greedy: bool = False,
    most_frames: int = 1000,
) -> list[np.ndarray]:
    """Pictures [H, W, 3] of one episode, its last state included.

    Raises:
        ConfigError: if the environment cannot be drawn.
    """
    from stacx.environments.drawing import draw

    reset, step = jax.jit(environment.reset), jax.jit(environment.step)
    key, reset_key = jax.random.split(jax.random.key(seed))
    state, observation = reset(reset_key)
    frames, recurrent = [draw(environment, state)], None
    while len(frames) < most_frames:
        key, act_key, step_key = jax.random.split(key, 3)
        action, recurrent = policy.act(observation, recurrent, None if greedy else act_key)
        with running(policy.config.env):
            state, timestep = jax.block_until_ready(step(step_key, state, action))
        observation = timestep.observation
        frames.append(draw(environment, state))
        if bool(timestep.terminated | timestep.truncated):
            break
    return frames

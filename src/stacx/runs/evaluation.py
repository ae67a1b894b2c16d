"""Whole episodes of a trained policy, in parallel."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from stacx.environments import (
    Environment,
    HostEnvironment,
    OnDeviceEnvironment,
    VectorEnvironment,
    VectorState,
)
from stacx.errors import BrokenEnvironmentError, ConfigError, StacxError
from stacx.runs import host_evaluation
from stacx.runs.policy import Policy
from stacx.runtimes.running import running
from stacx.types import Parameters, RecurrentState

_CHUNK = 100
"""Steps between two looks at whether every episode has ended."""
MOST_FRAMES = 1000
"""Pictures of a film: half a minute of most environments, and some ten megabytes."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One episode per environment."""

    returns: Float[np.ndarray, " episodes"]
    """Undiscounted sums of raw rewards."""
    lengths: Int[np.ndarray, " episodes"]
    """In steps."""


class _Playing(NamedTuple):
    """Environments on their way to the end of their first episodes; B = episodes."""

    state: VectorState
    recurrent_state: RecurrentState
    finished: Bool[Array, " B"]
    returns: Float[Array, " B"]
    lengths: Int[Array, " B"]
    bad_observations: Bool[Array, " B"]
    bad_rewards: Bool[Array, " B"]


def evaluate(
    policy: Policy,
    environment: Environment,
    *,
    episodes: int,
    seed: int = 0,
    greedy: bool = False,
    most_steps: int = 100_000,
    env_timeout: float | None = None,
) -> Evaluation:
    """Whole episodes, as many in each environment, so that short ones do not count more.

    Args:
        policy: a trained policy.
        environment: where it plays.
        episodes: how many.
        seed: of the environments, and of the actions.
        greedy: whether it takes the most probable action instead of sampling.
        most_steps: within which every episode must end.
        env_timeout: seconds after which environments on the CPU that do not answer are given up;
            None: as in the run.

    Raises:
        ConfigError: if `episodes` is not positive.
        BrokenEnvironmentError: if the environment returned what is not finite.
        StacxError: if an episode has not ended after `most_steps` steps.
    """
    if episodes <= 0:
        raise ConfigError(f"--episodes must be positive, not {episodes}")
    options: dict[str, Any] = {
        "episodes": episodes,
        "seed": seed,
        "greedy": greedy,
        "most_steps": most_steps,
    }
    if isinstance(environment, HostEnvironment):
        played = host_evaluation.play(policy, environment, env_timeout=env_timeout, **options)
        return Evaluation(*played)
    return _play_on_device(policy, environment, **options)


def _play_on_device(
    policy: Policy,
    environment: OnDeviceEnvironment,
    *,
    episodes: int,
    seed: int,
    greedy: bool,
    most_steps: int,
) -> Evaluation:
    """One episode in each of as many environments, side by side."""
    vector = VectorEnvironment(environment)

    def step(parameters: Parameters, now: _Playing, key: Array) -> tuple[_Playing, None]:
        act_key, env_key = jax.random.split(key)
        observations, playing = now.state.observations, ~now.finished
        actions, recurrent_state = policy.act_on_batch(
            observations, now.recurrent_state, None if greedy else act_key, parameters
        )
        state, transition = vector.step(jax.random.split(env_key, episodes), now.state, actions)
        first_end = transition.ended & playing
        return _Playing(
            state=state,
            recurrent_state=recurrent_state,
            finished=now.finished | transition.ended,
            returns=jnp.where(first_end, transition.returns, now.returns),
            lengths=jnp.where(first_end, transition.lengths, now.lengths),
            bad_observations=now.bad_observations | (playing & ~_finite(observations)),
            bad_rewards=now.bad_rewards | (playing & ~_finite(transition.rewards)),
        ), None

    @jax.jit
    def chunk(parameters: Parameters, now: _Playing, key: Array) -> _Playing:
        steps = functools.partial(step, parameters)
        return jax.lax.scan(steps, now, jax.random.split(key, _CHUNK))[0]

    start_key, step_key = jax.random.split(jax.random.key(seed))
    nowhere = jnp.zeros((episodes,), bool)
    now = _Playing(
        state=jax.jit(vector.reset)(jax.random.split(start_key, episodes)),
        recurrent_state=policy.initial_state(episodes),
        finished=nowhere,
        returns=jnp.zeros((episodes,)),
        lengths=jnp.zeros((episodes,), jnp.int32),
        bad_observations=nowhere,
        bad_rewards=nowhere,
    )
    for index in range(-(-most_steps // _CHUNK)):
        with running(policy.config.env):
            chunk_key = jax.random.fold_in(step_key, index)
            now = jax.block_until_ready(chunk(policy.parameters, now, chunk_key))
        for name, bad in (("observations", now.bad_observations), ("rewards", now.bad_rewards)):
            if bool(jnp.any(bad)):
                raise BrokenEnvironmentError(
                    f"{policy.config.env} returned {name} that are not finite, in "
                    f"{int(bad.sum())} of {episodes} episodes: mend the environment"
                )
        if bool(jnp.all(now.finished)):
            return Evaluation(np.asarray(now.returns), np.asarray(now.lengths))
    raise StacxError(
        f"{int(jnp.sum(~now.finished))} of {episodes} episodes had not ended "
        f"after {most_steps} steps"
    )


def _finite(values: Array) -> Array:
    """Which rows of [B, ...] have finite entries only."""
    return jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))


def record_episode(
    policy: Policy,
    environment: Environment,
    *,
    seed: int = 0,
    greedy: bool = False,
    most_frames: int = MOST_FRAMES,
    env_timeout: float | None = None,
) -> list[np.ndarray]:
    """Pictures [H, W, 3] of one episode, at most `most_frames`, its last state included.

    The other arguments are `evaluate`'s.

    Raises:
        ConfigError: if the environment cannot be drawn.
    """
    if isinstance(environment, HostEnvironment):
        return host_evaluation.film(
            policy,
            environment,
            seed=seed,
            greedy=greedy,
            most_frames=most_frames,
            env_timeout=env_timeout,
        )
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

"""Whole episodes of a trained policy in environments that step on the CPU."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Float, Int

from stacx.environments import EnvironmentRaised, HostEnvironment, HostVector
from stacx.errors import BrokenEnvironmentError, ConfigError, StacxError
from stacx.imports import one_line
from stacx.runs.policy import Policy

_BATCH = 32
"""Environments at most that play side by side: the paper's batch (Table 3, m)."""


def play(
    policy: Policy,
    environment: HostEnvironment,
    *,
    episodes: int,
    seed: int,
    greedy: bool,
    most_steps: int,
) -> tuple[Float[np.ndarray, " episodes"], Int[np.ndarray, " episodes"]]:
    """Returns and lengths of so many episodes.

    Each environment plays as many as every other (the last ones perhaps one less), so that short
    episodes do not count more.

    Raises:
        BrokenEnvironmentError: if the environment raised or returned what it may not.
        StacxError: if an episode has not ended after `most_steps` steps.
    """
    batch = min(episodes, _BATCH)
    quotas = np.full(batch, episodes // batch) + (np.arange(batch) < episodes % batch)
    returns: list[float] = []
    lengths: list[int] = []
    with _played(environment, batch, film=False) as vector:
        actions = _Acting(policy, vector, seed, greedy)
        while quotas.any():
            transition = vector.step(actions.next())
            for index in np.flatnonzero(transition.ended & (quotas > 0)):
                quotas[index] -= 1
                returns.append(float(transition.returns[index]))
                lengths.append(int(transition.lengths[index]))
            playing = (quotas > 0) & ~transition.ended
            if np.max(transition.lengths * playing) >= most_steps:
                raise StacxError(
                    f"{int(quotas.sum())} of {episodes} episodes had not ended, one of them after "
                    f"{most_steps} steps"
                )
    return np.array(returns, np.float32), np.array(lengths, np.int32)


def film(
    policy: Policy, environment: HostEnvironment, *, seed: int, greedy: bool, most_frames: int
) -> list[np.ndarray]:
    """Pictures [H, W, 3] of one episode, its last state included.

    Raises:
        BrokenEnvironmentError: if the environment raised or returned what it may not.
        ConfigError: if it has no pictures.
    """
    frames: list[np.ndarray] = []
    with _played(environment, 1, film=True) as vector:
        actions = _Acting(policy, vector, seed, greedy)
        ended = False
        while not ended and len(frames) < most_frames - 1:
            frames += _pictures(vector)
            ended = bool(vector.step(actions.next()).ended[0])
        return frames + _pictures(vector)


class _Acting:
    """The policy's actions for what a batch shows, step after step."""

    def __init__(self, policy: Policy, vector: HostVector, seed: int, greedy: bool):
        self._vector = vector
        self._key = None if greedy else jax.random.key(seed)
        self._state = policy.initial_state(vector.num_envs)
        self._parameters = policy.parameters
        self._act = jax.jit(policy.act_on_batch)
        vector.reset(seed)

    def next(self) -> np.ndarray:
        """[B, *action]."""
        key = None
        if self._key is not None:
            self._key, key = jax.random.split(self._key)
        actions, self._state = self._act(
            self._vector.observations, self._state, key, self._parameters, self._vector.starts
        )
        return np.asarray(actions)


@contextlib.contextmanager
def _played(environment: HostEnvironment, batch: int, *, film: bool) -> Iterator[HostVector]:
    """A batch of environments, closed in the end; what they raise becomes one line."""
    vector = None
    try:
        vector = HostVector(environment, batch, film=film)
        yield vector
    except StacxError:
        raise
    except EnvironmentRaised as error:
        raise BrokenEnvironmentError(str(error), error.details) from error
    except Exception as error:
        message = f"{environment.env} raised {one_line(error)}"
        raise BrokenEnvironmentError(message, traceback.format_exc()) from error
    finally:
        if vector is not None:
            vector.close(terminate=True)


def _pictures(vector: HostVector) -> list[np.ndarray]:
    pictures = vector.render()
    if not pictures or pictures[0].ndim != 3 or pictures[0].shape[2] != 3:
        raise ConfigError(
            f"{vector.environment.env} cannot be drawn: its render returns no picture [H, W, 3] "
            "when it is made with render_mode rgb_array"
        )
    return pictures

"""Whole episodes of a trained policy in environments that step on the CPU."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import jax
import numpy as np
from gymnasium.error import DependencyNotInstalled
from jaxtyping import Float, Int

from stacx.environments import (
    FAMILIES,
    HostEnvironment,
    HostTransition,
    HostVector,
    diagnosis,
)
from stacx.environments.patience import Caller, NoAnswer
from stacx.errors import BrokenEnvironmentError, ConfigError, StacxError
from stacx.runs.policy import Policy
from stacx.runtimes.running import running

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
    env_timeout: float | None,
) -> tuple[Float[np.ndarray, " episodes"], Int[np.ndarray, " episodes"]]:
    """Returns and lengths of so many episodes.

    Each environment plays as many as every other (the last ones perhaps one less), so that short
    episodes do not count more.

    Raises:
        BrokenEnvironmentError: if the environment raised, did not answer, or returned what it may
            not.
        StacxError: if an episode has not ended after `most_steps` steps.
    """
    batch = min(episodes, _BATCH)
    quotas = np.full(batch, episodes // batch) + (np.arange(batch) < episodes % batch)
    returns: list[float] = []
    lengths: list[int] = []
    with _playing(
        policy, environment, batch, seed=seed, greedy=greedy, env_timeout=env_timeout
    ) as playing:
        while quotas.any():
            transition = playing.step()
            for index in np.flatnonzero(transition.ended & (quotas > 0)):
                quotas[index] -= 1
                returns.append(float(transition.returns[index]))
                lengths.append(int(transition.lengths[index]))
            under_way = (quotas > 0) & ~transition.ended
            if np.max(transition.lengths * under_way) >= most_steps:
                raise StacxError(
                    f"{int(quotas.sum())} of {episodes} episodes had not ended, one of them after "
                    f"{most_steps} steps"
                )
    return np.array(returns, np.float32), np.array(lengths, np.int32)


def film(
    policy: Policy,
    environment: HostEnvironment,
    *,
    seed: int,
    greedy: bool,
    most_frames: int,
    env_timeout: float | None,
) -> list[np.ndarray]:
    """Pictures [H, W, 3] of one episode, its last state included.

    Raises:
        BrokenEnvironmentError: if the environment raised, did not answer, or returned what it may
            not.
        ConfigError: if it has no pictures, or needs a package to draw them.
    """
    frames: list[np.ndarray] = []
    with _playing(
        policy, environment, 1, seed=seed, greedy=greedy, env_timeout=env_timeout, film=True
    ) as playing:
        ended = False
        while not ended and len(frames) < most_frames - 1:
            frames += playing.pictures()
            ended = bool(playing.step().ended[0])
        return frames + playing.pictures()


class _Playing:
    """A policy and a batch of environments, step after step."""

    def __init__(
        self, policy: Policy, vector: HostVector, caller: Caller, *, seed: int, greedy: bool
    ):
        self._vector = vector
        self._caller = caller
        self._key = None if greedy else jax.random.key(seed)
        self._state = policy.initial_state(vector.num_envs)
        self._parameters = policy.parameters
        self._act = jax.jit(policy.act_on_batch)
        caller.call(vector.reset, seed)

    def step(self) -> HostTransition:
        """The policy acts for what the batch shows."""
        key = None
        if self._key is not None:
            self._key, key = jax.random.split(self._key)
        seen = self._vector.observations, self._state, key, self._parameters, self._vector.starts
        with running(self._vector.environment.env):
            actions, self._state = self._act(*seen)
            taken = np.asarray(actions)
        return self._caller.call(self._vector.step, taken)

    def pictures(self) -> list[np.ndarray]:
        """One of each environment. Raises `ConfigError` if there are none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is said below
            try:
                pictures = self._caller.call(self._vector.render)
            except NotImplementedError:
                pictures = []
        if not pictures or pictures[0].ndim != 3 or pictures[0].shape[2] != 3:
            raise ConfigError(
                f"{self._vector.environment.env} cannot be drawn: its render returns no picture "
                "[H, W, 3]. A function that makes it needs an argument render_mode, to pass it on, "
                'and the environment metadata = {"render_modes": ["rgb_array"]}'
            )
        return pictures


@contextlib.contextmanager
def _playing(
    policy: Policy,
    environment: HostEnvironment,
    batch: int,
    *,
    seed: int,
    greedy: bool,
    env_timeout: float | None,
    film: bool = False,
) -> Iterator[_Playing]:
    """The policy in a batch that is closed in the end; what environments do wrong is one line.

    A batch larger than the run's may take longer to answer, in proportion.
    """
    config = policy.config
    seconds = config.env_timeout if env_timeout is None else env_timeout
    patience = seconds * max(1.0, batch / config.num_envs)
    caller, vector = Caller(patience), None
    try:
        vector = caller.call(
            HostVector, environment, batch, vectorization=config.vectorization, film=film
        )
        yield _Playing(policy, vector, caller, seed=seed, greedy=greedy)
    except StacxError:
        raise
    except NoAnswer as hanging:
        message = (
            f"{environment.env} has not answered for {patience:g} s (--env-timeout {seconds:g}): "
            "mend the environment"
        )
        raise BrokenEnvironmentError(message, hanging.stack) from None
    except DependencyNotInstalled as error:
        raise ConfigError(
            f"{environment.env} cannot be drawn, since a package is missing ({error}): "
            f"{FAMILIES['gym'].installation}"
        ) from error
    except (Exception, SystemExit) as error:
        raise BrokenEnvironmentError(*diagnosis(environment.env, error)) from error
    finally:
        if vector is not None and caller.busy:
            vector.kill()
        elif vector is not None:
            with contextlib.suppress(NoAnswer):  # who has played may hang now
                caller.call(vector.close, terminate=True)
        caller.close()

"""Environments that step on CPU cores, batched by Gymnasium's `VectorEnv`.

`HostVector` turns what a `VectorEnv` returns into the data conventions of a `Trajectory`, whichever
of Gymnasium's autoreset modes it has:

- *Next step*: the step after an episode's end resets and ignores its action. That transition is
  the dummy one.
- *Same step*: the step that ends an episode already returns the next one's first observation. After
  a termination nothing is missing, since nothing is bootstrapped. After a truncation the last
  observation is: the last transition becomes the dummy one, and the one before it bootstraps from
  its own next observation. Its reward counts in returns, but is not learned from.

A step's `info["life_lost"]`, [B] truth values, ends an episode for the learner only: nothing is
bootstrapped, memory is reset, and the return counts on. Where `info["physics_error"]` is true, an
episode was truncated since its simulation had become unstable; that is counted.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int

from stacx.environments.spaces import Actions, Observations, actions_of, observations_of
from stacx.environments.workers import Workers
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.types import ActionSpace


@runtime_checkable
class VectorFactory(Protocol):
    """Makes a batch of one environment; raises whatever the engine raises."""

    def __call__(
        self, num_envs: int, *, vectorization: str = "auto", film: bool = False
    ) -> VectorEnv:
        """`num_envs` environments.

        Args:
            num_envs: how many.
            vectorization: sync, async, or auto: as the engine does it best.
            film: whether `render` is called, which returns a picture [H, W, 3] of each.
        """
        ...


class ReferenceScores(NamedTuple):
    """Mean returns of a random policy and of a person."""

    random: float
    human: float

    def normalised(self, score: float) -> float:
        """0 at the random policy's score, 1 at the person's."""
        return (score - self.random) / (self.human - self.random)


class HostTransition(NamedTuple):
    """One step of B environments; as `Transition`, of NumPy's arrays."""

    rewards: Float[np.ndarray, " B"]
    discounts: Float[np.ndarray, " B"]
    valid: Float[np.ndarray, " B"]
    ended: Bool[np.ndarray, " B"]
    """Whether an episode ended with this transition."""
    returns: Float[np.ndarray, " B"]
    """The episode's return up to and with this transition."""
    lengths: Int[np.ndarray, " B"]
    """The episode's length up to and with this transition."""
    physics_errors: Bool[np.ndarray, " B"]
    """Whether the simulation became unstable."""


@dataclasses.dataclass(frozen=True)
class HostEnvironment:
    """What must be known of an environment before there is a batch of it."""

    env: str
    """Its id, for messages."""
    observation_space: gymnasium.Space
    """Of a single environment."""
    single_action_space: gymnasium.Space
    """Of a single environment."""
    make_vector: VectorFactory
    batches_itself: bool = False
    """Whether there are no single environments, and `vectorization` has no effect."""
    frames_per_step: int = 1
    """Frames of the game that one step takes."""
    scores: ReferenceScores | None = None
    """Where they are published."""
    steps_per_second: float = 30.0
    """How fast a film of it is played."""

    @functools.cached_property
    def observations(self) -> Observations:
        """The encoding of observations. Raises `ConfigError` if there is none."""
        return observations_of(self.observation_space, self.env)

    @functools.cached_property
    def actions(self) -> Actions:
        """The encoding of actions. Raises `ConfigError` if there is none."""
        return actions_of(self.single_action_space, self.env)

    def check(self) -> None:
        """Whether observations and actions can be encoded. Raises `ConfigError` if not."""
        _ = self.observations, self.actions

    def reported(self, steps: int, mean_return: float | None) -> dict[str, Any]:
        """What is usual to report of so many steps: frames, if a step takes several, and a score.

        The score is null where there is no return yet.
        """
        known: dict[str, Any] = {}
        if self.frames_per_step != 1:
            known["frames"] = steps * self.frames_per_step
        if self.scores is not None:
            known["human_normalised_score"] = (
                None if mean_return is None else self.scores.normalised(mean_return)
            )
        return known

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one encoded observation."""
        return self.observations.shape

    @property
    def observation_dtype(self) -> np.dtype:
        """Type of encoded observations."""
        return self.observations.dtype

    @property
    def action_space(self) -> ActionSpace:
        """What the agent chooses from."""
        return self.actions.space


class HostVector:
    """B environments between two steps; arrays are NumPy's.

    Attributes:
        observations: [B, *observation], as they are seen now; the next step may write over them.
        starts: [B], whether the observation is an episode's first.
    """

    def __init__(
        self,
        environment: HostEnvironment,
        num_envs: int,
        *,
        vectorization: str = "auto",
        film: bool = False,
    ):
        self.environment = environment
        self.num_envs = num_envs
        self.vector = environment.make_vector(num_envs, vectorization=vectorization, film=film)
        self._same_step = resets_in_same_step(self.vector, environment.env)
        self._ended = np.zeros(num_envs, bool)
        self._returns = np.zeros(num_envs, np.float32)
        self._lengths = np.zeros(num_envs, np.int32)
        self.starts = np.ones(num_envs, bool)
        self.observations = np.zeros(
            (num_envs, *environment.observation_shape), environment.observation_dtype
        )

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode in every environment, and forgets those before.

        Args:
            seed: environment i gets seed + i; None: each goes on with the randomness it has.

        Raises:
            BrokenEnvironmentError: if observations are not finite, or have a wrong shape or type.
        """
        observations, _ = self.vector.reset(seed=seed)
        self.observations = self._encode(observations)
        self.starts = np.ones(self.num_envs, bool)
        self._ended = np.zeros(self.num_envs, bool)
        self._returns = np.zeros(self.num_envs, np.float32)
        self._lengths = np.zeros(self.num_envs, np.int32)

    def step(self, actions: np.ndarray) -> HostTransition:
        """Takes the actions, [B, *action], counted from 0.

        Raises:
            BrokenEnvironmentError: if what is returned is not finite, or has a wrong shape or type.
        """
        before_returns, before_lengths = self._returns, self._lengths
        observations, rewards, terminations, truncations, info = self.vector.step(
            self.environment.actions.decode(actions)
        )
        self.observations = self._encode(observations)
        rewards = self._checked(np.asarray(rewards, np.float32), (), "rewards")
        dummy = self._ended & (not self._same_step)
        terminated = self._truths(terminations, "terminations") & ~dummy
        truncated = self._truths(truncations, "truncations") & ~dummy & ~terminated
        life_lost = info.get("life_lost", np.zeros(self.num_envs, bool))
        life_lost = self._truths(life_lost, 'info["life_lost"]') & ~dummy
        ended = terminated | truncated
        physics_errors = info.get("physics_error", np.zeros(self.num_envs, bool))
        physics_errors = self._truths(physics_errors, 'info["physics_error"]') & ~dummy
        fresh = self._ended if self._same_step else dummy
        rewards = np.where(dummy, np.float32(0), rewards)
        returns = np.where(fresh, np.float32(0), before_returns) + rewards
        lengths = np.where(fresh, 0, before_lengths) + ~dummy
        self.starts = (ended if self._same_step else dummy) | (life_lost & ~ended)
        self._ended, self._returns, self._lengths = ended, returns, lengths.astype(np.int32)
        invalid = truncated & ~life_lost if self._same_step else dummy
        return HostTransition(
            rewards=rewards,
            discounts=(~(terminated | life_lost)).astype(np.float32),
            valid=(~invalid).astype(np.float32),
            ended=ended,
            returns=returns,
            lengths=self._lengths,
            physics_errors=physics_errors,
        )

    def dummy_transition(self) -> HostTransition:
        """One that carries every environment from anywhere to an episode's first observation."""
        ones, zeros = np.ones(self.num_envs, np.float32), np.zeros(self.num_envs, np.float32)
        none = np.zeros(self.num_envs, bool)
        return HostTransition(
            rewards=zeros,
            discounts=ones,
            valid=zeros,
            ended=none,
            returns=zeros,
            lengths=np.zeros(self.num_envs, np.int32),
            physics_errors=none,
        )

    def render(self) -> list[np.ndarray]:
        """A picture [H, W, 3] of each environment, made with `film`."""
        pictures = self.vector.render() or ()
        return [np.asarray(picture, np.uint8) for picture in pictures if picture is not None]

    def close(self, *, terminate: bool = False) -> None:
        """Ends the environments; with `terminate` without asking processes of theirs."""
        if self._processes():
            self.vector.close(terminate=terminate)
        else:
            self.vector.close()

    def kill(self) -> None:
        """Ends processes that environments run in; whoever waits for them sees them gone."""
        if isinstance(self.vector, Workers):
            self.vector.kill()
        else:
            for process in self._processes():
                process.kill()

    def _processes(self) -> list[Any]:
        return list(getattr(self.vector.unwrapped, "processes", ()))

    def _encode(self, observations: Any) -> np.ndarray:
        known = self.environment.observations
        encoded = self._checked(known.encode(observations), known.shape, "observations")
        if encoded.dtype != known.dtype:
            raise BrokenEnvironmentError(
                f"{self.environment.env} returned observations of type {encoded.dtype}, not "
                f"{known.dtype} as its space says: mend the environment"
            )
        return encoded

    def _truths(self, values: Any, name: str) -> np.ndarray:
        array = np.asarray(values)
        if array.dtype != np.bool_:
            raise BrokenEnvironmentError(
                f"{self.environment.env} returned {name} of type {array.dtype}, not bool: mend "
                "the environment"
            )
        return self._checked(array, (), name)

    def _checked(self, array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
        if array.shape != (self.num_envs, *shape):
            raise BrokenEnvironmentError(
                f"{self.environment.env} returned {name} of shape {list(array.shape)}, not "
                f"{[self.num_envs, *shape]}: mend the environment"
            )
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            finite = np.isfinite(array).reshape(self.num_envs, -1).all(axis=1)
            index = int(np.argmin(finite))
            raise BrokenEnvironmentError(
                f"{self.environment.env} returned {name} that are not finite: environment {index} "
                f"of {self.num_envs} returned {np.array2string(array[index], threshold=8)}: "
                "mend the environment"
            )
        return array


def resets_in_same_step(vector: VectorEnv, env: str) -> bool:
    """Which of the autoreset modes it is.

    Raises:
        ConfigError: if there is no autoreset, or it does not say which it is.
    """
    if "autoreset_mode" not in vector.metadata:
        raise ConfigError(
            f"{env} is a VectorEnv that does not say how it resets its episodes: give its class "
            'metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}, or SAME_STEP'
        )
    mode = AutoresetMode(vector.metadata["autoreset_mode"])
    if mode == AutoresetMode.DISABLED:
        raise ConfigError(
            f"{env} does not reset its episodes (autoreset_mode is Disabled): make it with "
            "AutoresetMode.NEXT_STEP or SAME_STEP"
        )
    return mode == AutoresetMode.SAME_STEP

"""A trained policy, ready to use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from stacx.config import Config
from stacx.core.behaviour import acting_policy, draw_heads
from stacx.core.distributions import draw_noise, environment_actions
from stacx.errors import ConfigError
from stacx.networks import ActorCriticNetwork
from stacx.runs.checkpoints import Checkpoints
from stacx.runs.directory import RunDirectory
from stacx.runtimes.arrays import unflatten
from stacx.types import (
    ActionSpace,
    Discrete,
    Parameters,
    RecurrentState,
    action_space_from_json,
)


class Policy:
    """Head 1 of a trained network.

    Attributes:
        observation_shape: of one observation.
        observation_dtype: what observations are converted to.
        steps: environment steps that each seed had been trained for, if a run is known.
    """

    def __init__(
        self,
        config: Config,
        network: ActorCriticNetwork,
        parameters: Parameters,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype,
        steps: int | None = None,
    ):
        self.config = config
        self.network = network
        self.parameters = parameters
        self.observation_shape = observation_shape
        self.observation_dtype = observation_dtype
        self.steps = steps
        self._act = jax.jit(self.act_on_batch)

    def __repr__(self) -> str:
        trained = "" if self.steps is None else f" after {self.steps:,} steps"
        return (
            f"Policy({self.config.agent} on {self.config.env}{trained}: "
            f"{self.observation_dtype} {list(self.observation_shape)} -> {self.action_space})"
        )

    @property
    def action_space(self) -> ActionSpace:
        """What actions there are."""
        return self.network.action_space

    @property
    def num_actions(self) -> int:
        """Actions are 0 ... num_actions - 1, if an action is one choice.

        Raises:
            AttributeError: if it is not; `action_space` says what it is.
        """
        if not isinstance(self.action_space, Discrete):
            raise AttributeError(f"there is no num_actions: actions are {self.action_space}")
        return self.action_space.n

    def initial_state(self, batch: int = 1) -> RecurrentState:
        """The recurrent state at the start of `batch` episodes; empty for feed-forward networks."""
        return self.network.initial_state(batch)

    def act(
        self,
        observation: Any,
        state: RecurrentState | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Any, RecurrentState | None]:
        """The action for one observation or a batch of them.

        Args:
            observation: [*observation] or [B, *observation].
            state: what the last call returned; None at the start of an episode, and always None
                for a feed-forward network.
            key: samples an action; without one the most probable action is taken (of numbers, the
                median).

        Returns:
            The action, [*action] or [B, *action], of integers or, within the environment's bounds,
            of numbers, as NumPy's array (inside a transformation of JAX, as JAX's); and the state
            for the next call.

        Raises:
            ValueError: if the observation has another shape.
        """
        batch = jnp.asarray(observation, self.observation_dtype)
        single = batch.shape == self.observation_shape
        if single:
            batch = batch[None]
        if batch.shape[1:] != self.observation_shape:
            wanted = list(self.observation_shape)
            raise ValueError(
                f"an observation must have shape {wanted} or [B, {str(wanted)[1:]}, not "
                f"{list(np.shape(observation))}"
            )
        if state is None:
            state = self.initial_state(len(batch))
        actions, state = self._act(batch, state, key, self.parameters)
        if not isinstance(actions, jax.core.Tracer):  # Gymnasium's environments check the type
            actions = np.asarray(actions)
        return actions[0] if single else actions, state if self.config.lstm_size else None

    def act_on_batch(
        self,
        observations: Array,
        state: RecurrentState,
        key: PRNGKeyArray | None,
        parameters: Parameters | None = None,
        starts: Bool[Array, " B"] | None = None,
    ) -> tuple[Array, RecurrentState]:
        """As `act`, for a batch [B, ...] and a state that is never None; may be transformed.

        A program that is given `parameters` is compiled once for all policies of its shape. Where
        `starts` is true an episode begins, and the state is reset.
        """
        batch = observations.shape[0]
        policy, state = acting_policy(
            self.network,
            self.parameters if parameters is None else parameters,
            observations,
            jnp.zeros((batch,), bool) if starts is None else starts,
            state,
            jnp.zeros((batch,), int) if key is None else draw_heads(key, batch, self.config),
            self.config,
        )
        if key is None:
            actions = policy.mode()
        else:
            actions = policy.sample(draw_noise(self.action_space, key, (batch,)))
        return environment_actions(self.action_space, actions), state


def load(directory: Path | str, seed: int | None = None, *, torso: str | None = None) -> Policy:
    """The policy of a run's newest whole checkpoint. No code of the run is executed.

    Args:
        directory: the run directory.
        seed: which of the run's seeds; by default its first.
        torso: the run's torso, if it is a function in an installed package: to say that it may be
            called. A function in a file of your own needs no word.

    Raises:
        ConfigError: if it is no run, has no such seed, or has a torso that may not be called.
        CheckpointError: if no checkpoint is whole.
    """
    run = RunDirectory.open(Path(directory))
    config = run.config()
    run.check_function("torso", torso, f"torso={config.torso!r}")
    seed = config.seed if seed is None else seed
    if not 0 <= seed - config.seed < config.num_seeds:
        last = config.seed + config.num_seeds - 1
        raise ConfigError(f"{directory} has seeds {config.seed} to {last}, not {seed}")
    updates, arrays, specification = Checkpoints(run.checkpoints).load_newest()
    shape = tuple(specification["observation_shape"])
    dtype = np.dtype(specification["observation_dtype"])
    network = ActorCriticNetwork(config, shape, dtype, action_space_from_json(specification))
    prefix = ".learner.parameters"
    own = {
        name.removeprefix(prefix): np.asarray(array[seed - config.seed])
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    parameters = unflatten(own, jax.eval_shape(network.init, jax.random.key(0)))
    steps = updates * config.batch_steps
    return Policy(config, network, parameters, shape, dtype, steps)

"""The actors' programs: inference that writes a trajectory where it is.

Each observation travels to the actor's device once, for inference, and stays there: the program
that infers also writes the observation, the action and its log-probability into the trajectory's
arrays, in place.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Num

from stacx.config import Config
from stacx.core.behaviour import acting_policy, draw_heads
from stacx.core.distributions import draw_noise, environment_actions
from stacx.environments import HostEnvironment, HostVector
from stacx.runtimes.compilation import compiler_options
from stacx.runtimes.randomness import iteration_key
from stacx.runtimes.statistics import EpisodeEnds
from stacx.types import Network, Parameters, RecurrentState, Trajectory


class Rollout(NamedTuple):
    """A trajectory on its way to the learner, and the episodes that ended in it."""

    trajectory: Trajectory
    ends: EpisodeEnds


class Unfinished(NamedTuple):
    """The part of a trajectory that inference writes, as in `Trajectory`."""

    observations: Array
    """x_0 ... x_T: [T+1, B, *observation]."""
    actions: Num[Array, "T B *action"]
    behaviour_log_probs: Float[Array, "T B"]


class Randomness(NamedTuple):
    """What decides the new actions of one trajectory, beside the policies."""

    noise: Float[Array, "S B ..."]
    heads: Int[Array, " B"]
    """The head that acts in each environment."""


class Inference:
    """The actors' programs, compiled once for each of their devices.

    Args:
        config: of the run.
        network: that acts.
        environment: of which there is a batch.
        part: which environments of the batch are here; by default all. The others, on other hosts,
            only matter for what randomness is whose.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        environment: HostEnvironment,
        part: range | None = None,
    ):
        self._config = config
        self._part = part or range(config.num_envs)
        self.batch = len(self._part)
        self._network = network
        self._environment = environment
        options = compiler_options()
        self._compiled_begin = jax.jit(self._begin, compiler_options=options)
        self._compiled_act = jax.jit(self._act, donate_argnums=2, compiler_options=options)
        self.finish = jax.jit(self._finish, donate_argnums=0, compiler_options=options)

    def initial_state(self) -> RecurrentState:
        """The recurrent state at the start of a batch of episodes."""
        return self._network.initial_state(self.batch)

    def abstract_rollout(self, batch: int | None = None) -> Rollout:
        """The shapes and types of a rollout, of so many environments."""
        steps = self._config.trajectory_length
        batch = self.batch if batch is None else batch

        def empty() -> Rollout:
            numbers, new = jnp.zeros((steps, batch)), jnp.zeros((self._config.new_steps, batch))
            none = new.astype(bool)
            known = dict.fromkeys(("rewards", "discounts", "valid"), numbers)
            return Rollout(
                Trajectory(
                    **self.empty(batch)._asdict(),
                    **known,
                    starts=jnp.zeros((steps + 1, batch), bool),
                    recurrent_state=self._network.initial_state(batch),
                ),
                EpisodeEnds(none, new, new.astype(jnp.int32), none),
            )

        return jax.eval_shape(empty)

    def empty(self, batch: int | None = None) -> Unfinished:
        """A trajectory before the first, with nothing in it."""
        steps = self._config.trajectory_length
        batch = self.batch if batch is None else batch
        environment, space = self._environment, self._network.action_space
        return Unfinished(
            observations=jnp.zeros(
                (steps + 1, batch, *environment.observation_shape), environment.observation_dtype
            ),
            actions=jnp.zeros((steps, batch, *space.shape), space.dtype),
            behaviour_log_probs=jnp.zeros((steps, batch)),
        )

    def begin(self, number: int, last: Unfinished) -> tuple[Unfinished, Randomness]:
        """A trajectory that shares its first steps with the last one, as `overlap` says.

        Also the randomness of its new actions, a function of the seed and `number`.
        """
        return self._compiled_begin(np.uint32(self._config.seed), np.uint32(number), last)

    def act(
        self,
        parameters: Parameters,
        recurrent_state: RecurrentState,
        unfinished: Unfinished,
        randomness: Randomness,
        vector: HostVector,
        step: int,
    ) -> tuple[RecurrentState, Unfinished, np.ndarray]:
        """The acting policy's actions for what a batch shows now, at a step of a trajectory.

        Args:
            parameters: of the network.
            recurrent_state: before this step, [B, ...] a leaf.
            unfinished: the trajectory so far; its memory is reused.
            randomness: of the trajectory's new actions.
            vector: the batch. Its observations are read before this returns.
            step: which of the S new steps it is.

        Returns:
            The recurrent state after this step, the trajectory with this step, and the actions for
            the environments, [B, *action], on the host.
        """
        recurrent_state, unfinished, actions = self._compiled_act(
            parameters,
            recurrent_state,
            unfinished,
            randomness,
            np.int32(step),
            vector.observations,
            vector.starts,
        )
        return recurrent_state, unfinished, np.asarray(actions)

    def _begin(
        self, seed: Integer[Array, ""], number: Integer[Array, ""], last: Unfinished
    ) -> tuple[Unfinished, Randomness]:
        key = iteration_key(seed, number)
        new_steps, everywhere = self._config.new_steps, self._config.num_envs
        own = slice(self._part.start, self._part.stop)
        randomness = Randomness(
            draw_noise(self._network.action_space, key, (new_steps, everywhere))[:, own],
            draw_heads(key, everywhere, self._config)[own],
        )
        if not self._config.overlap:
            return self.empty(), randomness
        return jax.tree.map(lambda leaf: jnp.roll(leaf, -new_steps, axis=0), last), randomness

    def _act(
        self,
        parameters: Parameters,
        recurrent_state: RecurrentState,
        unfinished: Unfinished,
        randomness: Randomness,
        step: Int[Array, ""],
        observations: Array,
        starts: Bool[Array, " B"],
    ) -> tuple[RecurrentState, Unfinished, Array]:
        space = self._network.action_space
        policy, recurrent_state = acting_policy(
            self._network,
            parameters,
            observations,
            starts,
            recurrent_state,
            randomness.heads,
            self._config,
        )
        actions = policy.sample(randomness.noise[step])
        place = self._config.overlap + step
        written = Unfinished(
            observations=unfinished.observations.at[place].set(observations),
            actions=unfinished.actions.at[place].set(actions),
            behaviour_log_probs=unfinished.behaviour_log_probs.at[place].set(
                policy.log_prob(actions)
            ),
        )
        return recurrent_state, written, environment_actions(space, actions)

    def _finish(self, unfinished: Unfinished, observations: Array) -> Unfinished:
        """With the observation after the last action."""
        written = unfinished.observations.at[-1].set(observations)
        return unfinished._replace(observations=written)

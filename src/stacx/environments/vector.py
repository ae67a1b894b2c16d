"""B on-device environments side by side, with next-step autoreset and episode statistics.

Next-step autoreset (Gymnasium's): the step after an episode's last observation ignores its action
and returns the next episode's first observation. That step is the dummy transition of
`stacx.types.Trajectory`, so no observation is lost and a truncated episode can bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from stacx.environments.base import OnDeviceEnvironment
from stacx.types import EnvironmentState


class VectorState(eqx.Module):
    """B environments between two steps."""

    environments: EnvironmentState
    observations: Array
    """[B, *observation]."""
    starts: Bool[Array, " B"]
    """Whether the observation is an episode's first."""
    ended: Bool[Array, " B"]
    """Whether the observation is an episode's last: the next transition is a dummy."""
    returns: Float[Array, " B"]
    """Undiscounted raw return of the episode so far."""
    lengths: Int[Array, " B"]
    """Transitions of the episode so far."""


class Transition(NamedTuple):
    """One step of B environments."""

    rewards: Float[Array, " B"]
    discounts: Float[Array, " B"]
    valid: Float[Array, " B"]
    ended: Bool[Array, " B"]
    """Whether an episode ended with this transition."""
    returns: Float[Array, " B"]
    """The episode's return up to and with this transition."""
    lengths: Int[Array, " B"]
    """The episode's length up to and with this transition."""
    physics_errors: Bool[Array, " B"]
    """Whether the simulation became unstable."""


class VectorEnvironment:
    """A batch of one on-device environment."""

    def __init__(self, environment: OnDeviceEnvironment):
        self.environment = environment

    def reset(self, keys: Key[Array, " B"]) -> VectorState:
        """First states; one key per environment, [B]."""
        states, observations = jax.vmap(self.environment.reset)(keys)
        batch = observations.shape[0]
        return VectorState(
            environments=states,
            observations=observations,
            starts=jnp.ones((batch,), bool),
            ended=jnp.zeros((batch,), bool),
            returns=jnp.zeros((batch,)),
            lengths=jnp.zeros((batch,), jnp.int32),
        )

    def step(
        self,
        keys: Key[Array, " B"],
        state: VectorState,
        actions: Num[Array, "B *action"],
        batch_axis: str | None = None,
    ) -> tuple[VectorState, Transition]:
        """Steps the environments whose episode goes on, and resets the others.

        Within a `vmap` over several batches, `batch_axis` is the name of its axis. Without it a
        branch would become a selection there, and all environments would be reset at every step.
        """
        stepped, timestep = jax.vmap(self.environment.step)(keys, state.environments, actions)
        resetting = state.ended

        def with_resets() -> tuple[EnvironmentState, Array]:
            fresh = jax.vmap(self.environment.reset)(keys)
            return jax.tree.map(
                lambda new, old: jnp.where(_like(resetting, new), new, old),
                fresh,
                (stepped, timestep.observation),
            )

        # Most steps reset nothing, and do not pay for it.
        some = jnp.any(resetting)
        if batch_axis is not None:
            some = jax.lax.pmax(some.astype(jnp.int32), batch_axis) > 0
        environments, observations = jax.lax.cond(
            some, with_resets, lambda: (stepped, timestep.observation)
        )
        rewards = jnp.where(resetting, 0.0, timestep.reward)
        returns = jnp.where(resetting, 0.0, state.returns + rewards)
        lengths = jnp.where(resetting, 0, state.lengths + 1)
        ended = ~resetting & (timestep.terminated | timestep.truncated)
        new_state = VectorState(environments, observations, resetting, ended, returns, lengths)
        return new_state, Transition(
            rewards=rewards,
            discounts=jnp.where(~resetting & timestep.terminated, 0.0, 1.0),
            valid=jnp.where(resetting, 0.0, 1.0),
            ended=ended,
            returns=returns,
            lengths=lengths,
            physics_errors=~resetting & timestep.physics_error,
        )


def _like(mask: Bool[Array, " B"], array: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (array.ndim - 1))

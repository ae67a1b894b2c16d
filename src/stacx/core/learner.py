"""One iteration of the self-tuning actor-critic (Algorithm 2), as a pure function.

The inner step moves the network's parameters along the inner loss; the outer loss of the moved
parameters, on the same batch, is differentiated through that step (gradient clipping and RMSProp
included) with respect to the metaparameters. With nothing tuned only the inner step is left, and
that is IMPALA.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from stacx.config import Config
from stacx.core.losses import HeadStatistics, actor_critic_loss, kl_loss
from stacx.core.metaparameters import (
    Hyperparameters,
    Logits,
    hyperparameters,
    initial_logits,
    outer_hyperparameters,
)
from stacx.types import Network, NetworkOutput, Parameters, Trajectory, UpdateMetrics


class LearnerState(eqx.Module):
    """Everything that learning changes."""

    parameters: Parameters
    """theta."""
    optimiser: optax.OptState
    logits: Logits
    """eta; empty when nothing is tuned."""
    meta_optimiser: optax.OptState
    skipped_in_a_row: Int[Array, ""]
    """Updates skipped in a row because a gradient or a new logit was not finite."""


class _InnerStep(eqx.Module):
    """theta_{t+1} and what was seen on the way there."""

    parameters: Parameters
    optimiser: optax.OptState
    output: NetworkOutput
    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    statistics: HeadStatistics


class Learner:
    """`init` and `update`, for one network and one config."""

    def __init__(self, config: Config, network: Network):
        self.config = config
        self.network = network
        self.optimiser = make_optimiser(config)
        self.meta_optimiser = optax.adam(
            config.meta_learning_rate, b1=config.meta_b1, b2=config.meta_b2, eps=config.meta_eps
        )

    def init(self, key: PRNGKeyArray) -> LearnerState:
        """The state before the first update."""
        parameters = self.network.init(key)
        logits = initial_logits(self.config)
        return LearnerState(
            parameters=parameters,
            optimiser=self.optimiser.init(parameters),
            logits=logits,
            meta_optimiser=self.meta_optimiser.init(logits),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: LearnerState, trajectory: Trajectory
    ) -> tuple[LearnerState, UpdateMetrics]:
        """One iteration of Algorithm 2, lines 10 to 15.

        If a gradient, the metagradient or a new logit is not finite, the state stays as it was, but
        for the count of updates skipped in a row.
        """
        trajectory = self._without_burn_in(state.parameters, trajectory)
        if state.logits:
            inner, outer_loss, kl, metagradient = self._metagradient(state, trajectory)
            updates, meta_optimiser = self.meta_optimiser.update(metagradient, state.meta_optimiser)
            logits = optax.apply_updates(state.logits, updates)
            metagradient_norm = optax.tree.norm(metagradient)
        else:
            inner = self._inner_step(state, hyperparameters(state.logits, self.config), trajectory)
            logits, meta_optimiser = state.logits, state.meta_optimiser
            outer_loss = kl = metagradient_norm = jnp.zeros(())

        seen = (inner.gradient_norm, metagradient_norm, *logits.values())
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(array)) for array in seen]))
        skipped_in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        parameters = inner.parameters
        if self.config.normalise_observations:
            parameters = self.network.having_seen(
                parameters, trajectory.observations[:-1], trajectory.valid
            )
        moved = LearnerState(parameters, inner.optimiser, logits, meta_optimiser, skipped_in_a_row)
        stayed = eqx.tree_at(lambda s: s.skipped_in_a_row, state, skipped_in_a_row)
        new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, stayed)
        metrics = UpdateMetrics(
            loss=inner.loss,
            outer_loss=outer_loss,
            kl=kl,
            gradient_norm=inner.gradient_norm,
            metagradient_norm=metagradient_norm,
            skipped=~finite,
            skipped_in_a_row=skipped_in_a_row,
            **inner.statistics._asdict(),
            metaparameters=hyperparameters(state.logits, self.config),
        )
        return new_state, metrics

    def _without_burn_in(self, parameters: Parameters, trajectory: Trajectory) -> Trajectory:
        """The rest of a trajectory, from the recurrent state that its first steps lead to now."""
        steps = self.config.burn_in
        if not steps:
            return trajectory
        _, recurrent_state = self.network.unroll(
            parameters,
            trajectory.observations[:steps],
            trajectory.starts[:steps],
            trajectory.recurrent_state,
            main_head_only=True,
        )
        rest = {
            field.name: getattr(trajectory, field.name)[steps:]
            for field in dataclasses.fields(trajectory)
            if field.name != "recurrent_state"
        }
        return Trajectory(**rest, recurrent_state=recurrent_state)

    def _inner_step(
        self, state: LearnerState, zeta: Hyperparameters, trajectory: Trajectory
    ) -> _InnerStep:
        """Lines 11 and 12: the gradient of the inner loss, and theta_{t+1}."""

        def loss(parameters: Parameters) -> tuple[Array, tuple[HeadStatistics, NetworkOutput]]:
            output, _ = self.network.unroll(
                parameters,
                trajectory.observations,
                trajectory.starts,
                trajectory.recurrent_state,
            )
            value, statistics = actor_critic_loss(
                self.network.action_space, output, trajectory, zeta, self.config
            )
            return value, (statistics, output)

        (value, (statistics, output)), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.parameters
        )
        updates, optimiser = self.optimiser.update(gradient, state.optimiser)
        return _InnerStep(
            parameters=optax.apply_updates(state.parameters, updates),
            optimiser=optimiser,
            output=output,
            loss=value,
            gradient_norm=optax.tree.norm(gradient),
            statistics=statistics,
        )

    def _metagradient(
        self, state: LearnerState, trajectory: Trajectory
    ) -> tuple[_InnerStep, Array, Array, Logits]:
        """Lines 10 to 14: the inner step, and the outer loss's gradient through it.

        Auxiliary heads' metaparameters reach the outer loss, which is head 1's, through the shared
        torso only.
        """

        def outer_loss(logits: Logits) -> tuple[Array, tuple[_InnerStep, Array]]:
            inner = self._inner_step(state, hyperparameters(logits, self.config), trajectory)
            output, _ = self.network.unroll(
                inner.parameters,
                trajectory.observations,
                trajectory.starts,
                trajectory.recurrent_state,
                main_head_only=True,
            )
            zeta = outer_hyperparameters(self.config)
            space = self.network.action_space
            value, _ = actor_critic_loss(space, output, trajectory, zeta, self.config)
            kl = kl_loss(space, output, inner.output, trajectory, self.config)
            return value + self.config.g_kl * kl, (inner, kl)

        (value, (inner, kl)), metagradient = jax.value_and_grad(outer_loss, has_aux=True)(
            state.logits
        )
        return inner, value, kl, metagradient


def make_optimiser(config: Config) -> optax.GradientTransformation:
    """Global-norm clipping, then RMSProp with a linear schedule over the run (Table 3).

    The epsilon stays inside the root, where a parameter that never had a gradient (nu = 0) has a
    finite derivative; outside, the metagradient would be NaN.
    """
    schedule = optax.linear_schedule(
        config.learning_rate, config.end_learning_rate, config.total_updates
    )
    return optax.chain(
        _clip_by_global_norm(config.max_gradient_norm),
        optax.scale_by_rms(
            decay=config.rmsprop_decay,
            eps=config.rmsprop_eps,
            initial_scale=config.rmsprop_initial,
            eps_in_sqrt=True,
        ),
        optax.scale_by_learning_rate(schedule),
    )


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm`, but differentiable where the gradient is zero."""

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(updates))
        clips = square > max_norm**2
        scale = jnp.where(clips, max_norm / jnp.sqrt(jnp.where(clips, square, 1.0)), 1.0)
        return jax.tree.map(lambda leaf: leaf * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

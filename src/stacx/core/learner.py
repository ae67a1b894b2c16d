"""One iteration of the self-tuning actor-critic (Algorithm 2), as a pure function.

The inner step moves the network's parameters along the inner loss; the outer loss of the moved
parameters, on the same batch, is differentiated through that step (gradient clipping and RMSProp
included) with respect to the metaparameters. With nothing tuned only the inner step is left, and
that is IMPALA.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from stacx.config import Config
from stacx.core.behaviour import judged, main_head_suffices
from stacx.core.losses import HeadStatistics, actor_critic_loss, critic_loss, kl_loss
from stacx.core.metaparameters import (
    Hyperparameters,
    Logits,
    hyperparameters,
    initial_logits,
    outer_hyperparameters,
)
from stacx.core.optimiser import make_optimiser, squared_norms
from stacx.core.parts import inner_and_outer
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
    gradient_norms: Float[Array, "groups"]
    """As they are clipped: `squared_norms`."""
    statistics: HeadStatistics


class _MetaStep(NamedTuple):
    """eta_{t+1} and what was seen on the way there."""

    logits: Logits
    optimiser: optax.OptState
    outer_loss: Float[Array, ""]
    kl: Float[Array, ""]
    metagradient_norm: Float[Array, ""]
    taken: Bool[Array, ""]


class Learner:
    """`init` and `update`, for one network and one config."""

    def __init__(self, config: Config, network: Network):
        self.config = config
        self.network = network
        self.optimiser = make_optimiser(config, network)
        self.meta_optimiser = optax.adam(
            config.meta_learning_rate, b1=config.meta_b1, b2=config.meta_b2, eps=config.meta_eps
        )

    def init(self, key: PRNGKeyArray) -> LearnerState:
        """The state before the first update."""
        logits = initial_logits(self.config)
        parameters = self._told_gamma(self.network.init(key), hyperparameters(logits, self.config))
        return LearnerState(
            parameters=parameters,
            optimiser=self.optimiser.init(parameters),
            logits=logits,
            meta_optimiser=self.meta_optimiser.init(logits),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: LearnerState, trajectory: Trajectory, batch_axis: str | None = None
    ) -> tuple[LearnerState, UpdateMetrics]:
        """One iteration of Algorithm 2, lines 10 to 15.

        If a gradient, the metagradient or a new logit is not finite, the state stays as it was, but
        for the count of updates skipped in a row.

        Within a `vmap` over several states, `batch_axis` is the name of its axis.
        """
        data, outer_data = inner_and_outer(self.network, state.parameters, trajectory, self.config)
        if not state.logits:
            inner, meta = self._plain_step(state, data)
        elif self.config.meta_interval == 1:
            inner, meta = self._tuning_step(state, data, outer_data)
        else:
            inner, meta = jax.lax.cond(
                self._is_turn(state, batch_axis),
                lambda: self._tuning_step(state, data, outer_data),
                lambda: self._plain_step(state, data),
            )
        seen = (inner.gradient_norms, meta.metagradient_norm, *meta.logits.values())
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(array)) for array in seen]))
        skipped_in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        parameters = inner.parameters
        if self.config.normalise_observations:
            new = slice(self.config.overlap, self.config.trajectory_length)  # each is seen once
            parameters = self.network.having_seen(
                parameters, trajectory.observations[new], trajectory.valid[new]
            )
        parameters = self._told_gamma(parameters, hyperparameters(meta.logits, self.config))
        moved = LearnerState(
            parameters, inner.optimiser, meta.logits, meta.optimiser, skipped_in_a_row
        )
        stayed = eqx.tree_at(lambda s: s.skipped_in_a_row, state, skipped_in_a_row)
        new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, stayed)
        used = hyperparameters(state.logits, self.config)
        metrics = UpdateMetrics(
            loss=inner.loss,
            outer_loss=meta.outer_loss,
            kl=meta.kl,
            metagradient_norm=meta.metagradient_norm,
            meta_step=meta.taken,
            gradient_norm=inner.gradient_norms[0],
            skipped=~finite,
            skipped_in_a_row=skipped_in_a_row,
            **inner.statistics._asdict(),
            metaparameters={name: used[name] for name in self.config.reported},
        )
        return new_state, metrics

    def _plain_step(
        self, state: LearnerState, trajectory: Trajectory
    ) -> tuple[_InnerStep, _MetaStep]:
        """IMPALA's update: lines 11 and 12 alone."""
        inner = self._inner_step(state, hyperparameters(state.logits, self.config), trajectory)
        zero = jnp.zeros(())
        stay = _MetaStep(state.logits, state.meta_optimiser, zero, zero, zero, jnp.array(False))
        return inner, stay

    def _tuning_step(
        self, state: LearnerState, trajectory: Trajectory, outer_trajectory: Trajectory
    ) -> tuple[_InnerStep, _MetaStep]:
        """Lines 10 to 15: the inner step, and the outer loss's gradient through it.

        Auxiliary heads' metaparameters reach the outer loss, which is head 1's, through the shared
        torso only.
        """

        def outer_loss(logits: Logits) -> tuple[Array, tuple[_InnerStep, Array]]:
            inner = self._inner_step(state, hyperparameters(logits, self.config), trajectory)
            output = self._judged(self._told(inner.parameters, state), outer_trajectory)
            space = self.network.action_space
            zeta = outer_hyperparameters(self.config, heads=output.values.shape[-1])
            value, _ = actor_critic_loss(space, output, outer_trajectory, zeta, self.config)
            before = self._before(state, inner.output, outer_trajectory)
            kl = kl_loss(space, output, before, outer_trajectory, self.config)
            share = trajectory.rewards.shape[1] / outer_trajectory.rewards.shape[1]
            return share * (value + self.config.g_kl * kl), (inner, share * kl)

        (value, (inner, kl)), metagradient = jax.value_and_grad(outer_loss, has_aux=True)(
            state.logits
        )
        updates, optimiser = self.meta_optimiser.update(metagradient, state.meta_optimiser)
        return inner, _MetaStep(
            logits=optax.apply_updates(state.logits, updates),
            optimiser=optimiser,
            outer_loss=value,
            kl=kl,
            metagradient_norm=optax.tree.norm(metagradient),
            taken=jnp.array(True),
        )

    def _inner_step(
        self, state: LearnerState, zeta: Hyperparameters, trajectory: Trajectory
    ) -> _InnerStep:
        """Lines 11 and 12: the gradient of the inner loss, and theta_{t+1}."""
        config, space = self.config, self.network.action_space

        def loss(parameters: Parameters) -> tuple[Array, tuple[HeadStatistics, NetworkOutput]]:
            output, _ = self.network.unroll(
                self._told_gamma(parameters, zeta),
                trajectory.observations,
                trajectory.starts,
                trajectory.recurrent_state,
            )
            value, statistics = actor_critic_loss(space, output, trajectory, zeta, config)
            if config.has_outer_values:
                outer = outer_hyperparameters(config)
                value += critic_loss(space, judged(output, config), trajectory, outer, config)
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
            gradient_norms=jnp.sqrt(squared_norms(gradient, self.config, self.network)),
            statistics=statistics,
        )

    def _judged(self, parameters: Parameters, trajectory: Trajectory) -> NetworkOutput:
        """What the outer loss is about: in the paper, head 1."""
        output, _ = self.network.unroll(
            parameters,
            trajectory.observations,
            trajectory.starts,
            trajectory.recurrent_state,
            main_head_only=main_head_suffices(self.config),
        )
        return judged(output, self.config)

    def _before(
        self, state: LearnerState, inner_output: NetworkOutput, outer_trajectory: Trajectory
    ) -> NetworkOutput:
        """What theta_t says of the outer loss's trajectory, a constant to the metagradient."""
        if self.config.outer_steps:
            return self._judged(state.parameters, outer_trajectory)
        environments = outer_trajectory.rewards.shape[1]
        known = jax.tree.map(lambda leaf: leaf[:, :environments], inner_output)
        return jax.lax.stop_gradient(judged(known, self.config))

    def _told_gamma(self, parameters: Parameters, zeta: Hyperparameters) -> Parameters:
        """Parameters whose heads are told gamma, if the config says so (section 9.5)."""
        if self.config.gamma_embedding == "none":
            return parameters
        return self.network.conditioned_on(parameters, zeta["gamma"])

    def _told(self, parameters: Parameters, state: LearnerState) -> Parameters:
        """The same with this iteration's gamma, a constant to the metagradient.

        The outer loss judges parameters, not what gamma the heads are told.
        """
        return self._told_gamma(parameters, hyperparameters(state.logits, self.config))

    def _is_turn(self, state: LearnerState, batch_axis: str | None) -> Bool[Array, ""]:
        """Whether the metaparameters are to be updated, as every `meta_interval` updates.

        All states of a batch take turns together: else the branch would become a selection.
        """
        count = optax.tree.get(state.optimiser, "count")
        if batch_axis is not None:
            count = jax.lax.pmax(count, batch_axis)
        return count % self.config.meta_interval == 0

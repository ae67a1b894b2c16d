"""What is gathered between two lines of metrics, inside the compiled program."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stacx.types import Trajectory, UpdateMetrics


class EpisodeEnds(NamedTuple):
    """Which transitions of a trajectory ended an episode, and how it had gone."""

    ended: Bool[Array, "T B"]
    returns: Float[Array, "T B"]
    """Undiscounted raw return of the episode up to and with this transition."""
    lengths: Int[Array, "T B"]
    """The episode's length up to and with this transition."""
    physics_errors: Bool[Array, "T B"]
    """Whether the simulation became unstable."""


class IntervalStatistics(eqx.Module):
    """Running statistics of one training run since the last line of metrics."""

    updates: Int[Array, ""]
    episodes: Int[Array, ""]
    return_sum: Float[Array, ""]
    length_sum: Float[Array, ""]
    skipped: Int[Array, ""]
    meta_updates: Int[Array, ""]
    """Updates of the metaparameters, but for skipped ones."""
    physics_errors: Int[Array, ""]
    bad_observations: Int[Array, ""]
    """Observations with a NaN or infinite entry."""
    bad_rewards: Int[Array, ""]
    means: dict[str, Float[Array, "..."]]
    """Sums over updates, divided by their number in the end, or by that of the meta updates."""
    lows: dict[str, Float[Array, "..."]]
    highs: dict[str, Float[Array, "..."]]
    latest: dict[str, Float[Array, "..."]]
    """As of the last update."""

    @staticmethod
    def empty(heads: int, metaparameters: tuple[str, ...]) -> IntervalStatistics:
        """Before the first update of an interval."""

        def scalars() -> Array:
            return jnp.zeros(())

        def per_head(value: float) -> Array:
            return jnp.full((heads,), value, float)

        count = jnp.zeros((), jnp.int32)
        return IntervalStatistics(
            updates=count,
            episodes=count,
            return_sum=scalars(),
            length_sum=scalars(),
            skipped=count,
            meta_updates=count,
            physics_errors=count,
            bad_observations=count,
            bad_rewards=count,
            means={
                "loss": scalars(),
                "outer_loss": scalars(),
                "kl": scalars(),
                "gradient_norm": scalars(),
                "metagradient_norm": scalars(),
                "entropy": per_head(0.0),
            },
            lows={"value_min": per_head(jnp.inf)},
            highs={"value_max": per_head(-jnp.inf), "importance_max": per_head(0.0)},
            latest={name: per_head(0.0) for name in metaparameters},
        )

    def add(
        self, metrics: UpdateMetrics, trajectory: Trajectory, ends: EpisodeEnds
    ) -> IntervalStatistics:
        """With one more update. Skipped updates count as such, not in the means."""
        values = metrics._asdict()
        return IntervalStatistics(
            updates=self.updates + 1,
            episodes=self.episodes + jnp.sum(ends.ended, dtype=jnp.int32),
            return_sum=self.return_sum + _total(ends.ended, ends.returns),
            length_sum=self.length_sum + _total(ends.ended, ends.lengths),
            skipped=self.skipped + metrics.skipped.astype(jnp.int32),
            meta_updates=self.meta_updates + (metrics.meta_step & ~metrics.skipped),
            physics_errors=self.physics_errors + jnp.sum(ends.physics_errors, dtype=jnp.int32),
            bad_observations=self.bad_observations + _count_bad(trajectory.observations),
            bad_rewards=self.bad_rewards + _count_bad(trajectory.rewards),
            means={
                name: total + jnp.where(metrics.skipped, 0.0, values[name])
                for name, total in self.means.items()
            },
            lows={name: jnp.minimum(low, values[name]) for name, low in self.lows.items()},
            highs={name: jnp.maximum(high, values[name]) for name, high in self.highs.items()},
            latest=dict(metrics.metaparameters),
        )


def _total(mask: Bool[Array, "T B"], values: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, values, 0), dtype=jnp.float32)


def _count_bad(values: Array) -> Int[Array, ""]:
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return jnp.zeros((), jnp.int32)
    return jnp.sum(~jnp.isfinite(values), dtype=jnp.int32)

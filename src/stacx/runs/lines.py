"""From the statistics of an interval to lines of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stacx.config import Config
from stacx.runtimes.statistics import IntervalStatistics

_RUNAWAY_VALUE = 100.0
"""A head runs away when its values are this many times head 1's, and larger than this."""

_OF_META_UPDATES = ("outer_loss", "kl", "metagradient_norm")


def metric_lines(
    config: Config,
    updates: int,
    interval: IntervalStatistics,
    steps_per_second: float,
    previous: Mapping[int, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One line per seed.

    Args:
        config: of the run.
        updates: since the start of the run.
        interval: statistics with a leading axis of seeds.
        steps_per_second: environment steps of all seeds, per second of wall-clock.
        previous: the last line of each seed, which an interval without an episode's end repeats.
    """
    host = jax.tree.map(np.asarray, interval)
    return [
        _line(
            config,
            updates,
            jax.tree.map(lambda leaf, i=index: leaf[i], host),
            config.seed + index,
            steps_per_second,
            previous.get(config.seed + index, {}),
        )
        for index in range(config.num_seeds)
    ]


def _line(
    config: Config,
    updates: int,
    interval: Any,
    seed: int,
    steps_per_second: float,
    previous: Mapping[str, Any],
) -> dict[str, Any]:
    episodes = int(interval.episodes)
    learned = int(interval.updates) - int(interval.skipped) or math.nan
    line: dict[str, Any] = {
        "env_steps": updates * config.batch_steps,
        "updates": updates,
        "seed": seed,
        "episode_return": previous.get("episode_return"),
        "episode_length": previous.get("episode_length"),
        "episodes": episodes,
        "steps_per_second": round(steps_per_second, 1),
        "skipped_updates": previous.get("skipped_updates", 0) + int(interval.skipped),
        "physics_errors": previous.get("physics_errors", 0) + int(interval.physics_errors),
    }
    if episodes:
        line["episode_return"] = float(interval.return_sum) / episodes
        line["episode_length"] = float(interval.length_sum) / episodes
    tuned = int(interval.meta_updates) or math.nan
    for name, total in interval.means.items():
        count = tuned if config.tuned and name in _OF_META_UPDATES else learned
        line |= _per_head(name, np.asarray(total / count))
    for group in (interval.lows, interval.highs):
        for name, values in group.items():
            line |= _per_head(name, values)
    for name, values in interval.latest.items():
        line |= _per_head(f"meta/{name}", values)
    return line


def _per_head(name: str, values: np.ndarray) -> dict[str, float]:
    if values.ndim == 0:
        return {name: float(values)}
    return {f"{name}/{head}": float(value) for head, value in enumerate(values)}


def runaway_heads(line: Mapping[str, Any]) -> list[int]:
    """Auxiliary heads (from 1) whose values have left head 1's range by two orders of magnitude."""

    def largest(head: int) -> float:
        bounds = (line[f"value_min/{head}"], line[f"value_max/{head}"])
        return max(abs(b) if math.isfinite(b) else math.inf for b in bounds)

    heads = [key for key in line if key.startswith("value_min/")]
    limit = _RUNAWAY_VALUE * max(largest(0), 1.0)
    return [head for head in range(1, len(heads)) if largest(head) > limit]


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds for a progress bar: the return (None before any), and head 1's zeta."""
    returns = [line["episode_return"] for line in lines if line["episode_return"] is not None]
    return {
        "episode_return": sum(returns) / len(returns) if returns else None,
        **{
            key.split("/")[1]: sum(line[key] for line in lines) / len(lines)
            for key in lines[0]
            if key.startswith("meta/") and key.endswith("/0")
        },
    }

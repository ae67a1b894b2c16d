"""The score of a run: what its episodes returned at the end of training.

Training returns, of actions sampled from the policy, and of raw rewards. The paper does not say
over which window it averages; here it is the last 5 % of the run's steps: on Atari the last 10M of
200M frames.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stacx.reporting import RunData

WINDOW = 0.05
"""Share of a run's steps, at its end, whose episodes make up its score."""


def final_scores(data: RunData) -> Float[np.ndarray, " K"]:
    """The mean of `episode_return` over the lines of metrics in the window, for each seed.

    A line in whose interval no episode ended is left out: it is null, or repeats an older one.
    Where the window has no other, the last return of the run counts; NaN if no episode ever ended.
    """
    returns, ended = data.series("episode_return"), _episodes(data) > 0
    within = data.env_steps > (1 - WINDOW) * data.env_steps[-1]
    counted = within & ended & np.isfinite(returns)
    return np.array(
        [
            of_seed[counts].mean() if counts.any() else _last(of_seed)
            for of_seed, counts in zip(returns, counted, strict=True)
        ]
    )


def learning_curve(data: RunData) -> Float[np.ndarray, "K N"]:
    """`episode_return` at every point, with the last one before where there is none."""
    returns = data.series("episode_return")
    points = np.where(np.isfinite(returns), np.arange(returns.shape[1]), 0)
    latest = np.maximum.accumulate(points, axis=1)
    return np.take_along_axis(returns, latest, axis=1)


def _episodes(data: RunData) -> Float[np.ndarray, "K N"]:
    """How many episodes ended in each interval."""
    return np.nan_to_num(data.series("episodes"))


def _last(returns: Float[np.ndarray, " N"]) -> float:
    seen = returns[np.isfinite(returns)]
    return float(seen[-1]) if seen.size else np.nan

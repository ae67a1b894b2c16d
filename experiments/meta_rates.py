"""How fast self-tuning gets anywhere, and what the two levers on its cost do to that.

    python experiments/meta_rates.py [--output DIR] [--steps N] [--seeds K] [--dry-run]

CartPole, started wrong in everything: gamma 0.8, lambda 0.5, alpha 0.3, g_p and g_v a tenth of
their outer values. STAC with meta learning rates from Table 3's on, and at one of them with the
outer loss on a quarter of the batch, with a step of the metaparameters every fourth update, and
with both.
Writes `meta_rates.csv` to `docs/results/` once all is complete.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from of_one_task import carry_out, keep_table

from stacx.cli.main import as_command
from stacx.reproduction import (
    SUITES,
    Analysis,
    Experiment,
    Results,
    Suite,
    Table,
    Variant,
    comparing,
)

WRONG = {"initial_gamma": 0.8, "initial_lambda": 0.5, "initial_alpha": 0.3} | {
    "initial_g_p": 0.1,
    "initial_g_v": 0.1,
}
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
LEVERS: dict[str, dict[str, Any]] = {
    "a-quarter": {"outer_fraction": 0.25},
    "every-4th": {"meta_interval": 4},
    "both": {"outer_fraction": 0.25, "meta_interval": 4},
}
ENOUGH = 400.0
"""A return; how long it takes to get there is in the table."""


def variants(suite: Suite) -> tuple[Variant, ...]:
    """IMPALA well set, STAC with every rate, and with every lever."""
    del suite
    stac = {"agent": "stac", **WRONG}
    found = [Variant("impala", {"agent": "impala"})]
    found += [Variant(f"stac-{rate:g}", {**stac, "meta_learning_rate": rate}) for rate in RATES]
    found += [
        Variant(f"stac-0.03-{name}", {**stac, "meta_learning_rate": 0.03, **lever})
        for name, lever in LEVERS.items()
    ]
    return tuple(found)


def analyse(results: Results) -> Analysis:
    """Scores, when they were reached, how fast, and where gamma and g_p ended."""
    rows = []
    for task in results.tasks:
        for name, cell in results.of_task(task).items():
            data, scores = cell.data, cell.scores
            returns = data.series("episode_return")
            reached = np.where((returns >= ENOUGH).any(1), (returns >= ENOUGH).argmax(1), -1)
            steps = [data.env_steps[point] if point >= 0 else np.inf for point in reached]
            ends = [np.median(data.series(f"meta/{key}/0")[:, -1]) for key in ("gamma", "g_p")]
            rate = np.nanmedian(data.series("steps_per_second"))
            numbers = (scores.mean(), scores.min(), scores.max(), np.median(steps), rate, *ends)
            rows.append((name, data.config.total_updates, *map(float, numbers)))
    columns = ("variant", "updates", "mean", "min", "max", f"steps to {ENOUGH:g}", "steps/s")
    table = Table("rates", "Final returns.", (*columns, "gamma", "g_p"), rows)
    return comparing.compare(results)._replace(tables=[table])


EXPERIMENT = Experiment(
    name="meta-rates",
    title="How fast self-tuning gets anywhere",
    paper="Not in the paper; Table 3 has 0.001, for 78,125 updates.",
    variants=variants,
    analyse=analyse,
    one_at_a_time=True,
)


def main() -> None:
    """Trains all, and keeps the table."""
    task = next(t for t in SUITES["classic"].tasks["small"] if "CartPole" in t.env)
    report = carry_out(EXPERIMENT, task, doc=__doc__, seeds=5)
    if report:
        keep_table(report, "rates", "meta_rates")


if __name__ == "__main__":
    as_command(main)

"""When auxiliary heads run away, and what keeps them.

    python experiments/runaway.py [--output DIR] [--steps N] [--seeds K] [--dry-run]

CartPole with raw rewards (returns of 500), the paper's entropy weight and heads that start apart:
there auxiliary heads become deterministic, are far off-policy, and take the torso with them. Each
variant changes one thing. Writes `runaway.csv` and `runaway.png` to `docs/results/` once all is
complete.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path
from typing import Any

from stacx.reproduction import SUITES, Experiment, Suite, Task, Variant, analyses, reproduce

RESULTS = Path(__file__).parent.parent / "docs" / "results"
RAW = {"reward_scale": 1.0, "head_init": 1.0, "aux_gradient": 1.0}
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "rewards x 0.1": {"reward_scale": 0.1},
    "rewards x 0.01": {"reward_scale": 0.01},
    "g_e x 10": {"g_e": 0.1},
    "heads start alike": {"head_init": 0.01},
    "torso of 256": {"mlp_widths": (256, 256)},
    "clipped to norm 1": {"max_gradient_norm": 1.0},
    "heads act in turn": {"behaviour": "random"},
    "aux-gradient 0.1": {"aux_gradient": 0.1},
    "aux-gradient 0": {"aux_gradient": 0.0},
}
OF_STACX: dict[str, dict[str, Any]] = {
    "alpha not tuned": {"tune": "gamma,lambda,g_v,g_p,g_e"},
    "two alphas": {"tune": "gamma,lambda,alpha_rho,alpha_c,g_v,g_p,g_e"},
    "meta rate 0.03": {"meta_learning_rate": 0.03},
}


def variants(suite: Suite) -> tuple[Variant, ...]:
    """IMPALA and STAC, and both agents with auxiliary heads under every change."""
    del suite
    found = [Variant(agent, {"agent": agent, **RAW}) for agent in ("impala", "stac")]
    for agent, changes in (("impala-aux", CHANGES), ("stacx", CHANGES | OF_STACX)):
        found += [
            Variant(f"{agent} {name}".replace(" ", "-"), {"agent": agent, **RAW, **change})
            for name, change in changes.items()
        ]
    return tuple(found)


EXPERIMENT = Experiment(
    name="runaway",
    title="Auxiliary heads that run away, and what keeps them",
    paper="Not in the paper.",
    variants=variants,
    analyse=analyses.compare,
)


def main() -> None:
    """Trains all, and keeps the table and a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("reproduced/runaway"))
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    of_suite = next(t for t in SUITES["classic"].tasks["small"] if "CartPole" in t.env)
    task = Task(of_suite.env, arguments.steps, of_suite.reference)
    suite = Suite("cartpole", {"small": (task,)}, {"small": arguments.seeds}, "the optimum")
    report = reproduce(EXPERIMENT, suite, output=arguments.output, dry_run=arguments.dry_run)
    if report:
        first, *rows = csv.reader((report.parent / "tables" / "scores.csv").open())
        short = [[*row[:4], *(f"{float(number):.4g}" for number in row[4:])] for row in rows]
        with (RESULTS / "runaway.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([first, *short])
        shutil.copy(report.parent / "figures" / "aggregates.png", RESULTS / "runaway.png")


if __name__ == "__main__":
    main()

"""When auxiliary heads run away, and what keeps them.

    python experiments/runaway.py [--output DIR] [--steps N] [--seeds K] [--dry-run]

CartPole with raw rewards (returns of 500), the paper's entropy weight and heads that start apart:
there auxiliary heads become deterministic, are far off-policy, and take the torso with them. Each
variant changes one thing. Writes `runaway.csv` to `docs/results/` once all is
complete.
"""

from __future__ import annotations

from typing import Any

from of_one_task import carry_out, keep_table

from stacx.cli.main import as_command
from stacx.reproduction import SUITES, Experiment, Suite, Variant, comparing

RAW = {"reward_scale": 1.0, "head_init": 1.0, "max_aux_gradient": None}
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "rewards x 0.1": {"reward_scale": 0.1},
    "rewards x 0.01": {"reward_scale": 0.01},
    "g_e x 10": {"g_e": 0.1},
    "heads start alike": {"head_init": 0.01},
    "torso of 256": {"mlp_widths": (256, 256)},
    "clipped to norm 1": {"max_gradient_norm": 1.0},
    "heads act in turn": {"behaviour": "random"},
    "max-aux-gradient 0.3": {"max_aux_gradient": 0.3},
    "max-aux-gradient 0.1": {"max_aux_gradient": 0.1},
    "max-aux-gradient 0.03": {"max_aux_gradient": 0.03},
    "max-aux-gradient 0": {"max_aux_gradient": 0.0},
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
    analyse=comparing.compare,
)


def main() -> None:
    """Trains all, and keeps the table."""
    task = next(t for t in SUITES["classic"].tasks["small"] if "CartPole" in t.env)
    report = carry_out(EXPERIMENT, task, doc=__doc__, seeds=6)
    if report:
        keep_table(report, "scores", "runaway")


if __name__ == "__main__":
    as_command(main)

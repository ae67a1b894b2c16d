"""Auxiliary heads that run away on continuous control, and how far apart they have to be kept.

    python experiments/runaway_control.py [--output DIR] [--steps N] [--seeds K] [--dry-run]

As `runaway.py`, on DM Control's cheetah with the preset `continuous`. Writes
`runaway_control.csv` to `docs/results/` once all is complete.
"""

from __future__ import annotations

from of_one_task import carry_out, keep_table

from stacx.cli.main import as_command
from stacx.reproduction import Experiment, Reference, Suite, Task, Variant, comparing

BOUNDS = (None, 0.03, 0.01)
"""None is the paper's update: losses averaged over heads, and one torso for all."""
TASK = Task(
    "dmc:cheetah-run",
    400_000,
    Reference(0.0, 1000.0, "the suite's own scale"),
    {"suite": "continuous"},
)


def variants(suite: Suite) -> tuple[Variant, ...]:
    """IMPALA and STAC, and both agents with auxiliary heads with each bound."""
    del suite
    found = [Variant(agent, {"agent": agent}) for agent in ("impala", "stac")]
    found += [
        Variant(
            f"{agent}-{'none' if bound is None else format(bound, 'g')}",
            {"agent": agent, "max_aux_gradient": bound},
        )
        for bound in BOUNDS
        for agent in ("stacx", "impala-aux")
    ]
    return tuple(found)


EXPERIMENT = Experiment(
    name="runaway-control",
    title="Auxiliary heads on continuous control, and what keeps them",
    paper="Not in the paper.",
    variants=variants,
    analyse=comparing.compare,
)


def main() -> None:
    """Trains all, and keeps the table."""
    report = carry_out(EXPERIMENT, TASK, doc=__doc__, seeds=3)
    if report:
        keep_table(report, "scores", "runaway_control")


if __name__ == "__main__":
    as_command(main)

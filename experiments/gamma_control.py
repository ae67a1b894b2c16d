"""A control of Fig. 4(a): does STACX mend a bad outer discount, or is it that gamma starts at 0.99?

    python experiments/gamma_control.py [--output DIR] [--seeds K] [--dry-run]

On three small problems with discounts that are bad for IMPALA: IMPALA, STACX as in Fig. 4(a), whose
inner gamma starts at 0.99 (Table 3), and STACX whose inner gamma starts at the outer one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stacx.cli.main import as_command
from stacx.reproduction import SUITES, Experiment, Suite, Variant, comparing, reproduce

TASKS = ("gymnax:CartPole-v1", "gymnax:Acrobot-v1", "gymnax:DiscountingChain-bsuite")
DISCOUNTS = (0.9, 0.95, 0.995)


def variants(suite: Suite) -> tuple[Variant, ...]:
    """Three agents for each discount."""
    del suite
    found = []
    for gamma in DISCOUNTS:
        found += [
            Variant(f"impala-gamma-{gamma:g}", {"agent": "impala", "gamma": gamma}),
            Variant(f"stacx-gamma-{gamma:g}", {"agent": "stacx", "gamma": gamma}),
            Variant(
                f"stacx-gamma-{gamma:g}-from-there",
                {"agent": "stacx", "gamma": gamma, "initial_gamma": gamma},
            ),
        ]
    return tuple(found)


EXPERIMENT = Experiment(
    name="gamma-control",
    title="A control of Fig. 4(a)",
    paper="Fig. 4(a) has no such control: inner values start at 0.99, whatever the outer ones are.",
    variants=variants,
    analyse=comparing.compare,
)


def main() -> None:
    """Trains all, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("reproduced/gamma-control"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    tasks = tuple(task for task in SUITES["classic"].tasks["small"] if task.env in TASKS)
    suite = Suite("three-tasks", {"small": tasks}, {"small": given.seeds}, "the optimum")
    reproduce(EXPERIMENT, suite, output=given.output, dry_run=given.dry_run)


if __name__ == "__main__":
    as_command(main)

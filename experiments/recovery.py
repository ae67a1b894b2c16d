"""Self-tuning recovers from hyperparameters that are far off.

    python experiments/recovery.py [--output DIR] [--steps N] [--seeds K]

CartPole with the inner loss's gamma at 0.8 and lambda at 0.5. IMPALA keeps them; STAC and STACX
start there and tune them towards an outer loss with gamma 0.99 and lambda 1; well-set IMPALA has
0.99 and 1 from the start. Writes `recovery.csv` and `recovery.png` to `docs/results/`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from classic import RESULTS, evaluate_seeds

import stacx
from stacx.reporting import plot_runs

WRONG_FIXED = {"gamma": 0.8, "lambda_": 0.5}
WRONG_START = {"initial_gamma": 0.8, "initial_lambda": 0.5}

RUNS: dict[str, dict[str, Any]] = {
    "IMPALA well set": {"agent": "impala"},
    "IMPALA badly set": {"agent": "impala", **WRONG_FIXED},
    "STAC from bad": {"agent": "stac", **WRONG_START},
    "STACX from bad": {"agent": "stacx", **WRONG_START},
}
"""Settings by name, which is also the run's directory and its label in the figure."""


def main() -> None:
    """Trains all, and writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/recovery"))
    parser.add_argument("--steps", type=int, default=4_000_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows, directories = [], []
    for name, settings in RUNS.items():
        config = stacx.Config(
            env="gymnax:CartPole-v1",
            steps=arguments.steps,
            num_seeds=arguments.seeds,
            **settings,
        )
        directory = arguments.output / name
        resume = (directory / "config.json").exists()
        run = stacx.train(config, directory, resume=resume, quiet=True)
        directories.append(run.directory)
        rows.append(row_of(name, run, config))
        print(rows[-1], flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "recovery.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot_runs(directories, RESULTS / "recovery.png")


def row_of(name: str, run: stacx.Run, config: stacx.Config) -> dict[str, Any]:
    """What a run came to: returns of sampled and greedy policies, and where gamma ended."""
    sampled = evaluate_seeds(run.directory, greedy=False)
    greedy = evaluate_seeds(run.directory, greedy=True)
    last = run.metrics()[-config.num_seeds :]
    return {
        "run": name,
        "steps": config.steps,
        "seeds": config.num_seeds,
        "sampled_median": f"{np.median(sampled):.1f}",
        "sampled_min": f"{sampled.min():.1f}",
        "sampled_max": f"{sampled.max():.1f}",
        "greedy_median": f"{np.median(greedy):.1f}",
        "gamma_median": f"{np.median([line['meta/gamma/0'] for line in last]):.4f}",
        "lambda_median": f"{np.median([line['meta/lambda/0'] for line in last]):.4f}",
    }


if __name__ == "__main__":
    main()

"""Learning on small problems: all four agents, several seeds, greedy and sampled evaluation.

    python experiments/classic.py [--output DIR] [--only TASK ...]

Runs that are complete are skipped, interrupted ones resumed. Writes `classic.csv` and a figure per
task to `docs/results/`; everything else stays in `--output`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

import stacx
from stacx import environments
from stacx.agents import AGENTS
from stacx.reporting import plot_runs
from stacx.runs import RunDirectory

RESULTS = Path(__file__).parent.parent / "docs" / "results"
EPISODES = 100


@dataclasses.dataclass(frozen=True)
class Task:
    """One environment, for some agents."""

    env: str
    steps: int
    seeds: int = 5
    agents: tuple[str, ...] = tuple(AGENTS)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


TASKS = {
    "catch": Task("gymnax:Catch-bsuite", 300_000),
    "cartpole": Task("gymnax:CartPole-v1", 1_000_000),
    "acrobot": Task("gymnax:Acrobot-v1", 2_000_000),
    "memory": Task("gymnax:MemoryChain-bsuite", 500_000),
    "memory-feedforward": Task("gymnax:MemoryChain-bsuite", 500_000, settings={"lstm_size": 0}),
}


def main() -> None:
    """Runs the tasks asked for, and adds them to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/classic"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    arguments = parser.parse_args()
    for name in arguments.only:
        rows = [run_one(name, TASKS[name], agent, arguments.output) for agent in TASKS[name].agents]
        directories = [arguments.output / f"{name}-{agent}" for agent in TASKS[name].agents]
        plot_runs(directories, RESULTS / f"classic_{name}.png")
        write_rows(RESULTS / "classic.csv", name, rows)


def run_one(name: str, task: Task, agent: str, output: Path) -> dict[str, Any]:
    """Trains (or finds trained) one agent, evaluates it, and returns its row of the table."""
    config = stacx.Config(
        env=task.env, agent=agent, steps=task.steps, num_seeds=task.seeds, **task.settings
    )
    directory = output / f"{name}-{agent}"
    start = time.monotonic()
    resume = (directory / "config.json").exists()
    run = stacx.train(config, directory, resume=resume, quiet=True)
    seconds = time.monotonic() - start
    row: dict[str, Any] = {
        "task": name,
        "env": task.env,
        "agent": agent,
        "steps": task.steps,
        "seeds": task.seeds,
    }
    for kind, greedy in (("greedy", True), ("sampled", False)):
        means = evaluate_seeds(run.directory, greedy=greedy)
        row |= {f"{kind}_median": np.median(means), f"{kind}_min": means.min()}
        row |= {f"{kind}_max": means.max()}
    row["seconds"] = None if resume else round(seconds, 1)
    print(row, flush=True)
    return row


def evaluate_seeds(directory: Path, *, greedy: bool) -> np.ndarray:
    """The mean return over `EPISODES` episodes of each seed's final policy, [K]."""
    config = RunDirectory.open(directory).config()
    environment = environments.make(config.env, config.env_args)
    seeds = range(config.seed, config.seed + config.num_seeds)
    return np.array(
        [
            stacx.evaluate(
                stacx.load(directory, seed), environment, episodes=EPISODES, greedy=greedy
            ).returns.mean()
            for seed in seeds
        ]
    )


def write_rows(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Replaces the rows of a task in the table."""
    others = []
    if path.exists():
        with path.open() as file:
            others = [row for row in csv.DictReader(file) if row["task"] != name]
    columns = list(dict.fromkeys(column for row in [*rows, *others] for column in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(others)
        for row in rows:
            writer.writerow(
                {k: f"{v:.2f}" if isinstance(v, np.floating) else v for k, v in row.items()}
            )


if __name__ == "__main__":
    main()

"""Learning on environments that step on the CPU: each seed a run of its own.

    python experiments/host.py [--output DIR] [--only TASK ...] [--seeds K]

Runs that are complete are skipped, interrupted ones resumed. Writes `host.csv` and a figure for
each task to `docs/results/`; everything else stays in `--output`. The masked CartPole is found if
this is run from `experiments/`, or with it on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from classic import RESULTS, Task, evaluate_seeds, write_rows

import stacx
from stacx.reporting import plot_runs

MASKED = {"reward_scale": 0.01}
PONG = {
    "torso": "shallow",
    "head_widths": (),
    "num_envs": 8,
    "trajectory_length": 10,
    "gamma": 0.99,
    "rmsprop_eps": 1e-4,
    "rmsprop_initial": 1.0,
}
TASKS = {
    "gym-cartpole": Task("gym:CartPole-v1", 1_000_000, seeds=3, agents=("impala", "stacx")),
    "lunarlander": Task(
        "gym:LunarLander-v3", 3_000_000, seeds=3, agents=("impala", "stac", "stacx")
    ),
    "masked-recurrent": Task(
        "masked:make", 2_000_000, seeds=2, agents=("stacx",), settings=MASKED | {"lstm_size": 64}
    ),
    "masked-feedforward": Task(
        "masked:make", 2_000_000, seeds=2, agents=("stacx",), settings=MASKED
    ),
    "pong": Task("atari:Pong", 6_000_000, seeds=1, agents=("impala",), settings=PONG),
}
SOLVED = {
    "gym-cartpole": 475.0,
    "lunarlander": 200.0,
    "masked-recurrent": 475.0,
    "masked-feedforward": 475.0,
    "pong": 15.0,
}
"""Mean returns that count as solved: Gymnasium's, and for Pong that of the issue at hand."""


def main() -> None:
    """Runs the tasks asked for, and adds them to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/host"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, help="instead of the task's own number")
    arguments = parser.parse_args()
    for name in arguments.only:
        task = dataclasses.replace(TASKS[name], seeds=arguments.seeds or TASKS[name].seeds)
        run_task("host", name, task, SOLVED[name], arguments.output)


def run_task(table: str, name: str, task: Task, solved: float, output: Path) -> None:
    """Runs every agent and seed of a task, and writes its rows and its figure."""
    rows, directories = [], []
    for agent in task.agents:
        for seed in range(task.seeds):
            directories.append(output / f"{name}-{agent}-{seed}")
            rows.append(run_one(name, task, solved, agent, seed, directories[-1]))
            print(rows[-1], flush=True)
    plot_runs(directories, RESULTS / f"{table}_{name}.png")
    write_rows(RESULTS / f"{table}.csv", name, rows)


def run_one(
    name: str, task: Task, solved: float, agent: str, seed: int, directory: Path
) -> dict[str, Any]:
    """Trains (or finds trained) one seed, evaluates it, and returns its row of the table."""
    config = stacx.Config(env=task.env, agent=agent, steps=task.steps, seed=seed, **task.settings)
    resume = (directory / "config.json").exists()
    run = stacx.train(config, directory, resume=resume, quiet=True)
    lines = run.metrics()
    clock = clock_of(lines)
    above = [i for i, line in enumerate(lines) if (line["episode_return"] or 0) >= solved]
    return {
        "task": name,
        "env": task.env,
        "agent": agent,
        "seed": seed,
        "steps": task.steps,
        "training_return": f"{np.mean([line['episode_return'] for line in lines[-5:]]):.1f}",
        "sampled": f"{evaluate_seeds(directory, greedy=False).mean():.1f}",
        "greedy": f"{evaluate_seeds(directory, greedy=True).mean():.1f}",
        "seconds": f"{clock[-1]:.0f}",
        "seconds_to_solved": f"{clock[above[0]]:.0f}" if above else "",
        "steps_per_second": f"{lines[-1]['env_steps'] / clock[-1]:.0f}",
        "gamma": f"{lines[-1]['meta/gamma/0']:.4f}",
        "lambda": f"{lines[-1]['meta/lambda/0']:.4f}",
    }


def clock_of(lines: list[dict[str, Any]], num_seeds: int = 1) -> np.ndarray:
    """Seconds of training up to each line of one seed, [lines]; rates are those of all seeds."""
    steps = np.diff([line["env_steps"] for line in lines], prepend=0) * num_seeds
    return np.cumsum(steps / [line["steps_per_second"] for line in lines])


if __name__ == "__main__":
    main()

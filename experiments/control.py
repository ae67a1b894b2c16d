"""Learning on continuous control: DM Control, the real-world tasks, and Gymnasium's.

    python experiments/control.py [--output DIR] [--only TASK ...] [--seeds K] [--steps N]

Runs that are complete are skipped, interrupted ones resumed; several processes with other tasks may
share an output. Writes `control.csv` and a figure for each task to `docs/results/`; everything else
stays in `--output`. It has the paper's 30M steps on a GPU with `--steps 30000000`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from classic import Task
from host import run_task

AGENTS = ("impala", "stac")
SPARSE = {"lstm_size": 0, "lambda_": 0.95}
"""Tuned for IMPALA on catching the ball (docs/results/control.md)."""
TASKS = {
    "cartpole-balance": Task("dmc:cartpole-balance", 1_000_000, seeds=3, agents=AGENTS),
    "cartpole-swingup": Task("dmc:cartpole-swingup", 1_000_000, seeds=3, agents=AGENTS),
    "ball_in_cup-catch": Task(
        "dmc:ball_in_cup-catch", 1_000_000, seeds=3, agents=AGENTS, settings=SPARSE
    ),
    "reacher-easy": Task(
        "dmc:reacher-easy",
        1_000_000,
        seeds=3,
        agents=AGENTS,
        settings=SPARSE | {"normalise_observations": True},
    ),
    "real-world": Task("rwrl:cartpole-swingup-easy", 1_000_000, seeds=3, agents=AGENTS),
    "gym-pendulum": Task("gym:Pendulum-v1", 300_000, seeds=3, agents=AGENTS),
    "gym-halfcheetah": Task("gym:HalfCheetah-v5", 500_000, seeds=3, agents=AGENTS),
    "pixels": Task(
        "dmc-pixels:cartpole-balance",
        400_000,
        seeds=1,
        agents=("impala",),
        settings={
            "env_args": '{"size": 32, "action_repeat": 4, "frame_stack": 3, "shadows": false, '
            '"reflections": false}',
            "torso": "shallow",
            "reward_scale": 0.01,
            "g_e": 0.004,
            "lstm_size": 0,
            "lambda_": 0.95,
            "rmsprop_initial": 1.0,
            "normalise_observations": True,
        },
    ),
    "finger-spin": Task("dmc:finger-spin", 1_000_000, seeds=3, agents=AGENTS),
    "cheetah-run": Task("dmc:cheetah-run", 1_000_000, seeds=3, agents=AGENTS),
    "walker-walk": Task("dmc:walker-walk", 1_000_000, seeds=3, agents=AGENTS),
    "hopper-stand": Task("dmc:hopper-stand", 1_000_000, seeds=3, agents=AGENTS),
}
A3C = {
    "cartpole-balance": 951.6,
    "cartpole-swingup": 558.4,
    "ball_in_cup-catch": 104.7,
    "reacher-easy": 95.6,
    "finger-spin": 129.4,
    "cheetah-run": 213.9,
    "walker-walk": 311.0,
    "hopper-stand": 27.9,
}
"""Scores of A3C after 1e8 steps (Tassa et al. 2018, as in DreamerV2's table)."""
SOLVED = A3C | {"gym-pendulum": -250.0}
"""The lines that `seconds_to_solved` is about; 500, for want of a better one, for the others."""


def main() -> None:
    """Runs the tasks asked for, and adds them to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/control"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS)[:8])
    parser.add_argument("--seeds", type=int, help="instead of the task's own number")
    parser.add_argument("--steps", type=int, help="instead of the task's own number")
    arguments = parser.parse_args()
    for name in arguments.only:
        task = TASKS[name]
        task = dataclasses.replace(
            task, seeds=arguments.seeds or task.seeds, steps=arguments.steps or task.steps
        )
        run_task("control", name, task, SOLVED.get(name, 500.0), arguments.output)


if __name__ == "__main__":
    main()

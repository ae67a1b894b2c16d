"""Eight tasks of the DM Control Suite, simulated on the device by MuJoCo Playground.

    python experiments/core_tasks.py [--output DIR] [--only TASK ...] [--agents AGENT ...]
        [--steps N] [--num-envs B] [--num-seeds K] [--at-once P] [--seconds S]
    python experiments/core_tasks.py --output DIR --report

Every task and agent is a process, with its seeds side by side; `--at-once` of them share the
device. Complete runs are skipped, interrupted ones resumed; after `--seconds` those that run are
told to stop, which they do at a checkpoint. Other flags go to `stacx train`. `--report` trains
nothing, and writes `core_tasks.csv` and a figure for each task to `docs/results/`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from classic import RESULTS, write_rows
from host import clock_of

from stacx.reporting import plot_runs
from stacx.runs import RunDirectory

TASKS = {
    "cartpole-balance": "CartpoleBalance",
    "cartpole-swingup": "CartpoleSwingup",
    "ball_in_cup-catch": "BallInCup",
    "reacher-easy": "ReacherEasy",
    "finger-spin": "FingerSpin",
    "cheetah-run": "CheetahRun",
    "walker-walk": "WalkerWalk",
    "hopper-stand": "HopperStand",
}
"""Playground's name by the suite's."""
LAST = 0.05
"""The part of a run, at its end, whose mean training return is its score."""


def main() -> None:
    """Trains what is asked for, or reports what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/core_tasks"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--agents", nargs="*", default=["impala", "stac", "stacx"])
    parser.add_argument("--steps", type=int, default=30_000_000)
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--report", action="store_true")
    arguments, settings = parser.parse_known_args()
    if arguments.report:
        report(arguments.output)
        return
    sizes = ("steps", "num_envs", "num_seeds")
    flags = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in sizes]
    runs = Runs(arguments.output, [*flags, *settings], time.monotonic() + arguments.seconds)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        pairs = [(task, agent) for task in arguments.only for agent in arguments.agents]
        codes = list(pool.map(lambda pair: runs.train(*pair), pairs))
    sys.exit(any(code not in (0, 128 + signal.SIGTERM) for code in codes))


class Runs:
    """Training processes that end in time.

    Args:
        output: the directory of their directories.
        flags: of `stacx train`, the same for all.
        deadline: when they are told to stop, by `time.monotonic`.
    """

    def __init__(self, output: Path, flags: list[str], deadline: float):
        self._output = output
        self._flags = flags
        self._deadline = deadline

    def train(self, task: str, agent: str) -> int:
        """Trains one agent on one task, with all its seeds, as far as time allows: exit code."""
        directory = self._output / f"{task}-{agent}"
        if time.monotonic() >= self._deadline:
            return 0
        command = [sys.executable, "-m", "stacx.cli.main", "train"]
        command += [f"--env=playground:{TASKS[task]}", f"--agent={agent}"]
        command += [*self._flags, f"--run-dir={directory}"]
        command += ["--resume"] * (directory / "config.json").exists()
        self._output.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with Path(f"{directory}.log").open("a") as log:
            environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
            left = self._deadline - time.monotonic()
            timer = threading.Timer(
                min(left, threading.TIMEOUT_MAX), process.send_signal, [signal.SIGTERM]
            )
            timer.start()
            code = process.wait()
            timer.cancel()
        print(f"{task} {agent}: exit code {code}, {time.monotonic() - start:.0f} s", flush=True)
        return code


def report(output: Path) -> None:
    """Writes the table and the figures of the runs there are."""
    for task in TASKS:
        directories = [d for d in sorted(output.glob(f"{task}-*/")) if RunDirectory(d).metrics()]
        if not directories:
            continue
        rows = [row_of(task, directory) for directory in directories]
        for row in rows:
            print(row)
        write_rows(RESULTS / "core_tasks.csv", task, rows)
        plot_runs(directories, RESULTS / f"core_{task}.png")


def row_of(task: str, directory: Path) -> dict[str, Any]:
    """The row of one agent: every seed's mean training return over the end of the run."""
    run = RunDirectory.open(directory)
    config = run.config()
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for line in run.metrics():
        by_seed.setdefault(line["seed"], []).append(line)
    last = [lines[-1] for lines in by_seed.values()]
    seconds = clock_of(next(iter(by_seed.values())), config.num_seeds)[-1]
    return {
        "task": task,
        "env": config.env,
        "agent": config.agent,
        "steps": last[0]["env_steps"],
        "of": config.total_updates * config.batch_steps,
        "seeds": len(last),
        "score": np.mean([score_of(lines) for lines in by_seed.values()]),
        "scores": " ".join(f"{score_of(lines):.1f}" for lines in by_seed.values()),
        "steps_per_second": f"{last[0]['env_steps'] * config.num_seeds / seconds:.0f}",
        "gamma": f"{np.mean([line['meta/gamma/0'] for line in last]):.4f}",
        "lambda": f"{np.mean([line['meta/lambda/0'] for line in last]):.4f}",
    }


def score_of(lines: list[dict[str, Any]]) -> float:
    """A seed's mean training return over the end of its run."""
    first = lines[-1]["env_steps"] * (1 - LAST)
    late = [line["episode_return"] for line in lines if line["env_steps"] > first]
    return float(np.nanmean(np.array(late, float)))


if __name__ == "__main__":
    main()

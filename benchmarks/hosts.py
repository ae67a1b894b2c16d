"""Weak scaling over hosts: as much work for each of 1, 2, ... processes of this machine.

    python benchmarks/hosts.py [--env gymnax:CartPole-v1] [--hosts 1 2] [--num-envs 256]

Each number of hosts trains with so many environments a host, in whole processes that compute in one
thread each; beside it Gloo has a thread, so a host wants two cores. Rates are medians of the
metrics of the second half of a run, and rounds take turns.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import machine

from stacx.runs import RunDirectory


def main() -> None:
    """Prints a table of rates and their ratio to one host's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--env", default="gymnax:CartPole-v1")
    parser.add_argument("--agent", default="stacx")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--num-envs", type=int, default=256, help="of each host")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="of stacx train")
    given = parser.parse_args()
    print(machine())
    rates: dict[int, list[float]] = {count: [] for count in given.hosts}
    for _ in range(given.rounds):
        for count, found in rates.items():
            found.append(rate(given, count))
    print(f"{given.agent} on {given.env}, {given.num_envs} environments a host")
    print(f"{'hosts':>6} {'steps/s':>12} {'of linear':>10} {'ms/update':>10}")
    first = given.hosts[0]
    one = statistics.median(rates[first]) / first
    for count, found in rates.items():
        middle = statistics.median(found)
        batch = 20 * given.num_envs * count
        print(
            f"{count:6} {middle:12,.0f} {middle / count / one:10.2f} {1000 * batch / middle:10.2f}"
        )


def rate(given: argparse.Namespace, count: int) -> float:
    """Environment steps per second of a run on so many hosts."""
    num_envs = given.num_envs * count
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        flags = ["--env", given.env, "--agent", given.agent, "--num-envs", str(num_envs)]
        flags += ["--steps", str(20 * num_envs * given.updates), "--trajectory-length", "20"]
        flags += ["--log-points", "20", "--checkpoint-points", "0", "--quiet", *given.flags]
        flags += ["--hosts", str(count), "--coordinator", f"127.0.0.1:{free_port()}"]
        processes = [
            start([*flags, "--host-index", str(index), "--run-dir", str(run)])
            for index in range(count)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"a host has failed: exit codes {codes}")
        rates = [line["steps_per_second"] for line in RunDirectory(run).metrics()]
    return statistics.median(rates[len(rates) // 2 :])


def start(flags: list[str]) -> subprocess.Popen:
    """A host that computes in one thread."""
    command = [sys.executable, "-m", "stacx.cli.main", "train", *flags]
    return subprocess.Popen(command, env=os.environ | {"NPROC": "1"})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

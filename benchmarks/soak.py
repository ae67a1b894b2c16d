"""Memory of a long actor-learner run: `stacx train` on CartPole in a process of its own.

    python benchmarks/soak.py [--minutes 60] [--output DIR] [-- FLAGS OF STACX TRAIN]

Prints every five minutes how much memory is resident, and how much the process has of its own,
resident or swapped out (RssAnon + VmSwap): only the latter tells of a leak, since the system takes
unused pages back. Then ends the run with SIGTERM. Linux only.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

_MEMORY = ("VmRSS", "RssAnon", "VmSwap")


def main() -> None:
    """Prints minutes, MiB, threads and environment steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path("runs/soak"))
    parser.add_argument("flags", nargs="*", help="further flags of stacx train")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "stacx.cli.main", "train", "--env", "gym:CartPole-v1"]
    command += ["--steps", "10B", "--log-points", "1000000", "--quiet"]
    process = subprocess.Popen([*command, "--run-dir", str(arguments.output), *arguments.flags])
    print(
        "| minute | resident MiB | own MiB | threads | steps |\n|---|---|---|---|---|", flush=True
    )
    start = time.monotonic()
    for minute in range(5, arguments.minutes + 1, 5):
        while time.monotonic() - start < 60 * minute:
            time.sleep(1.0)
            if process.poll() is not None:
                sys.exit(f"the run ended by itself, with code {process.returncode}")
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        memory = {name: int(status[name].split()[0]) / 1024 for name in _MEMORY}
        own = memory["RssAnon"] + memory["VmSwap"]
        steps = steps_of(arguments.output / "metrics.jsonl")
        row = f"{minute} | {memory['VmRSS']:.0f} | {own:.1f} | {int(status['Threads'])} | {steps:,}"
        print(f"| {row} |", flush=True)
    process.send_signal(signal.SIGTERM)
    print(f"exit code after SIGTERM: {process.wait(timeout=60)}")


def steps_of(metrics: Path) -> int:
    """Environment steps on the last whole line of metrics."""
    lines = metrics.read_text().split("\n")[:-1]
    return int(json.loads(lines[-1])["env_steps"]) if lines else 0


if __name__ == "__main__":
    main()

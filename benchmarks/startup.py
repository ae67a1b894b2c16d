"""Seconds from `stacx train` to the end of its first update, cold and with programs on disk.

    python benchmarks/startup.py [--rounds 3]

Each is a process of its own that trains for one update; interpreter start and imports included. The
cold run has an empty cache of compiled programs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys
from stacx.cli.main import main
from stacx.runtimes.on_device import OnDeviceRuntime
run = OnDeviceRuntime.run
def first(self, state, iterations):
    import jax, os
    jax.block_until_ready(run(self, state, iterations))
    print("first update", flush=True)
    os._exit(0)
OnDeviceRuntime.run = first
sys.exit(main(["train", "--agent", sys.argv[1], "--run-dir", sys.argv[2], "--quiet"]))
"""


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print("| agent | cold, s | warm, s |\n|---|---|---|")
    for agent in ("impala", "stacx"):
        cold, warm = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                cold.append(seconds_to_first_update(agent, Path(folder), "a"))
                warm.append(seconds_to_first_update(agent, Path(folder), "b"))
        print(f"| {agent} | {statistics.median(cold):.1f} | {statistics.median(warm):.1f} |")


def seconds_to_first_update(agent: str, folder: Path, name: str) -> float:
    """Runs one process, with `folder` as its cache."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", PROGRAM, agent, str(folder / name)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

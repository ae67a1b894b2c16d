"""Training steps per second on environments that step on the CPU, beside raw stepping and peers.

    python benchmarks/host_training.py --env gym:CartPole-v1
    python benchmarks/host_training.py --env atari:Breakout --set torso=shallow
    python benchmarks/host_training.py --env atari:Breakout --set compute_dtype=bfloat16
    python benchmarks/host_training.py --env gym:CartPole-v1 --peers PYTHON
    python benchmarks/host_training.py --env atari:Breakout --peers PYTHON --peer sample-factory

Raw stepping takes random actions in the same vector environment. Contenders take turns, so that a
machine's drift hits all alike; medians over rounds. PYTHON is an interpreter that has the peers
(benchmarks/peers.py). On a machine with several devices the settings `actor_devices` and
`learner_devices` say where what runs.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gymnasium.vector.utils import batch_space
from timing import machine, setting

from stacx import environments
from stacx.config import Config
from stacx.environments import HostEnvironment, HostVector
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.compilation import enable_compile_cache, run_cpu_programs_at_once

SCRIPT = Path(__file__).with_name("peers.py")
PEERS = {"sb3": "SB3 A2C", "sample-factory": "sample-factory APPO"}


def main() -> None:
    """Prints a table of steps per second and ratios, and where the time went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--env", default="gym:CartPole-v1")
    parser.add_argument("--agents", nargs="*", default=["impala", "stac", "impala-aux", "stacx"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=int, default=3, metavar="UPDATES")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--peer", nargs="*", default=["sb3"], choices=PEERS)
    arguments = parser.parse_args()
    enable_compile_cache()
    run_cpu_programs_at_once()
    settings = {"env": arguments.env, "steps": 10**9} | dict(map(setting, arguments.set))
    environment = host_environment(Config(**settings))

    contenders: dict[str, Callable[[], tuple[float, str]]] = {
        "raw stepping": lambda: raw_stepping(environment, Config(**settings), arguments.seconds)
    }
    for agent in arguments.agents:
        config = Config(agent=agent, **settings)
        contenders[agent] = functools.partial(
            training, environment, config, arguments.warm_up, arguments.seconds
        )
    for name in arguments.peer if arguments.peers else ():
        contenders[PEERS[name]] = functools.partial(
            peer, arguments.peers, name, arguments.env, arguments.seconds
        )
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    remarks: dict[str, str] = {}
    for _ in range(arguments.rounds):
        for name, measure in contenders.items():
            rate, remarks[name] = measure()
            rates[name].append(rate)
    _print_table(rates, remarks)


def host_environment(config: Config) -> HostEnvironment:
    """A config's environment, which steps on the CPU."""
    environment = environments.make(config.env, config.env_args)
    assert isinstance(environment, HostEnvironment)
    return environment


def training(
    environment: HostEnvironment, config: Config, warm_up: int, seconds: float
) -> tuple[float, str]:
    """Steps per second after `warm_up` updates, and the breakdown of time."""
    runtime = ActorLearnerRuntime(config, environment)
    try:
        state = runtime.run(runtime.prepare(runtime.init()), warm_up, lambda: False)
        runtime.restart_shares()
        start, updates = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            state = runtime.run(state, 1, lambda: False)
            updates += 1
        return updates * config.batch_steps / elapsed, runtime.farewell()[0]
    finally:
        runtime.close()


def raw_stepping(environment: HostEnvironment, config: Config, seconds: float) -> tuple[float, str]:
    """The vector environments alone, with random actions: a thread and a batch for every actor."""
    vectors = [HostVector(environment, config.num_envs) for _ in range(config.num_actors)]
    for vector in vectors:
        vector.reset()
    space = batch_space(environment.single_action_space, config.num_envs)
    space.seed(0)
    actions = [space.sample() for _ in range(1000)]

    def step(vector: HostVector) -> float:
        start, steps = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            vector.vector.step(actions[steps % 1000])
            steps += 1
        return steps * config.num_envs / elapsed

    with ThreadPoolExecutor(config.num_actors) as threads:
        rates = list(threads.map(step, vectors))
    for vector in vectors:
        vector.close()
    return sum(rates), ""


def peer(python: str, name: str, env: str, seconds: float) -> tuple[float, str]:
    """Steps per second of a peer, in a process of its own."""
    command = [python, str(SCRIPT), name, env, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]), ""


def _print_table(rates: dict[str, list[float]], remarks: dict[str, str]) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(machine())
    print("| | steps/s | lowest, highest | share of raw | time / IMPALA's |\n|---|---|---|---|---|")
    for name, values in rates.items():
        share = medians[name] / medians["raw stepping"]
        ratio = medians.get("impala", float("nan")) / medians[name]
        spread = f"{min(values):.0f}, {max(values):.0f}"
        print(f"| {name} | {medians[name]:.0f} | {spread} | {share:.2f} | {ratio:.2f} |")
    for name, remark in remarks.items():
        if remark:
            print(f"{name}: {remark}")


if __name__ == "__main__":
    main()

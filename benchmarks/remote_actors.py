"""Remote actors on Ray: throughput against their number, and what a trajectory costs.

    python benchmarks/remote_actors.py [--actors 1 2 4 8 16] [--cost 0.005] [--view vector]
    python benchmarks/remote_actors.py --address 10.0.0.1:6379 --actors 16 64 256

Environments of a known cost a step, which is slept, so that a machine of few cores can have many of
them. Prints, for each number of actors, environment steps per second, the share of what so many
times the first number's actors would make, policy lag, and how long an actor waits from one
trajectory to the next; then what a trajectory costs the learner's process, the bytes of an
environment step, and the learner's ceiling: its throughput with data that is there already.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from timing import machine, setting

from stacx import environments
from stacx.config import Config
from stacx.environments import HostEnvironment
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.compilation import enable_compile_cache, run_cpu_programs_at_once
from stacx.runtimes.ray_pool import RayPool

VIEWS: dict[str, gymnasium.spaces.Box] = {
    "vector": gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32),
    "atari": gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8),
    "control": gymnasium.spaces.Box(-1.0, 1.0, (24,), np.float32),
}
"""As CartPole, Atari and DM Control's walker show."""


class Sleeper(gymnasium.Env):
    """Shows nothing of interest, and takes its time.

    Args:
        cost: seconds of a step, in which no core is used.
        view: which of `VIEWS` it shows.
    """

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, cost: float, view: str):
        self.observation_space = VIEWS[view]
        self._cost = cost
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        del action
        time.sleep(self._cost)
        self._steps += 1
        return self.observation_space.sample(), 1.0, False, self._steps == 200, {}


class Measured(NamedTuple):
    """Of one number of actors, while the learner learned."""

    steps_per_second: float
    lag: float
    waiting: float
    """Seconds of an actor between two trajectories."""
    pump: float
    """Seconds of processor that the pump needs for a trajectory."""
    process: float
    """Seconds of processor that the learner's process needs for a trajectory, learning included."""
    bytes_per_step: float
    """Of trajectories."""
    parameter_bytes: float


def main() -> None:
    """Prints a table, and the constants."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--cost", type=float, default=0.005, help="seconds of a step")
    parser.add_argument("--view", choices=VIEWS, default="vector")
    parser.add_argument("--envs", type=int, default=1, help="of each actor")
    parser.add_argument("--batch", type=int, default=1, help="trajectories of an update")
    parser.add_argument("--address", default="", help="of a Ray cluster; else one is started")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    enable_compile_cache()
    run_cpu_programs_at_once()
    print(machine(), f"{os.cpu_count()} cores")
    print(f"{given.cost:g} s a step, {given.envs} environments an actor, {given.batch} a batch")
    print(f"{'actors':>7} {'steps/s':>10} {'of linear':>10} {'lag':>6} {'waiting, ms':>12}")
    first, found = 0.0, []
    for actors in given.actors:
        measured = measure(given, actors)
        found.append(measured)
        first = first or measured.steps_per_second / actors
        print(
            f"{actors:7} {measured.steps_per_second:10,.0f} "
            f"{measured.steps_per_second / actors / first:10.3f} {measured.lag:6.2f} "
            f"{1000 * measured.waiting:12.2f}",
            flush=True,
        )
    last = found[-1]
    print(f"processor of the pump:      {1000 * last.pump:8.3f} ms a trajectory")
    print(f"of the learner's process:   {1000 * last.process:8.3f} ms a trajectory")
    print(f"bytes of a trajectory:      {last.bytes_per_step:8,.1f} a step")
    print(f"bytes of parameters:        {last.parameter_bytes:8,.0f}")
    ceiling(given)


def config_of(given: argparse.Namespace, actors: int) -> Config:
    """Of a run that does not end by itself."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    settings: dict[str, Any] = {
        "env": "remote_actors:Sleeper",
        "env_args": json.dumps({"cost": given.cost, "view": given.view}),
        "agent": "impala",
        "steps": 10**9,
        "num_envs": given.envs * given.batch,
        "actor_envs": given.envs,
        "actors": "ray",
        "num_actors": actors,
        "actor_cpus": 0.01 if not given.address else 1.0,
        "ray_address": given.address,
        "ray_env": json.dumps({"env_vars": {"PYTHONPATH": paths}}),
    }
    return Config(**settings | dict(map(setting, given.set)))


def measure(given: argparse.Namespace, actors: int) -> Measured:
    """Medians over rounds, once all actors are there."""
    config = config_of(given, actors)
    environment = environments.make(config.env, config.env_args)
    assert isinstance(environment, HostEnvironment)
    runtime = ActorLearnerRuntime(config, environment)
    pool = runtime._pool
    assert isinstance(pool, RayPool)
    try:
        state = runtime.prepare(runtime.init())
        while pool.metrics()["actors"] < actors:
            state = runtime.run(state, 1, lambda: False)
        state = learn(runtime, state, given.seconds / 2)
        rounds = []
        for _ in range(given.rounds):
            steps, lags = pool._steps, len(runtime._lags)
            start, pump, process = time.perf_counter(), pump_seconds(pool), time.process_time()
            waited = [watch.read()["time/actor_waiting"] for watch in pool.watches]
            state = learn(runtime, state, given.seconds)
            steps = pool._steps - steps
            seconds = time.perf_counter() - start
            rollouts = steps / config.new_steps / given.envs
            waiting = sum(watch.read()["time/actor_waiting"] for watch in pool.watches)
            rounds.append(
                Measured(
                    steps_per_second=steps / seconds,
                    lag=statistics.mean(runtime._lags[lags:]),
                    waiting=(waiting - sum(waited)) / rollouts,
                    pump=(pump_seconds(pool) - pump) / rollouts,
                    process=(time.process_time() - process) / rollouts,
                    bytes_per_step=size_of(runtime, given),
                    parameter_bytes=bytes_of(runtime._parameters_of(state)),
                )
            )
        return Measured(*map(statistics.median, zip(*rounds, strict=True)))
    finally:
        runtime.close()


def learn(runtime: ActorLearnerRuntime, state: Any, seconds: float) -> Any:
    """Updates for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        state = runtime.run(state, 1, lambda: False)
    return state


def pump_seconds(pool: RayPool) -> float:
    """Of processor, so far."""
    assert pool._pump is not None
    fields = Path(f"/proc/self/task/{pool._pump.native_id}/stat").read_text().rpartition(")")[2]
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def size_of(runtime: ActorLearnerRuntime, given: argparse.Namespace) -> float:
    """Bytes of a trajectory for each of its new steps."""
    abstract = runtime._inference.abstract_rollout(given.envs)
    rollout = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    return len(pickle.dumps(rollout, protocol=5)) / runtime.config.new_steps / given.envs


def bytes_of(tree: Any) -> int:
    """Of all its arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def ceiling(given: argparse.Namespace) -> None:
    """The learner's throughput on one batch again and again."""
    config = config_of(given, 1)
    environment = environments.make(config.env, config.env_args)
    assert isinstance(environment, HostEnvironment)
    runtime = ActorLearnerRuntime(config, environment)
    try:
        abstract = runtime._abstract_rollout
        rollout = runtime._place(
            jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), abstract)
        )
        update = runtime._update.lower(runtime.abstract_state(), abstract).compile()
        state, seconds = runtime.init(), []
        for _ in range(given.rounds + 1):
            start, updates = time.perf_counter(), 0
            while time.perf_counter() - start < given.seconds / 3:
                state, _ = update(state, rollout)
                jax.block_until_ready(state)
                updates += 1
            seconds.append((time.perf_counter() - start) / updates)
        middle = statistics.median(seconds[1:])
        print(
            f"the learner's ceiling:      {config.batch_steps / middle:8,.0f} steps/s, "
            f"{1000 * middle:.2f} ms an update of {config.batch_steps} steps"
        )
    finally:
        runtime.close()


if __name__ == "__main__":
    main()

"""Continuous control: engines, training beside raw stepping, and the LSTM's share of an update.

    python benchmarks/continuous.py [--seconds 8] [--rounds 3] [--tasks TASK ...]

With the `control` preset (24 environments of each of two actors, trajectories of 40 steps of which
30 overlap, an LSTM of 256). All contenders take turns; medians over rounds. Raw stepping takes
random actions.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from host_training import host_environment, raw_stepping, training
from timing import interleaved_medians, machine

from stacx.config import Config
from stacx.core.learner import Learner
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.compilation import (
    compiler_options,
    enable_compile_cache,
    run_cpu_programs_at_once,
)
from stacx.types import Box, Trajectory

TASKS = ("cartpole-balance", "walker-walk", "humanoid-stand")
AGENTS = ("impala", "stac", "stacx")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=TASKS, help="none: updates only")
    arguments = parser.parse_args()
    enable_compile_cache()
    run_cpu_programs_at_once()
    print(machine())
    print("| task | contender | steps/s | lowest, highest | share of raw | time / IMPALA's |")
    print("|---|---|---|---|---|---|")
    for task in arguments.tasks:
        print_rates(task, arguments.seconds, arguments.rounds)
    print("\n| agent | update, ms | without LSTM, ms | LSTM's share |\n|---|---|---|---|")
    for agent in AGENTS:
        calls = {
            str(size): update_of(Config(**_control(agent), lstm_size=size)) for size in (256, 0)
        }
        with_lstm, without = interleaved_medians(calls, rounds=4 * arguments.rounds).values()
        share = 1 - without / with_lstm
        print(f"| {agent} | {1e3 * with_lstm:.1f} | {1e3 * without:.1f} | {share:.2f} |")


def print_rates(task: str, seconds: float, rounds: int) -> None:
    """The rows of one task."""
    contenders: dict[str, Callable[[], tuple[float, str]]] = {}
    for engine in ("envpool", "dm_control"):
        config = Config(**_control("impala", task), env_args=f'{{"engine": "{engine}"}}')
        contenders[f"raw stepping, {engine}"] = functools.partial(
            raw_stepping, host_environment(config), config, seconds
        )
    for agent in AGENTS:
        config = Config(**_control(agent, task))
        contenders[agent] = functools.partial(
            training, host_environment(config), config, 3, seconds
        )
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            rates[name].append(measure()[0])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        share = medians[name] / medians["raw stepping, envpool"]
        ratio = medians["impala"] / medians[name]
        spread = f"{min(values):.0f}, {max(values):.0f}"
        row = (task, name, f"{medians[name]:.0f}", spread, f"{share:.3f}", f"{ratio:.2f}")
        print("|", " | ".join(row), "|", flush=True)


def update_of(config: Config) -> Callable[[], Any]:
    """A learner update on a random trajectory of five numbers and one action."""
    network = ActorCriticNetwork(config, (5,), np.dtype(np.float32), Box((-1.0,), (1.0,)))
    learner = Learner(config, network)
    shape = (config.trajectory_length, config.num_envs)
    key, ones = jax.random.key(0), jnp.ones(shape)
    trajectory = Trajectory(
        actions=jax.random.normal(key, (*shape, 1)),
        rewards=ones,
        discounts=ones,
        valid=ones,
        behaviour_log_probs=-ones,
        observations=jax.random.normal(key, (shape[0] + 1, shape[1], 5)),
        starts=jnp.zeros((shape[0] + 1, shape[1]), bool),
        recurrent_state=network.initial_state(config.num_envs),
    )
    state = jax.jit(learner.init)(key)
    update = jax.jit(learner.update, compiler_options=compiler_options())
    return functools.partial(update, state, trajectory)


def _control(agent: str, task: str = TASKS[0]) -> dict[str, Any]:
    return {"env": f"dmc:{task}", "agent": agent, "steps": 10**9}


if __name__ == "__main__":
    main()

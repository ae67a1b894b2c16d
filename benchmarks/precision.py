"""bfloat16 against float32 torsos: how fast an update is, and whether its losses agree.

    python benchmarks/precision.py [--agent stacx] [--torso resnet] [--num-envs 32] [--rounds 5]

One trajectory of Breakout under random actions, the paper's settings, the same initial parameters.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from timing import interleaved_medians, machine

from stacx import environments
from stacx.config import Config
from stacx.environments import HostEnvironment, HostVector
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.types import Trajectory, UpdateMetrics

SHOWN = ("loss", "outer_loss", "kl", "gradient_norm", "metagradient_norm")


def main() -> None:
    """Prints the seconds of an update, and both values of every loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", default="stacx")
    parser.add_argument("--torso", default="resnet")
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    environment = environments.make("atari:Breakout")
    assert isinstance(environment, HostEnvironment)
    trajectory = None
    calls: dict[str, Callable[[], Any]] = {}
    for dtype in ("float32", "bfloat16"):
        config = Config(
            env="atari:Breakout",
            agent=arguments.agent,
            torso=arguments.torso,
            num_envs=arguments.num_envs,
            compute_dtype=dtype,
        )
        learner = ActorLearnerRuntime(config, environment).learner
        if trajectory is None:
            trajectory = jax.device_put(random_trajectory(environment, config))
        state = jax.jit(learner.init)(jax.random.key(0))
        update = jax.jit(learner.update)
        calls[dtype] = functools.partial(update_once, update, state, trajectory)
    metrics = {dtype: call() for dtype, call in calls.items()}
    seconds = interleaved_medians(calls, rounds=arguments.rounds)
    print(machine())
    print(f"| | float32 | bfloat16 |\n|---|---|---|\n| seconds | {_row(seconds)} |")
    for name in SHOWN:
        print(f"| {name} | {_row({k: float(getattr(m, name)) for k, m in metrics.items()})} |")


def update_once(update: Any, state: Any, trajectory: Trajectory) -> UpdateMetrics:
    """The metrics of one update."""
    metrics: UpdateMetrics = update(state, trajectory)[1]
    return metrics


def random_trajectory(environment: HostEnvironment, config: Config) -> Trajectory:
    """T steps of a random policy, after a hundred others."""
    rng = np.random.default_rng(0)
    choices, batch = environment.action_space.num_outputs, config.num_envs
    vector = HostVector(environment, batch)
    vector.reset(0)
    for _ in range(100):
        vector.step(rng.integers(0, choices, batch))
    observations, starts = [vector.observations.copy()], [vector.starts]
    actions, steps = [], []
    for _ in range(config.trajectory_length):
        actions.append(rng.integers(0, choices, batch).astype(np.int32))
        steps.append(vector.step(actions[-1]))
        observations.append(vector.observations.copy())  # the next step may write over them
        starts.append(vector.starts)
    vector.close()
    known: Any = {
        name: np.stack([getattr(step, name) for step in steps])
        for name in ("rewards", "discounts", "valid")
    }
    stacked: Any = {
        "observations": np.stack(observations),
        "starts": np.stack(starts),
        "actions": np.stack(actions),
        "behaviour_log_probs": np.full((len(steps), batch), -np.log(choices), np.float32),
    }
    return Trajectory(**known, **stacked, recurrent_state=())


def _row(values: dict[str, float]) -> str:
    return f"{values['float32']:.5g} | {values['bfloat16']:.5g}"


if __name__ == "__main__":
    main()

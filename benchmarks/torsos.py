"""Frames per second through the torsos for images: acting, and learner updates.

    python benchmarks/torsos.py [--num-envs 32] [--rounds 5] [--compute-dtype bfloat16]

Observations are stacks of four frames, uint8 [4, 84, 84]; T = 20. A frame of an update is a new
step of an environment. GFLOP/s by XLA's count of the update's compiled program.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import interleaved_medians, machine

from stacx.config import Config
from stacx.core.learner import Learner
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.compilation import compiler_options
from stacx.types import Discrete, Trajectory

SHAPE = (4, 84, 84)
WIDTHS = {"resnet": 256, "shallow": 0, "nature": 0}
"""`torso_output` by torso; 0 is the published width of the latter two."""


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compute-dtype", default="float32")
    arguments = parser.parse_args()
    calls: dict[str, Callable[[], Any]] = {}
    costs: dict[str, tuple[float, float]] = {}
    for torso, width in WIDTHS.items():
        for agent in ("impala", "stac"):
            name = f"{torso}, {agent}"
            config = Config(
                agent=agent,
                suite="atari",
                torso=torso,
                torso_output=width,
                num_envs=arguments.num_envs,
                compute_dtype=arguments.compute_dtype,
            )
            acting, calls[name], costs[name] = programs(config)
        calls[f"{torso}, acting"] = acting
    seconds = interleaved_medians(calls, rounds=arguments.rounds)
    print(machine())
    print("| torso, program | ms | frames/s | GFLOP/s | temporary MiB |\n|---|---|---|---|---|")
    for name, value in sorted(seconds.items()):
        frames = arguments.num_envs * (1 if name.endswith("acting") else 20)
        flops, memory = costs.get(name, (float("nan"), float("nan")))
        print(
            f"| {name} | {value * 1e3:.1f} | {frames / value:.0f} | {flops / value / 1e9:.1f} "
            f"| {memory / 2**20:.0f} |"
        )


def programs(
    config: Config,
) -> tuple[Callable[[], Any], Callable[[], Any], tuple[float, float]]:
    """One step's inference, an update, and the update's FLOPs and bytes of temporary memory."""
    network = ActorCriticNetwork(config, SHAPE, jnp.uint8, Discrete(6))
    learner = Learner(config, network)
    time, batch = config.trajectory_length, config.num_envs
    images = np.random.default_rng(0).integers(0, 256, (time + 1, batch, *SHAPE), np.uint8)
    trajectory = Trajectory(
        actions=jnp.zeros((time, batch), jnp.int32),
        rewards=jnp.ones((time, batch)),
        discounts=jnp.ones((time, batch)),
        valid=jnp.ones((time, batch)),
        behaviour_log_probs=jnp.full((time, batch), -np.log(6.0)),
        observations=jnp.asarray(images),
        starts=jnp.zeros((time + 1, batch), bool),
        recurrent_state=(),
    )
    state = jax.jit(learner.init)(jax.random.key(0))
    options = compiler_options()
    update = jax.jit(learner.update, compiler_options=options).lower(state, trajectory).compile()

    def act(parameters: Any, observations: Any, starts: Any) -> Any:
        return network.unroll(parameters, observations, starts, (), main_head_only=True)[0]

    acting = jax.jit(act, compiler_options=options)
    step = (state.parameters, trajectory.observations[:1], trajectory.starts[:1])
    flops: Any = update.cost_analysis()
    memory: Any = update.memory_analysis()
    costs = float(flops["flops"]), float(memory.temp_size_in_bytes)
    return lambda: acting(*step), lambda: update(state, trajectory), costs


if __name__ == "__main__":
    main()

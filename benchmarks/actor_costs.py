"""What a remote actor costs its core: milliseconds and bytes of a step, without Ray.

    NPROC=1 python benchmarks/actor_costs.py --envs gym:CartPole-v1 dmc:walker-walk
    NPROC=1 python benchmarks/actor_costs.py --envs atari:Breakout --set torso=nature actor_envs=8

The constants of benchmarks/scale.py. NPROC=1 keeps XLA to one thread, as in a remote actor.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
from typing import Any

import jax
import numpy as np
from timing import machine, setting

from stacx.config import Config
from stacx.runtimes.ray_actor import Made, RemoteActor, as_one_actor


def main() -> None:
    """Prints a table; a step is one of all environments of an actor."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--envs", nargs="+", default=["gym:CartPole-v1"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--trajectories", type=int, default=12)
    given = parser.parse_args()
    print(machine())
    print(
        f"{'environment':24} {'of an actor':>12} {'stepping, ms':>13} {'inference, ms':>14} "
        f"{'new steps':>10} {'bytes a step':>13} {'parameters':>11}"
    )
    for env in given.envs:
        settings: dict[str, Any] = {"env": env, "agent": "impala", "actors": "ray"}
        config = Config(**settings | dict(map(setting, given.set)))
        each = config.actor_envs or config.num_envs
        stepping, inference, size, parameters = costs(
            as_one_actor(config, each), given.trajectories
        )
        print(
            f"{env:24} {each:12} {1000 * stepping:13.3f} {1000 * inference:14.3f} "
            f"{config.new_steps:10} {size / config.new_steps / each:13,.0f} {parameters:11,}"
        )


def costs(config: Config, trajectories: int) -> tuple[float, float, int, int]:
    """Seconds of stepping and of inference a step, bytes of a trajectory and of parameters."""
    actor = RemoteActor(config, 0, 1)
    actor.prepare()
    network = actor._inference._network
    parameters = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0)))
    seconds: list[dict[str, float]] = []
    size = 0
    for number in range(trajectories + 1):
        made = actor.roll_out(number, 1, parameters)
        assert isinstance(made, Made), made
        seconds.append(made.seconds)
        size = len(pickle.dumps(made.rollout, protocol=5))

    def middle(activity: str) -> float:
        values = [report[f"time/actor_{activity}"] for report in seconds[1:]]
        return statistics.median(values) / config.new_steps

    actor._exchange.close()
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(parameters))
    return middle("environment"), middle("inference"), size, weights


if __name__ == "__main__":
    main()

"""FLOPs and memory of one learner update, from the compiled program.

    python benchmarks/cost.py

For each network: self-tuning's FLOPs over the same agent's without, and temporary memory likewise;
then what the two levers on its cost leave of the ratio.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from timing import machine

from stacx.config import Config
from stacx.core.learner import Learner
from stacx.networks import ActorCriticNetwork
from stacx.types import Discrete, Trajectory

NETWORKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "MLP 64-64": ((4,), {"suite": "classic", "mlp_widths": (64, 64)}),
    "MLP 64-64, LSTM 64": ((4,), {"suite": "classic", "mlp_widths": (64, 64), "lstm_size": 64}),
    "MinAtar conv": ((10, 10, 4), {"suite": "minatar"}),
    "deep ResNet": ((84, 84, 4), {"suite": "atari", "num_envs": 4}),
}
PAIRS = (("impala", "stac"), ("impala-aux", "stacx"))


def main() -> None:
    """Prints a table."""
    print(machine())
    print("| network | agents | GFLOPs | ratio | temporary MiB | ratio |")
    print("|---|---|---|---|---|---|")
    for name, (shape, settings) in NETWORKS.items():
        for pair in PAIRS:
            plain, tuned = (cost(agent, shape, settings) for agent in pair)
            flops = f"{plain[0] / 1e9:.3g}, {tuned[0] / 1e9:.3g} | {tuned[0] / plain[0]:.2f}"
            memory = f"{plain[1] / 2**20:.1f}, {tuned[1] / 2**20:.1f} | {tuned[1] / plain[1]:.2f}"
            print(f"| {name} | {', '.join(pair)} | {flops} | {memory} |")
    print(
        "\n| network | agents | all | outer loss on a half | a quarter | every 2nd update | 4th |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (shape, settings) in NETWORKS.items():
        for fixed, self_tuning in PAIRS:
            without = cost(fixed, shape, settings)[0]
            shares = (1.0, 0.5, 0.25)
            ratios = [cost(self_tuning, shape, settings | {"outer_fraction": s})[0] for s in shares]
            ratios = [flops / without for flops in ratios]
            ratios += [1 + (ratios[0] - 1) / updates for updates in (2, 4)]
            print(f"| {name} | {fixed}, {self_tuning} | {' | '.join(f'{r:.2f}' for r in ratios)} |")


def cost(agent: str, shape: tuple[int, ...], settings: dict[str, Any]) -> tuple[float, float]:
    """FLOPs and bytes of temporary memory of one update."""
    config = Config(agent=agent, **settings)
    dtype = jnp.uint8 if len(shape) == 3 and shape[0] > 10 else jnp.float32
    network = ActorCriticNetwork(config, shape, dtype, Discrete(4))
    learner = Learner(config, network)
    time, batch = config.trajectory_length, config.num_envs
    trajectory = Trajectory(
        actions=jnp.zeros((time, batch), jnp.int32),
        rewards=jnp.zeros((time, batch)),
        discounts=jnp.ones((time, batch)),
        valid=jnp.ones((time, batch)),
        behaviour_log_probs=jnp.zeros((time, batch)),
        observations=jnp.zeros((time + 1, batch, *shape), dtype),
        starts=jnp.zeros((time + 1, batch), bool),
        recurrent_state=network.initial_state(batch),
    )
    state = jax.eval_shape(learner.init, jax.random.key(0))
    compiled = jax.jit(learner.update).lower(state, trajectory).compile()
    flops: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return float(flops["flops"]), float(memory.temp_size_in_bytes)


if __name__ == "__main__":
    main()

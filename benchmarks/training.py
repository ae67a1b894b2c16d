"""Training steps per second where all runs on the device, beside the engine's raw stepping.

    python benchmarks/training.py [--num-envs 32 256] [--rounds 7]
    python benchmarks/training.py --env playground:CheetahRun --num-envs 2048 --set lstm_size=0

The agents and a random policy in turn. CartPole has two hidden layers of 64 unless `--set` says
otherwise. Steps of all seeds count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from timing import interleaved_medians, machine, setting

from stacx import environments
from stacx.agents import AGENTS
from stacx.config import Config
from stacx.core.distributions import distribution, draw_noise, environment_actions
from stacx.environments import VectorEnvironment
from stacx.runtimes.compilation import enable_compile_cache
from stacx.runtimes.on_device import OnDeviceRuntime

CARTPOLE = "gymnax:CartPole-v1"


def main() -> None:
    """Prints a table of steps per second and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--env", default=CARTPOLE)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS)
    parser.add_argument("--num-envs", type=int, nargs="*", default=[32, 256])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=400_000, help="about, of one timed call")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    enable_compile_cache()
    print(machine())
    small = {"mlp_widths": (64, 64)} if arguments.env == CARTPOLE else {}
    for num_envs in arguments.num_envs:
        settings: dict[str, Any] = {"env": arguments.env, "num_envs": num_envs, "steps": 10**9}
        settings |= small | dict(map(setting, arguments.set))
        configs = {agent: Config(agent=agent, **settings) for agent in arguments.agents}
        print_rates(configs, arguments.steps, arguments.rounds)


def print_rates(configs: dict[str, Config], steps: int, rounds: int) -> None:
    """The rows of one number of environments, by agent."""
    config = next(iter(configs.values()))
    environment = environments.make(config.env, config.env_args)
    if not isinstance(environment, environments.OnDeviceEnvironment):
        raise SystemExit(f"{config.env} does not step on the device: use host_training.py")
    per_update = config.batch_steps * config.num_seeds
    steps = per_update * max(1, round(steps / per_update))
    calls = {"raw stepping": raw_stepping(config, environment, steps)}
    calls |= {agent: training(own, environment, steps) for agent, own in configs.items()}
    seconds = interleaved_medians(calls, rounds=rounds)
    seeds = f", {config.num_seeds} seeds" if config.num_seeds > 1 else ""
    print(f"\n{config.env}, {config.num_envs} environments{seeds}")
    print("| | M steps/s | share of raw | time / IMPALA's |\n|---|---|---|---|")
    for name, value in seconds.items():
        share = seconds["raw stepping"] / value
        ratio = value / seconds.get("impala", float("nan"))
        print(f"| {name} | {steps / value / 1e6:.3f} | {share:.2f} | {ratio:.2f} |", flush=True)


def training(
    config: Config, environment: environments.OnDeviceEnvironment, steps: int
) -> Callable[[], Any]:
    """A call that trains for `steps` steps of all seeds, going on from the last."""
    runtime = OnDeviceRuntime(config, environment)
    state = runtime.init()

    def call() -> Any:
        nonlocal state
        state = runtime.run(state, steps // (config.batch_steps * config.num_seeds))
        return state

    return call


def raw_stepping(
    config: Config, environment: environments.OnDeviceEnvironment, steps: int
) -> Callable[[], Any]:
    """A call that steps as many environments with random actions, and learns nothing."""
    vector, space = VectorEnvironment(environment), environment.action_space
    num_envs = config.num_envs * config.num_seeds
    policy = distribution(space, jnp.zeros((num_envs, space.num_outputs)), config)

    @jax.jit
    def run(key: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            state, key = carry
            key, action_key, step_key = jax.random.split(key, 3)
            actions = policy.sample(draw_noise(space, action_key, (num_envs,)))
            keys = jax.random.split(step_key, num_envs)
            state, transition = vector.step(keys, state, environment_actions(space, actions))
            return (state, key), jnp.sum(transition.rewards)

        state = vector.reset(jax.random.split(key, num_envs))
        return jax.lax.scan(step, (state, key), None, length=steps // num_envs)[1].sum()

    return lambda: run(jax.random.key(0))


if __name__ == "__main__":
    main()

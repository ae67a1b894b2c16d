"""Training steps per second on CartPole, beside the engine's raw stepping.

    python benchmarks/training.py [--num-envs 32 256] [--rounds 7]

Two hidden layers of 64, T = 20, one seed; the four agents and a random policy in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from timing import interleaved_medians, machine

from stacx import environments
from stacx.agents import AGENTS
from stacx.config import Config
from stacx.core.distributions import distribution, draw_noise
from stacx.environments import VectorEnvironment
from stacx.runtimes.on_device import OnDeviceRuntime

STEPS = 400_000
"""Environment steps of one timed call."""


def main() -> None:
    """Prints a table of steps per second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="*", default=[32, 256])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    for num_envs in arguments.num_envs:
        calls = {"raw stepping": raw_stepping(num_envs)}
        calls |= {agent: training(agent, num_envs) for agent in AGENTS}
        seconds = interleaved_medians(calls, rounds=arguments.rounds)
        print(f"\n{num_envs} environments\n| | M steps/s | share of raw | time / IMPALA's |")
        print("|---|---|---|---|")
        for name, value in seconds.items():
            share = seconds["raw stepping"] / value
            ratio = value / seconds["impala"]
            print(f"| {name} | {STEPS / value / 1e6:.2f} | {share:.2f} | {ratio:.2f} |")
        print(f"STACX / IMPALA-aux: {seconds['stacx'] / seconds['impala-aux']:.2f}")


def training(agent: str, num_envs: int) -> Callable[[], Any]:
    """A call that trains for `STEPS` steps, going on from the last."""
    config = Config(agent=agent, num_envs=num_envs, mlp_widths=(64, 64), steps=10**9)
    runtime = OnDeviceRuntime(config, _cartpole())
    state = runtime.init()

    def call() -> Any:
        nonlocal state
        state = runtime.run(state, STEPS // config.batch_steps)
        return state

    return call


def raw_stepping(num_envs: int) -> Callable[[], Any]:
    """A call that steps the vector environment with random actions, and learns nothing."""
    vector = VectorEnvironment(_cartpole())
    space = vector.environment.action_space
    policy = distribution(space, jnp.zeros((num_envs, space.num_outputs)), Config())

    @jax.jit
    def run(key: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            state, key = carry
            key, action_key, step_key = jax.random.split(key, 3)
            actions = policy.sample(draw_noise(space, action_key, (num_envs,)))
            state, transition = vector.step(jax.random.split(step_key, num_envs), state, actions)
            return (state, key), jnp.sum(transition.rewards)

        state = vector.reset(jax.random.split(key, num_envs))
        return jax.lax.scan(step, (state, key), None, length=STEPS // num_envs)[1].sum()

    return lambda: run(jax.random.key(0))


def _cartpole() -> environments.OnDeviceEnvironment:
    environment = environments.make("gymnax:CartPole-v1")
    assert isinstance(environment, environments.OnDeviceEnvironment)
    return environment


if __name__ == "__main__":
    main()

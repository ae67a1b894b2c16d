"""The mean return of uniformly random actions, for `stacx/reproduction/scores.csv`.

    python experiments/random_scores.py [gymnax:Catch-bsuite ...]

Prints a line for each environment: its id, the mean over all episodes, the standard error of that
mean, and how many episodes there were.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from stacx import environments
from stacx.environments import OnDeviceEnvironment, VectorEnvironment
from stacx.types import Discrete

ENVIRONMENTS = (
    *("gymnax:Catch-bsuite", "gymnax:CartPole-v1", "gymnax:DiscountingChain-bsuite"),
    *("gymnax:Acrobot-v1", "gymnax:MemoryChain-bsuite", "gymnax:DeepSea-bsuite"),
    *("gymnax:FourRooms-misc", "gymnax:Asterix-MinAtar"),
    *("gymnax:Breakout-MinAtar", "gymnax:Freeway-MinAtar", "gymnax:Seaquest-MinAtar"),
    "gymnax:SpaceInvaders-MinAtar",
)
BATCH = 256
"""Environments side by side. Each counts the same number of episodes, so that short ones are not
counted more often."""


def main() -> None:
    """Measures the environments asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env", nargs="*", default=ENVIRONMENTS)
    parser.add_argument("--episodes", type=int, default=8, help="of each of the environments")
    arguments = parser.parse_args()
    for env in arguments.env:
        returns = random_returns(env, arguments.episodes)
        error = returns.std() / np.sqrt(returns.size)
        print(f"{env}: {returns.mean():.4f} +- {error:.4f} over {returns.size}", flush=True)


def random_returns(env: str, episodes: int) -> np.ndarray:
    """The returns of the first so many episodes of each of `BATCH` environments, [BATCH, episodes].

    Only whole episodes count, however long: a fixed number of steps would favour short ones.
    """
    environment = environments.make(env)
    assert isinstance(environment, OnDeviceEnvironment)
    assert isinstance(environment.action_space, Discrete)
    vector, choices = VectorEnvironment(environment), environment.action_space.n

    @jax.jit
    def play(key: PRNGKeyArray) -> Array:
        def step(carry: Any) -> Any:
            key, state, returns, counts = carry
            key, for_actions, for_steps = jax.random.split(key, 3)
            actions = jax.random.randint(for_actions, (BATCH,), 0, choices)
            keys = jax.random.split(for_steps, BATCH)
            state, transition = vector.step(keys, state, actions)
            counted = transition.ended & (counts < episodes)
            place = jnp.minimum(counts, episodes - 1)
            rows = jnp.arange(BATCH)
            new = jnp.where(counted, transition.returns, returns[rows, place])
            return key, state, returns.at[rows, place].set(new), counts + counted

        key, for_reset = jax.random.split(key)
        state = vector.reset(jax.random.split(for_reset, BATCH))
        start = key, state, jnp.zeros((BATCH, episodes)), jnp.zeros(BATCH, int)
        return jax.lax.while_loop(lambda carry: (carry[3] < episodes).any(), step, start)[2]

    return np.asarray(play(jax.random.key(0)), np.float64)


if __name__ == "__main__":
    main()

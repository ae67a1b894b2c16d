"""How episodes of LunarLander end under trained policies, and what they do on the ground.

    python experiments/landings.py RUN [RUN ...] [--episodes 20] [--greedy]

An episode ends with +100 only when the lander has come to rest, which takes half a second without
the engines. A policy that has landed and goes on firing is paid nothing until the time limit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium
import jax
import numpy as np

import stacx

NOTHING = 0
"""The action that fires no engine."""


def main() -> None:
    """Prints a row of a table for each run; shares are means over episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--greedy", action="store_true")
    arguments = parser.parse_args()
    print("| run | return | at rest | crashed | time limit | on the ground | firing there |")
    print("|---|---|---|---|---|---|---|")
    for run in arguments.runs:
        policy = stacx.load(run)
        rows = [episode(policy, seed, arguments.greedy) for seed in range(arguments.episodes)]
        total, rest, crash, limit, ground, firing = np.nanmean(rows, axis=0)
        print(
            f"| {run.name} | {total:.0f} | {rest:.2f} | {crash:.2f} | {limit:.2f} "
            f"| {ground:.2f} | {firing:.2f} |"
        )


def episode(policy: stacx.Policy, seed: int, greedy: bool) -> tuple[float, ...]:
    """Return; whether it came to rest, crashed, or reached the limit; shares of steps.

    The shares are of steps with both legs on the ground, and of those in which an engine fires.
    """
    environment = gymnasium.make("LunarLander-v3")
    observation, _ = environment.reset(seed=seed)
    keys, state = jax.random.key(seed), None
    rewards: list[float] = []
    landed: list[bool] = []
    fired: list[bool] = []
    terminated = truncated = False
    while not (terminated or truncated):
        key = None if greedy else jax.random.fold_in(keys, len(rewards))
        action, state = policy.act(observation, state, key)
        landed.append(bool(observation[6] and observation[7]))  # contact of the two legs
        fired.append(int(action) != NOTHING)
        observation, reward, terminated, truncated, _ = environment.step(int(action))
        rewards.append(float(reward))
    firing = float(np.mean(np.array(fired)[landed])) if any(landed) else np.nan
    at_rest = terminated and rewards[-1] > 0
    ends = (at_rest, terminated and not at_rest, truncated)
    return (sum(rewards), *map(float, ends), float(np.mean(landed)), firing)


if __name__ == "__main__":
    main()

"""Bonnet's trap: does gamma find its outer value, and does a value head of the outer loss help?

    python experiments/discounting_chain.py [--output DIR] [--steps N] [--seeds K] [--dry-run]

Bonnet et al. 2022 on bsuite's discounting chain: the first of 100 steps chooses after how many
steps there is a reward, 1.0, or 1.1 for one choice, here after 30. A discount below 0.9967 prefers
the reward after one step. The outer discount is 1, the inner one starts at 0.95. In their
experiment, metagradients with the inner values end at 1.00, with values of the outer loss's own at
about 1.08 (read off their figure). Their critic is exact and their optimiser plain; here both are
the paper's, with networks.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray
from of_one_task import carry_out

from stacx import Discrete, Timestep
from stacx.cli.main import as_command
from stacx.reproduction import Experiment, Reference, Suite, Task, Variant, comparing

DELAYS = (1, 3, 10, 30, 100)
LENGTH = 100
State = tuple[Array, Array]
"""What was chosen, and the time."""


class DiscountingChain:
    """bsuite's environment, whose episodes terminate; gymnax's are cut off, and go on in values."""

    observation_shape, observation_dtype, action_space = (2,), jnp.float32, Discrete(len(DELAYS))

    def __init__(self, best: int = 3):
        self._rewards = jnp.ones(len(DELAYS)).at[best].set(1.1)

    def reset(self, key: PRNGKeyArray) -> tuple[State, Array]:
        """Nothing is chosen, at time 0."""
        state = jnp.int32(-1), jnp.int32(0)
        return state, self._observe(*state)

    def step(self, key: PRNGKeyArray, state: State, action: Array) -> tuple[State, Timestep]:
        """Only the first action matters."""
        choice, time = state
        choice, time = jnp.where(time == 0, action, choice), time + 1
        reward = jnp.where(jnp.array(DELAYS)[choice] == time, self._rewards[choice], 0.0)
        over = time == LENGTH
        observation = self._observe(choice, time)
        return (choice, time), Timestep(observation, reward, over, jnp.array(False))

    def _observe(self, choice: Array, time: Array) -> Array:
        return jnp.stack([choice.astype(jnp.float32), time / LENGTH])


def variants(suite: Suite) -> tuple[Variant, ...]:
    """IMPALA with each discount, and gamma tuned or all, with and without the outer value head."""
    del suite
    found = [
        Variant("impala-0.95", {"agent": "impala", "gamma": 0.95}),
        Variant("impala-1", {"agent": "impala"}),
    ]
    for tune in ("gamma", "all"):
        for rate in (1e-3, 1e-2):
            for own in (False, True):
                name = f"stac-{tune}-{rate:g}" + "-outer-value" * own
                settings = {"tune": tune, "meta_learning_rate": rate, "initial_gamma": 0.95}
                found.append(Variant(name, {"agent": "stac", "outer_value_head": own, **settings}))
    return tuple(found)


EXPERIMENT = Experiment(
    name="discounting-chain",
    title="Bonnet's trap: values of the outer loss's own",
    paper="Bonnet et al. 2022: 1.00 without and about 1.08 with an outer value function. Not in "
    "the STAC paper.",
    variants=variants,
    analyse=comparing.compare,
)


def main() -> None:
    """Trains all, and writes the report."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    task = Task(
        "discounting_chain:DiscountingChain",
        4_000_000,
        Reference(1.0194, 1.1, "random: experiments/random_scores.py; reference: the optimum"),
        {"gamma": 1.0},
        on_device=True,
    )
    carry_out(EXPERIMENT, task, doc=__doc__, seeds=10)


if __name__ == "__main__":
    as_command(main)

"""A program of its own: runs on as many devices as XLA_FLAGS pretends to have.

Writes, for every number of seeds in NUMBERS, the leaves of the state before and after ITERATIONS,
and how many parts of each there are; for PLANS, how many devices would share the work; and how
often the program of one seed gathers an array that devices share.
"""

import sys

import jax
import numpy as np
from small_runtimes import RECURRENT, Case, make_runtime

NUMBERS = (1, 4)
ITERATIONS = 7
PLANS = [(4, 3), (8, 3), (3, 8), (3, 6), (2, 6)]
"""Numbers of seeds and of environments."""


def parts_of(leaf) -> np.ndarray:
    """How many different parts of an array there are on the devices."""
    return np.asarray(len({str(shard.index) for shard in leaf.addressable_shards}))


def arrays_of(seeds: int) -> dict[str, np.ndarray]:
    case = Case(RECURRENT | {"num_seeds": seeds})
    states = {"start": case.start, "end": case.after(ITERATIONS)}
    arrays = {}
    for moment, state in states.items():
        for number, leaf in enumerate(jax.tree.leaves(state)):
            arrays[f"{seeds}/{moment}/{number}"] = np.asarray(leaf)
            arrays[f"{seeds}/{moment}/parts/{number}"] = parts_of(leaf)
    return arrays


def gathers() -> np.ndarray:
    runtime = make_runtime(**RECURRENT | {"num_seeds": 1})
    program = runtime._chunk.lower(runtime.abstract_state(), np.int32(1)).compile().as_text()
    assert " all-reduce(" in program
    return np.asarray(program.count(" all-gather("))


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    collected = {
        f"plan/{plan}": np.asarray(make_runtime(num_seeds=plan[0], num_envs=plan[1]).num_devices)
        for plan in PLANS
    }
    collected["gathers"] = gathers()
    for number in NUMBERS:
        collected |= arrays_of(number)
    np.savez(sys.argv[1], **collected)

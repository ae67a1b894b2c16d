"""`python -m kept_states train ...`: the command, which also leaves what this host's learner has.

In `learner-INDEX.npz` of the working directory, for each of its devices.
"""

import sys

import jax
import numpy as np

from stacx.cli.main import main
from stacx.runs import training

make_runtime = training._make_runtime


def making_runtime(config):
    runtime = make_runtime(config)
    run = runtime.run

    def running(state, *arguments):
        state = run(state, *arguments)
        learner = {
            f"{jax.tree_util.keystr(path)} {shard.device.local_hardware_id}": shard.data
            for path, leaf in jax.tree_util.tree_leaves_with_path(state.learner)
            for shard in leaf.addressable_shards
            if shard.data.size
        }
        np.savez(f"learner-{jax.process_index()}.npz", **learner)
        return state

    runtime.run = running
    return runtime


if __name__ == "__main__":
    training._make_runtime = making_runtime
    sys.exit(main())

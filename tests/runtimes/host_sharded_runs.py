"""A program of its own: runs on as many devices as XLA_FLAGS pretends to have.

Prints, as JSON, for every choice of devices in CHOICES the learner's arrays after UPDATES, and how
many parts the arrays of a rollout and of the state have; for PLANS, which devices would be used;
for REFUSED, why not.
"""

import json

import jax
import numpy as np
from host_games import Corridor, environment_of

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.devices import assigned_devices

SETTINGS = {
    "env": "host_games:Corridor",
    "agent": "stac",
    "tune": "gamma",
    "steps": 400,
    "seed": 5,
    "num_envs": 4,
    "num_actors": 2,
    "trajectory_length": 4,
    "mlp_widths": (4,),
    "lstm_size": 3,
    "deterministic": True,
}
UPDATES = 6
CHOICES = {"apart": ((0, 1), (2, 3)), "one": ((0,), (0,))}
"""Devices of actors and of the learner."""
PLANS = [
    {},  # 3 devices do not divide 4 environments
    {"actor_devices": (2, 3)},
    {"learner_devices": (0, 1, 2, 3)},
    {"actor_devices": (1,), "learner_devices": (1,)},
    {"actors": "ray", "deterministic": False},  # elsewhere: the learner has all
]
REFUSED = [
    {"learner_devices": (0, 1, 2)},
    {"actor_devices": (0, 1, 2)},
    {"actor_devices": (4,)},
]


def parts_of(leaf) -> int:
    return len({str(shard.index) for shard in leaf.addressable_shards})


def on(actors, learners) -> dict:
    environment = environment_of(Corridor)
    config = Config(**SETTINGS, actor_devices=actors, learner_devices=learners)
    runtime = ActorLearnerRuntime(config, environment)
    state = runtime.prepare(runtime.init())
    update, rollouts = runtime._compiled_update, []

    def noted(state, rollout):
        rollouts.append(rollout)
        return update(state, rollout)

    runtime._compiled_update = noted
    state = runtime.run(state, UPDATES, lambda: False)
    used = sorted({actor.device.id for actor in runtime._pool.actors})
    runtime.close()
    return {
        "parameters": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state.learner)],
        "rollout_parts": sorted({parts_of(leaf) for leaf in jax.tree.leaves(rollouts[-1])}),
        "state_parts": sorted({parts_of(leaf) for leaf in jax.tree.leaves(state)}),
        "state_devices": sorted(device.id for device in state.iteration.devices()),
        "actor_devices": used,
    }


def refusal(settings) -> str:
    try:
        assigned_devices(Config(**SETTINGS | settings))
    except ConfigError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    found = {name: on(*choice) for name, choice in CHOICES.items()}
    found["plans"] = [
        [
            [device.id for device in devices]
            for devices in assigned_devices(Config(**SETTINGS | plan))
        ]
        for plan in PLANS
    ]
    found["refused"] = [refusal(settings) for settings in REFUSED]
    print(json.dumps(found))

"""Runtimes that compile quickly, on random walks whose episodes end within a trajectory."""

import functools

import jax
import numpy as np
from support import Walk

from stacx.config import Config
from stacx.runtimes.on_device import OnDeviceRuntime, TrainState

BATCH, STEPS, SEED = 4, 5, 4
TUNED = {"agent": "stac", "tune": "gamma", "heads": 2}
RECURRENT = {"agent": "impala", "lstm_size": 3}


def make_runtime(environment=None, **settings) -> OnDeviceRuntime:
    defaults = {
        "env": "support:Walk",
        "steps": 1000,
        "seed": SEED,
        "num_envs": BATCH,
        "trajectory_length": STEPS,
        "mlp_widths": (8,),
        "max_skipped_updates": 3,
    }
    return OnDeviceRuntime(Config(**defaults | settings), environment or Walk())


class Case:
    """A runtime, the state it starts from, and where that leads."""

    def __init__(self, settings, environment=None):
        self.runtime = make_runtime(environment, **settings)
        self._abstract = self.runtime.abstract_state()

    @functools.cached_property
    def start(self) -> TrainState:
        return self.runtime.init()

    def after(self, *chunks: int, start=None) -> TrainState:
        """The state after chunks of so many iterations."""
        state = self.copy(self.start if start is None else start)
        return functools.reduce(self.runtime.run, chunks, state)

    def copy(self, state) -> TrainState:
        """A state on the runtime's devices; the runtime takes the memory of the one it is given."""
        return jax.tree.map(
            lambda leaf, abstract: jax.device_put(np.array(leaf), abstract.sharding),
            state,
            self._abstract,
        )

    @functools.cached_property
    def rollout(self):
        """From a state of one seed to the trajectory that its next iteration learns from."""

        def rollout(state):
            one = jax.tree.map(lambda leaf: leaf[0], state)
            last, recurrent_state, _, trajectory, ends = self.runtime._rollout(one)
            return last, recurrent_state, trajectory, ends

        compiled = jax.jit(rollout)
        return lambda state: compiled(self.copy(state))


def lane(state, index: int):
    """One of the seeds of a state, as a state of one seed."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index : index + 1], state)


def assert_same_bits(a, b) -> None:
    """Two trees of arrays; what is not a number equals itself."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def assert_close(a, b) -> None:
    """Up to the rounding of a few updates in float32."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def differ(a, b) -> bool:
    """Whether two trees of arrays differ anywhere."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)

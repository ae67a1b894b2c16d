"""What the tests of several rooms share: a tiny environment, and quick compilation."""

import sys
import types

import jax
import jax.numpy as jnp
import pytest

from stacx.types import Discrete, Timestep


def quick_jit(function):
    """`jax.jit` that compiles several times faster, for programs that run once or twice."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """The same for every program of a module, also those of single operations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def as_module(monkeypatch, **functions) -> str:
    """A module of a user with these functions, importable until the test ends; its name."""
    module = types.ModuleType("users_own_module")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def message_of(caught) -> str:
    """The message of an exception that pytest caught, which must be one line."""
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


class Walk:
    """A random walk from 0 with steps -1, 0 or 1: terminates at -3 and 3, truncated at time 5.

    Observations are one-hot positions and the time; the reward is the new position's distance from
    0. Only the first action is drawn by the environment: it starts at -1, 0 or 1.
    """

    observation_shape = (8,)
    observation_dtype = jnp.float32
    action_space = Discrete(3)

    def reset(self, key):
        state = (jax.random.randint(key, (), -1, 2), jnp.int32(0))
        return state, self.observe(state)

    def step(self, key, state, action):
        position, time = state[0] + action - 1, state[1] + 1
        terminated = jnp.abs(position) >= 3
        timestep = Timestep(
            observation=self.observe((position, time)),
            reward=jnp.abs(position).astype(jnp.float32),
            terminated=terminated,
            truncated=(time >= 5) & ~terminated,
        )
        return (position, time), timestep

    def observe(self, state):
        position, time = state
        return jnp.append(jax.nn.one_hot(position + 3, 7), time / 5)

"""Networks of a few settings, and what they say of random observations."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from stacx.config import Config
from stacx.networks import ActorCriticNetwork
from stacx.types import Discrete

STEPS, BATCH, ACTIONS = 6, 3, 5
ONE_CHOICE = Discrete(ACTIONS)
TRUNCATED_STD = 0.87962566
"""Standard deviation of a standard normal that is truncated at -2 and 2."""


def build(shape=(4,), dtype=jnp.float32, action_space=ONE_CHOICE, **settings) -> ActorCriticNetwork:
    defaults = {"mlp_widths": (8,), "head_init": 1.0, "heads": 3}
    return ActorCriticNetwork(Config(**defaults | settings), shape, dtype, action_space)


def filled(make, *arguments, **options):
    """What `make(key, ...)` returns, with other numbers: biases too, and nothing to compile."""
    abstract = jax.eval_shape(lambda key: make(key, *arguments, **options), jax.random.key(0))
    rng = np.random.default_rng(5)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype), abstract
    )


def started(make, *arguments, **options):
    """What `make(key, ...)` returns, as it does."""
    return jax.jit(lambda key: make(key, *arguments, **options))(jax.random.key(0))


def observe(shape=(4,), steps=STEPS) -> jax.Array:
    return jnp.asarray(np.random.default_rng(7).normal(size=(steps, BATCH, *shape)), jnp.float32)


def starts_at(*places, steps=STEPS) -> jax.Array:
    """Where episodes begin: (step, environment)."""
    starts = np.zeros((steps, BATCH), bool)
    for place in places:
        starts[place] = True
    return jnp.asarray(starts)


def outputs(network, parameters, observations, **options):
    """What the network says from fresh recurrent states on, without new episodes."""
    starts, state = starts_at(steps=len(observations)), network.initial_state(BATCH)
    return jax.jit(lambda *inputs: network.unroll(*inputs, **options)[0])(
        parameters, observations, starts, state
    )


def count(parameters) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters))


def assert_close(a, b) -> None:
    """Two trees of arrays, up to the rounding of float32."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)

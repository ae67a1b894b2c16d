"""A run's randomness: one key for its start, and one for each iteration, or trajectory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, PRNGKeyArray


def start_key(seed: Integer[Array, ""]) -> PRNGKeyArray:
    """The key of what a run starts with; iterations count from 0, so the last one is free."""
    return iteration_key(seed, jnp.uint32(2**32 - 1))


def iteration_key(seed: Integer[Array, ""], iteration: Integer[Array, ""]) -> PRNGKeyArray:
    """The iteration's own key: the pair itself, which threefry hashes."""
    data = jnp.stack([seed.astype(jnp.uint32), iteration.astype(jnp.uint32)])
    return jax.random.wrap_key_data(data, impl="threefry2x32")

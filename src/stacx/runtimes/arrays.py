"""Arrays of a pytree by name, on the host: what is stored of a state, and goes back into one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stacx.errors import CheckpointError

Arrays = dict[str, np.ndarray]


def flatten(tree: Any) -> Arrays:
    """The leaves of a pytree as host arrays, by path: `.learner.parameters.torso...`.

    Keys of random numbers are their data; arrays without elements, which Orbax refuses, are left
    out.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in leaves
        if leaf.size
    }


def unflatten(arrays: Arrays, like: Any) -> Any:
    """The pytree of arrays with the structure, shapes, types and shardings of `like`.

    Raises:
        CheckpointError: if the arrays are others.
    """

    def leaf(path: Any, target: Any) -> jax.Array:
        name = jax.tree_util.keystr(path)
        wanted = jax.eval_shape(jax.random.key_data, target) if _is_key(target) else target
        array = arrays.get(name, None if wanted.size else np.zeros(wanted.shape, wanted.dtype))
        if array is None or array.shape != wanted.shape or array.dtype != wanted.dtype:
            found = "nothing" if array is None else text_of(array)
            raise CheckpointError(f"the checkpoint has {found} for {name}, not {text_of(wanted)}")
        placed = _placed(array, getattr(target, "sharding", None))
        if _is_key(target):
            return jax.random.wrap_key_data(
                placed, impl=jax.random.key_impl(jnp.empty((), target.dtype))
            )
        return placed

    return jax.tree_util.tree_map_with_path(leaf, like)


def _placed(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """On the devices of a sharding, also where this process has not all of them."""
    if sharding is None:
        return jnp.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def text_of(array: Any) -> str:
    """Its type and shape: `float32[2, 3]`."""
    return f"{array.dtype}{list(array.shape)}"

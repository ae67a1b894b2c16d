"""Arrays by name, and back into a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stacx.errors import CheckpointError
from stacx.runtimes.arrays import flatten, unflatten

TREE = {
    "weights": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32),
    "special": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    "counts": (np.int32(3), np.uint32([1, 2]), np.array([True, False])),
}


def test_arrays_return_to_their_places():
    tree = jax.tree.map(jnp.asarray, TREE)
    restored = unflatten(flatten(tree), jax.eval_shape(lambda: tree))
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(leaf, wanted, strict=True)


@pytest.mark.parametrize(
    ("like", "complaint"),
    [
        ({"a": jnp.zeros(3)}, r"the checkpoint has float32\[2\] for \['a'\], not float32\[3\]"),
        ({"a": jnp.zeros(2, int)}, r"has float32\[2\] for \['a'\], not int32\[2\]"),
        ({"b": jnp.zeros(2)}, r"has nothing for \['b'\], not float32\[2\]"),
    ],
)
def test_other_arrays_are_refused(like, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        unflatten({"['a']": np.zeros(2, np.float32)}, like)

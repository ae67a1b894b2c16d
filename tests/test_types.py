"""Action spaces."""

import json
import math

import pytest

import stacx
from stacx.types import (
    Box,
    Discrete,
    MultiDiscrete,
    action_space_from_json,
    action_space_to_json,
)

BOUNDS = {"action_low": [-1.0, 0.0], "action_high": [1.0, 2.5]}


@pytest.mark.parametrize(
    ("space", "shape", "num_outputs", "entries"),
    [
        (Discrete(4), (), 4, {"num_actions": 4}),
        (MultiDiscrete((4,)), (1,), 4, {"action_sizes": [4]}),
        (MultiDiscrete((3, 1, 2)), (3,), 6, {"action_sizes": [3, 1, 2]}),
        (Box((-1.0, 0.0), (1.0, 2.5)), (2,), 4, BOUNDS),
    ],
    ids=str,
)
def test_a_space_and_what_checkpoints_keep_of_it(space, shape, num_outputs, entries):
    assert space.shape == shape
    assert space.num_outputs == num_outputs
    assert action_space_to_json(space) == entries
    again = action_space_from_json(json.loads(json.dumps(entries | {"other": 1})))
    assert again == space
    assert hash(again) == hash(space)


def test_spaces_without_actions_are_refused():
    with pytest.raises(ValueError, match="at least 1 action, not 0"):
        Discrete(0)
    for sizes in ((), (2, 0)):
        with pytest.raises(ValueError, match="one or more numbers of at least 1"):
            MultiDiscrete(sizes)
    for low, high in (((), ()), ((0.0,), (0.0,)), ((0.0,), (math.inf,)), ((math.nan,), (1.0,))):
        with pytest.raises(ValueError, match="bounds must be finite"):
            Box(low, high)


def test_spaces_have_public_names():
    assert stacx.Discrete(4) == Discrete(4)
    assert stacx.MultiDiscrete((3, 2)) == MultiDiscrete((3, 2))
    assert stacx.Box((0.0,), (1.0,)) == Box((0.0,), (1.0,))
    assert isinstance(Discrete(4), stacx.ActionSpace)
    assert {"ActionSpace", "Box", "Discrete", "MultiDiscrete"} <= set(stacx.__all__)

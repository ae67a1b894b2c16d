"""Observations of every space as Gymnasium flattens them, and actions as it takes them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from support import message_of

from stacx.environments.spaces import actions_of, observations_of
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.types import Box, Discrete, MultiDiscrete

IMAGE = spaces.Box(0, 255, (2, 3, 1), np.uint8)
VECTOR = spaces.Box(-5.0, 5.0, (2, 2), np.float64)
NESTED = spaces.Dict(
    {
        "z": spaces.Discrete(3, start=-1),
        "a": spaces.Tuple([VECTOR, spaces.Dict({"on": spaces.MultiBinary((2, 2))})]),
        "speed": spaces.Box(0.0, 1.0, (), np.float32),
    }
)


def batch_of(space, samples):
    """As the vector environments of Gymnasium batch observations."""
    return concatenate(space, samples, create_empty_array(space, len(samples)))


def samples_of(space, number=20):
    space.seed(7)
    return [space.sample() for _ in range(number)]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([2, 4, 3]),
        spaces.MultiDiscrete([2, 4], start=[5, -1]),
        spaces.MultiDiscrete([[2, 4], [3, 1]]),
        spaces.MultiBinary(5),
        spaces.MultiBinary((2, 3)),
        spaces.Tuple([spaces.Discrete(2), VECTOR, spaces.MultiDiscrete([2, 2])]),
        NESTED,
    ],
    ids=str,
)
def test_flattened_as_gymnasium_does(space):
    samples = samples_of(space)
    encoding = observations_of(space, "o:f")
    encoded = encoding.encode(batch_of(space, samples))
    assert encoded.dtype == encoding.dtype == np.float32
    assert encoded.shape[1:] == encoding.shape
    wanted = np.stack([spaces.flatten(space, sample) for sample in samples])
    np.testing.assert_array_equal(encoded, wanted.astype(np.float32))


def test_the_order_of_a_dictionary_is_that_of_its_space():
    encoding = observations_of(NESTED, "o:f")
    observation = {
        "speed": np.float32(0.5),
        "z": 1,
        "a": (np.arange(4.0).reshape(2, 2), {"on": np.array([[0, 1], [1, 0]], np.int8)}),
    }
    flat = [0, 1, 2, 3, 0, 1, 1, 0, 0.5, 0, 0, 1]  # by name: a, speed, z
    encoded = encoding.encode(batch_of(NESTED, [observation]))
    np.testing.assert_array_equal(encoded, [flat])


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (IMAGE, np.uint8),
        (spaces.Box(0, 255, (7,), np.uint8), np.uint8),
        (VECTOR, np.float32),
        (spaces.Box(-3, 3, (2, 2, 2), np.int64), np.float32),
        (spaces.Box(0.0, 1.0, (), np.float32), np.float32),
    ],
    ids=str,
)
def test_an_array_keeps_its_shape_and_bytes_stay_bytes(space, dtype):
    samples = samples_of(space)
    encoding = observations_of(space, "o:f")
    encoded = encoding.encode(batch_of(space, samples))
    assert encoding.shape == space.shape
    assert encoded.dtype == encoding.dtype == dtype
    np.testing.assert_array_equal(encoded, np.stack(samples).astype(dtype))


def test_bytes_in_a_dictionary_are_fractions():
    space = spaces.Dict({"eye": IMAGE, "speed": spaces.Box(0.0, 300.0, (1,), np.float32)})
    eye = np.array([0, 51, 102, 153, 204, 255], np.uint8).reshape(2, 3, 1)
    batch = batch_of(space, [{"eye": eye, "speed": np.array([255.0], np.float32)}])
    encoded = observations_of(space, "o:f").encode(batch)
    np.testing.assert_allclose(encoded, [[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 255.0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int64, np.uint64])
def test_numbers_of_any_type_become_one_hot(dtype):
    """Unsigned ones wrap around where they are subtracted."""
    space = spaces.MultiDiscrete(
        np.array([2, 100], dtype), dtype=dtype, start=np.array([1, 5], dtype)
    )
    encoded = observations_of(space, "o:f").encode(np.array([[1, 104], [2, 5]], dtype))
    assert [list(np.flatnonzero(row)) for row in encoded] == [[0, 101], [1, 2]]
    one = observations_of(spaces.Discrete(3, start=4, dtype=dtype), "o:f")
    np.testing.assert_array_equal(one.encode(np.array([4, 6], dtype)), [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(BrokenEnvironmentError, match="environment 1 of 2 returned"):
        one.encode(np.array([4, 3], dtype))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (0,)),
        spaces.Box(0, 9, (3, 0), np.uint8),
        spaces.Dict({}),
        spaces.Tuple([]),
    ],
    ids=str,
)
def test_observations_without_numbers_are_refused(space):
    with pytest.raises(ConfigError) as caught:
        observations_of(space, "o:f")
    assert message_of(caught).startswith("o:f has observations without a single number in them (")


@pytest.mark.parametrize(
    ("space", "outside", "index", "shown"),
    [
        (spaces.Discrete(3), [2, 3, -1], 1, "[3]"),
        (spaces.Discrete(3, start=1), [3, 0, 4], 1, "[0]"),
        (spaces.MultiDiscrete([2, 4]), [[1, 3], [0, 0], [2, 0]], 2, "[2 0]"),
    ],
    ids=str,
)
def test_a_number_outside_its_space_is_not_taken_for_another(space, outside, index, shown):
    with pytest.raises(BrokenEnvironmentError) as caught:
        observations_of(space, "o:f").encode(np.array(outside))
    assert message_of(caught) == (
        f"o:f returned observations outside their space: environment {index} of 3 returned "
        f"{shown}: mend the environment"
    )


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(0, 1, (2,)), None),
        spaces.Dict({"words": spaces.Text(5), "a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Tuple([spaces.Sequence(spaces.Discrete(2))])]),
    ],
    ids=str,
)
def test_observations_without_a_fixed_size_are_refused(space):
    with pytest.raises(ConfigError, match=r"o:f has observations of (Text|Sequence|Graph), which"):
        observations_of(space, "o:f")


@pytest.mark.parametrize(
    ("space", "choices", "taken"),
    [
        (spaces.Discrete(4), [0, 3, 1], [0, 3, 1]),
        (spaces.Discrete(4, start=-2), [0, 3, 1], [-2, 1, -1]),
        (spaces.Discrete(4, dtype=np.int32), [0, 3, 1], [0, 3, 1]),
        (spaces.MultiDiscrete([2, 4]), [[0, 3], [1, 0]], [[0, 3], [1, 0]]),
        (spaces.MultiDiscrete([2, 4], start=[5, -1]), [[0, 3], [1, 0]], [[5, 2], [6, -1]]),
        (spaces.MultiDiscrete([2, 4], dtype=np.int32), [[0, 3], [1, 0]], [[0, 3], [1, 0]]),
    ],
    ids=str,
)
def test_choices_become_actions_of_the_space(space, choices, taken):
    decoded = actions_of(space, "o:f").decode(np.array(choices, np.int32))
    np.testing.assert_array_equal(decoded, taken)
    assert decoded.dtype == space.dtype
    assert batch_space(space, len(choices)).contains(decoded)
    assert all(space.contains(action) for action in decoded)


def test_the_action_spaces_of_stacx():
    assert actions_of(spaces.Discrete(4, start=3), "o:f").space == Discrete(4)
    assert actions_of(spaces.MultiDiscrete([2, 4]), "o:f").space == MultiDiscrete((2, 4))
    bounds = np.array([[-1, 0], [-3, 2]], np.float32), np.array([[1, 0.5], [-2, 4]], np.float32)
    wanted = Box((-1.0, 0.0, -3.0, 2.0), (1.0, 0.5, -2.0, 4.0))
    assert actions_of(spaces.Box(*bounds), "o:f").space == wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_become_actions_of_the_box_s_shape(dtype):
    space = spaces.Box(-1.0, 1.0, (2, 2), dtype)
    numbers = np.array([[-1.0, 0.5, 0.25, 1.0], [0.0, 0.1, 0.2, 0.3]], np.float32)
    decoded = actions_of(space, "o:f").decode(numbers)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, numbers.reshape(2, 2, 2))
    assert all(space.contains(action) for action in decoded)


def test_cartpoles_own_batch_takes_the_actions():
    games = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    games.reset(seed=0)
    decode = actions_of(games.single_action_space, "o:f").decode
    games.step(decode(np.array([0, 1], np.int32)))  # it checks them


def test_bounds_that_float32_rounds_outwards_are_kept():
    space = spaces.Box(0.1, 1.1, (1,), np.float64)
    actions = actions_of(space, "o:f")
    ends = np.array([actions.space.low, actions.space.high], np.float32)
    assert ends.astype(np.float64)[1, 0] > 1.1
    assert all(space.contains(action) for action in actions.decode(ends))


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        (
            spaces.Box(-1.0, np.inf, (2,)),
            "o:f has actions without finite bounds (Box(-1.0, inf, (2,), float32)), and a policy",
        ),
        (spaces.Box(-1e10, 1e10, (2,)), "o:f has actions without finite bounds (Box(-1"),
        (spaces.Box(-1.0, -1.0, (2,)), "o:f has actions whose lower bound is not below the upper"),
        (spaces.Box(0, 9, (2,), np.int64), "o:f has actions of Box (Box(0, 9, (2,), int64)): st"),
        (spaces.MultiBinary(3), "o:f has actions of MultiBinary (MultiBinary(3)): stacx takes"),
        (spaces.MultiDiscrete([[2, 2]]), "o:f has actions of MultiDiscrete (MultiDiscrete([[2"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "o:f has actions of Dict (Dict("),
    ],
    ids=str,
)
def test_actions_that_are_not_supported(space, complaint):
    with pytest.raises(ConfigError) as caught:
        actions_of(space, "o:f")
    assert message_of(caught).startswith(complaint)

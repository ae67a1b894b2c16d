"""What goes wrong in one environment of a batch names it, also from a process of its own."""

import functools
import time

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from scripted_games import Broken
from support import message_of

from stacx.environments import EnvironmentRaised, HostVector
from stacx.environments.gym_family import from_function
from stacx.errors import BrokenEnvironmentError

PARTS = spaces.Dict(
    {
        "place": spaces.Box(-1, 1, (2,)),
        "hand": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (4,))]),
    }
)
IMAGE = spaces.Box(0, 255, (2, 2, 1), np.uint8)
GOOD = {"place": np.zeros(2), "hand": (0, np.zeros(4))}


def broken(fault, space=None, vectorization="sync", num_envs=3) -> HostVector:
    """A batch whose environment 1 goes wrong."""
    function = functools.partial(Broken, fault, space)
    environment = from_function("o:f", function, {}, function())
    return HostVector(environment, num_envs, vectorization=vectorization)


def take_three_steps(vector):
    vector.reset(0)
    for _ in range(3):
        vector.step(np.zeros(vector.num_envs, np.int32))


def what_happens(vector, error):
    """The error of its reset and three steps."""
    with pytest.raises(error) as caught:
        take_three_steps(vector)
    return caught


@pytest.mark.parametrize(
    ("wrong", "complaint", "space"),
    [
        (np.zeros(3), "of shape [3], not [2] as its space says", None),
        (np.zeros(1), "of shape [1], not [2] as its space says", None),  # it would broadcast
        (0.0, "of shape [], not [2] as its space says", None),
        (np.zeros((2, 1)), "of shape [2, 1], not [2] as its space says", None),
        (
            GOOD | {"place": np.zeros(1)},
            "['place'] of shape [1], not [2] as its space says",
            PARTS,
        ),
        (
            GOOD | {"hand": (0, np.zeros((2, 2)))},
            "['hand'][1] of shape [2, 2], not [4] as its space says",
            PARTS,
        ),
        ({"hand": GOOD["hand"]}, " without ['place']", PARTS),
        (GOOD | {"hand": (0,)}, "['hand'] without [1]", PARTS),
        (None, " without ['hand']", PARTS),
        (np.zeros((2, 2, 1)), "of type float64, not uint8 as its space says", IMAGE),
    ],
)
def test_an_observation_that_is_not_of_its_space(wrong, complaint, space):
    caught = what_happens(broken(("observation", wrong), space), BrokenEnvironmentError)
    gap = "" if complaint[0] in "[ " else " "
    assert message_of(caught) == (
        f"o:f: environment 1 returned an observation{gap}{complaint}: mend the environment"
    )


def test_what_is_not_finite():
    fault = ("observation", np.array([0.5, np.nan]))
    assert message_of(what_happens(broken(fault), BrokenEnvironmentError)) == (
        "o:f returned observations that are not finite: environment 1 of 3 returned [0.5 nan]: "
        "mend the environment"
    )
    assert message_of(what_happens(broken(("reward", np.nan)), BrokenEnvironmentError)) == (
        "o:f returned rewards that are not finite: environment 1 of 3 returned nan: "
        "mend the environment"
    )


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (np.ones(1), "a reward of shape [1], not a number"),
        ([[1, 2], [3]], "a reward that is no number: [[1, 2], [3]]"),
        ("bad", "a reward that is no number: 'bad'"),
    ],
)
def test_a_reward_that_is_no_number(reward, says):
    caught = what_happens(broken(("reward", reward)), BrokenEnvironmentError)
    assert message_of(caught) == f"o:f: environment 1 returned {says}: mend the environment"


@pytest.mark.parametrize("end", ["terminated", "truncated", "life_lost"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "None"),
        (0, "0"),
        ("no", "'no'"),
        (np.nan, "nan"),
        (np.float64(1), "np.float64(1.0)"),
        (np.zeros(1, bool), "array([False])"),
        ([[True], []], "[[True], []]"),
    ],
)
def test_an_end_that_is_no_truth_value(end, wrong, says):
    caught = what_happens(broken((end, wrong)), BrokenEnvironmentError)
    assert message_of(caught) == (
        f"o:f: environment 1 returned a {end} that is no truth value: {says}: mend the environment"
    )


@pytest.mark.parametrize("truth", [True, np.True_, np.array(True), jnp.array(True)])
def test_any_truth_value_is_one(truth):
    vector = broken(("terminated", truth))
    vector.reset(0)
    ended = [vector.step(np.zeros(3, np.int32)).ended.tolist() for _ in range(3)]
    assert ended == [[False] * 3, [False] * 3, [False, True, False]]
    vector = broken(("life_lost", truth))
    vector.reset(0)
    discounts = [vector.step(np.zeros(3, np.int32)).discounts.tolist() for _ in range(3)]
    assert discounts == [[1.0] * 3, [1.0] * 3, [1.0, 0.0, 1.0]]


@pytest.mark.parametrize("where", ["step", "reset"])
def test_what_raises(where):
    caught = what_happens(broken({"step": "raise"}.get(where, "raise in reset")), EnvironmentRaised)
    message = message_of(caught)
    assert message.startswith("o:f: environment 1 raised RuntimeError: no luck at all (")
    assert message.endswith(f") in {where}")
    assert "scripted_games.py:" in message
    assert caught.value.details.startswith("Traceback (most recent call last)")
    assert "and more lines" in caught.value.details


def test_the_step_of_an_older_gymnasium():
    message = message_of(what_happens(broken("too few"), BrokenEnvironmentError))
    assert "environment 1 returned a tuple of 4 from step, not (observation, reward, ter" in message


def test_the_reset_of_an_older_gymnasium():
    """It takes what a new one takes, but returns the observation alone."""
    message = message_of(what_happens(broken("reset alone"), BrokenEnvironmentError))
    assert "environment 1 returned no tuple from reset, not (observation, info): mend" in message


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium.vector.async_vector_env")
@pytest.mark.parametrize(
    "fault", [("observation", np.zeros(1)), ("reward", np.nan), ("truncated", None)]
)
def test_a_process_tells_what_is_wrong(fault):
    vector = broken(fault, vectorization="async", num_envs=2)
    assert "environment 1" in message_of(what_happens(vector, BrokenEnvironmentError))
    processes = vector.vector.processes
    assert len(processes) == 2
    vector.close(terminate=True)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium.vector.async_vector_env")
def test_a_process_hands_over_its_traceback():
    vector = broken("raise", vectorization="async", num_envs=2)
    caught = what_happens(vector, EnvironmentRaised)
    vector.close(terminate=True)
    assert message_of(caught).startswith("o:f: environment 1 raised RuntimeError: no luck at all (")
    assert "scripted_games.py" in caught.value.details
    assert "and more lines" in caught.value.details


def test_an_error_survives_what_gymnasium_does_to_it():
    error = EnvironmentRaised("o:f: environment 1 raised", "Traceback: ...")
    copy = type(error)(error)
    assert str(copy) == "o:f: environment 1 raised"
    assert copy.details == "Traceback: ..."


def test_a_process_that_hangs_is_freed():
    vector = broken("hang", vectorization="async", num_envs=2)
    vector.reset(0)
    vector.step(np.zeros(2, np.int32))
    vector.step(np.zeros(2, np.int32))
    vector.vector.step_async(np.zeros(2, np.int64))
    processes = vector.vector.processes
    assert all(process.is_alive() for process in processes)
    vector.kill()
    began = time.monotonic()
    with pytest.raises((EOFError, OSError)):
        vector.vector.step_wait()
    assert time.monotonic() - began < 5
    for process in processes:
        process.join(5)
        assert not process.is_alive()
    vector.vector.closed = True  # nothing is left to close

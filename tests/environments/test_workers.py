"""A batch of processes starts late, tells its errors, and can be ended at any time."""

import functools
import multiprocessing
import os

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from scripted_games import Broken

from stacx.environments import EnvironmentRaised
from stacx.environments.workers import Workers

ACTIONS = np.zeros(2, np.int64)


@pytest.fixture
def workers():
    """Makes two environments, of which the second goes wrong at step 3; ended with the test."""
    made = []

    def make(fault="nothing", function=None):
        functions = [function or functools.partial(Broken, fault)] * 2
        batch = Workers(functions, "o:f")
        made.append(batch)
        return made[-1]

    yield make
    for batch in made:
        batch.close(terminate=True)


def test_nothing_is_started_before_the_first_reset(workers):
    batch = workers()
    assert batch.processes == []
    assert batch.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    batch.reset(seed=0)
    assert all(process.is_alive() for process in batch.processes)
    processes = list(batch.processes)
    batch.reset(seed=0)
    assert batch.processes == processes


def test_what_was_never_started_is_closed_at_once(workers):
    workers().close()


@pytest.mark.parametrize("terminate", [False, True])
def test_processes_end_with_their_batch(workers, terminate):
    batch = workers()
    batch.reset(seed=0)
    batch.step(ACTIONS)
    batch.close(terminate=terminate)
    assert not any(process.is_alive() for process in batch.processes)


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium.vector.async_vector_env")
def test_an_error_of_a_process_is_raised_here(workers):
    batch = workers("raise")
    batch.reset(seed=0)
    batch.step(ACTIONS)
    batch.step(ACTIONS)
    with pytest.raises(EnvironmentRaised, match="environment 1 raised RuntimeError: ") as e:
        batch.step(ACTIONS)
    assert "no luck at all\nand more lines" in e.value.details


def never_made(how):
    if multiprocessing.parent_process() is None:  # for its spaces
        return Broken("nothing")
    if how == "exit":
        raise SystemExit(0)
    raise RuntimeError("never\nmade")


@pytest.mark.parametrize(
    ("how", "says"), [("raise", "RuntimeError: never"), ("exit", "SystemExit: 0")]
)
def test_an_environment_that_cannot_be_made_in_its_process_says_why(workers, how, says):
    batch = workers(function=functools.partial(never_made, how))
    with pytest.raises(EnvironmentRaised, match=f"^o:f: environment [01] raised {says}$") as caught:
        batch.reset(seed=0)
    assert "in never_made" in caught.value.details


def test_an_info_that_cannot_be_sent_is_an_error_of_its_environment(workers):
    batch = workers(("life_lost", lambda: None))
    batch.reset(seed=0)
    batch.step(ACTIONS)
    batch.step(ACTIONS)
    with pytest.raises(EnvironmentRaised, match="o:f: environment 1 raised") as caught:
        batch.step(ACTIONS)
    assert "pickle" in str(caught.value)


def leaves(when):
    """Its process ends: when it is made, or at step 3."""
    if multiprocessing.parent_process() is not None and when == "made":
        os._exit(3)
    return Leaving("nothing")


class Leaving(Broken):
    def step(self, action):
        outcome = super().step(action)
        if self.bad and self.time == 3:
            os._exit(4)
        return outcome


def test_a_process_that_ends_is_named_with_its_exit_code(workers):
    batch = workers(function=functools.partial(leaves, "late"))
    batch.reset(seed=0)
    batch.step(ACTIONS)
    batch.step(ACTIONS)
    with pytest.raises(EnvironmentRaised) as caught:
        batch.step(ACTIONS)
    assert str(caught.value) == "o:f: the process of environment 1 ended (exit code 4)"


def test_a_process_that_ends_at_once_may_be_a_script_s_fault(workers):
    batch = workers(function=functools.partial(leaves, "made"))
    with pytest.raises(EnvironmentRaised) as caught:
        batch.reset(seed=0)
    assert "ended (exit code 3); a script needs `if __name__ == '__main__':`" in str(caught.value)


def test_a_batch_that_is_killed_does_not_start(workers):
    batch = workers()
    batch.kill()
    with pytest.raises(EOFError, match="ended while they were started"):
        batch.reset(seed=0)

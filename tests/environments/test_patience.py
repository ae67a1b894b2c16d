"""Calls return what they return, raise what they raise, and are left behind where they hang."""

import math
import sys
import threading
import time

import pytest

from stacx.environments.patience import Caller, NoAnswer, stack_of


@pytest.fixture
def caller():
    """Makes callers that are closed in the end."""
    made = []

    def make(seconds):
        made.append(Caller(seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("seconds", [60.0, 1e300, math.inf])
def test_a_call_returns_or_raises(caller, seconds):
    calls = caller(seconds)
    assert calls.call(divmod, 7, 2) == (3, 1)
    assert calls.call(sorted, [1, 2], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        calls.call(divmod, 7, 0)
    with pytest.raises(SystemExit):
        calls.call(sys.exit)
    assert calls.call(lambda: 5) == 5
    assert not calls.busy


def test_one_thread_makes_all_calls(caller):
    calls = caller(60.0)
    threads = {calls.call(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_call_that_hangs_is_left_behind(caller):
    calls, end = caller(0.2), threading.Event()

    def hang_here():
        end.wait(60)

    began = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        calls.call(hang_here)
    assert time.monotonic() - began < 30
    assert ", in hang_here\n" in caught.value.stack
    assert calls.busy
    end.set()


def test_a_thread_that_is_closed_ends(caller):
    calls = caller(60.0)
    thread = calls.call(threading.current_thread)
    calls.close()
    thread.join(60)
    assert not thread.is_alive()
    assert stack_of(thread) == ""

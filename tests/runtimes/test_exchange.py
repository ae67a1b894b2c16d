"""Order, bounds and the end of what actors and the learner exchange."""

import random
import threading
import time

import pytest

from stacx.runtimes.exchange import Closed, Exchange

PATIENCE = 5.0
"""Seconds until a thread must have got anywhere."""
MOMENT = 0.05
"""Seconds in which a thread would have got further if it could."""


class Thread(threading.Thread):
    """Keeps what a function returns or raises."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self._call = lambda: function(*arguments)
        self.start()

    def run(self):
        self.result = None
        try:
            self.result = self._call()
        except Exception as error:
            self.result = error

    def waits(self) -> bool:
        self.join(MOMENT)
        return self.is_alive()

    def end(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.result


def test_trajectories_come_in_the_order_they_were_put():
    exchange = Exchange(3)
    for number in (4, 2, 9):
        exchange.put(number, f"trajectory {number}")
    assert exchange.size == 3
    assert [exchange.get(0, 0.0) for _ in range(3)] == [
        "trajectory 4",
        "trajectory 2",
        "trajectory 9",
    ]
    assert exchange.size == 0


def test_a_full_queue_makes_actors_wait():
    exchange = Exchange(2)
    exchange.put(0, "a")
    exchange.put(1, "b")
    third = Thread(exchange.put, 2, "c")
    assert third.waits()
    assert exchange.size == 2
    assert exchange.get(0, 0.0) == "a"
    assert third.end() is None
    assert [exchange.get(0, 0.0) for _ in range(2)] == ["b", "c"]


def test_an_empty_queue_makes_the_learner_wait():
    exchange = Exchange(1)
    learner = Thread(exchange.get, 0, PATIENCE)
    assert learner.waits()
    exchange.put(0, "a")
    assert learner.end() == "a"


def test_the_learner_waits_only_so_long():
    start = time.monotonic()
    assert Exchange(1).get(0, 0.05) is None
    assert 0.05 <= time.monotonic() - start < 1.0


def test_actors_take_the_newest_parameters():
    exchange = Exchange(1)
    actor = Thread(exchange.parameters, 0)
    assert actor.waits()
    exchange.publish(5, "five")
    assert actor.end() == (5, "five")
    exchange.publish(6, "six")
    assert exchange.parameters(0) == (6, "six")


def test_with_a_fixed_lag_the_learner_takes_its_number():
    exchange = Exchange(1, lag=2)
    exchange.put(1, "b")
    assert exchange.get(0, 0.01) is None
    exchange.put(0, "a")
    assert [exchange.get(number, 0.0) for number in range(2)] == ["a", "b"]


def test_with_a_fixed_lag_an_actor_waits_for_its_parameters():
    """Trajectory 3 of a run that began after update 1 wants those after update 2."""
    exchange = Exchange(1, lag=1, first=1)
    exchange.publish(1, "one")
    assert exchange.parameters(1) == exchange.parameters(2) == (1, "one")
    actor = Thread(exchange.parameters, 3)
    assert actor.waits()
    exchange.publish(2, "two")
    assert actor.end() == (2, "two")
    assert exchange.parameters(2) == (1, "one")  # still there


@pytest.mark.parametrize(("actors", "lag", "first"), [(1, 1, 0), (3, 3, 0), (3, 3, 7), (2, 0, 4)])
def test_a_fixed_lag_is_fixed_whatever_the_threads_do(actors, lag, first):
    """Trajectory n is made with the parameters after n - lag updates, and learned from as n-th."""
    rng, updates = random.Random(actors), 30
    exchange = Exchange(1, lag=lag, first=first)
    sizes = []

    def act(index):
        number = first + index
        while True:
            version, parameters = exchange.parameters(number)
            time.sleep(rng.random() * 0.003)
            exchange.put(number, (number, version, parameters))
            sizes.append(exchange.size)
            number += actors

    exchange.publish(first, f"parameters {first}")
    threads = [Thread(act, index) for index in range(actors)]
    for update in range(first, first + updates):
        version = max(update - lag, first)
        assert exchange.get(update, PATIENCE) == (update, version, f"parameters {version}")
        time.sleep(rng.random() * 0.002)
        exchange.publish(update + 1, f"parameters {update + 1}")
    exchange.close()
    assert all(isinstance(thread.end(), Closed) for thread in threads)
    assert max(sizes) <= lag + 1


@pytest.mark.parametrize("lag", [None, 2])
def test_closing_wakes_everyone(lag):
    exchange = Exchange(1, lag=lag)
    waiting = [Thread(exchange.get, 0, PATIENCE), Thread(exchange.parameters, 0)]
    if lag is None:
        full = Exchange(1)
        full.put(0, "a")
        waiting.append(Thread(full.put, 1, "b"))
    assert all(thread.waits() for thread in waiting)
    exchange.close()
    if lag is None:
        full.close()
    assert all(isinstance(thread.end(), Closed) for thread in waiting)
    for call in (lambda: exchange.put(0, "a"), lambda: exchange.parameters(0)):
        with pytest.raises(Closed):
            call()


def test_the_learner_raises_the_first_error():
    exchange = Exchange(1)
    learner = Thread(exchange.get, 0, PATIENCE)
    assert learner.waits()
    first = RuntimeError("first")
    exchange.close(first)
    exchange.close(RuntimeError("second"))
    exchange.close()
    assert learner.end() is first
    with pytest.raises(RuntimeError, match="first"):
        exchange.get(1, 0.0)


def test_an_error_does_not_wait_for_what_arrived_before():
    exchange = Exchange(2)
    exchange.put(0, "a")
    exchange.close(RuntimeError("now"))
    with pytest.raises(RuntimeError, match="now"):
        exchange.get(0, 0.0)

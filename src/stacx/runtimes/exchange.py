"""Where actors and the learner meet: trajectories one way, parameters the other.

Everything that waits here is woken when the exchange is closed, so nothing hangs on a part that is
gone.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):  # noqa: N818  (nobody's error)
    """The exchange was closed: whoever waited should end."""


class Exchange(Generic[T]):
    """A bounded queue of trajectories, and the newest parameters with their version.

    Trajectories are numbered from the run's first update on. Usually the learner takes them as they
    come, and an actor that begins a trajectory takes the newest parameters. With a fixed `lag` the
    learner's n-th update learns from trajectory n, which was made with the parameters after
    n - lag updates, however fast the threads are; that bounds the queue, too.

    Args:
        capacity: trajectories that may wait for the learner, without a fixed lag.
        lag: in updates; None: as it comes.
        first: number of the first trajectory: that of the updates before this run.
    """

    def __init__(self, capacity: int, *, lag: int | None = None, first: int = 0):
        self._capacity = capacity
        self._lag = lag
        self._first = first
        self._condition = threading.Condition()
        self._waiting: OrderedDict[int, T] = OrderedDict()
        self._versions: OrderedDict[int, Any] = OrderedDict()
        self._closed = False
        self._error: BaseException | None = None

    def publish(self, version: int, parameters: Any) -> None:
        """Makes the parameters after `version` updates the newest; never waits.

        Older ones are forgotten, or, with a fixed lag, as soon as no actor can want them.

        Args:
            version: one more than that of the last call.
            parameters: whatever the actors are to get; arrays should exist, or else actors wait.
        """
        kept = 1 if self._lag is None else self._lag + 1
        with self._condition:
            self._versions[version] = parameters
            while len(self._versions) > kept:
                self._versions.popitem(last=False)
            self._condition.notify_all()

    def parameters(self, number: int) -> tuple[int, Any]:
        """The version and the parameters to make trajectory `number` with; waits for them.

        Raises:
            Closed: if the exchange is closed.
        """
        with self._condition:
            if self._lag is None:
                self._wait_for(lambda: bool(self._versions))
                version = next(reversed(self._versions))
            else:
                version = max(number - self._lag, self._first)
                self._wait_for(lambda: version in self._versions)
            return version, self._versions[version]

    def put(self, number: int, trajectory: T) -> None:
        """Hands trajectory `number` to the learner; waits while the queue is full.

        With a fixed lag it never waits: there are no more parameters to make others with.

        Args:
            number: of the trajectory; each is handed over once.
            trajectory: whatever the learner is to get.

        Raises:
            Closed: if the exchange is closed.
        """
        with self._condition:
            if self._lag is None:
                self._wait_for(lambda: len(self._waiting) < self._capacity)
            elif self._closed:
                raise Closed
            self._waiting[number] = trajectory
            self._condition.notify_all()

    def get(self, number: int, timeout: float) -> T | None:
        """The next trajectory; with a fixed lag, that of this number.

        Args:
            number: of the trajectory, with a fixed lag.
            timeout: in seconds; then None is returned.

        Raises:
            BaseException: the error that the exchange was closed with.
            Closed: if it was closed without one.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            while self._error is not None or not self._ready(number):
                if self._error is not None:  # at once: what waits is lost either way
                    raise self._error
                if self._closed:
                    raise Closed
                if not self._condition.wait(deadline - time.monotonic()):
                    return None
            key = number if self._lag is not None else next(iter(self._waiting))
            trajectory = self._waiting.pop(key)
            self._condition.notify_all()
            return trajectory

    @property
    def size(self) -> int:
        """Trajectories that wait for the learner."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether everyone should end."""
        return self._closed

    def close(self, error: BaseException | None = None) -> None:
        """Wakes everyone who waits; the first error given is the one that `get` raises."""
        with self._condition:
            self._closed = True
            self._error = self._error or error
            self._condition.notify_all()

    def _ready(self, number: int) -> bool:
        return bool(self._waiting) if self._lag is None else number in self._waiting

    def _wait_for(self, condition: Any) -> None:
        self._condition.wait_for(lambda: self._closed or condition())
        if self._closed:
            raise Closed

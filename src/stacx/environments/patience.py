"""Calls that are waited for only so long."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Call: TypeAlias = tuple[Future, Callable[[], Any]]


class NoAnswer(Exception):  # noqa: N818  (whose error it is, the caller knows)
    """A call has not returned in time.

    Attributes:
        stack: where it hangs, as a traceback shows it.
    """

    def __init__(self, stack: str):
        super().__init__(stack)
        self.stack = stack


class Caller:
    """A thread that makes calls for others, who leave it behind where it hangs.

    It makes all of them, since some simulators do not bear a change of threads.
    """

    def __init__(self, seconds: float):
        self._seconds = min(seconds, threading.TIMEOUT_MAX)  # no more can be waited for
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._last: Future = Future()
        self._last.set_result(None)
        self._thread = threading.Thread(target=self._work, name="stacx-caller", daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What the function returns or raises.

        Raises:
            NoAnswer: if it has done neither in time.
        """
        self._last = Future()
        self._calls.put((self._last, functools.partial(function, *arguments, **options)))
        if not wait([self._last], self._seconds).done:
            raise NoAnswer(stack_of(self._thread))
        return self._last.result()

    @property
    def busy(self) -> bool:
        """Whether the last call has neither returned nor raised."""
        return not self._last.done()

    def close(self) -> None:
        """Ends the thread, after the last call."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            outcome, function = call
            try:
                outcome.set_result(function())
            except BaseException as error:
                outcome.set_exception(error)


def stack_of(thread: threading.Thread) -> str:
    """Where a thread is, as a traceback shows it; empty if it has ended."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""

"""SIGINT and SIGTERM: asked to stop, a run first brings itself to safety."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Which signal has asked the run to stop, if any."""

    signum: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request; a second one acts at once.

    Outside the main thread, where Python takes no signals, the request never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def on_signal(signum: int, frame: FrameType | None) -> None:
        del frame
        request.signum = signum
        restore()

    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        restore()

"""SIGINT and SIGTERM: asked to stop, a run first brings itself to safety."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = 0  # no signal has this number
_NOTICE = "stopping after the current chunk; a checkpoint will be written"


class StopRequest:
    """Which signal has asked the run to stop, if any."""

    signum: int | None = None


@contextmanager
def stop_on_signals(*, quiet: bool = False, notice: str = _NOTICE) -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request; a second one acts at once.

    The standard error has `notice`, unless `quiet`. Outside the main thread, where Python takes no
    signals, the request never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    previous = {number: signal.getsignal(number) for number in _SIGNALS}

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
        with contextlib.nullcontext() if quiet else _acknowledged(notice):
            yield request
    finally:
        restore()


@contextmanager
def _acknowledged(notice: str) -> Iterator[None]:
    """Acknowledges the first signal from a thread of its own.

    Python runs a handler only when the main thread returns from a compiled program, or from its
    compilation; what wakes the thread is done at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while numbers := set(os.read(reader, 64)) - {_END}:
            if numbers & set(_SIGNALS):
                with contextlib.suppress(OSError):
                    os.write(2, f"stacx: {notice}\n".encode())
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with contextlib.suppress(BlockingIOError):
            os.write(writer, bytes([_END]))  # a child process may keep the pipe open
        thread.join()
        os.close(writer)
        os.close(reader)

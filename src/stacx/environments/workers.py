"""Environments in processes of their own, which end whatever happens to them or to the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

_IMPORTED = "stacx.environments.guard"


class Workers(AsyncVectorEnv):
    """Gymnasium's batch of processes, one for each environment.

    Gymnasium prints the errors of its workers as warnings, which fails if they contain a percent
    sign, and to close a batch it first waits for what may hang: both are done differently here.
    """

    def __init__(self, functions: Sequence[Callable[[], gymnasium.Env]], **settings: Any):
        # What the workers import, one process imports for all of them.
        multiprocessing.get_context("forkserver").set_forkserver_preload([_IMPORTED])
        super().__init__(functions, worker=_work, **settings)

    def close_extras(
        self, timeout: float | None = None, terminate: bool = False, **others: Any
    ) -> None:
        """Closes the environments; with `terminate` their processes are ended without asking."""
        del others
        if not terminate:
            super().close_extras(timeout)
            return
        for process in self.processes:
            process.kill()
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()
        for process in self.processes:
            process.join()

    def _raise_if_errors(self, successes: Sequence[bool]) -> None:
        """Raises the error of the worker that failed first."""
        if not all(successes):
            _, _, error, _ = self.error_queue.get()
            self._state = AsyncState.DEFAULT
            raise error


def _work(*arguments: Any) -> None:
    """A worker: leaves Ctrl-C to the main process, and ends with it even if it hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _async_worker(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

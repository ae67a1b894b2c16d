"""Environments in processes of their own, which end whatever happens to them or to the run."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from stacx.environments.guard import EnvironmentRaised, guarded
from stacx.errors import StacxError
from stacx.imports import one_line

_IMPORTED = "stacx.environments.guard"
_SETTINGS: Any = {"copy": False, "autoreset_mode": AutoresetMode.NEXT_STEP}


def batch_of(
    make: Callable[[], gymnasium.Env], num_envs: int, name: str, *, processes: bool
) -> VectorEnv:
    """Guarded single environments side by side, with next-step autoreset.

    Args:
        make: makes one; with `processes` in a process of its own, and once more for its spaces.
        num_envs: how many.
        name: of the environment, for errors.
        processes: whether each has a process, or all step in the thread that calls.
    """
    functions = [functools.partial(guarded, make, name, index) for index in range(num_envs)]
    return Workers(functions, name) if processes else SyncVectorEnv(functions, **_SETTINGS)


class Workers(AsyncVectorEnv):
    """Gymnasium's batch of processes, one for each environment.

    Gymnasium prints the errors of its workers as warnings, which fails if they contain a percent
    sign, and to close a batch it first waits for what may hang: both are done differently here. And
    nothing is started before the first reset: whoever waits for environments to be made has the
    batch by then, and others can end its processes.
    """

    def __init__(
        self,
        functions: Sequence[Callable[[], gymnasium.Env]],
        name: str,
    ):
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._start = functools.partial(
            super().__init__, functions, worker=_work, context="forkserver", **_SETTINGS
        )
        self._name = name
        self._state = AsyncState.DEFAULT
        self._killed = False
        self.parent_pipes, self.processes = [], []

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        if not self.processes:
            # What the workers import, one process imports for all of them.
            multiprocessing.get_context("forkserver").set_forkserver_preload([_IMPORTED])
            self._start()
        return super().reset(**arguments)

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        with self._naming_the_dead():
            return super().reset_wait(timeout)

    def step_wait(self, timeout: float | None = None) -> Any:
        with self._naming_the_dead():
            return super().step_wait(timeout)

    def kill(self) -> None:
        """Ends the processes without asking, also those that are only about to be started."""
        self._killed = True
        for process in self._started():
            process.kill()

    def close_extras(
        self, timeout: float | None = None, terminate: bool = False, **others: Any
    ) -> None:
        """Closes the environments; with `terminate` their processes are ended without asking."""
        del others
        if not terminate:
            super().close_extras(timeout)
            return
        self.kill()
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()
        for process in self._started():
            process.join()

    def _started(self) -> list[Any]:
        return [process for process in self.processes if process.pid is not None]

    def _check_spaces(self) -> None:
        """Once all processes are started; waits for their environments."""
        if self._killed:
            raise EOFError("the processes were ended while they were started")
        with self._naming_the_dead("; a script needs `if __name__ == '__main__':` (docs/guide.md)"):
            super()._check_spaces()

    @contextlib.contextmanager
    def _naming_the_dead(self, hint: str = "") -> Iterator[None]:
        """Raises `EnvironmentRaised` if a process has ended by itself."""
        try:
            yield
        except (EOFError, OSError) as error:
            if self._killed:
                raise
            for index, process in enumerate(self._started()):
                process.join(0.1)
                if process.exitcode is not None:
                    message = (
                        f"{self._name}: the process of environment {index} ended "
                        f"(exit code {process.exitcode}){hint}"
                    )
                    raise EnvironmentRaised(message, traceback.format_exc()) from error
            raise

    def _raise_if_errors(self, successes: Sequence[bool]) -> None:
        """Raises the error of the worker that failed first."""
        if not all(successes):
            index, _, error, trace = self.error_queue.get()
            self._state = AsyncState.DEFAULT
            if isinstance(error, (EnvironmentRaised, StacxError)):
                raise error
            message = f"{self._name}: environment {index} raised {one_line(error)}"
            raise EnvironmentRaised(message, trace)


def _work(
    index: int, make: Callable[[], gymnasium.Env], pipe: Any, other: Any, *arguments: Any
) -> None:
    """A worker: leaves Ctrl-C to the main process, and ends with it even if it hangs.

    Gymnasium's would die without a word of an environment that cannot be made.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        environment = make()
    except (Exception, SystemExit) as error:
        _, errors, *_ = arguments
        errors.put((index, type(error), error, traceback.format_exc()))
        pipe.send((None, False))
    else:
        _async_worker(index, lambda: environment, pipe, other, *arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""A run on several hosts: host 0 trains as if it were the only one, and the others do as it does.

Host 0 alone decides how many updates come next, when to save and when to stop, and it alone writes
the run directory. Before all that concerns the state it tells the others what it is.
"""

from __future__ import annotations

import contextlib
import enum
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from stacx.config import Config, flag_of
from stacx.errors import ConfigError, Interrupted, LostHostError, StacxError
from stacx.runs.signals import StopRequest
from stacx.runtimes import hosts
from stacx.runtimes.arrays import Arrays
from stacx.runtimes.base import Runtime


class _Command(enum.IntEnum):
    """What all hosts do next."""

    INIT = enum.auto()
    SPREAD = enum.auto()
    """Make a state of host 0's arrays."""
    PREPARE = enum.auto()
    RUN = enum.auto()
    """With a number of updates."""
    CLEAR = enum.auto()
    GATHER = enum.auto()
    """Let host 0 have all arrays of the state."""
    COUNT = enum.auto()
    """Tell what was counted."""
    END = enum.auto()
    """With 0 if the run is complete, the number of a signal, or `_FAILED`."""


_MAY_COMPILE = {
    *(_Command.INIT, _Command.SPREAD, _Command.PREPARE, _Command.CLEAR, _Command.GATHER)
}
"""After these hosts meet: one may have to compile what another has kept."""
_FAILED = -1


def agree(config: Config, run_dir: Path) -> Path:
    """Whether all hosts have one config; if not, all of them raise the same.

    Returns:
        The run directory, which is host 0's.

    Raises:
        ConfigError: naming the settings, and who has what.
    """
    if jax.process_count() == 1:
        return run_dir
    configs = [json.loads(text) for text in hosts.texts(config.to_json())]
    for index, other in enumerate(configs):
        different = [
            f"{flag_of(name)} ({value!r} on host 0, {other.get(name)!r} on host {index})"
            for name, value in configs[0].items()
            if other.get(name) != value
        ]
        if different or configs[0].keys() != other.keys():
            listed = ", ".join(different) or "versions of stacx"
            hosts.part()
            raise ConfigError(f"hosts must have the same settings; different: {listed}")
    return Path(hosts.texts(str(run_dir))[0])


@contextlib.contextmanager
def leading(runtime: Runtime, request: StopRequest) -> Iterator[Runtime]:
    """The runtime of host 0, until the run ends; on a single host, its own."""
    if jax.process_count() == 1:
        yield runtime
        return
    leader = _LeadingRuntime(runtime, request)
    with leader.until_the_end():
        yield leader


class _LeadingRuntime:
    """Host 0's runtime, which tells the others what it does.

    Args:
        runtime: its own part.
        request: asks to stop; a signal that another host has got is written into it.
    """

    def __init__(self, runtime: Runtime, request: StopRequest):
        self._runtime = runtime
        self._request = request
        self._together = False
        """Whether it is in the middle of what the others do, too."""
        self.restarts_environments = runtime.restarts_environments
        self.num_environments = runtime.num_environments
        self.without_effect: Sequence[str] = runtime.without_effect

    @contextlib.contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Around the whole run: however it ends, the others are told."""
        try:
            yield
        except LostHostError:
            raise
        except BaseException as error:
            if not self._together:  # else they wait for a program, and will see that it breaks
                signum = error.signum if isinstance(error, Interrupted) else _FAILED
                with contextlib.suppress(LostHostError), self._as_all(_Command.END, signum):
                    pass
            raise
        with self._as_all(_Command.END):
            pass

    def init(self) -> Any:
        with self._as_all(_Command.INIT):
            return self._runtime.init()

    def arrays_of(self, state: Any) -> Arrays:
        with self._as_all(_Command.GATHER):
            return self._runtime.arrays_of(state)

    def state_of(self, arrays: Arrays) -> Any:
        with self._as_all(_Command.SPREAD):
            return self._runtime.state_of(hosts.share(arrays))

    def counts(self) -> dict[str, int]:
        """Those of all hosts."""
        with self._as_all(_Command.COUNT):
            own = self._runtime.counts()
            totals = hosts.exchange(list(own.values())).sum(axis=0)
        return dict(zip(own, map(int, totals), strict=True))

    def count_on_from(self, counts: dict[str, Any]) -> None:
        self._runtime.count_on_from(counts)

    def prepare(self, state: Any) -> Any:
        with self._as_all(_Command.PREPARE):
            return self._runtime.prepare(state)

    def run(self, state: Any, iterations: int, should_stop: Callable[[], bool]) -> Any:
        """Asked to stop, it stops after them all: hosts cannot leave a chunk one by one."""
        del should_stop
        with self._as_all(_Command.RUN, iterations):
            return self._runtime.run(state, iterations, _never)

    def clear_interval(self, state: Any) -> Any:
        with self._as_all(_Command.CLEAR):
            return self._runtime.clear_interval(state)

    def complete(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is known of actors and of the time is host 0's; counts are those of all."""
        counts = self.counts()
        return [line | counts for line in self._runtime.complete(lines)]

    def saving(self) -> AbstractContextManager[None]:
        return self._runtime.saving()

    def policy_specification(self) -> dict[str, Any]:
        return self._runtime.policy_specification()

    def farewell(self) -> list[str]:
        return self._runtime.farewell()

    def close(self) -> None:
        self._runtime.close()

    @contextlib.contextmanager
    def _as_all(self, command: _Command, number: int = 0) -> Iterator[None]:
        """Tells the others what comes; not left in order, they are still in there."""
        rows = hosts.exchange([command, number, 0])
        for index, signum in enumerate(rows[:, 2].tolist()):
            if index and signum and self._request.signum is None:
                self._request.signum = signum
        self._together = command is not _Command.END
        yield
        if command in _MAY_COMPILE:
            hosts.exchange([0], hosts.COMPILATION)
        if command is _Command.END:
            hosts.part()
        self._together = False


def follow(runtime: Runtime, request: StopRequest) -> None:
    """Does what host 0 does, until the run ends.

    Args:
        runtime: this host's part.
        request: a signal that this host has got; host 0 is told.

    Raises:
        Interrupted: if a signal ended the run, on whichever host.
        StacxError: if it failed, here or there.
    """
    state: Any = None
    while True:
        row = hosts.exchange([0, 0, request.signum or 0])[0].tolist()
        command, number = _Command(row[0]), row[1]
        match command:
            case _Command.INIT:
                state = runtime.init()
            case _Command.SPREAD:
                state = runtime.state_of(hosts.share(None))
            case _Command.PREPARE:
                state = runtime.prepare(state)
            case _Command.RUN:
                state = runtime.run(state, number, _never)
            case _Command.CLEAR:
                state = runtime.clear_interval(state)
            case _Command.GATHER:
                runtime.arrays_of(state)
            case _Command.COUNT:
                hosts.exchange(list(runtime.counts().values()))
            case _Command.END:
                break
        if command in _MAY_COMPILE:
            hosts.exchange([0], hosts.COMPILATION)
    hosts.part()
    if number == _FAILED:
        raise StacxError("host 0 has ended the run: its own messages say why")
    if number:
        name = signal.Signals(number).name
        raise Interrupted(f"the run was stopped by {name}; host 0 says how to go on", number)


def _never() -> bool:
    return False

"""Runs as child processes, some at once: each is one `stacx train` with a log beside its run.

A run that fails stops no other. On a signal every child is told once, writes its checkpoint and
leaves; one that does not leave in time is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from stacx.errors import StacxError
from stacx.reproduction.devices import Machine, OthersUse, circumstances
from stacx.reproduction.estimates import duration, in_all
from stacx.reproduction.plan import PlannedRun, State
from stacx.runs.directory import RunDirectory
from stacx.runs.signals import StopRequest

PROGRAM = (sys.executable, "-m", "stacx.cli.main")
"""What runs `stacx`, also where it is not on the PATH."""
_LOOK_SECONDS = 0.1
_PATIENCE = 120.0
"""Seconds that children have for their last chunk and its checkpoint."""
_SET_DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""


class Failure(NamedTuple):
    """A run that did not come to its end."""

    run: PlannedRun
    code: int
    last_line: str
    """Of its log: for `stacx train`, what to do."""


class Work(NamedTuple):
    """A run that is to be made, and how long it may take alone, in seconds."""

    run: PlannedRun
    seconds: float


@dataclass
class _Child:
    work: Work
    process: subprocess.Popen
    began: float
    others: OthersUse


class Executor:
    """Makes runs, at most `jobs` at once."""

    def __init__(
        self,
        machine: Machine,
        jobs: int,
        say: Callable[[str], None],
        *,
        program: Sequence[str] = PROGRAM,
        patience: float = _PATIENCE,
    ):
        self._machine = machine
        self._place = circumstances(machine)
        self._jobs = jobs
        self._say = say
        self._program = list(program)
        self._patience = patience
        self._children: dict[int, _Child] = {}
        self._waiting: list[Work] = []
        self._total = 0
        self._ended = 0
        self._began = 0.0
        self._told_to_wait = False
        self._failures: list[Failure] = []
        self._paces: list[float] = []  # times that complete runs took, by what was estimated

    def make(
        self, work: Iterable[Work], request: StopRequest, *, complete: int = 0
    ) -> list[Failure]:
        """All runs, or those that end before a signal comes; returns what failed.

        Args:
            work: the runs.
            request: asks to stop.
            complete: runs that were made before, for what is counted in messages.
        """
        self._waiting = list(work)
        self._ended = complete
        self._total = complete + len(self._waiting)
        self._began = time.monotonic()
        self._failures = []
        try:
            while (self._waiting or self._children) and request.signum is None:
                self._fill_slots()
                self._failures += self._gather()
                time.sleep(_LOOK_SECONDS)
            if request.signum is not None:
                self._stop_children()
        except BaseException:
            self._stop_children()  # with a checkpoint each
            raise
        finally:
            self._kill_children()
        return self._failures

    def _fill_slots(self) -> None:
        for slot in range(self._jobs):
            if slot not in self._children and (work := self._next()):
                head = f"[{self._ended}/{self._total}] {work.run.label}"
                try:
                    begins = "begins" if work.run.state() is State.TO_DO else "goes on"
                    self._children[slot] = self._start(work, slot)
                except (OSError, StacxError) as error:  # no memory for a process, or no log
                    self._ended += 1
                    self._failures.append(Failure(work.run, 1, f"cannot be started: {error}"))
                    begins = f"FAILED: {self._failures[-1].last_line}"
                self._say(f"{head} {begins}")

    def _next(self) -> Work | None:
        """What is to be started now.

        Children of a process that was killed are still writing their checkpoints: their runs wait.
        """
        may_wait = time.monotonic() < self._began + self._patience
        for index, work in enumerate(self._waiting):
            if not (may_wait and RunDirectory(work.run.directory).in_use):
                return self._waiting.pop(index)
        if self._waiting and not self._children and not self._told_to_wait:
            self._say(f"{self._waiting[0].run.label} is in use by another process: waiting")
            self._told_to_wait = True
        return None

    def _start(self, work: Work, slot: int) -> _Child:
        run = work.run
        arguments = run.arguments_to_go_on
        with _opened(run.log) as log:
            log.write(f"$ {shlex.join(['stacx', *arguments])}\n".encode())
            log.flush()
            process = _start_process(
                [*self._program, *arguments],
                log,
                self._machine.environment(slot, self._jobs),
            )
        return _Child(work, process, time.monotonic(), OthersUse())

    def _gather(self) -> Iterator[Failure]:
        """Takes note of the children that have ended."""
        for slot, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[slot]
            self._ended += 1
            run = child.work.run
            self._note(child)
            head = f"[{self._ended}/{self._total}] {run.label}"
            if code == 0:
                took = time.monotonic() - child.began
                self._paces.append(took / max(child.work.seconds, _LOOK_SECONDS))
                self._say(f"{head} complete in {duration(took)}{self._remaining()}")
            else:
                failure = Failure(run, code, last_line(run.log))
                self._say(f"{head} FAILED ({describe(code)}): {failure.last_line}; see {run.log}")
                yield failure

    def _note(self, child: _Child) -> None:
        """Keeps beside a run how long its process took, and where."""
        alone = self._jobs == 1
        others = child.others.cores() if alone else None
        child.work.run.add_process(time.monotonic() - child.began, self._place, others)

    def _remaining(self) -> str:
        """An estimate for what is left of everything, by how long the complete runs took."""
        now, pace = time.monotonic(), statistics.median(self._paces)
        running = [
            max(0.0, child.work.seconds * pace - (now - child.began))
            for child in self._children.values()
        ]
        left = [work.seconds * pace for work in self._waiting] + running
        if not sum(left):
            return ""
        return f"; about {duration(in_all(left, self._jobs, cores_each=1))} left"

    def _stop_children(self) -> None:
        """Tells every child once, and waits a while; they write checkpoints."""
        for child in self._children.values():
            child.process.terminate()
        deadline = time.monotonic() + self._patience
        while self._children and time.monotonic() < deadline:
            for slot, child in list(self._children.items()):
                if child.process.poll() is not None:
                    del self._children[slot]
                    self._note(child)
            time.sleep(_LOOK_SECONDS)

    def _kill_children(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.wait()
            self._note(child)
        self._children.clear()


def cores_of(runs: Iterable[PlannedRun]) -> int:
    """How many cores such runs keep busy alone: environments of the host have threads of theirs."""
    return 1 if all(run.task.seeds_share_a_run for run in runs) else 2


def still_to_do(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The runs that are not complete, interrupted ones first; damaged ones last."""
    states = [(run, run.state()) for run in runs]
    order = (State.INTERRUPTED, State.TO_DO, State.DAMAGED)
    return [run for wanted in order for run, state in states if state is wanted]


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def describe(code: int) -> str:
    """How a process ended that did not end well."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[IO[bytes]]:
    """For more lines at its end.

    Raises:
        StacxError: if it cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError as error:
        raise StacxError(f"cannot write {log}: {error.strerror or error}") from error
    with file:
        yield file


def _start_process(
    command: Sequence[str], log: IO[bytes], environment: dict[str, str]
) -> subprocess.Popen:
    """A child in a process group of its own: Ctrl-C reaches the parent, which tells it once.

    If the parent is killed, Linux tells the child.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX, of forks: nothing of it runs there
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509  (no other thread forks)
        )


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """What a child does first: asks to be told by SIGTERM when its parent ends; only on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended before it could be asked
            os._exit(128 + signal.SIGTERM)

    return ask

"""Where the time goes: seconds by activity, of actors and of the learner."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias, runtime_checkable

ACTOR = ("environment", "inference", "waiting")
LEARNER = ("learning", "saving", "waiting")
_BALANCE = 0.1
"""Difference between the shares of waiting below which neither side is the bottleneck: for less
than a tenth of the time nobody would change a setup."""
_Reading: TypeAlias = tuple[dict[str, float], tuple[str, float] | None]
"""Seconds by activity, and what has been going on since when."""


@runtime_checkable
class Watch(Protocol):
    """Tells where someone's time goes."""

    def read(self) -> dict[str, float]:
        """Seconds by activity, `time/KIND_ACTIVITY`."""
        ...


class Stopwatch:
    """Seconds that one thread has spent on each of its activities, one at a time.

    A thread that replaces one that hangs goes on with its stopwatch: what it begins ends what the
    other had begun.
    """

    def __init__(self, kind: str, activities: tuple[str, ...]):
        self._names = {activity: f"time/{kind}_{activity}" for activity in activities}
        # In one place, and never changed, so that other threads see it whole.
        self._now: _Reading = dict.fromkeys(self._names.values(), 0.0), None

    @contextmanager
    def on(self, activity: str) -> Iterator[None]:
        """Around an activity."""
        running = (self._names[activity], time.perf_counter())
        self._now = self.read(), running
        try:
            yield
        finally:
            if self._now[1] is running:
                self._now = self.read(), None

    def read(self) -> dict[str, float]:
        """Seconds by activity, `time/KIND_ACTIVITY`, with what is going on; in any thread."""
        seconds, running = self._now
        if running is None:
            return seconds
        name, start = running
        return seconds | {name: seconds[name] + time.perf_counter() - start}


class Shares:
    """Shares of wall-clock time since a moment; threads of one kind are averaged."""

    def __init__(self, watches: Sequence[Watch]):
        self._watches = watches
        self.restart()

    def restart(self) -> None:
        """From now on."""
        self._start = time.perf_counter()
        self._before = [watch.read() for watch in self._watches]

    @property
    def seconds(self) -> float:
        """Since then."""
        return time.perf_counter() - self._start

    def read(self) -> dict[str, float]:
        """`time/actor_environment`, `time/learner_waiting` and so on, each between 0 and 1."""
        elapsed = max(self.seconds, 1e-9)
        found: dict[str, list[float]] = {}
        for watch, before in zip(self._watches, self._before, strict=True):
            spent = {name: seconds - before[name] for name, seconds in watch.read().items()}
            whole = max(elapsed, sum(spent.values()))  # reports from afar may be of earlier, too
            for name, seconds in spent.items():
                found.setdefault(name, []).append(seconds / whole)
        return {name: sum(values) / len(values) for name, values in found.items()}


def bottleneck(shares: Mapping[str, float]) -> str:
    """One sentence on what holds a run up, from its `Shares`."""
    percent = {name.removeprefix("time/"): f"{100 * share:.0f} %" for name, share in shares.items()}
    surplus = shares["time/actor_waiting"] - shares["time/learner_waiting"]
    if abs(surplus) < _BALANCE:
        return (
            f"actors and learner are in balance: actors wait {percent['actor_waiting']} of the "
            f"time, and the learner {percent['learner_waiting']}"
        )
    absent = 1.0 - sum(shares[f"time/actor_{activity}"] for activity in ACTOR)
    if surplus < 0 and absent > max(shares["time/actor_environment"], _BALANCE):
        return (
            f"missing actors are the bottleneck: {100 * absent:.0f} % of the time there was none "
            "in an actor's place, or it was not ready"
        )
    if surplus > 0 and shares["time/learner_saving"] > shares["time/learner_learning"]:
        return (
            "saving metrics and checkpoints is the bottleneck: the learner spends "
            f"{percent['learner_saving']} of the time on it, and actors wait "
            f"{percent['actor_waiting']}"
        )
    if surplus > 0:
        return (
            f"the learner is the bottleneck: it computes {percent['learner_learning']} of the "
            f"time, saves for {percent['learner_saving']} and waits for "
            f"{percent['learner_waiting']}; actors wait {percent['actor_waiting']}"
        )
    if shares["time/actor_inference"] > shares["time/actor_environment"]:
        slow, name = "the actors' inference", "actor_inference"
    else:
        slow, name = "stepping the environments", "actor_environment"
    return (
        f"{slow} is the bottleneck: actors spend {percent[name]} of the time on it, and the "
        f"learner waits for {percent['learner_waiting']}"
    )

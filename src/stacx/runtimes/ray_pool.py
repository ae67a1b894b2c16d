"""Actors on a Ray cluster (the first of the infrastructures of section 8).

One thread of the learner's process, the pump, asks each actor for one rollout at a time, with the
newest parameters, and puts what arrives into the exchange. The newest parameters are in Ray's
object store once, and go to the actors by reference. Nothing is older than `max_lag` updates when
it is learned from: no more is asked for than that allows, and what a slow actor delivers later than
that is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from stacx.config import Config
from stacx.errors import StacxError
from stacx.imports import one_line
from stacx.runtimes.actor import Delivery
from stacx.runtimes.exchange import Closed, Exchange
from stacx.runtimes.inference import Rollout
from stacx.runtimes.ray_actor import Failed, Made, RemoteActor, as_one_actor
from stacx.runtimes.ray_cluster import RayCluster
from stacx.runtimes.stopwatch import ACTOR
from stacx.runtimes.supervision import Supervision
from stacx.types import Parameters

_PATIENCE = 0.2
"""Seconds between two looks at what is due, while nothing arrives."""
_FAREWELL = 5.0
"""Seconds that the pump has to end."""
_LONGEST_PAUSE = 30.0
"""Seconds before an actor is replaced that has died again and again."""
_HOPELESS = 4
"""Deaths of one actor after which the run gives up, if no actor has ever delivered."""
_BETWEEN_READINGS = 2.0
"""Seconds between two looks at the object store, which is a call of the head."""
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_LONG_MISSING = 30.0
"""Seconds after which it is said that actors are missing: most are there by then."""
_BETWEEN_WARNINGS = 10.0
"""Seconds, so that a lost node is a few lines."""


class RemoteWatch:
    """Where an actor's time goes, as it reports with each rollout."""

    def __init__(self) -> None:
        self._seconds = {f"time/actor_{activity}": 0.0 for activity in ACTOR}

    def read(self) -> dict[str, float]:
        return self._seconds

    def add(self, seconds: dict[str, float]) -> None:
        """With what was reported."""
        self._seconds = {name: total + seconds[name] for name, total in self._seconds.items()}


class _Slot:
    """The place of one actor, which outlives those that fill it."""

    def __init__(self, index: int, number: int):
        self.index = index
        self.number = number
        """Of its next rollout."""
        self.handle: Any = None
        self.version: int | None = None
        """Of the parameters of the rollout it makes; None: it makes none."""
        self.serving = False
        """Whether it has been placed, and is ready."""
        self.asked = 0.0
        """When it was asked for something last."""
        self.heard = 0.0
        """When it answered last, whether that was looked at or not."""
        self.question: Any = None
        self.deaths = 0
        """Since it last delivered."""
        self.due = 0.0
        """When there may be another in its place."""
        self.watch = RemoteWatch()
        self.node = ""
        """Where it is; empty before it has been placed."""
        self.seed = 0
        """Of its batch of environments."""

    def __str__(self) -> str:
        return f"actor {self.index}" + (f" on node {self.node}" if self.node else "")


class _Part(NamedTuple):
    """A rollout of one actor, for a part of a batch."""

    version: int
    rollout: Rollout


class RayPool:
    """Actors on a Ray cluster.

    Args:
        config: of the run.
        cluster: that is connected.
        supervision: of environments.
        place: puts the arrays of a batch where the learner wants them.
        batch: environments of a batch, of those on this host.

    Attributes:
        counts: of this run: actors that were replaced, rollouts that were dropped.
    """

    def __init__(
        self,
        config: Config,
        cluster: RayCluster,
        supervision: Supervision,
        place: Callable[[Rollout], Rollout],
        batch: int,
    ):
        self._config = config
        self._cluster = cluster
        self._ray = cluster.ray
        self._supervision = supervision
        self._place = place
        each = config.actor_envs or batch
        self._parts_per_batch = batch // each
        self._actor_config = as_one_actor(config, each)
        self._actor_class = self._ray.remote(RemoteActor)
        self._least = max(config.min_actors, 1)
        self._max_lag = config.max_lag or default_max_lag(config, self._parts_per_batch)
        self._slots: list[_Slot] = []
        self._idle: deque[_Slot] = deque()
        self._arrived: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._exchange: Exchange[Delivery]
        self._batches = itertools.count()
        self._parts: list[_Part] = []
        self._asked_for = 0
        """Rollouts that actors are making."""
        self._newest: tuple[int, Parameters | None] = (0, None)
        self._stored: tuple[int, Any] = (-1, None)
        self._pump: threading.Thread | None = None
        self._serving = 0
        self._short_since: float | None = time.monotonic()
        """Since when there are too few in service; None: there are enough."""
        self._complete_until: float | None = time.monotonic()
        """When all were in service last; None once it was said that some are missing."""
        self._has_delivered = False
        self._deaths: list[str] = []
        self._warned = self._looked = -math.inf
        self._steps = self._steps_then = 0
        self._lines_since = time.monotonic()
        self._store_bytes = 0
        self._stored_read = -math.inf
        self.counts = {"actor_replacements": 0, "dropped_rollouts": 0}

    @property
    def watches(self) -> Sequence[RemoteWatch]:
        return [slot.watch for slot in self._slots]

    def start(self, exchange: Exchange[Delivery], first: int) -> None:
        self._exchange = exchange
        # No rollout of any host has the number of another, which decides among its actions.
        hosts, host, actors = jax.process_count(), jax.process_index(), self._config.num_actors
        first = first * self._parts_per_batch * hosts + host
        self._stride = actors * hosts
        self._slots = [_Slot(index, first + index * hosts) for index in range(actors)]
        self._short_since = self._lines_since = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._pump = threading.Thread(target=self._run, name="stacx-ray-pump", daemon=True)
        self._pump.start()

    def publish(self, version: int, parameters: Parameters) -> None:
        self._newest = version, parameters
        self._arrived.put(None)  # there may be room for more rollouts now

    def look_after(self) -> None:
        """Whether enough actors are there. Raises `StacxError` if not, for too long."""
        since, seconds = self._short_since, self._config.actor_timeout
        if since is not None and time.monotonic() - since > seconds:
            raise StacxError(
                f"{self._serving} of at least {self._least} remote actors are in service, for "
                f"{seconds:g} s (--actor-timeout): does the cluster have "
                f"{self._config.actor_cpus:g} free CPUs for each (ray status)?"
            )

    def metrics(self) -> dict[str, Any]:
        """Actors in service, environment steps per second that they made, and stored bytes."""
        now, steps = time.monotonic(), self._steps
        rate = (steps - self._steps_then) / max(now - self._lines_since, 1e-9)
        self._steps_then, self._lines_since = steps, now
        return {
            "actors": self._serving,
            "actor_steps_per_second": round(rate, 1),
            "object_store_bytes": self._store_bytes,
        }

    def close(self) -> None:
        try:
            if self._pump is not None:
                self._arrived.put(None)
                self._pump.join(_FAREWELL)
                self._pump = None
            for slot in self._slots:
                self._end(slot)
            self._stored = -1, None
        finally:
            self._cluster.close()

    # --- the pump's thread ---

    def _run(self) -> None:
        try:
            while not self._exchange.closed:
                self._turn()
        except Closed:
            pass
        except self._ray.exceptions.RayError as error:
            self._exchange.close(StacxError(f"Ray has failed: {said(error)}"))
        except BaseException as error:
            self._exchange.close(error)

    def _turn(self) -> None:
        """Asks for rollouts, and takes the next thing that arrives, if anything does in a while."""
        now = time.monotonic()
        if now - self._looked >= _PATIENCE:
            self._look_around(now)
            self._looked = time.monotonic()
        self._ask()
        with contextlib.suppress(Empty):
            happened = self._arrived.get(timeout=_PATIENCE)
            if happened is not None:
                happened()

    def _look_around(self, now: float) -> None:
        """At what is due, whatever arrives."""
        self._start_what_is_due(now)
        self._look_for_the_stuck(now)
        if now - self._stored_read > _BETWEEN_READINGS:
            self._store_bytes, self._stored_read = self._cluster.store_bytes(), now
        if self._deaths and now - self._warned > _BETWEEN_WARNINGS:
            others = len(self._deaths) - 1
            more = f" (and {others} more)" if others else ""
            self._supervision.warn(f"lost, to be replaced: {self._deaths[-1]}{more}")
            self._deaths, self._warned = [], now
        if self._serving == len(self._slots):
            self._complete_until = now
        elif self._complete_until is not None and now - self._complete_until > _LONG_MISSING:
            self._complete_until = None
            self._supervision.warn(
                f"{self._serving} of {len(self._slots)} remote actors are in service; the others "
                f"begin, or wait for {self._config.actor_cpus:g} CPUs each (ray status)"
            )

    def _start_what_is_due(self, now: float) -> None:
        for slot in self._slots:
            if slot.handle is None and now >= slot.due and not self._exchange.closed:
                options = self._cluster.actor_options
                slot.handle = self._actor_class.options(
                    num_cpus=self._config.actor_cpus,
                    scheduling_strategy="SPREAD",
                    max_concurrency=2,  # it answers while it is at work
                    **options,
                ).remote(self._actor_config, slot.index, self._stride)
                self._call(slot, slot.handle.prepare.remote(), self._begin_service)

    def _call(self, slot: _Slot, reference: Any, then: Callable[[_Slot, Any], None]) -> None:
        """Has the pump take what an actor answers, unless there is another in its place by then."""
        handle = slot.handle

        def take(future: Any) -> None:
            if slot.handle is handle:
                try:
                    answer = future.result()
                except Exception as error:
                    self._take_error(slot, error)
                else:
                    then(slot, answer)

        def hear(future: Any) -> None:  # in a thread of Ray's
            slot.heard = time.monotonic()
            self._arrived.put(lambda: take(future))

        reference.future().add_done_callback(hear)

    def _begin_service(self, slot: _Slot, node: str) -> None:
        slot.node, slot.serving = node, True
        slot.seed = self._supervision.next_seed(slot.index)
        self._count_serving(1)
        self._idle.append(slot)

    def _count_serving(self, more: int) -> None:
        self._serving += more
        if self._serving >= self._least:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = time.monotonic()

    def _ask(self) -> None:
        """Asks idle actors for a rollout each, as many as may be under way."""
        waiting = len(self._parts) + self._exchange.size * self._parts_per_batch
        most = (self._max_lag - 1) * self._parts_per_batch
        while self._idle and self._asked_for + waiting < most:
            slot = self._idle.popleft()
            version, reference = self._parameters()
            if reference is None:
                self._idle.appendleft(slot)
                return
            slot.version, slot.asked, slot.question = version, time.monotonic(), None
            self._asked_for += 1
            rollout = slot.handle.roll_out.remote(slot.number, slot.seed, reference)
            self._call(slot, rollout, self._take)

    def _parameters(self) -> tuple[int, Any]:
        """The newest version, and a reference to it in the object store."""
        version, parameters = self._newest
        if parameters is not None and self._stored[0] != version:
            reference = self._ray.put(jax.tree.map(np.asarray, parameters))
            self._stored = version, reference
        return self._stored

    def _take(self, slot: _Slot, answer: Made | Failed) -> None:
        version = self._no_longer_asked(slot)
        if isinstance(answer, Failed):
            self._supervision.count_restart(f"{answer.reason} ({slot})", answer.details)
            if answer.hangs:
                self._end(slot)
            else:
                slot.seed = self._supervision.next_seed(slot.index)
                self._idle.append(slot)
            return
        slot.deaths = 0
        slot.number += self._stride
        slot.watch.add(answer.seconds)
        self._has_delivered = True
        self._steps += self._config.new_steps * self._actor_config.num_envs
        self._parts.append(_Part(version, answer.rollout))
        self._idle.append(slot)
        self._ask()  # before this rollout is looked at
        self._deliver()

    def _no_longer_asked(self, slot: _Slot) -> int:
        version, slot.version = slot.version, None
        assert version is not None
        self._asked_for -= 1
        return version

    def _deliver(self) -> None:
        """Puts a batch into the exchange, once its parts are there; waits while that is full."""
        oldest = self._newest[0] + self._config.queue_size + 1 - self._max_lag
        fresh = [part for part in self._parts if part.version >= oldest]
        self.counts["dropped_rollouts"] += len(self._parts) - len(fresh)
        self._parts = fresh
        if len(fresh) < self._parts_per_batch:
            return
        self._parts = []
        whole = self._place(batch_of([part.rollout for part in fresh]))
        version = min(part.version for part in fresh)
        self._exchange.put(next(self._batches), Delivery(whole, version))

    # --- what goes wrong ---

    def _take_error(self, slot: _Slot, error: Exception) -> None:
        """An actor has died, or has raised what it should not."""
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.RayTaskError):
            cause = error.cause
            if isinstance(cause, exceptions.RayError):  # no room in its object store, say
                self._lose(slot, cause)
                return
            if isinstance(cause, StacxError) and not slot.serving and self._has_delivered:
                self._lose(slot, cause)  # a node that was added lacks something
                return
            # One of ours, or a mistake of stacx's: then with where it was made.
            raise cause if isinstance(cause, StacxError) else StacxError(f"{slot}: {said(error)}")
        self._lose(slot, error)

    def _lose(self, slot: _Slot, error: Exception) -> None:
        """Has an actor replaced: at once, but later each time if it dies without delivering."""
        reason = f"{slot}: {said(error)}"
        self._end(slot)
        slot.deaths += 1
        self.counts["actor_replacements"] += 1
        if slot.deaths >= _HOPELESS and not self._has_delivered:
            raise StacxError(
                f"{reason} ({slot.deaths} times, before any actor had delivered anything)"
            )
        pause = 0.0 if slot.deaths == 1 else min(2.0 ** (slot.deaths - 2), _LONGEST_PAUSE)
        slot.due = time.monotonic() + pause
        self._deaths.append(reason)

    def _end(self, slot: _Slot) -> None:
        """Ends an actor, if there is one."""
        handle, slot.handle, slot.node = slot.handle, None, ""
        with contextlib.suppress(ValueError):
            self._idle.remove(slot)
        if slot.version is not None:
            self._no_longer_asked(slot)
        if slot.serving:
            slot.serving = False
            self._count_serving(-1)
        if handle is not None and self._ray.is_initialized():
            self._ray.kill(handle)

    def _look_for_the_stuck(self, now: float) -> None:
        """An actor that is late is asked whether it is there; without an answer, it is replaced.

        It tells of an environment that hangs by itself, unless that holds Python's lock.
        """
        patience = self._config.env_timeout
        for slot in self._slots:
            if slot.version is None or now - max(slot.asked, slot.heard) < patience:
                continue
            if slot.question is None or slot.heard >= slot.asked:
                slot.question, slot.asked = slot.handle.answer.remote(), now
                self._call(slot, slot.question, self._take_answer)
            else:
                self._lose(slot, TimeoutError(f"no answer for {patience:g} s"))

    def _take_answer(self, slot: _Slot, answer: Any) -> None:
        del answer
        slot.question = None


def batch_of(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts side by side, as one of all their environments; a single one is not copied."""
    if len(rollouts) == 1:
        return rollouts[0]

    axes = jax.tree.map(lambda _: 1, rollouts[0])
    states = jax.tree.map(lambda _: 0, rollouts[0].trajectory.recurrent_state)
    axes = eqx.tree_at(lambda rollout: rollout.trajectory.recurrent_state, axes, states)
    return jax.tree.map(lambda axis, *leaves: np.concatenate(leaves, axis), axes, *rollouts)


def default_max_lag(config: Config, parts_per_batch: int) -> int:
    """Twice the updates that rollouts of all actors and those that wait are for, and some more."""
    under_way = -(-config.num_actors // parts_per_batch)
    return 2 * (under_way + config.queue_size) + 4


def said(error: Exception) -> str:
    """One line of what Ray says in many."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return one_line(cause)
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    kind = type(error).__name__
    if not lines:
        return kind
    # Where an actor could not be made, the reason is the end of a traceback.
    telling = lines[-1] if "creation task" in lines[0] else lines[0].rstrip(".")
    return f"{kind}: {telling}"

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
from stacx.runtimes.actor import Delivery
from stacx.runtimes.exchange import Closed, Exchange
from stacx.runtimes.inference import Rollout
from stacx.runtimes.ray_actor import Failed, Made, as_one_actor
from stacx.runtimes.ray_cluster import RayCluster
from stacx.runtimes.ray_crew import Crew, Place, said
from stacx.runtimes.stopwatch import ACTOR
from stacx.runtimes.supervision import Supervision
from stacx.types import Parameters

_PATIENCE = 0.2
"""Seconds between two looks at what is due, while nothing arrives."""
_FAREWELL = 5.0
"""Seconds that the pump has to end."""
_BETWEEN_READINGS = 2.0
"""Seconds between two looks at the object store, which is a call of the head."""


class RemoteWatch:
    """Where an actor's time goes, as it reports with each rollout."""

    def __init__(self) -> None:
        self._seconds = {f"time/actor_{activity}": 0.0 for activity in ACTOR}

    def read(self) -> dict[str, float]:
        return self._seconds

    def add(self, seconds: dict[str, float]) -> None:
        """With what was reported."""
        self._seconds = {name: total + seconds[name] for name, total in self._seconds.items()}


class _Maker(Place):
    """The place of an actor, and what it is to make."""

    def __init__(self, index: int, number: int):
        super().__init__(index)
        self.number = number
        """Of its next rollout."""
        self.seed = 0
        """Of its batch of environments."""
        self.version = 0
        """Of the parameters that it was asked with last."""
        self.watch = RemoteWatch()


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
        self._steps_per_part = config.new_steps * each
        self._max_lag = config.max_lag or default_max_lag(config, self._parts_per_batch)
        self.counts = {"actor_replacements": 0, "dropped_rollouts": 0}
        self._arrived: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._crew: Crew[_Maker] = Crew(
            config,
            as_one_actor(config, each),
            cluster,
            supervision,
            self,
            self._arrived,
            self.counts,
        )
        self._idle: deque[_Maker] = deque()
        self._exchange: Exchange[Delivery]
        self._batches = itertools.count()
        self._parts: list[_Part] = []
        self._newest: tuple[int, Parameters | None] = (0, None)
        self._stored: tuple[int, Any] = (-1, None)
        self._pump: threading.Thread | None = None
        self._looked = -math.inf
        self._steps = self._steps_then = 0
        self._lines_since = time.monotonic()
        self._store_bytes = 0
        self._store_read = -math.inf

    @property
    def watches(self) -> Sequence[RemoteWatch]:
        return [maker.watch for maker in self._crew.places]

    def start(self, exchange: Exchange[Delivery], first: int) -> None:
        self._exchange = exchange
        # No rollout of any host has the number of another, which decides among its actions.
        hosts, host, actors = jax.process_count(), jax.process_index(), self._config.num_actors
        first = first * self._parts_per_batch * hosts + host
        self._stride = actors * hosts
        makers = [_Maker(index, first + index * hosts) for index in range(actors)]
        self._crew.start(makers, self._stride)
        self._lines_since = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._pump = threading.Thread(target=self._run, name="stacx-ray-pump", daemon=True)
        self._pump.start()

    def publish(self, version: int, parameters: Parameters) -> None:
        self._newest = version, parameters
        self._arrived.put(None)  # there may be room for more rollouts now

    def look_after(self) -> None:
        """Whether enough actors are there. Raises `StacxError` if not, for too long."""
        self._crew.look_after()

    def metrics(self) -> dict[str, Any]:
        """Actors in service, environment steps per second that they made, and stored bytes."""
        now, steps = time.monotonic(), self._steps
        rate = (steps - self._steps_then) / max(now - self._lines_since, 1e-9)
        self._steps_then, self._lines_since = steps, now
        return {
            "actors": self._crew.serving,
            "actor_steps_per_second": round(rate, 1),
            "object_store_bytes": self._store_bytes,
        }

    def close(self) -> None:
        try:
            if self._pump is not None:
                self._arrived.put(None)
                self._pump.join(_FAREWELL)
                self._pump = None
            self._crew.close()
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
        self._crew.look_around(now)
        if now - self._store_read > _BETWEEN_READINGS:
            self._store_bytes, self._store_read = self._cluster.store_bytes(), now

    def take_up(self, place: _Maker) -> None:
        """An actor is ready, with environments that are to be made."""
        place.seed = self._supervision.next_seed(place.index)
        self._idle.append(place)

    def give_up(self, place: _Maker) -> None:
        """It is no more."""
        with contextlib.suppress(ValueError):
            self._idle.remove(place)

    def _ask(self) -> None:
        """Asks idle actors for a rollout each, as many as may be under way."""
        waiting = len(self._parts) + self._exchange.size * self._parts_per_batch
        most = (self._max_lag - 1) * self._parts_per_batch
        while self._idle and self._crew.at_work + waiting < most:
            version, reference = self._parameters()
            if reference is None:
                return
            maker = self._idle.popleft()
            maker.version = version
            rollout = maker.handle.roll_out.remote(maker.number, maker.seed, reference)
            self._crew.ask(maker, rollout, self._take)

    def _parameters(self) -> tuple[int, Any]:
        """The newest version, and a reference to it in the object store."""
        version, parameters = self._newest
        if parameters is not None and self._stored[0] != version:
            reference = self._ray.put(jax.tree.map(np.asarray, parameters))
            self._stored = version, reference
        return self._stored

    def _take(self, maker: _Maker, answer: Made | Failed) -> None:
        if isinstance(answer, Failed):
            self._supervision.count_restart(f"{answer.reason} ({maker})", answer.details)
            if answer.hangs:
                self._crew.dismiss(maker)
            else:
                self.take_up(maker)
            return
        self._crew.count_delivery(maker)
        maker.number += self._stride
        maker.watch.add(answer.seconds)
        self._steps += self._steps_per_part
        self._parts.append(_Part(maker.version, answer.rollout))
        self._idle.append(maker)
        self._ask()  # before this rollout is looked at
        self._deliver()

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

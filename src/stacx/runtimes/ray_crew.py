"""The remote actors of a run: started, looked for when they are late, replaced when they die."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from stacx.config import Config
from stacx.errors import StacxError
from stacx.imports import one_line
from stacx.runtimes.ray_actor import RemoteActor
from stacx.runtimes.ray_cluster import RayCluster
from stacx.runtimes.supervision import Supervision

_LONGEST_PAUSE = 30.0
"""Seconds before an actor is replaced that has died again and again."""
_HOPELESS = 4
"""Deaths of one actor after which the run gives up, if no actor has ever delivered."""
_LONG_MISSING = 30.0
"""Seconds after which it is said that actors are missing: most are there by then."""
_BETWEEN_WARNINGS = 10.0
"""Seconds, so that a lost node is a few lines."""
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class Place:
    """The place of one actor, which outlives those that fill it."""

    def __init__(self, index: int):
        self.index = index
        self.handle: Any = None
        """The actor's, whether it is ready or not; None: there is none."""
        self.serving = False
        """Whether it is ready."""
        self.node = ""
        """Where it is; empty before it is ready."""
        self.asked: float | None = None
        """When it was given what it works at, or asked since whether it is there; None: idle."""
        self.heard = -math.inf
        """When it answered last, whether that was looked at or not."""
        self.in_question = False
        """Whether it was asked if it is there, and has not answered."""
        self.deaths = 0
        """Since one of them delivered."""
        self.due = 0.0
        """When there may be another."""

    def __str__(self) -> str:
        return f"actor {self.index}" + (f" on node {self.node}" if self.node else "")


P = TypeVar("P", bound=Place)
P_contra = TypeVar("P_contra", bound=Place, contravariant=True)


@runtime_checkable
class Employer(Protocol[P_contra]):
    """Who has work for actors."""

    def take_up(self, place: P_contra) -> None:
        """The actor of this place is ready."""
        ...

    def give_up(self, place: P_contra) -> None:
        """It has none any more, and what it worked at does not come."""
        ...


class Crew(Generic[P]):
    """The actors of a run. Between `start` and `close`, one thread calls all but `look_after`.

    Args:
        config: of the run.
        actor_config: what an actor is given.
        cluster: that is connected.
        supervision: is told what is to be warned of.
        employer: has work for them.
        arrived: where the thread finds what it is to do about an answer.
        counts: has "actor_replacements", which are counted here.

    Attributes:
        places: of all actors, in the order of their indices.
        serving: how many actors are ready.
        at_work: how many actors have something to make.
    """

    def __init__(
        self,
        config: Config,
        actor_config: Config,
        cluster: RayCluster,
        supervision: Supervision,
        employer: Employer[P],
        arrived: SimpleQueue[Callable[[], None] | None],
        counts: dict[str, int],
    ):
        self._config = config
        self._actor_config = actor_config
        self._cluster = cluster
        self._ray = cluster.ray
        self._actor_class = self._ray.remote(RemoteActor)
        self._supervision = supervision
        self._employer = employer
        self._arrived = arrived
        self._counts = counts
        self._least = max(config.min_actors, 1)
        self.places: Sequence[P] = ()
        self.serving = self.at_work = 0
        self._closed = False
        self._short_since: float | None = time.monotonic()
        """Since when there are too few in service; None: there are enough."""
        self._complete_until: float | None = time.monotonic()
        """When all were in service last; None once it was said that some are missing."""
        self._has_delivered = False
        self._deaths: list[str] = []
        self._warned = -math.inf

    def start(self, places: Sequence[P], stride: int) -> None:
        """Has the places filled, whenever it is looked around.

        Args:
            places: of all actors.
            stride: from the number of a rollout of an actor's to that of its next.
        """
        self.places, self._stride = places, stride
        self._short_since = time.monotonic()

    def look_around(self, now: float) -> None:
        """Does what is due: actors that are missing or late, and what is to be said of them."""
        self._fill(now)
        self._look_for_the_stuck(now)
        self._speak_of_the_dead(now)
        self._speak_of_the_missing(now)

    def look_after(self) -> None:
        """Raises `StacxError` if too few actors are there, for too long."""
        since, seconds = self._short_since, self._config.actor_timeout
        if since is not None and time.monotonic() - since > seconds:
            raise StacxError(
                f"{self.serving} of at least {self._least} remote actors are in service, for "
                f"{seconds:g} s (--actor-timeout): does the cluster have "
                f"{self._config.actor_cpus:g} free CPUs for each (ray status)?"
            )

    def ask(self, place: P, reference: Any, then: Callable[[P, Any], None]) -> None:
        """Has `then` called with what comes of the work of an idle actor, if it does."""

        def done(place: P, answer: Any) -> None:
            self._let_rest(place)
            then(place, answer)

        place.asked, place.in_question = time.monotonic(), False
        self.at_work += 1
        self._call(place, reference, done)

    def count_delivery(self, place: P) -> None:
        """What it made is of use: if it dies, another is there at once."""
        place.deaths = 0
        self._has_delivered = True

    def dismiss(self, place: P) -> None:
        """Ends the actor, if there is one; another is started in its place, when that is due."""
        handle, place.handle, place.node = place.handle, None, ""
        if place.asked is not None:
            self._let_rest(place)
        if place.serving:
            place.serving = False
            self._count_serving(-1)
        self._employer.give_up(place)
        if handle is not None and self._ray.is_initialized():
            self._ray.kill(handle)

    def lose(self, place: P, error: Exception) -> None:
        """Has an actor replaced: at once, but later each time if it dies without delivering."""
        reason = f"{place}: {said(error)}"
        self.dismiss(place)
        place.deaths += 1
        self._counts["actor_replacements"] += 1
        if place.deaths >= _HOPELESS and not self._has_delivered:
            raise StacxError(
                f"{reason} ({place.deaths} times, before any actor had delivered anything)"
            )
        pause = 0.0 if place.deaths == 1 else min(2.0 ** (place.deaths - 2), _LONGEST_PAUSE)
        place.due = time.monotonic() + pause
        self._deaths.append(reason)

    def close(self) -> None:
        """Ends all of them, also while the thread is still starting some."""
        self._closed = True
        for place in self.places:
            self.dismiss(place)

    def _fill(self, now: float) -> None:
        for place in self.places:
            if place.handle is None and now >= place.due and not self._closed:
                options = self._cluster.actor_options
                place.handle = self._actor_class.options(
                    num_cpus=self._config.actor_cpus,
                    scheduling_strategy="SPREAD",
                    max_concurrency=2,  # it answers while it is at work
                    **options,
                ).remote(self._actor_config, place.index, self._stride)
                self._call(place, place.handle.prepare.remote(), self._begin_service)

    def _call(self, place: P, reference: Any, then: Callable[[P, Any], None]) -> None:
        """Has the thread take an answer, unless there is another actor in that place by then."""
        handle = place.handle

        def take(future: Any) -> None:
            if place.handle is handle:
                try:
                    answer = future.result()
                except Exception as error:
                    self._take_error(place, error)
                else:
                    then(place, answer)

        def hear(future: Any) -> None:  # in a thread of Ray's
            place.heard = time.monotonic()
            self._arrived.put(lambda: take(future))

        reference.future().add_done_callback(hear)

    def _begin_service(self, place: P, node: str) -> None:
        place.node, place.serving = node, True
        self._count_serving(1)
        self._employer.take_up(place)

    def _count_serving(self, more: int) -> None:
        self.serving += more
        if self.serving >= self._least:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = time.monotonic()

    def _let_rest(self, place: P) -> None:
        place.asked = None
        self.at_work -= 1

    def _take_error(self, place: P, error: Exception) -> None:
        """An actor has died, or has raised what it should not."""
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.RayTaskError):
            cause = error.cause
            if isinstance(cause, exceptions.RayError):  # no room in its object store, say
                self.lose(place, cause)
                return
            if isinstance(cause, StacxError) and not place.serving and self._has_delivered:
                self.lose(place, cause)  # a node that was added lacks something
                return
            # One of ours, or a mistake of stacx's: then with where it was made.
            raise cause if isinstance(cause, StacxError) else StacxError(f"{place}: {said(error)}")
        self.lose(place, error)

    def _look_for_the_stuck(self, now: float) -> None:
        """An actor that is late is asked whether it is there; without an answer, it is replaced.

        It tells of an environment that hangs by itself, unless that holds Python's lock.
        """
        patience = self._config.env_timeout
        for place in self.places:
            if place.asked is None or now - max(place.asked, place.heard) < patience:
                continue
            if not place.in_question or place.heard >= place.asked:
                place.in_question, place.asked = True, now
                self._call(place, place.handle.answer.remote(), self._take_answer)
            else:
                self.lose(place, TimeoutError(f"no answer for {patience:g} s"))

    def _take_answer(self, place: P, answer: Any) -> None:
        del answer
        place.in_question = False

    def _speak_of_the_dead(self, now: float) -> None:
        if self._deaths and now - self._warned > _BETWEEN_WARNINGS:
            others = len(self._deaths) - 1
            more = f" (and {others} more)" if others else ""
            self._supervision.warn(f"lost, to be replaced: {self._deaths[-1]}{more}")
            self._deaths, self._warned = [], now

    def _speak_of_the_missing(self, now: float) -> None:
        if self.serving == len(self.places):
            self._complete_until = now
        elif self._complete_until is not None and now - self._complete_until > _LONG_MISSING:
            self._complete_until = None
            self._supervision.warn(
                f"{self.serving} of {len(self.places)} remote actors are in service; the others "
                f"begin, or wait for {self._config.actor_cpus:g} CPUs each (ray status)"
            )


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

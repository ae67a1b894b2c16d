"""The actors of a run, whichever they are, and those that are threads of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax

from stacx.config import Config
from stacx.environments import HostEnvironment
from stacx.runtimes.actor import Actor, Delivery
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.inference import Inference, Rollout
from stacx.runtimes.stopwatch import ACTOR, Stopwatch, Watch
from stacx.runtimes.supervision import Supervision
from stacx.types import Parameters

_FAREWELL = 5.0
"""Seconds that all actors together have to end: a slow step fits, and schedulers wait longer before
they kill."""


@runtime_checkable
class ActorPool(Protocol):
    """Actors, which put trajectories into an exchange until it is closed."""

    counts: dict[str, int]
    """What has happened to actors since the run began."""

    @property
    def watches(self) -> Sequence[Watch]:
        """Where the time of each actor goes, once they are started."""
        ...

    def start(self, exchange: Exchange[Delivery], first: int) -> None:
        """Starts the actors, the first of whose trajectories has the number `first`."""
        ...

    def publish(self, version: int, parameters: Parameters) -> None:
        """Makes the parameters after `version` updates the newest."""
        ...

    def look_after(self) -> None:
        """Replaces actors that hang; the learner calls it while it waits.

        Raises:
            StacxError: if there is no more to be waited for.
        """
        ...

    def metrics(self) -> dict[str, Any]:
        """What it adds to a line of metrics, about the time since the last one."""
        ...

    def close(self) -> None:
        """Ends the actors, once the exchange is closed."""
        ...


class ThreadPool:
    """Actor threads, each with a batch of environments.

    Args:
        config: of the run.
        environment: what actors make batches of.
        inference: the actors' programs.
        supervision: of environments.
        place: puts the arrays of a rollout where the learner wants them.
        devices: that actors infer on, in turn.
    """

    def __init__(
        self,
        config: Config,
        environment: HostEnvironment,
        inference: Inference,
        supervision: Supervision,
        place: Callable[[Rollout], Rollout],
        devices: Sequence[jax.Device],
    ):
        self._config = config
        self._environment = environment
        self._inference = inference
        self._supervision = supervision
        self._place = place
        self._devices = devices
        self._exchange: Exchange[Delivery]
        self.counts: dict[str, int] = {}
        self.watches: list[Stopwatch] = []
        self.actors: list[Actor] = []

    def start(self, exchange: Exchange[Delivery], first: int) -> None:
        self._exchange = exchange
        self.watches = [Stopwatch("actor", ACTOR) for _ in range(self._config.num_actors)]
        self.actors = [
            self._start_actor(index, first + index) for index in range(self._config.num_actors)
        ]

    def publish(self, version: int, parameters: Parameters) -> None:
        devices = {device: jax.device_put(parameters, device) for device in self._devices}
        self._exchange.publish(version, devices)

    def look_after(self) -> None:
        for index, actor in enumerate(self.actors):
            stack = actor.give_up_if_busy(self._config.env_timeout)
            if stack is not None:
                self._supervision.count_restart(
                    f"{actor.silence}, in the environments of actor {index}", stack
                )
                self.actors[index] = self._start_actor(index, actor.number)

    def metrics(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """One that hangs in an environment is left behind, as a daemon."""
        deadline = time.monotonic() + _FAREWELL
        actors, self.actors = self.actors, []
        for actor in actors:
            if not actor.abandoned:
                actor.join(max(deadline - time.monotonic(), 0.0))
                if actor.is_alive():
                    actor.abandon()

    def _start_actor(self, index: int, number: int) -> Actor:
        actor = Actor(
            self._config,
            self._inference,
            self._environment,
            self._exchange,
            self._supervision,
            self._place,
            stopwatch=self.watches[index],
            device=self._devices[index % len(self._devices)],
            index=index,
            number=number,
            stride=self._config.num_actors,
        )
        actor.start()
        return actor

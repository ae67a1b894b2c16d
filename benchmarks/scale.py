"""What a learner can feed on: a model of remote actors, and a simulation that is to agree with it.

    python benchmarks/scale.py                      the deployments of docs/scale.md
    python benchmarks/scale.py --check              what benchmarks/remote_actors.py has measured

The model takes the least of what actors make, what the pump takes in, what the learner learns, and
what its network carries each way. The simulation plays every trajectory: actors whose steps take
random times, a network that carries one thing after the other, the pump that serves one trajectory
after the other, the bounded queue, the learner, and what is dropped as too old. It knows nothing
of the model.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One learner process with remote actors. Seconds and bytes; measured constants."""

    name: str
    actors: int
    envs: int
    """Environments of an actor."""
    parts: int
    """Trajectories of an update."""
    length: int
    """New transitions of a trajectory."""
    step: float
    """Of one environment."""
    inference: float
    """Of a step of all of an actor's environments, the loop around it included."""
    update: float
    """Of the learner, for a batch."""
    step_bytes: float
    """Of a trajectory, for each step of one environment."""
    parameter_bytes: float
    pump: float = 0.0
    """Of the pump, for a trajectory."""
    round_trip: float = 0.0
    """Of an actor, from one trajectory to the next, the pump's time included."""
    nodes: int = 0
    """Machines beside the learner's that actors are on."""
    bandwidth: float = 1.25e9
    """Bytes a second of the learner's network; 10 Gbit/s."""
    queue: int = 1
    spread: float = 0.1
    """Standard deviation of the logarithm of a trajectory's time."""

    @property
    def rollout(self) -> float:
        """Seconds of a trajectory, in an actor."""
        return self.length * (self.envs * self.step + self.inference)

    @property
    def steps(self) -> int:
        """Of a trajectory."""
        return self.length * self.envs

    @property
    def max_lag(self) -> int:
        """As `stacx.runtimes.ray_pool.default_max_lag`."""
        return 2 * (-(-self.actors // self.parts) + self.queue) + 4


class Outcome(NamedTuple):
    """Of a simulation."""

    steps_per_second: float
    lag: float
    most: int
    dropped: float
    """Share of trajectories."""


def limits(d: Deployment) -> dict[str, float]:
    """Environment steps a second that each part allows."""
    # A node fetches a version once, if one of its actors is asked while that is the newest: of the
    # trajectories that are asked for meanwhile, as many as make an update, each is anywhere.
    fetching = d.nodes * (1 - (1 - 1 / d.nodes) ** d.parts) if d.nodes else 0.0
    parameters = d.parameter_bytes * fetching / (d.parts * d.steps)
    return {
        "actors": d.actors * d.steps / (d.rollout + d.round_trip),
        "pump": d.steps / d.pump if d.pump else math.inf,
        "learner": d.parts * d.steps / d.update,
        "trajectories": d.bandwidth / d.step_bytes if d.nodes else math.inf,
        "parameters": d.bandwidth / parameters if d.nodes else math.inf,
    }


def model(d: Deployment) -> tuple[float, str, float]:
    """Steps a second, what limits them, and the mean lag in updates."""
    of_parts = limits(d)
    name = min(of_parts, key=lambda part: of_parts[part])
    rate = of_parts[name]
    # Little's law: trajectories under way are as many as actors, but for those that wait for the
    # pump to ask again; each is learned from so many updates after its policy was taken.
    under_way = min(rate / d.steps * (d.rollout + d.round_trip), d.actors)
    if name != "actors":  # then all of them are made or wait, and the queue is full
        under_way = d.actors + d.queue * d.parts
    return rate, name, (under_way + d.parts - 1) / d.parts  # of a batch's oldest


class Simulation:
    """Plays a deployment, event by event."""

    def __init__(self, deployment: Deployment, seed: int = 0):
        self._d = deployment
        self._dice = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._version = 0
        self._arrived: deque[tuple[int, int]] = deque()
        """Actors and versions of the trajectories that wait for the pump."""
        self._pump_is_free = True
        self._parts: list[int] = []
        self._blocked: int | None = None
        """Version of a batch for which the queue has no place."""
        self._queue: deque[int] = deque()
        self._learner_is_free = True
        self._sent_until = self._received_until = 0.0
        self._nodes_versions: dict[int, int] = {}
        self.made = self.dropped = 0
        self.lags: list[int] = []
        for actor in range(deployment.actors):
            self._ask(actor, self._dice.random())

    def run(self, trajectories: int) -> float:
        """Until so many more are made. Returns the seconds that it took."""
        start, until = self._now, self.made + trajectories
        while self.made < until:
            self._now, _, event = heapq.heappop(self._events)
            event()
        return self._now - start

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), event))

    def _ask(self, actor: int, part: float = 1.0) -> None:
        """Has an actor make a trajectory, or at first only the rest of one."""
        d, version = self._d, self._version
        slowness = self._dice.lognormvariate(-(d.spread**2) / 2, d.spread)
        fetching = self._fetch(actor % d.nodes, version) if d.nodes else 0.0
        seconds = fetching + d.round_trip - d.pump + part * slowness * d.rollout
        self._after(seconds, lambda: self._send(actor, version))

    def _fetch(self, node: int, version: int) -> float:
        """Seconds until a node has the parameters; it fetches a version once."""
        if self._nodes_versions.get(node) != version:
            self._nodes_versions[node] = version
            begin = max(self._now, self._sent_until)
            self._sent_until = begin + self._d.parameter_bytes / self._d.bandwidth
        return max(self._sent_until - self._now, 0.0)

    def _send(self, actor: int, version: int) -> None:
        if self._d.nodes:
            size = self._d.steps * self._d.step_bytes
            begin = max(self._now, self._received_until)
            self._received_until = begin + size / self._d.bandwidth
        arrival = max(self._received_until - self._now, 0.0)
        self._after(arrival, lambda: self._arrive(actor, version))

    def _arrive(self, actor: int, version: int) -> None:
        self.made += 1
        self._arrived.append((actor, version))
        self._serve()

    def _serve(self) -> None:
        if self._pump_is_free and self._arrived and self._blocked is None:
            self._pump_is_free = False
            actor, version = self._arrived.popleft()
            self._after(self._d.pump, lambda: self._take(actor, version))

    def _take(self, actor: int, version: int) -> None:
        self._pump_is_free = True
        self._ask(actor)
        oldest = self._version + self._d.queue + 1 - self._d.max_lag
        fresh = [part for part in [*self._parts, version] if part >= oldest]
        self.dropped += len(self._parts) + 1 - len(fresh)
        self._parts = fresh
        if len(fresh) == self._d.parts:
            self._parts, self._blocked = [], min(fresh)
            self._deliver()
        self._serve()

    def _deliver(self) -> None:
        if self._blocked is not None and len(self._queue) < self._d.queue:
            self._queue.append(self._blocked)
            self._blocked = None
            self._learn()

    def _learn(self) -> None:
        if self._learner_is_free and self._queue:
            self._learner_is_free = False
            self.lags.append(self._version - self._queue.popleft())
            self._after(self._d.update, self._publish)
            self._deliver()
            self._serve()

    def _publish(self) -> None:
        self._version += 1
        self._learner_is_free = True
        self._learn()


def simulate(deployment: Deployment, turns: int = 20) -> Outcome:
    """What so many trajectories of each actor come to, after a few that do not count."""
    simulation = Simulation(deployment)
    simulation.run(4 * deployment.actors)
    lags, dropped = len(simulation.lags), simulation.dropped
    trajectories = max(turns * deployment.actors, 2_000)
    seconds = simulation.run(trajectories)
    lags_then = simulation.lags[lags:]
    return Outcome(
        len(lags_then) * deployment.parts * deployment.steps / seconds,
        statistics.mean(lags_then),
        max(lags_then),
        (simulation.dropped - dropped) / trajectories,
    )


def show(deployments: Iterable[Deployment]) -> None:
    """A table of the model beside the simulation."""
    print(
        f"{'':34} {'actors':>7} {'model':>10} {'simulated':>10} {'limit':>12} {'lag':>6} "
        f"{'simulated':>10} {'most':>5} {'dropped':>8}"
    )
    for d in deployments:
        rate, limit, lag = model(d)
        played = simulate(d)
        print(
            f"{d.name:34} {d.actors:7,} {rate:10,.0f} {played.steps_per_second:10,.0f} {limit:>12} "
            f"{lag:6.1f} {played.lag:10.1f} {played.most:5} {played.dropped:8.4f}"
        )


SMALL: dict[str, Any] = {
    "pump": 0.8e-3,
    "round_trip": 5.4e-3,
    "inference": 0.37e-3,
    "update": 0.7e-3,
    "step_bytes": 83,
    "parameter_bytes": 70_156,
}
"""benchmarks/remote_actors.py with eight trajectories a batch, on two cores (docs/scale.md)."""
MEASURED = {
    0.005: {1: 166, 2: 336, 4: 643, 8: 1_209, 16: 1_886},
    0.02: {1: 47, 8: 380, 16: 749, 32: 1_290},
}
"""Steps a second there, by seconds of a step and number of actors."""
SLEEPING = 0.5e-3
"""Seconds that a step takes beside what it is to sleep: 5.5 ms were measured for 5."""


OURS: dict[str, Any] = {"pump": 0.9e-3, "round_trip": 5.4e-3}
EACH_AN_UPDATE: dict[str, Any] = {"pump": 2.0e-3, "round_trip": 10.2e-3}
"""Where every trajectory is a batch, so that parameters are stored and fetched for each."""
CARTPOLE: dict[str, Any] = EACH_AN_UPDATE | {
    "envs": 16,
    "parts": 1,
    "length": 20,
    "step": 0.126e-3 / 16,
    "inference": 0.154e-3,
    "update": 1e-3,
    "step_bytes": 50,
    "parameter_bytes": 70_156,
}
NATURE: dict[str, Any] = OURS | {
    "envs": 8,
    "parts": 4,
    "length": 20,
    "step": 3.715e-3 / 8,
    "inference": 2.189e-3,
    "update": 5e-3,
    "step_bytes": 29_671,
    "parameter_bytes": 7_792_276,
}
RESNET = NATURE | {
    "step": 4.092e-3 / 8,
    "inference": 16.355e-3,
    "update": 16e-3,
    "parameter_bytes": 8_328_020,
}
CONTROL: dict[str, Any] = EACH_AN_UPDATE | {
    "envs": 24,
    "parts": 1,
    "length": 10,
    "step": 3.148e-3 / 24,
    "inference": 0.904e-3,
    "update": 2.9e-3,
    "step_bytes": 775,
    "parameter_bytes": 2_929_716,
}
"""benchmarks/actor_costs.py on one core of ours; updates: control's on an H100
(docs/results/speed.md), the others are assumed (docs/scale.md)."""

DEPLOYMENTS = [
    *(Deployment("CartPole", n, nodes=1, **CARTPOLE) for n in (1, 2, 4, 8)),
    *(Deployment("DM Control, features", n, nodes=-(-n // 16), **CONTROL) for n in (4, 16, 64)),
    *(Deployment("Atari, Nature", n, nodes=-(-n // 16), **NATURE) for n in (4, 16, 32, 64, 1_000)),
    *(
        Deployment("Atari, deep ResNet", n, nodes=-(-n // 16), **RESNET)
        for n in (16, 64, 128, 1_000)
    ),
    Deployment("the same, 100 Gbit/s", 128, nodes=8, bandwidth=12.5e9, **RESNET),
    Deployment("1,000 actors, 8 learner hosts", 125, nodes=8, bandwidth=12.5e9, **RESNET),
    Deployment("10,000 actors, 80 learner hosts", 125, nodes=8, bandwidth=12.5e9, **RESNET),
]
"""Of each, one learner process; a core each, 16 to a node."""


def check() -> None:
    """Prints how far model and simulation are from what was measured."""
    print(f"{'ms a step':>10} {'actors':>7} {'measured':>9} {'model':>7} {'simulated':>10}")
    for cost, rates in MEASURED.items():
        for actors, rate in rates.items():
            deployment = Deployment("", actors, 1, 8, 20, cost + SLEEPING, **SMALL)
            found = model(deployment)[0], simulate(deployment).steps_per_second
            print(
                f"{1000 * cost:10g} {actors:7} {rate:9,} {found[0] / rate - 1:+7.1%} "
                f"{found[1] / rate - 1:+10.1%}"
            )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        check()
    else:
        show(DEPLOYMENTS)


if __name__ == "__main__":
    main()

"""An actor: a thread that steps a batch of environments, and hands over trajectories.

What inference knows of a trajectory is on the device already (`stacx.runtimes.inference`); rewards
and ends of episodes, which only the environments know, follow when the trajectory is complete.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from stacx.config import Config
from stacx.environments import HostEnvironment, HostTransition, HostVector, diagnosis
from stacx.environments.patience import stack_of
from stacx.errors import StacxError
from stacx.runtimes.exchange import Closed, Exchange
from stacx.runtimes.inference import Inference, Rollout, Unfinished
from stacx.runtimes.running import running
from stacx.runtimes.statistics import EpisodeEnds
from stacx.runtimes.stopwatch import Stopwatch
from stacx.types import Parameters, RecurrentState, Trajectory


class Delivery(NamedTuple):
    """A rollout, and after how many updates its policy was taken."""

    rollout: Rollout
    version: int


class _Past(NamedTuple):
    """A trajectory of T steps, as an actor keeps it for the next, which may share some of them."""

    unfinished: Unfinished
    starts: list[np.ndarray]
    transitions: list[HostTransition]
    recurrent_states: list[RecurrentState]
    """Before each step, and after the last."""


@runtime_checkable
class Supervisor(Protocol):
    """Who is told when environments fail."""

    def next_seed(self, actor: int) -> int:
        """A seed for a new batch of environments."""
        ...

    def count_restart(self, reason: str, details: str) -> None:
        """Counts a restart; raises `BrokenEnvironmentError` if there were too many."""
        ...


class Actor(threading.Thread):
    """Makes trajectories `number`, `number` + `stride`, ... until the exchange is closed.

    What goes wrong, other than what restarting the environments mends, closes the exchange with the
    error.

    Args:
        config: of the run.
        inference: the actors' programs.
        environment: what it makes a batch of.
        exchange: where trajectories go and parameters come from.
        supervisor: gives seeds, and counts restarts.
        place: puts the arrays of a rollout where the learner wants them.
        stopwatch: its own.
        device: where it infers.
        index: which of the actors it is.
        number: of its first trajectory.
        stride: from one of its trajectories to the next.
    """

    def __init__(
        self,
        config: Config,
        inference: Inference,
        environment: HostEnvironment,
        exchange: Exchange[Delivery],
        supervisor: Supervisor,
        place: Callable[[Rollout], Rollout],
        *,
        stopwatch: Stopwatch,
        device: jax.Device,
        index: int,
        number: int,
        stride: int,
    ):
        super().__init__(name=f"stacx-actor-{index}", daemon=True)
        self._config = config
        self._inference = inference
        self._environment = environment
        self._exchange = exchange
        self._supervisor = supervisor
        self._place = place
        self.stopwatch = stopwatch
        self.device = device
        self.index = index
        self.number = number
        self._stride = stride
        self._vector: HostVector | None = None
        self._entered: float | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        """Held to leave the environments, or to be given up in them: never both."""

    @property
    def abandoned(self) -> bool:
        """Whether it was given up."""
        return self._abandoned

    @property
    def busy_seconds(self) -> float:
        """How long a call of the environments has not returned; 0 between two calls."""
        entered = self._entered
        return 0.0 if entered is None else time.monotonic() - entered

    @property
    def silence(self) -> str:
        """What is said of one that was given up."""
        seconds = f"{self._config.env_timeout:g} s (--env-timeout)"
        return f"{self._config.env} has not answered for {seconds}"

    def give_up_if_busy(self, seconds: float) -> str | None:
        """Gives up a thread whose environments have not answered for so long.

        It is in there for certain, so it hands over nothing more; it ends if they ever answer.

        Returns:
            Its stack, as a traceback shows it; None if they have answered.
        """
        with self._lock:
            return self.abandon() if self.busy_seconds > seconds else None

    def abandon(self) -> str:
        """Gives up a thread, wherever it is. Returns its stack, as a traceback shows it."""
        self._abandoned = True
        stack, vector = stack_of(self), self._vector
        if vector is not None:
            vector.kill()
        return stack

    def run(self) -> None:
        """The thread."""
        try:
            with jax.default_device(self.device):
                self._make_trajectories()
        except Closed:
            pass
        except BaseException as error:
            if not self._abandoned:
                self._exchange.close(error)
        finally:
            self._close_environments()

    def _make_trajectories(self) -> None:
        self._in_environments(self._restart_environments)
        past = self._nothing()
        while True:
            with self.stopwatch.on("waiting"):
                version, parameters = self._exchange.parameters(self.number)
            rollout, past = self._roll_out(parameters[self.device], past)
            with self.stopwatch.on("waiting"):
                self._exchange.put(self.number, Delivery(rollout, version))
            self.number += self._stride

    def _nothing(self) -> _Past:
        """Before the first step: of what the first trajectory shares with it nothing is valid."""
        steps = self._config.trajectory_length
        return _Past(
            unfinished=self._inference.empty(),
            starts=[np.zeros(self._inference.batch, bool)] * steps,
            transitions=[self._seen.dummy_transition()] * steps,
            recurrent_states=[self._inference.initial_state()] * (steps + 1),
        )

    def _roll_out(self, parameters: Parameters, past: _Past) -> tuple[Rollout, _Past]:
        """A trajectory that goes on where the last one ended."""
        new_steps = self._config.new_steps
        starts, transitions = past.starts[new_steps:], past.transitions[new_steps:]
        recurrent_states = past.recurrent_states[new_steps:]
        with self._inferring():
            unfinished, randomness = self._inference.begin(self.number, past.unfinished)
        for step in range(new_steps):
            with self._inferring():
                starts.append(self._seen.starts)
                recurrent_state, unfinished, actions = self._inference.act(
                    parameters, recurrent_states[-1], unfinished, randomness, self._seen, step
                )
                recurrent_states.append(recurrent_state)
            with self.stopwatch.on("environment"):
                transitions.append(self._in_environments(self._seen.step, actions))
        with self._inferring():
            finished = self._inference.finish(unfinished, self._seen.observations)
            stacked = HostTransition(*map(np.stack, zip(*transitions, strict=True)))
            known: Any
            known, all_starts = jax.device_put(
                (stacked, np.stack([*starts, self._seen.starts])), self.device
            )
            ends = known.ended, known.returns, known.lengths, known.physics_errors
            rollout = Rollout(
                Trajectory(
                    **finished._asdict(),
                    rewards=known.rewards,
                    discounts=known.discounts,
                    valid=known.valid,
                    starts=all_starts,
                    recurrent_state=recurrent_states[0],
                ),
                EpisodeEnds(*(known[-new_steps:] for known in ends)),
            )
            # Waited for: the environments may write their next observations over these.
            placed = jax.block_until_ready(self._place(rollout))
        return placed, _Past(finished, starts, transitions, recurrent_states)

    @contextlib.contextmanager
    def _inferring(self) -> Iterator[None]:
        with self.stopwatch.on("inference"), running(self._environment.env):
            yield

    @property
    def _seen(self) -> HostVector:
        assert self._vector is not None
        return self._vector

    def _in_environments(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call that may raise or hang. After it has raised, all episodes begin anew.

        What is returned then is a dummy transition in every environment.

        Raises:
            Closed: if nobody waits for it any more.
        """
        while True:
            self._entered = time.monotonic()
            try:
                return call(*arguments)
            except StacxError:
                raise
            except (Exception, SystemExit) as error:  # some games call sys.exit
                reason, details = diagnosis(self._environment.env, error)
            finally:
                with self._lock:
                    self._entered = None
                if self._abandoned or self._exchange.closed:
                    raise Closed
            self._supervisor.count_restart(reason, details)
            call, arguments = self._restart_environments, ()

    def _restart_environments(self) -> HostTransition:
        self._close_environments()
        config = self._config
        self._vector = HostVector(
            self._environment, self._inference.batch, vectorization=config.vectorization
        )
        if self._abandoned:  # before there were processes to end
            raise Closed
        self._vector.reset(self._supervisor.next_seed(self.index))
        return self._vector.dummy_transition()

    def _close_environments(self) -> None:
        vector, self._vector = self._vector, None
        if vector is not None:
            with contextlib.suppress(Exception):  # they may be broken in any way
                vector.close(terminate=True)

"""What a run needs of a runtime, whichever moves its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Int

from stacx.core.learner import LearnerState
from stacx.runtimes.arrays import Arrays
from stacx.runtimes.statistics import IntervalStatistics


@runtime_checkable
class TrainState(Protocol):
    """Arrays that a run goes on from. All leaves have a leading axis of seeds [K]."""

    @property
    def iteration(self) -> Int[Array, "K"]:
        """Updates so far."""
        ...

    @property
    def learner(self) -> LearnerState:
        """Parameters, metaparameters and optimisers."""
        ...

    @property
    def interval(self) -> IntervalStatistics:
        """Since the last line of metrics."""
        ...


@runtime_checkable
class Runtime(Protocol):
    """Moves data from environments to updates, and parameters back."""

    restarts_environments: bool
    """Whether environments start again when a run is resumed."""
    num_environments: int
    """How many a seed has, all actors' together."""
    without_effect: Sequence[str]
    """Settings that it has no use for."""

    def init(self) -> Any:
        """The `TrainState` before the first update."""
        ...

    def arrays_of(self, state: Any) -> Arrays:
        """All of a state, for a checkpoint."""
        ...

    def state_of(self, arrays: Arrays) -> Any:
        """The state that such arrays are of.

        Raises:
            CheckpointError: if they are of another config or environment.
        """
        ...

    def counts(self) -> dict[str, int]:
        """What is counted in no array of the state, for a checkpoint."""
        ...

    def count_on_from(self, counts: dict[str, Any]) -> None:
        """Before `prepare` of a run that is resumed: `counts`, perhaps among other things."""
        ...

    def prepare(self, state: Any) -> Any:
        """Compiles, and starts what goes on beside the updates. Returns the state to go on from."""
        ...

    def run(self, state: Any, iterations: int, should_stop: Callable[[], bool]) -> Any:
        """The state after so many more updates; the given state's memory is reused.

        It may be after fewer: if `should_stop`, or if too many updates were skipped in a row.

        Raises:
            StacxError: if an environment or a program failed.
        """
        ...

    def clear_interval(self, state: Any) -> Any:
        """The state with fresh interval statistics."""
        ...

    def complete(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The lines of metrics, with what the runtime knows of the time since the last ones."""
        ...

    def saving(self) -> AbstractContextManager[None]:
        """Around what the learner's thread does for the run directory, to account for the time."""
        ...

    def policy_specification(self) -> dict[str, Any]:
        """What a policy must know besides parameters and config, for JSON."""
        ...

    def farewell(self) -> list[str]:
        """Sentences for the end of the run."""
        ...

    def close(self) -> None:
        """Ends whatever goes on beside the updates."""
        ...

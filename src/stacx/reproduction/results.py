"""What the complete runs of an experiment say, and what an analysis makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from stacx.reporting import RunData
from stacx.reproduction.scores import final_scores, learning_curve
from stacx.reproduction.suites import Suite, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """One variant on one task, with all seeds complete."""

    task: Task
    data: RunData
    """The metrics of all K seeds, also where each was a run of its own."""
    seconds: float | None = None
    """Wall-clock of all its runs, with what was stopped and resumed; None: not known."""
    others: float | None = None
    """How many cores others kept busy meanwhile, where runs were alone; None: not known."""

    @property
    def scores(self) -> Float[np.ndarray, " K"]:
        """The final score of each seed: raw returns."""
        return final_scores(self.data)

    @property
    def normalised(self) -> Float[np.ndarray, " K"]:
        """The same, 0 for a random policy and 1 for the reference."""
        return self.task.reference.normalised(self.scores)

    @property
    def curve(self) -> Float[np.ndarray, "K N"]:
        """Normalised returns over training; NaN until a seed's first episode has ended."""
        return self.task.reference.normalised(learning_curve(self.data))


@dataclass(frozen=True)
class Results:
    """The cells of an experiment that have all seeds; others are not in here."""

    suite: Suite
    tasks: Sequence[Task]
    """Every task of the experiment."""
    variants: Sequence[str]
    """Every variant's name."""
    cells: Mapping[tuple[str, str], Cell]
    """By a task's environment id and a variant's name."""
    without_score: Sequence[str] = ()
    """What is complete, but has a seed in which no episode has ended."""

    def shared_tasks(self, variants: Iterable[str] | None = None) -> list[Task]:
        """The tasks that have all of some variants, by default of the experiment's.

        Only over these are the variants' averages comparable.
        """
        names = list(self.variants if variants is None else variants)
        return [
            task for task in self.tasks if all((task.env, name) in self.cells for name in names)
        ]

    def normalised(self, variant: str, tasks: Sequence[Task]) -> Float[np.ndarray, "K tasks"]:
        """Normalised final scores of a variant on some tasks that have it."""
        return np.stack([self.cells[task.env, variant].normalised for task in tasks], axis=1)

    def of_task(self, task: Task) -> dict[str, Cell]:
        """The cells that a task has, by variant."""
        return {
            name: self.cells[task.env, name]
            for name in self.variants
            if (task.env, name) in self.cells
        }


class Comparison(NamedTuple):
    """A number of the paper beside ours."""

    quantity: str
    paper: str
    ours: str


class Table(NamedTuple):
    """Rows that are shown in the report and written as CSV."""

    name: str
    """The file's name, without its ending."""
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """Numbers stay numbers; None is an empty field."""


class Illustration(NamedTuple):
    """A figure that is shown in the report and written as PNG and PDF."""

    name: str
    """The file's name, without its ending."""
    caption: str
    figure: Figure


class Analysis(NamedTuple):
    """What an experiment has to say."""

    comparisons: Sequence[Comparison] = ()
    tables: Sequence[Table] = ()
    illustrations: Sequence[Illustration] = ()

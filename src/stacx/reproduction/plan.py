"""The runs of an experiment: where each goes, the command that trains it, and how far it is."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stacx.config import Config, flag_of
from stacx.errors import ConfigError
from stacx.reporting import RunData, merge_seeds, read_run
from stacx.reproduction.estimates import START_SECONDS, rough_rate
from stacx.reproduction.experiments import Experiment, Variant
from stacx.reproduction.results import Cell, Results
from stacx.reproduction.suites import Suite, Task
from stacx.runs import RunDirectory

_ALWAYS_GIVEN = ("env", "agent")
"""Settings that a command names even where they have their defaults."""


class State(enum.Enum):
    """How far a run is."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    TO_DO = "to do"
    DAMAGED = "damaged"
    """Its config.json is no JSON, as after a full disk."""


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One `stacx train`: a variant on a task, with all seeds or with one."""

    task: Task
    variant: str
    config: Config
    directory: Path

    @property
    def label(self) -> str:
        """What it is called in lists."""
        seed = "" if self.task.seeds_share_a_run else f" seed {self.config.seed}"
        return f"{self.task.name} {self.variant}{seed}"

    @property
    def arguments(self) -> list[str]:
        """What follows `stacx` in the command that trains it from the beginning."""
        return ["train", *flags(self.config), "--run-dir", str(self.directory)]

    @property
    def command(self) -> str:
        """That command, for a shell."""
        return shlex.join(["stacx", *self.arguments])

    @property
    def arguments_to_go_on(self) -> list[str]:
        """The same from wherever it is. Raises `ConfigError` if it is damaged."""
        if self.is_damaged:
            raise ConfigError(
                f"the config.json in {self.directory} is damaged: move the directory away, and it "
                "is made anew"
            )
        begun = self.state() is not State.TO_DO
        return [*self.arguments, "--resume"] if begun else self.arguments

    @property
    def log(self) -> Path:
        """Beside the run: what its processes printed."""
        return self.directory.with_name(self.directory.name + ".log")

    @property
    def timing(self) -> Path:
        """Beside the run: how long its processes took, and on what."""
        return self.directory.with_name(self.directory.name + ".timing.json")

    def state(self) -> State:
        """As the disk has it.

        Raises:
            ConfigError: if the directory holds a run with another config.
        """
        directory = RunDirectory(self.directory)
        if not directory.config_file.exists():
            return State.TO_DO
        if self.is_damaged:
            return State.DAMAGED
        different = directory.config().differences(self.config)
        if different:
            flags_there = ", ".join(map(flag_of, different))
            raise ConfigError(
                f"{self.directory} is a run with other settings ({flags_there}): move it away, or "
                "choose another --output"
            )
        total = self.config.total_updates
        ends = {line.get("seed") for line in directory.metrics() if line.get("updates") == total}
        seeds = range(self.config.seed, self.config.seed + self.config.num_seeds)
        # A run that fails in its last chunk has these lines, but not the checkpoint after them.
        at_its_end = ends.issuperset(seeds) and (directory.checkpoints / str(total)).is_dir()
        return State.COMPLETE if at_its_end else State.INTERRUPTED

    @property
    def is_damaged(self) -> bool:
        """Whether its config.json is no JSON; one that cannot be read now may be another time."""
        try:
            json.loads(RunDirectory(self.directory).config_file.read_text())
        except ValueError:
            return True
        except OSError:
            pass
        return False

    def seconds(self) -> float | None:
        """Wall-clock of all its processes so far; None: not known."""
        try:
            return float(self._timing()["seconds"])
        except (ValueError, KeyError, TypeError):
            return None

    def made_on(self) -> tuple[str, ...]:
        """On what its processes ran, as far as it is known."""
        places = self._timing().get("made_on")
        return tuple(map(str, places)) if isinstance(places, list) else ()

    def others(self) -> float | None:
        """How many cores others kept busy meanwhile, at worst; None: not known."""
        cores = self._timing().get("others")
        return float(cores) if isinstance(cores, (int, float)) else None

    def add_process(self, seconds: float, place: str, others: float | None = None) -> None:
        """Counts another process, where it ran, and how many cores others kept busy meanwhile."""
        places = dict.fromkeys((*self.made_on(), place))
        total = round((self.seconds() or 0.0) + seconds, 2)
        noted: dict[str, Any] = {"seconds": total, "made_on": list(places)}
        known = [cores for cores in (others, self.others()) if cores is not None]
        if known:
            noted["others"] = round(max(known), 2)
        text = json.dumps(noted)
        with contextlib.suppress(OSError):  # a full disk costs this number, not the runs
            self.timing.write_text(text + "\n")

    def _timing(self) -> dict[str, Any]:
        try:
            found = json.loads(self.timing.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def share_done(self) -> float:
        """From 0 to 1, by the metrics."""
        lines = RunDirectory(self.directory).metrics()
        done = max((line.get("updates", 0) for line in lines), default=0)
        return min(1.0, done / self.config.total_updates)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of an experiment on a suite, in the order in which they are made."""

    experiment: Experiment
    suite: Suite
    scale: str
    num_seeds: int
    output: Path
    tasks: tuple[Task, ...]
    variants: tuple[Variant, ...]
    runs: tuple[PlannedRun, ...]

    def runs_of(self, task: Task, variant: str) -> list[PlannedRun]:
        """Of one cell."""
        return [run for run in self.runs if (run.task, run.variant) == (task, variant)]

    def results(self) -> Results:
        """What the complete runs say; a cell counts when all its seeds are complete."""
        cells, without_score = {}, []
        for task in self.tasks:
            for variant in self.variants:
                runs = self.runs_of(task, variant.name)
                if all(run.state() is State.COMPLETE for run in runs):
                    cell = _cell(task, runs)
                    if np.isfinite(cell.scores).all():  # some episode of every seed has ended
                        cells[task.env, variant.name] = cell
                    else:
                        without_score.append(f"{task.name} {variant.name}")
        names = [variant.name for variant in self.variants]
        return Results(self.suite, self.tasks, names, cells, without_score)


def make_plan(
    experiment: Experiment, suite: Suite, scale: str, num_seeds: int, output: Path
) -> Plan:
    """Every run, task by task, so that a task's figures are complete early.

    Raises:
        ConfigError: if a variant's settings are no config.
    """
    tasks = suite.tasks[scale][: experiment.tasks]
    variants = experiment.variants(suite)
    runs = []
    for task in tasks:
        for variant in variants:
            place = output / "runs" / task.name / variant.name
            if task.seeds_share_a_run:
                config = variant.config(task, 0, num_seeds)
                runs.append(PlannedRun(task, variant.name, config, place))
            else:
                runs += [
                    PlannedRun(
                        task, variant.name, variant.config(task, seed, 1), place / f"seed-{seed}"
                    )
                    for seed in range(num_seeds)
                ]
    return Plan(experiment, suite, scale, num_seeds, output, tasks, variants, tuple(runs))


def flags(config: Config) -> list[str]:
    """The flags of `stacx train` that give a config: those that its presets do not."""
    given = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in _ALWAYS_GIVEN or value != config.usual(field.name).value:
            given += _flag(field.name, value)
    return given


def _flag(name: str, value: Any) -> list[str]:
    flag = flag_of(name)
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    values = value if isinstance(value, tuple) else (value,)
    return [flag, *(repr(v) if isinstance(v, float) else str(v) for v in values)]


def seconds_left(run: PlannedRun, known: Iterable[PlannedRun]) -> tuple[float, bool]:
    """An estimate for what is left of a run, alone on the machine, and whether it is a rough one.

    It is measured where a run of this task is complete: best one of the same variant, or else one
    of another, whose rate is taken in the proportion of the rough table.
    """
    complete = [other for other in known if other.task == run.task]
    same = [other for other in complete if other.variant == run.variant]
    rough = _rough_rate(run)
    rates = [_measured_rate(other) * rough / _rough_rate(other) for other in same or complete]
    rate = float(np.median(rates)) if rates else rough
    left = 0.0 if run.is_damaged else 1 - run.share_done()
    steps = run.config.steps * run.config.num_seeds * left
    return START_SECONDS + steps / rate, not rates


def _rough_rate(run: PlannedRun) -> float:
    return rough_rate(run.config, on_device=run.task.seeds_share_a_run)


def _measured_rate(run: PlannedRun) -> float:
    """Environment steps per second of a complete run, of all seeds."""
    return float(np.nanmedian(read_run(run.directory).series("steps_per_second")))


def _cell(task: Task, runs: Sequence[PlannedRun]) -> Cell:
    data: RunData = merge_seeds([read_run(run.directory) for run in runs])
    times = [run.seconds() for run in runs]
    known = [seconds for seconds in times if seconds is not None]
    others = [cores for run in runs if (cores := run.others()) is not None]
    return Cell(
        task,
        data,
        sum(known) if len(known) == len(times) else None,
        max(others, default=None),
    )

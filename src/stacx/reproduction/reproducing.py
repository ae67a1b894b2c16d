"""An experiment from its plan to its report."""

from __future__ import annotations

import csv
import dataclasses
import json
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from stacx.errors import ConfigError, Interrupted, StacxError, TrainingWarning
from stacx.reproduction import statistics
from stacx.reproduction.analyses import DISTURBED
from stacx.reproduction.devices import Machine, OthersUse, find_machine
from stacx.reproduction.estimates import duration, in_all
from stacx.reproduction.execution import PROGRAM, Executor, Failure, Work, cores_of, still_to_do
from stacx.reproduction.experiments import EXPERIMENTS, Experiment
from stacx.reproduction.plan import Plan, State, make_plan, seconds_left
from stacx.reproduction.report import describe_run, write_report
from stacx.reproduction.results import Analysis
from stacx.reproduction.suites import SCALES, SUITES, Suite, check_installed
from stacx.runs.directory import exclusive
from stacx.runs.signals import stop_on_signals

_MARK = "experiment.json"
_LOOK = 1.0
"""Seconds in which it is seen whether they do."""
_NOTICE = "stopping; each run writes a checkpoint first, or finishes compiling and leaves"
_MOST_NAMED = 5
"""Failures that the last line names; the report has all."""


def reproduce(
    experiment: Experiment,
    suite: Suite,
    *,
    scale: str = "small",
    num_seeds: int | None = None,
    output: Path | str | None = None,
    tasks: Sequence[str] = (),
    jobs: int | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    program: Sequence[str] = PROGRAM,
) -> Path | None:
    """Trains what is not trained yet of an experiment, and reports on what is.

    Args:
        experiment: from `EXPERIMENTS`, or one's own.
        suite: from `SUITES`, or one's own.
        scale: small, medium or paper.
        num_seeds: seeds 0 ... K-1 of every variant on every task; by default the suite's.
        output: the directory of everything; by default `reproduced/NAME-SUITE-SCALE`.
        tasks: only those of the suite whose names have one of these in them; by default all.
        jobs: runs at once; by default one for each core or each GPU.
        dry_run: only print what there is to do.
        quiet: print nothing.
        program: what runs `stacx`.

    Returns:
        The report; None after a dry run.

    Raises:
        ConfigError: before anything is trained.
        Interrupted: after a signal; what is complete is in the report.
        StacxError: if runs failed; what is complete is in the report.
    """

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs must be positive, not {jobs}")
    plan = _checked_plan(experiment, suite, scale, num_seeds, output, tasks)
    try:
        _check_packages(plan)
    except ConfigError as error:
        if not dry_run:
            raise
        warnings.warn(f"not to be made here: {error}", TrainingWarning, stacklevel=2)
    machine = find_machine()
    at_once = 1 if experiment.one_at_a_time else jobs or machine.jobs
    if experiment.one_at_a_time and jobs not in (None, 1):
        raise ConfigError(
            f"--jobs {jobs} would spoil {experiment.name}, which measures time: leave it out"
        )
    work = _announce(plan, at_once, say)
    if dry_run:
        return None
    if experiment.one_at_a_time and work:
        _look_for_others()
    mark = _claim(plan)
    with exclusive(mark, f"another stacx reproduce works on {plan.output}"):
        with stop_on_signals(quiet=quiet, notice=_NOTICE) as request:
            failures = Executor(machine, at_once, say, program=program).make(
                work, request, complete=len(plan.runs) - len(work)
            )
        report = _report(plan, machine, failures, say)
    if request.signum is not None:
        complete = sum(run.state() is State.COMPLETE for run in plan.runs)
        raise Interrupted(
            f"stopped by {signal.Signals(request.signum).name} with {complete} of "
            f"{len(plan.runs)} runs complete; the same command goes on: {_command(plan)}",
            request.signum,
        )
    if failures:
        names = ", ".join(failure.run.label for failure in failures[:_MOST_NAMED])
        if len(failures) > _MOST_NAMED:
            names += f" and {len(failures) - _MOST_NAMED} more"
        raise StacxError(
            f"{len(failures)} of {len(plan.runs)} runs failed ({names}); their logs are beside "
            f"them below {plan.output / 'runs'}, and the same command tries again"
        )
    return report


def _checked_plan(
    experiment: Experiment,
    suite: Suite,
    scale: str,
    num_seeds: int | None,
    output: Path | str | None,
    tasks: Sequence[str],
) -> Plan:
    """The plan, if it can be carried out here."""
    if scale not in SCALES or scale not in suite.tasks:
        raise ConfigError(f"unknown scale {scale!r}: use {', '.join(suite.tasks)}")
    seeds = suite.seeds[scale] if num_seeds is None else num_seeds
    if seeds < experiment.least_seeds:
        least = f"{experiment.least_seeds} seed{'s' * (experiment.least_seeds > 1)}"
        raise ConfigError(f"{experiment.name} needs at least {least}: raise --num-seeds")
    folder = Path(output or Path("reproduced") / f"{experiment.name}-{suite.name}-{scale}")
    try:
        _check_output(folder, _identity(experiment, suite, scale, seeds))
    except OSError as error:
        raise ConfigError(f"cannot use --output {folder}: {error.strerror or error}") from error
    return make_plan(experiment, _only(suite, scale, tasks), scale, seeds, folder)


def _only(suite: Suite, scale: str, names: Sequence[str]) -> Suite:
    """The suite with those of its tasks at a scale whose name has one of these in it."""
    if not names:
        return suite
    known = suite.tasks[scale]
    for name in names:
        if not any(name.lower() in task.name.lower() for task in known):
            listed = ", ".join(task.name for task in known)
            raise ConfigError(f"--tasks {name}: {suite.name} at scale {scale} has {listed}")
    chosen = [t for t in known if any(name.lower() in t.name.lower() for name in names)]
    return dataclasses.replace(suite, tasks={scale: tuple(chosen)})


def _check_packages(plan: Plan) -> None:
    """Whether everything is installed that the runs and the report need."""
    check_installed(plan.tasks)
    if plan.experiment.least_seeds >= statistics.LEAST_SEEDS:
        statistics.check_installed()


def _look_for_others() -> None:
    """Warns if others use the machine on which time is to be measured."""
    others = OthersUse()
    time.sleep(_LOOK)
    if (cores := others.cores() or 0.0) > DISTURBED:
        warnings.warn(
            f"other processes keep {cores:.1f} cores busy: what is measured will be too slow",
            TrainingWarning,
            stacklevel=3,
        )


def _announce(plan: Plan, jobs: int, say: Callable[[str], None]) -> list[Work]:
    """Prints every run with its state, and returns those that are not complete."""
    states = {run.directory: run.state() for run in plan.runs}
    complete = [run for run in plan.runs if states[run.directory] is State.COMPLETE]
    seconds, guesses = {}, 0
    of_all = [task.steps for task in plan.tasks]
    steps = " to ".join(f"{steps:,}" for steps in sorted({min(of_all), max(of_all)}))
    seeds = f"{plan.num_seeds} seed{'s' * (plan.num_seeds > 1)} of {steps} steps"
    say(f"{plan.experiment.name} on {plan.suite.name}, scale {plan.scale}, {seeds},")
    say(f"in {plan.output}:")
    for run in plan.runs:
        left, rough = seconds_left(run, complete)
        say(describe_run(run, states[run.directory], left, rough))
        if states[run.directory] is not State.COMPLETE:
            seconds[run.directory] = left
            guesses += rough
    work = [Work(run, seconds[run.directory]) for run in still_to_do(plan.runs)]
    say(f"{len(complete)} of {len(plan.runs)} runs are complete")
    if work:
        cores = cores_of([item.run for item in work])
        total = in_all([item.seconds for item in work], jobs, cores)
        kind = "a rough estimate" if guesses else "by what was measured here"
        say(f"about {duration(total)} in all, {min(jobs, len(work))} at once ({kind})")
    return work


def _identity(experiment: Experiment, suite: Suite, scale: str, seeds: int) -> dict[str, object]:
    """What an output directory is for."""
    return {
        "experiment": experiment.name,
        "suite": suite.name,
        "scale": scale,
        "num_seeds": seeds,
    }


def _check_output(folder: Path, identity: dict[str, object]) -> None:
    """Whether a directory is free, or of this experiment."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is not a directory: choose another")
    mark = folder / _MARK
    if not mark.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"--output {folder} is not empty, and no directory of stacx reproduce (it has no "
                f"{_MARK}): choose another"
            )
        return
    try:
        there = json.loads(mark.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {mark}: {error}") from error
    found = there if isinstance(there, dict) else {}
    different = [key for key, value in identity.items() if found.get(key) != value]
    if different == ["num_seeds"]:
        seeds = found.get("num_seeds")
        raise ConfigError(
            f"--output {folder} holds this experiment with {seeds} seeds: go on with --num-seeds "
            f"{seeds}, or choose another"
        )
    if different:
        listed = "; ".join(f"{key} {found.get(key)}, not {identity[key]}" for key in different)
        raise ConfigError(f"--output {folder} holds another experiment ({listed}): choose another")


def _claim(plan: Plan) -> Path:
    """Marks the output directory as the experiment's."""
    mark = plan.output / _MARK
    identity = _identity(plan.experiment, plan.suite, plan.scale, plan.num_seeds)
    try:
        plan.output.mkdir(parents=True, exist_ok=True)
        if not mark.exists():
            mark.write_text(json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write to {plan.output}: {error.strerror or error}") from error
    return mark


def _report(
    plan: Plan, machine: Machine, failures: Sequence[Failure], say: Callable[[str], None]
) -> Path:
    """Tables, figures and the page, of what is complete."""
    results = plan.results()
    analysis = plan.experiment.analyse(results) if results.cells else Analysis()
    report = plan.output / "report.html"
    try:
        _write_tables(plan.output / "tables", analysis)
        pictures = _write_figures(plan.output / "figures", analysis)
        write_report(
            report,
            plan,
            analysis,
            pictures,
            machine=machine,
            command=_command(plan),
            failures=failures,
            without_score=results.without_score,
        )
    except OSError as error:
        raise StacxError(f"cannot write to {plan.output}: {error.strerror or error}") from error
    for cell in results.without_score:
        say(f"{cell} is complete, but some seed has ended no episode: it has no score")
    for comparison in analysis.comparisons:
        paper = f" (paper: {comparison.paper})" if comparison.paper else ""
        say(f"{comparison.quantity}: {comparison.ours}{paper}")
    say(f"report: {report}")
    return report


def _write_tables(folder: Path, analysis: Analysis) -> None:
    folder.mkdir(exist_ok=True)
    for table in analysis.tables:
        with (folder / f"{table.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.columns)
            writer.writerows(table.rows)


def _write_figures(folder: Path, analysis: Analysis) -> list[Path]:
    """Each as PNG and as PDF; returns the PNGs."""
    folder.mkdir(exist_ok=True)
    pictures = []
    for illustration in analysis.illustrations:
        picture = folder / f"{illustration.name}.png"
        illustration.figure.savefig(picture, dpi=130)
        illustration.figure.savefig(picture.with_suffix(".pdf"))
        pictures.append(picture)
    return pictures


def _command(plan: Plan) -> str:
    """What goes on with it: `stacx reproduce`, or the script whose own experiment it is."""
    experiment, suite = plan.experiment, plan.suite
    known = SUITES.get(suite.name)
    tasks = suite.tasks[plan.scale]
    if (
        EXPERIMENTS.get(experiment.name) != experiment
        or known is None
        or suite != dataclasses.replace(known, tasks=suite.tasks)
        or not all(task in known.tasks[plan.scale] for task in tasks)
    ):
        return shlex.join(["python", *sys.argv])
    chosen = [task.name for task in tasks] if tasks != known.tasks[plan.scale] else []
    return shlex.join(
        [
            *("stacx", "reproduce", experiment.name, "--suite", suite.name),
            *("--scale", plan.scale, "--num-seeds", str(plan.num_seeds)),
            *(["--tasks", *chosen] if chosen else []),
            *("--output", str(plan.output)),
        ]
    )

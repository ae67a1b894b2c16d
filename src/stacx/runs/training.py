"""A whole run: from a config to a run directory, stoppable and resumable at any moment."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stacx import environments
from stacx.agents import suite_of
from stacx.config import Config
from stacx.errors import (
    BrokenEnvironmentError,
    ConfigError,
    DivergenceError,
    Interrupted,
    StacxError,
    TrainingWarning,
)
from stacx.reporting import plot_runs
from stacx.runs.checkpoints import Checkpoints
from stacx.runs.console import TrainingConsole
from stacx.runs.directory import RunDirectory
from stacx.runs.events import EventWriters
from stacx.runs.failures import evaluation_command, resume_command, writing_to
from stacx.runs.leading import agree, follow, leading
from stacx.runs.lines import metric_lines, runaway_heads
from stacx.runs.signals import StopRequest, stop_on_signals
from stacx.runtimes import hosts
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.base import Runtime, TrainState
from stacx.runtimes.compilation import enable_compile_cache, run_cpu_programs_at_once
from stacx.runtimes.on_device import OnDeviceRuntime
from stacx.types import Box

_CHUNK_SECONDS = 0.5
"""How long the compiled program runs before the host looks at signals."""
_LONG = 100.0
"""Gradients of so many times the norm to which they are clipped are too long, if it lasts for
`_LONG_LINES` lines of metrics: no run that learned had that (docs/results/control.md)."""
_LONG_LINES = 5
_ENDLESS_STEPS = 30_000
"""Steps of an environment within which an episode should have ended: more than Atari's 27,000."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk."""

    directory: Path

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, oldest first."""
        return RunDirectory(self.directory).metrics()

    def config(self) -> Config:
        """The run's complete config."""
        return RunDirectory(self.directory).config()


def train(
    config: Config,
    run_dir: Path | str | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains an agent, and leaves everything about it in a run directory.

    Args:
        config: what to train, and how.
        run_dir: the run directory; by default a new one under `runs/`.
        resume: continue the run in `run_dir` from its newest whole checkpoint. An on-device run
            continues bit for bit, as if it had never stopped; environments on the host start again.
        quiet: print nothing; warnings are given all the same.

    Compiled programs are kept on disk, and if JAX has no CPU client yet, it is told to run CPU
    programs in the thread that calls them: both for the whole process.

    After `jax.distributed.initialize` this is one of several hosts that train one run together;
    each of them calls it with the same config. Host 0 has the run directory.

    Returns:
        The run.

    Raises:
        ConfigError: if the config cannot be trained or does not match the run to resume.
        Interrupted: after SIGINT or SIGTERM, when a checkpoint has been written.
        StacxError: if the run failed; the message says what to do.
    """
    enable_compile_cache()
    run_cpu_programs_at_once()
    if resume and run_dir is None:
        raise ConfigError("--resume needs --run-dir: the run to continue")
    path = Path(run_dir) if run_dir is not None else default_directory(config)
    path = agree(config, path)
    with hosts.all_or_none():
        own = _make_runtime(config)
    with contextlib.closing(own), stop_on_signals(quiet=quiet) as request:
        if jax.process_index() > 0:
            TrainingConsole(config, quiet=quiet).say("trains with host 0, which reports")
            follow(own, request)
            return Run(path)
        with leading(own, request) as runtime:
            create = _open_to_resume if resume else RunDirectory.create
            directory = create(path, config)
            with directory.locked(), TrainingConsole(config, quiet=quiet) as console:
                _Training(directory, config, runtime, console, request).run(resume=resume)
    return Run(path)


def _make_runtime(config: Config) -> Runtime:
    """On-device for environments in JAX, actors and a learner for those of the host."""
    environment = environments.make(config.env, config.env_args, seconds=config.env_timeout)
    numbers = isinstance(environment.action_space, Box)
    features = environment.observation_dtype != np.uint8
    if numbers and features and config.suite == suite_of(config.env) == "classic":
        warnings.warn(
            f"actions of {config.env} are numbers, and the preset `classic` is made for choices: "
            "--suite continuous may suit it better",
            TrainingWarning,
            stacklevel=3,
        )
    if isinstance(environment, environments.HostEnvironment):
        return ActorLearnerRuntime(config, environment)
    return OnDeviceRuntime(config, environment)


def default_directory(config: Config) -> Path:
    """`runs/ENV-AGENT-SEED-TIME`."""
    env = config.env.partition(":")[2].replace(":", "-").replace("/", "-")
    return Path("runs") / f"{env}-{config.agent}-{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def _open_to_resume(path: Path, config: Config) -> RunDirectory:
    directory = RunDirectory.open(path)
    stored = directory.config()
    different = [
        f"{name} ({getattr(stored, name)!r} there, {getattr(config, name)!r} here)"
        for name in stored.differences(config)
    ]
    if different:
        raise ConfigError(
            f"{path} is a run with another config; different: {', '.join(different)}: leave these "
            "flags as they were"
        )
    return directory


class _Training:
    """The loop of a run: chunks of iterations, and what the host does between them."""

    def __init__(
        self,
        directory: RunDirectory,
        config: Config,
        runtime: Runtime,
        console: TrainingConsole,
        request: StopRequest,
    ):
        self._directory = directory
        self._config = config
        self._runtime = runtime
        self._console = console
        self._request = request
        self._checkpoints = Checkpoints(directory.checkpoints, kept=config.checkpoints_kept)
        self._last_lines: dict[int, dict[str, Any]] = {}
        self._warned: set[Any] = set()
        self._long_gradients: collections.Counter[int] = collections.Counter()
        self._seconds_per_update: float | None = None
        self._saved: tuple[int, dict[str, int]] | None = None

    def run(self, *, resume: bool) -> None:
        """From the start or the newest checkpoint to the last update."""
        self._console.say(f"run directory: {self._directory.path}")
        updates, state = self._restore() if resume else (0, None)
        if updates < self._config.total_updates:
            self._console.show_settings(self._runtime.without_effect)
            also = "waiting for remote actors, and " if self._config.actors == "ray" else ""
            self._console.say(f"{also}compiling, unless a run of this kind was compiled before")
            self._loop(updates, self._runtime.init() if state is None else state)
            self._say_farewell()
            self._runtime.close()
        else:
            self._console.say("the run is complete already")
        self._console.say(f"figure: {self._draw()}")
        self._console.say(f"evaluate with: {evaluation_command(self._directory.path)}")

    def _say_farewell(self) -> None:
        for sentence in self._runtime.farewell():
            self._console.say(sentence)

    def _draw(self) -> Path:
        try:
            return plot_runs([self._directory.path], self._directory.figures / "training.png")
        except ConfigError as error:
            raise StacxError(f"the run is complete, but {error}") from error

    def _loop(self, updates: int, state: TrainState) -> None:
        config = self._config
        with self._console, EventWriters(self._directory.events, updates) as events:
            state = self._runtime.prepare(state)  # no part of the first rate
            saved_at = interval_start = time.monotonic()
            interval_updates = updates
            while updates < config.total_updates:
                boundary = self._next_boundary(updates)
                state = self._run_chunk(state, boundary - updates)
                before, updates = updates, int(np.asarray(state.iteration)[0])
                failure = self._failure(state)
                if updates == boundary or failure:
                    now = time.monotonic()
                    steps = (updates - interval_updates) * config.batch_steps * config.num_seeds
                    with self._runtime.saving():
                        self._record(updates, state, steps / (now - interval_start), events)
                        self._look_for_endless_episodes(updates)
                        state = self._runtime.clear_interval(state)
                    interval_start, interval_updates = now, updates
                if failure:
                    raise failure
                if self._request.signum is not None:
                    self._save(updates, state)
                    self._leave(updates, self._request.signum)
                points = config.checkpoint_points
                due = self._passed(updates, points) > self._passed(before, points)
                if due or time.monotonic() - saved_at > 60 * config.checkpoint_minutes:
                    self._save(updates, state)
                    saved_at = time.monotonic()
            self._save(updates, state)
        self._look_for_skipped_updates()

    def _next_boundary(self, updates: int) -> int:
        """The next number of updates at which a line of metrics is due."""
        total, points = self._config.total_updates, self._config.log_points
        # Point k is at ceil(k total / points); the next one is the first beyond `updates`.
        k = self._passed(updates, points) + 1
        return min(-(-k * total // points), total)

    def _passed(self, updates: int, points: int) -> int:
        """How many of `points` spread evenly over the run have been reached."""
        return updates * points // self._config.total_updates

    def _run_chunk(self, state: TrainState, most: int) -> TrainState:
        """At most `most` iterations, and about as many as fit in `_CHUNK_SECONDS`."""
        fitting = 1
        if self._seconds_per_update is not None:
            fitting = int(_CHUNK_SECONDS / max(self._seconds_per_update, 1e-6))
        iterations = max(1, min(most, fitting))
        start = time.monotonic()
        state = self._runtime.run(state, iterations, lambda: self._request.signum is not None)
        self._seconds_per_update = (time.monotonic() - start) / iterations
        return state

    def _record(
        self, updates: int, state: TrainState, steps_per_second: float, events: EventWriters
    ) -> None:
        lines = self._runtime.complete(
            metric_lines(self._config, updates, state.interval, steps_per_second, self._last_lines)
        )
        with writing_to(self._directory.path):
            self._directory.append_metrics(lines)
            events.write(lines)
        self._last_lines = {line["seed"]: line for line in lines}
        for line in lines:
            for head in runaway_heads(line):
                self._warn_of(head, line)
            self._look_for_long_gradients(line)
        self._console.update(updates, lines, steps_per_second)

    def _warn_of(self, head: int, line: dict[str, Any]) -> None:
        self._warn_once(
            (line["seed"], head),
            f"auxiliary head {head + 1} of seed {line['seed']} runs away: values "
            f"{line[f'value_min/{head}']:.3g} to {line[f'value_max/{head}']:.3g}, largest "
            f"importance weight {line[f'importance_max/{head}']:.3g}, entropy "
            f"{line[f'entropy/{head}']:.3g}; a smaller --reward-scale or --max-aux-gradient, a "
            "larger --g-e or a wider torso keep head 1 from it (docs/guide.md)",
        )

    def _look_for_long_gradients(self, line: dict[str, Any]) -> None:
        """Warns after some lines in a row: the first may be long where nothing is wrong."""
        seed, times = line["seed"], line["gradient_norm"] / self._config.max_gradient_norm
        self._long_gradients[seed] = self._long_gradients[seed] + 1 if times > _LONG else 0
        if self._long_gradients[seed] >= _LONG_LINES:
            self._warn_once(
                ("gradients", seed),
                f"gradients of seed {seed} are {times:,.0f} times as long as --max-gradient-norm, "
                "and are cut to it: values may not be learned; a smaller --reward-scale (now "
                f"{self._config.reward_scale:g}) helps (docs/guide.md)",
            )

    def _look_for_endless_episodes(self, updates: int) -> None:
        """Warns where it first can be told, and at the end of the run."""
        steps = updates * self._config.batch_steps // self._runtime.num_environments
        ended = any(line["episode_return"] is not None for line in self._last_lines.values())
        if not ended and steps > _ENDLESS_STEPS:
            self._warn_once(
                ("endless", updates == self._config.total_updates),
                f"no episode of {self._config.env} has ended in {steps:,} steps of each "
                "environment, so there is no return: check its `terminated` and `truncated`, one "
                "of which must become true",
            )

    def _look_for_skipped_updates(self) -> None:
        skipped = sum(line["skipped_updates"] for line in self._last_lines.values())
        if skipped:
            updates = self._config.total_updates * self._config.num_seeds
            self._warn_once(
                "skipped",
                f"{skipped:,} of {updates:,} updates were skipped, since a gradient or "
                "metaparameter was not finite; a smaller --learning-rate or --reward-scale helps",
            )

    def _warn_once(self, what: Any, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(message, TrainingWarning, stacklevel=2)

    def _failure(self, state: TrainState) -> StacxError | None:
        """Why the run cannot go on, if so."""
        bad = {
            "observations": int(np.max(np.asarray(state.interval.bad_observations))),
            "rewards": int(np.max(np.asarray(state.interval.bad_rewards))),
        }
        for name, count in bad.items():
            if count:
                iteration = int(np.asarray(state.iteration)[0])
                return BrokenEnvironmentError(
                    f"{self._config.env} returned {name} that are not finite ({count} numbers by "
                    f"update {iteration}): mend the environment; {self._remains()}"
                )
        skipped = np.asarray(state.learner.skipped_in_a_row)
        if np.max(skipped) >= self._config.max_skipped_updates:
            return DivergenceError(self._diagnosis(state, int(np.argmax(skipped))))
        return None

    def _diagnosis(self, state: TrainState, index: int) -> str:
        interval = jax.tree.map(lambda leaf: np.asarray(leaf)[index], state.interval)
        iteration, skipped = map(np.asarray, (state.iteration, state.learner.skipped_in_a_row))
        meta = ", ".join(f"{k} {np.round(v, 4).tolist()}" for k, v in interval.latest.items())
        return (
            f"training diverged: seed {self._config.seed + index} had "
            f"{int(skipped[index])} updates in a row with a gradient or "
            f"metagradient that is not finite, by update {int(iteration[index])}; values "
            f"{interval.lows['value_min'].tolist()} to {interval.highs['value_max'].tolist()}, "
            f"largest importance weights {interval.highs['importance_max'].tolist()}, {meta}. "
            f"Try a smaller --learning-rate or --reward-scale; {self._remains()}"
        )

    def _remains(self) -> str:
        """What a run that fails leaves behind."""
        count = "a checkpoint" if self._checkpoints.steps() else "no checkpoint yet"
        return f"{self._directory.path} holds the metrics so far and {count}"

    def _save(self, updates: int, state: TrainState) -> None:
        counts = self._runtime.counts()
        if (updates, counts) != self._saved:
            specification = self._runtime.policy_specification()
            with self._runtime.saving():
                arrays = self._runtime.arrays_of(state)
                self._checkpoints.save(updates, arrays, specification | counts)
            self._saved = updates, counts

    def _restore(self) -> tuple[int, TrainState | None]:
        """The newest whole checkpoint, if there is any, with the metrics cut back to it."""
        if not self._checkpoints.steps():
            self._console.say("there is no checkpoint yet: starting from the beginning")
            self._truncate_metrics(0)
            return 0, None
        updates, arrays, metadata = self._checkpoints.load_newest()
        self._runtime.count_on_from(metadata)
        self._truncate_metrics(updates)
        steps = updates * self._config.batch_steps
        self._console.say(f"resumed at {steps:,} steps ({updates} updates)")
        if self._runtime.restarts_environments:
            self._console.say("environments start again, with other seeds")
        return updates, self._runtime.state_of(arrays)

    def _truncate_metrics(self, updates: int) -> None:
        with writing_to(self._directory.path):
            kept = self._directory.truncate_metrics(updates)
        self._last_lines = {line["seed"]: line for line in kept}

    def _leave(self, updates: int, signum: int) -> None:
        self._say_farewell()
        steps = updates * self._config.batch_steps
        raise Interrupted(
            f"stopped by {signal.Signals(signum).name} at {steps:,} steps; continue with: "
            f"{resume_command(self._directory.path)}",
            signum,
        )

"""What a person sees of a run: its settings, a progress bar, warnings."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stacx.agents import METAPARAMETERS
from stacx.config import Config, flag_of
from stacx.core.metaparameters import hyperparameters, initial_logits
from stacx.runs.lines import summary

_PLAIN_SECONDS = 10.0
"""Seconds between two lines where the output is no terminal."""
_ALWAYS_SHOWN = ("env", "agent", "seed", "num_seeds", "initial_logit")
"""Settings of no preset that a run is known by; others are shown if they were given."""


class _Console(Console):
    """Falls silent when nobody reads it any more, as in `stacx train | head`; the run goes on."""

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()  # points the standard output to nowhere, and then exits


class TrainingConsole:
    """Prints to the standard output, or nothing if `quiet`."""

    def __init__(self, config: Config, *, quiet: bool = False):
        self._config = config
        self._console = _Console(quiet=quiet, highlight=False, markup=False, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("training", total=config.total_updates, text="")
        self._last_print = time.monotonic()

    def __enter__(self) -> TrainingConsole:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, soft_wrap=True)

    def show_settings(self, without_effect: Iterable[str] = ()) -> None:
        """The resolved settings, each with its source, and what they do not say plainly.

        Of those `without_effect`, and others that have none, only what was given is shown.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("setting", no_wrap=True)
        for title in ("value", "source"):
            table.add_column(title, overflow="fold")
        idle = _without_effect(self._config).union(without_effect)
        for name, value, source in _settings(self._config, idle):
            table.add_row(flag_of(name).removeprefix("--"), value, source)
        self._console.print(table)
        for note in _notes(self._config):
            self.say(note)

    def update(
        self, updates: int, lines: Sequence[dict[str, Any]], steps_per_second: float
    ) -> None:
        """Moves the bar; without a terminal, prints a line every few seconds."""
        config = self._config
        shown = summary(lines)
        mean_return = shown.pop("episode_return")
        parts = [f"{updates * config.batch_steps:,} steps", f"{_short(steps_per_second)}/s"]
        parts.append("return -" if mean_return is None else f"return {mean_return:.4g}")
        parts += [f"{name} {shown[name]:.3g}" for name in config.tuned]
        self._progress.update(self._task, completed=updates, text="  ".join(parts))
        now = time.monotonic()
        done = updates >= config.total_updates
        if not self._console.is_terminal and (done or now - self._last_print > _PLAIN_SECONDS):
            self._last_print = now
            self.say("  ".join(parts))


def _settings(config: Config, idle: set[str]) -> Iterator[tuple[str, str, str]]:
    """Name, value and source of the settings that are not idle or were given."""
    presets = {"suite", *config.presets()}
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        usual = config.usual(name)
        text = _text(value)
        if name == "tune":
            text = "all" if config.tuned == METAPARAMETERS else value.replace(",", ", ")
        if value != usual.value:
            yield name, text, "given"
        elif (name in presets or name in _ALWAYS_SHOWN) and name not in idle:
            yield name, text, usual.source


def _without_effect(config: Config) -> set[str]:
    of_torsos = {
        "mlp_widths": ("mlp",),
        "channels": ("resnet",),
        "torso_output": ("minatar", "resnet", "shallow", "nature"),
    }
    idle = {name for name, torsos in of_torsos.items() if config.torso not in torsos}
    if config.heads == 1:
        idle.add("max_aux_gradient")
    return idle if config.tuned else idle | {"initial_logit", "meta_learning_rate", "g_kl"}


def _notes(config: Config) -> Iterator[str]:
    """What a reader of the settings would miss."""
    if config.tuned:
        values = hyperparameters(initial_logits(config), config)
        starts = ", ".join(f"{name} {float(values[name][0]):.3g}" for name in config.tuned)
        yield f"gamma to g-e are the outer loss's; inner values start at: {starts}"
        updates = config.total_updates
        reach = config.meta_learning_rate * -(-updates // config.meta_interval)
        yield (
            f"{updates:,} updates, in which metaparameters' logits move by at most about "
            f"{reach:.2g} (see Short runs in docs/guide.md)"
        )
    steps = config.total_updates * config.batch_steps
    if steps != config.steps:
        yield f"{config.steps:,} steps become {steps:,}: whole updates of {config.batch_steps:,}"
    if config.num_seeds > 1:
        yield (
            f"{config.num_seeds} seeds, each of {steps:,} steps; return and metaparameters below "
            "are their means, and the rate is of all together"
        )


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e3 else f"{number:.0f}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)

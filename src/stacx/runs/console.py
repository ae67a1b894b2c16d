"""What a person sees of a run: its settings, a progress bar, warnings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stacx.config import Config, flag_of
from stacx.runs.lines import summary

_PLAIN_SECONDS = 10.0
"""Seconds between two lines where the output is no terminal."""


class _Console(Console):
    """Falls silent when nobody reads it any more, as in `stacx train | head`; the run goes on."""

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()  # points the standard output to nowhere, and then exits


class TrainingConsole:
    """Prints to the standard output, or nothing if `quiet`."""

    def __init__(self, config: Config, *, quiet: bool = False):
        self._config = config
        self._console = _Console(quiet=quiet, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
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
        self._console.print(text, soft_wrap=True, markup=False)

    def show_settings(self) -> None:
        """The resolved settings that presets decide, each with its source."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("setting", "value", "source"):
            table.add_column(title)
        for name, preset in self._config.presets().items():
            value = getattr(self._config, name)
            source = preset.source if value == preset.value else "given"
            table.add_row(flag_of(name).removeprefix("--"), _text(value), source)
        self._console.print(table)

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


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e3 else f"{number:.0f}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)

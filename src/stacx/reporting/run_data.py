"""What a run directory says of its run, as arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from stacx.config import Config
from stacx.errors import ConfigError


@dataclass(frozen=True)
class RunData:
    """The config and the metrics of one run; N points in time, the same for all seeds."""

    directory: Path
    config: Config
    env_steps: Int[np.ndarray, "N"]
    """Environment steps of each point, ascending."""
    seeds: list[int]
    """Every seed that has metrics, ascending."""
    _lines: dict[tuple[int, int], dict[str, Any]] = field(repr=False, compare=False)
    """The line of metrics of a seed at a number of environment steps."""

    def series(self, key: str) -> Float[np.ndarray, "seeds N"]:
        """One metric of every seed over time, in the metric's own unit.

        It is NaN where it was null, and where a seed has no line (another was logged further).

        Raises:
            KeyError: if no line of the run has this metric.
        """
        if not any(key in line for line in self._lines.values()):
            raise KeyError(f"{self.directory} has no metric {key!r}")

        def value(seed: int, steps: int) -> float:
            found = self._lines.get((seed, steps), {}).get(key)
            return math.nan if found is None else float(found)

        return np.array([[value(seed, int(s)) for s in self.env_steps] for seed in self.seeds])


def read_run(directory: Path) -> RunData:
    """Reads `config.json` and `metrics.jsonl` of a run directory.

    The run may still be going on: a line cut short is passed over. Where a resumed run repeats a
    point, the later line counts.

    Raises:
        ConfigError: if it is not a run directory, or has no metrics yet.
    """
    if not directory.is_dir():
        reason = "it is not a directory" if directory.exists() else "there is no such directory"
        raise ConfigError(f"{directory} is not a run directory: {reason}")
    try:
        config = Config.from_json(_read(directory / "config.json"))
    except FileNotFoundError as error:
        runs = directory / "runs"
        hint = f"; {runs} has those of an experiment" if runs.is_dir() else ""
        raise ConfigError(
            f"{directory} is not a run directory: it has no config.json{hint}"
        ) from error
    except (ConfigError, OSError) as error:
        raise ConfigError(f"{directory} cannot be read: {error}") from error
    try:
        lines = _parse(_read(directory / "metrics.jsonl").splitlines())
    except FileNotFoundError:
        lines = {}
    except OSError as error:
        raise ConfigError(f"{directory} cannot be read: {error}") from error
    if not lines:
        raise ConfigError(f"{directory} has no metrics yet")
    return RunData(
        directory=directory,
        config=config,
        env_steps=np.array(sorted({steps for _, steps in lines})),
        seeds=sorted({seed for seed, _ in lines}),
        _lines=lines,
    )


def merge_seeds(runs: Sequence[RunData]) -> RunData:
    """Runs that differ in their seeds, as one: with the directory and the config of the first."""
    lines = {place: line for run in runs for place, line in run._lines.items()}
    return RunData(
        directory=runs[0].directory,
        config=runs[0].config,
        env_steps=np.array(sorted({steps for _, steps in lines})),
        seeds=sorted({seed for seed, _ in lines}),
        _lines=lines,
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _parse(lines: Iterable[str]) -> dict[tuple[int, int], dict[str, Any]]:
    """Every complete line, by seed and environment steps."""
    parsed: dict[tuple[int, int], dict[str, Any]] = {}
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and "seed" in values and "env_steps" in values:
            parsed[int(values["seed"]), int(values["env_steps"])] = values
    return parsed

"""The run directory: `config.json`, `metrics.jsonl`, `events/`, `checkpoints/`, `figures/`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from stacx.config import Config
from stacx.environments import code_of
from stacx.errors import ConfigError
from stacx.imports import require_own


class RunDirectory:
    """Paths of a run, and its two text files."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def config_file(self) -> Path:
        """The complete, resolved config."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """TensorBoard events, a folder per seed."""
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        """Orbax checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Figures drawn at the end of the run."""
        return self.path / "figures"

    @staticmethod
    def create(path: Path, config: Config) -> RunDirectory:
        """A new run directory with its config.

        Raises:
            ConfigError: if it exists with anything in it, or cannot be written.
        """
        run = RunDirectory(path)
        try:
            if run.config_file.exists():
                raise ConfigError(
                    f"{path} holds a run already: continue it with --resume, "
                    "or choose another --run-dir"
                )
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path} exists and is not a directory")
            if path.exists() and any(path.iterdir()):
                raise ConfigError(f"{path} exists and is not empty: choose another --run-dir")
            path.mkdir(parents=True, exist_ok=True)
            _replace(run.config_file, config.to_json())
        except OSError as error:
            raise ConfigError(f"cannot write to {path}: {error.strerror or error}") from error
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """An existing run directory.

        Raises:
            ConfigError: if it is none.
        """
        run = RunDirectory(path)
        if not run.config_file.is_file():
            reason = "there is no such directory"
            if path.exists():
                reason = "it has no config.json" if path.is_dir() else "it is not a directory"
            raise ConfigError(f"{path} is not a run directory: {reason}")
        return run

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Around the training of a run: no two processes write to it. A kill unlocks it, too.

        Raises:
            ConfigError: if another process trains this run.
        """
        with exclusive(self.config_file, f"another process is training {self.path}"):
            yield

    @property
    def in_use(self) -> bool:
        """Whether a process is training this run at the moment."""
        try:
            with self.locked():
                return False
        except OSError:
            return False  # there is none, or training will say what is wrong
        except ConfigError:
            return True

    def config(self) -> Config:
        """The run's config. Raises `ConfigError` if the file is damaged."""
        try:
            return Config.from_json(self.config_file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {self.config_file}: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{self.config_file}: {error}") from error

    def check_function(
        self, setting: Literal["env", "torso"], given: str | None, ask: str | None = None
    ) -> None:
        """Whether the code may be run that the config names, if it does, for a setting.

        Args:
            setting: the setting.
            given: its value as the caller names it, who then trusts it; None: he does not.
            ask: how the caller could name it; by default with the setting's flag.

        Raises:
            ConfigError: if `given` is something else, or is None and the code is not in a file of
                the user's own.
        """
        stored: str = getattr(self.config(), setting)
        if given not in (None, stored):
            raise ConfigError(f"{self.path} is a run with {setting} {stored!r}, not {given!r}")
        code = code_of(stored) if setting == "env" else stored
        if given is None and code and ":" in code:
            require_own(code, self.path, ask or f"--{setting} {shlex.quote(stored)}")

    def function_flags(self) -> str:
        """The flags without which `check_function` refuses a command; often none."""
        flags = ""
        with contextlib.suppress(ConfigError):  # without a config there is nothing to say
            config = self.config()
            for setting in ("env", "torso"):
                try:
                    self.check_function(setting, None)
                except ConfigError:
                    flags += f" --{setting} {shlex.quote(getattr(config, setting))}"
        return flags

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics, oldest first; a damaged one is passed over."""
        if not self.metrics_file.exists():
            return []
        lines = _complete_lines(self.metrics_file.read_bytes())
        return [values for values in map(_parse, lines) if values is not None]

    def append_metrics(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Adds lines and brings them to the disk. Numbers that are not finite become null."""
        text = "".join(json.dumps(_finite(line), allow_nan=False) + "\n" for line in lines)
        with self.metrics_file.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def truncate_metrics(self, updates: int) -> list[dict[str, Any]]:
        """Drops the lines after `updates`, written since the checkpoint, and returns the rest."""
        kept = [line for line in self.metrics() if line.get("updates", math.inf) <= updates]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        _replace(self.metrics_file, text)
        return kept


@contextlib.contextmanager
def exclusive(file: Path, message: str) -> Iterator[None]:
    """Around what one process at a time may do, by a lock on a file. A kill unlocks it, too.

    Raises:
        ConfigError: with this message, if another process holds the lock.
    """
    with file.open() as opened:
        try:
            _lock(opened.fileno())
        except BlockingIOError as error:
            raise ConfigError(message) from error
        yield


def _lock(descriptor: int) -> None:
    """Locks an open file, where the system and the file system can."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return


def _replace(file: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def _complete_lines(content: bytes) -> list[bytes]:
    """Lines that end; a line cut short by a kill is the last one."""
    return content.split(b"\n")[:-1]


def _parse(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, if it is one."""
    with contextlib.suppress(ValueError):
        values = json.loads(line)
        if isinstance(values, dict):
            return values
    return None


def _finite(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in line.items()
    }

"""`stacx train`: trains an agent into a run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from stacx.cli.parsing import parse, plain_counts, take_options
from stacx.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train an agent. The defaults shown are those of the chosen --env and --agent."""

    config: Config
    run_dir: Path | None = None
    """Where the run goes; by default a new directory under runs/."""
    resume: bool = False
    """Continue the run in --run-dir from its newest checkpoint; its settings are those it has."""
    quiet: bool = False
    """Print nothing but warnings."""
    hosts: int | Literal["auto"] = 1
    """So many processes train one run together; auto: as SLURM, Open MPI or Kubernetes say."""
    host_index: int | None = None
    """Which of them this one is, from 0."""
    coordinator: str | None = None
    """HOST:PORT of host 0, where it listens and the others find it."""
    host_timeout: float = 120.0
    """Seconds to wait for other hosts before giving up."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    arguments = plain_counts(arguments, "--steps")
    default = Arguments(_default_config(arguments))
    parsed = parse(Arguments, arguments, command="train", default=default)
    _join(parsed)
    from stacx.runs import train

    train(parsed.config, parsed.run_dir, resume=parsed.resume, quiet=parsed.quiet)
    return 0


def _join(parsed: Arguments) -> None:
    """Becomes one of several hosts, if there are several; a script may also ask for one."""
    if parsed.hosts == 1 and parsed.host_index in (None, 0):
        return
    from stacx.runtimes import hosts

    hosts.join(parsed.hosts, parsed.host_index, parsed.coordinator, patience=parsed.host_timeout)


def _default_config(arguments: Sequence[str]) -> Config:
    """What the flags are relative to: presets, or the config of the run to resume."""
    options = take_options(arguments, ("env", "torso", "agent", "suite", "run-dir", "actors"))
    if "--resume" in arguments and "run-dir" in options:
        from stacx.runs import RunDirectory

        directory = RunDirectory.open(Path(options["run-dir"]))
        directory.check_function("env", options.get("env"))
        directory.check_function("torso", options.get("torso"))
        stored = directory.config()
        return stored.with_threads() if options.get("actors") == "threads" else stored
    given: Any = {name: options[name] for name in ("env", "agent", "suite") if name in options}
    return Config(**given)

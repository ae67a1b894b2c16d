"""Runs so small that a test can afford them, and what tests ask of them.

`tests/runs` and `tests/cli` share the fixtures here through their conftest.py.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from stacx.config import Config, flag_of
from stacx.runs import Run, train, training
from stacx.runs.checkpoints import Checkpoints
from stacx.runs.directory import RunDirectory
from stacx.runtimes.on_device import OnDeviceRuntime

TINY = {
    "env": "gymnax:Catch-bsuite",
    "agent": "stac",
    "tune": "gamma,lambda",
    "num_envs": 4,
    "trajectory_length": 5,
    "mlp_widths": (8,),
    "steps": 2000,
    "log_points": 5,
    "checkpoint_points": 0,
}
"""A hundred updates."""
OFTEN = {"checkpoint_minutes": 0.0}
"""A checkpoint after every chunk."""
TWO_SEEDS = {"agent": "stacx", "tune": "gamma,g_e", "seed": 3, "num_seeds": 2, "lstm_size": 4}
"""What else there is: several seeds, several heads, memory, outer values."""
_OF_THE_HOST = {
    "log_points": 100,
    "checkpoint_points": 10,
    "checkpoint_minutes": 2.0,
    "checkpoints_kept": 3,
}
"""Settings that do not change the compiled program."""


def tiny_config(**settings) -> Config:
    return Config(**TINY | settings)


def tiny_flags(**settings) -> list[str]:
    """The same for the command line."""
    flags = []
    for name, value in (TINY | settings).items():
        if value is True:
            flags.append(flag_of(name))
            continue
        values = value if isinstance(value, tuple) else (value,)
        flags += [flag_of(name), *map(str, values)]
    return flags


class SharedRuntime(OnDeviceRuntime):
    """Compiles a program once, however many runs of a test session use it."""

    _built: ClassVar = {}

    def __new__(cls, config, environment):
        new = super().__new__(cls)
        if not config.env.startswith("gymnax:"):
            return new  # a module of a test: another one may have the same name
        return cls._built.setdefault(dataclasses.replace(config, **_OF_THE_HOST), new)

    def __init__(self, config, environment):
        if not hasattr(self, "_init"):
            super().__init__(config, environment)
            self._init = jax.jit(self._init_all, out_shardings=self._shardings)

    def init(self):
        return self._init()


@pytest.fixture(autouse=True)
def cheap_programs(monkeypatch, compile_cache):
    """Programs are compiled once, and quickly; none goes to the cache of who runs the tests."""
    monkeypatch.setattr(training, "OnDeviceRuntime", SharedRuntime)
    before = {name: jax.config.values[name] for name in compile_cache}
    for name, value in compile_cache.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
    """JAX's settings for quick programs that are kept for other processes of the session."""
    return {
        "jax_compilation_cache_dir": str(tmp_path_factory.getbasetemp() / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
        "jax_disable_most_optimizations": True,
    }


@pytest.fixture
def tiny_run(tmp_path, tmp_path_factory):
    """A function from settings to a finished run, a copy that the test may spoil."""
    templates = tmp_path_factory.getbasetemp() / "finished"
    templates.mkdir(exist_ok=True)

    def finished(name: str = "finished", **settings) -> Run:
        config = tiny_config(**settings)
        drawn = training.plot_runs.__qualname__  # tests without figures keep their own
        template = templates / f"{abs(hash((config, drawn)))}"
        if not template.exists():
            train(config, tmp_path / "new", quiet=True).directory.rename(template)
        return Run(Path(shutil.copytree(template, tmp_path / name)))

    return finished


def change_config(directory: Path, **settings) -> None:
    """As someone might who hands a run on."""
    file = RunDirectory(directory).config_file
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def lines_of(directory: Path) -> list[dict]:
    """The lines of metrics without what the clock decides."""
    lines = RunDirectory(directory).metrics()
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]


def final_arrays(directory: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint."""
    _, arrays, _ = Checkpoints(RunDirectory(directory).checkpoints).load_newest()
    return arrays


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit."""
    assert lines_of(one) == lines_of(other)
    arrays, others = final_arrays(one), final_arrays(other)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], strict=True, err_msg=name)


def newest_checkpoint(directory: Path) -> Path:
    checkpoints = RunDirectory(directory).checkpoints
    return checkpoints / str(Checkpoints(checkpoints).steps()[0])


def contents(directory: Path) -> set[str]:
    """Everything below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def spoil(checkpoint: Path, damage: str) -> None:
    """Damages the largest file of a checkpoint, which holds arrays."""
    file = max((f for f in checkpoint.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

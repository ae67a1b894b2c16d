"""What ends a run early: one line that says why, and everything up to there is kept."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import Walk, as_module, message_of
from tiny_runs import OFTEN, assert_same_run, tiny_config

import stacx
from stacx.runs import RunDirectory, checkpoints, directory
from stacx.runs.events import EventWriters


class Faulty(Walk):
    """Goes wrong at time 3 of an episode."""

    def __init__(self, fault):
        self.fault = fault

    def step(self, key, state, action):
        state, timestep = super().step(key, state, action)
        wrong = getattr(self, self.fault)(timestep)
        late = state[1] == 3
        return state, jax.tree.map(lambda bad, good: jnp.where(late, bad, good), wrong, timestep)

    def infinite_observation(self, timestep):
        return timestep._replace(observation=jnp.inf * timestep.observation)

    def huge_reward(self, timestep):
        return timestep._replace(reward=jnp.float32(1e38))

    def error(self, timestep):
        def simulate(reward):
            if reward > 1:
                raise RuntimeError("the simulator broke\nin two")
            return np.float32(reward)

        result = jax.ShapeDtypeStruct((), jnp.float32)
        reward = jax.pure_callback(simulate, result, timestep.reward, vmap_method="sequential")
        return timestep._replace(reward=reward)


@pytest.fixture
def failing_run(tmp_path, monkeypatch):
    def run(fault, error, **settings):
        """The message and the directory of a run in a faulty environment."""
        env = as_module(monkeypatch, Faulty=Faulty) + ":Faulty"
        config = tiny_config(
            env=env, env_args=f'{{"fault": "{fault}"}}', agent="impala", tune="none", **settings
        )
        with pytest.raises(error) as caught:
            stacx.train(config, tmp_path / "run", quiet=True)
        return message_of(caught), RunDirectory(tmp_path / "run")

    return run


def test_observations_that_are_not_finite_are_the_environments_fault(failing_run):
    message, directory = failing_run("infinite_observation", stacx.BrokenEnvironmentError)
    assert message.startswith("users_own_module:Faulty returned observations that are not finite (")
    assert message.endswith(f"{directory.path} holds the metrics so far and no checkpoint yet")
    assert directory.metrics()[-1]["skipped_updates"] > 0


def test_an_environment_that_raises_while_it_runs(failing_run):
    message, _ = failing_run("error", stacx.BrokenEnvironmentError)
    before, _, line = message.removesuffix(")").rpartition(":")
    assert before == f"users_own_module:Faulty raised RuntimeError: the simulator broke ({__file__}"
    assert "raise RuntimeError" in Path(__file__).read_text().splitlines()[int(line) - 1]


def test_too_many_skipped_updates_in_a_row_are_divergence(failing_run):
    message, directory = failing_run("huge_reward", stacx.DivergenceError, max_skipped_updates=5)
    assert "seed 0 had 5 updates in a row with a gradient or metagradient that is not f" in message
    for diagnosis in ("values [", "largest importance weights [1.0]", "gamma [0.99", "--learning-"):
        assert diagnosis in message
    line = directory.metrics()[-1]
    assert line["skipped_updates"] == 5
    assert line["loss"] is None  # nothing was learned from


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_after(monkeypatch, owner, name, n):
    """From the n-th time on, a function finds the disk full."""
    original, calls = getattr(owner, name), []

    def function(*arguments, **options):
        calls.append(arguments)
        return (full if len(calls) >= n else original)(*arguments, **options)

    monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(
    ("owner", "name", "says"),
    [
        (directory.os, "fsync", "cannot write to "),
        (EventWriters, "write", "cannot write to "),
        (checkpoints, "_require_space", "cannot write a checkpoint to "),
        (checkpoints.Checkpoints, "_manager", "cannot write a checkpoint to "),
    ],
)
def test_a_full_disk_leaves_the_last_checkpoint_to_go_on_from(
    tmp_path, monkeypatch, tiny_run, owner, name, says
):
    config, run = tiny_config(**OFTEN), tmp_path / "run"
    with monkeypatch.context() as patch:
        full_after(patch, owner, name, 4)
        with pytest.raises(stacx.StacxError) as caught:
            stacx.train(config, run, quiet=True)
    message = message_of(caught)
    assert not isinstance(caught.value, stacx.ConfigError)
    assert message.startswith(says)
    assert "No space left on device; " in message
    assert "--resume" in message
    assert stacx.load(run).num_actions == 3
    stacx.train(config, run, resume=True, quiet=True)
    assert_same_run(run, tiny_run().directory)


def test_a_full_disk_when_a_run_is_resumed(tiny_run, monkeypatch):
    run = tiny_run()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(stacx.StacxError, match="No space left on device; free some space"):
        stacx.train(tiny_config(), run.directory, resume=True, quiet=True)
    assert len(run.metrics()) == 5


def test_a_figure_that_cannot_be_written_is_no_bad_argument(tiny_run, monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(stacx.StacxError, match="the run is complete, but cannot write") as caught:
        stacx.train(tiny_config(), tiny_run().directory, resume=True, quiet=True)
    assert not isinstance(caught.value, stacx.ConfigError)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own of 8 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(disk):
    """Writes until the disk is full."""
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass


@pytest.mark.parametrize("seen_by", ["stacx", "orbax"])
def test_a_disk_that_is_really_full(small_disk, capfd, monkeypatch, seen_by):
    """The disk fills between two checkpoints, or after the look at its free space."""
    look, looks = checkpoints._require_space, []

    def require_space(directory, size):
        looks.append(size)
        if len(looks) == 3:
            fill(small_disk)
        if seen_by == "stacx" or len(looks) < 3:
            look(directory, size)

    monkeypatch.setattr(checkpoints, "_require_space", require_space)
    with pytest.raises(stacx.CheckpointError, match="No space left on device") as caught:
        stacx.train(tiny_config(**OFTEN), small_disk / "run", quiet=True)
    assert message_of(caught)
    assert capfd.readouterr().err == ""
    assert stacx.load(small_disk / "run").num_actions == 3

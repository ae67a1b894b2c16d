"""A run that was stopped at any moment goes on bit for bit, as if it had never been."""

import os
import signal

import pytest
from support import message_of
from tiny_runs import (
    OFTEN,
    TWO_SEEDS,
    assert_same_run,
    contents,
    lines_of,
    newest_checkpoint,
    spoil,
    tiny_config,
)

import stacx
from stacx.runs import RunDirectory, training
from stacx.runs.checkpoints import Checkpoints


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in stacx catches it."""


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(training, "plot_runs", lambda directories, output: output)


def train(directory, *, resume=False, quiet=True, **settings):
    """With a checkpoint after every chunk."""
    stacx.train(tiny_config(**OFTEN | settings), directory, resume=resume, quiet=quiet)


@pytest.fixture
def killed_run(tmp_path, monkeypatch):
    """Runs until `method` of `owner` is called for the n-th time, which does `last` and dies."""

    def run(owner, method, n, last=lambda *_: None, *, resume=False, **settings):
        original, calls = getattr(owner, method), []

        def dying(*arguments):
            calls.append(arguments)
            if len(calls) < n:
                return original(*arguments)
            last(original, *arguments)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, method, dying)
            with pytest.raises(Killed):
                train(tmp_path / "run", resume=resume, **settings)
        return tmp_path / "run"

    return run


def do(original, *arguments):
    original(*arguments)


def half_a_line(original, directory, lines):
    original(directory, lines)
    text = directory.metrics_file.read_text()
    directory.metrics_file.write_text(text[:-100])


@pytest.mark.parametrize(
    "death",
    [
        (RunDirectory, "append_metrics", 1, do),
        (RunDirectory, "append_metrics", 3, half_a_line),
        (RunDirectory, "append_metrics", 5, do),
        (Checkpoints, "save", 2),
        (Checkpoints, "save", 3, do),
    ],
    ids=["first line", "half a line", "last line", "before a checkpoint", "after a checkpoint"],
)
def test_a_killed_run_continues_bit_for_bit(killed_run, tiny_run, death):
    directory = killed_run(*death)
    assert len(lines_of(directory)) <= 5
    train(directory, resume=True)
    assert_same_run(directory, tiny_run().directory)


def test_several_seeds_with_memory_continue_bit_for_bit(killed_run, tiny_run):
    directory = killed_run(RunDirectory, "append_metrics", 3, do, **TWO_SEEDS)
    train(directory, resume=True, **TWO_SEEDS)
    assert_same_run(directory, tiny_run(**TWO_SEEDS).directory)


def test_before_the_first_checkpoint_the_run_starts_again(killed_run, tiny_run, capsys):
    directory = killed_run(Checkpoints, "save", 1)
    assert lines_of(directory) or contents(directory)
    train(directory, resume=True, quiet=False)
    assert "there is no checkpoint yet: starting from the beginning" in capsys.readouterr().out
    assert_same_run(directory, tiny_run().directory)


def test_a_complete_run_is_not_trained_again(tiny_run, capsys, monkeypatch):
    run = tiny_run()
    lines, files = run.metrics(), contents(run.directory)
    monkeypatch.setattr(training._Training, "_loop", None)
    stacx.train(tiny_config(), run.directory, resume=True)
    out = capsys.readouterr().out
    assert "the run is complete already" in out
    assert "learning-rate" not in out
    assert run.metrics() == lines
    assert contents(run.directory) == files


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_the_way_on(tmp_path, tiny_run, monkeypatch, signum):
    original = RunDirectory.append_metrics

    def signalled(directory, lines):
        original(directory, lines)
        if lines[0]["updates"] == 40:
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(RunDirectory, "append_metrics", signalled)
    directory = tmp_path / "my run"
    handlers = signal.getsignal(signum)
    with pytest.raises(stacx.Interrupted) as caught:
        stacx.train(tiny_config(), directory, quiet=True)
    assert signal.getsignal(signum) == handlers
    assert caught.value.signum == signum
    assert message_of(caught) == (
        f"stopped by {signum.name} at 800 steps; continue with: "
        f"stacx train --run-dir '{directory}' --resume"
    )
    assert newest_checkpoint(directory).name == "40"
    monkeypatch.undo()
    train(directory, resume=True, checkpoint_minutes=2.0)
    assert_same_run(directory, tiny_run().directory)


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_a_damaged_checkpoint_is_passed_over(killed_run, tiny_run, damage):
    """With a warning, even if the run is quiet."""
    directory = killed_run(Checkpoints, "save", 5)
    newest = newest_checkpoint(directory)
    spoil(newest, damage)
    with pytest.warns(stacx.CheckpointWarning, match="using the one before") as caught:
        train(directory, resume=True)
    assert str(caught.pop().message).startswith(f"{newest} is damaged")
    assert_same_run(directory, tiny_run().directory)


def test_the_damaged_checkpoint_does_not_stop_new_ones(killed_run, capsys):
    """Killed again before it gets as far as the damaged one, the run need not go back again."""
    directory = killed_run(Checkpoints, "save", 5)
    newest = newest_checkpoint(directory)
    spoil(newest, "flip")
    with pytest.warns(stacx.CheckpointWarning):
        killed_run(Checkpoints, "save", 1, do, resume=True)
    updates = int(newest_checkpoint(directory).name)
    assert updates < int(newest.name)
    train(directory, resume=True, quiet=False)
    out = capsys.readouterr().out
    assert f"resumed at {20 * updates} steps ({updates} updates)" in out


def test_if_all_checkpoints_are_damaged_the_run_is_left_alone(tiny_run):
    directory = tiny_run().directory
    lines = (directory / "metrics.jsonl").read_text()
    spoil(newest_checkpoint(directory), "flip")
    with pytest.raises(stacx.CheckpointError, match="no checkpoint is whole: ") as caught:
        train(directory, resume=True, checkpoint_minutes=2.0)
    assert "checkpoints/100 is damaged" in message_of(caught)
    assert (directory / "metrics.jsonl").read_text() == lines


def test_another_config_is_refused_naming_the_fields(tiny_run):
    directory = tiny_run().directory
    with pytest.raises(stacx.ConfigError) as caught:
        stacx.train(tiny_config(gamma=0.5, log_points=7), directory, resume=True, quiet=True)
    assert message_of(caught).endswith(
        "is a run with another config; different: gamma (0.99 there, 0.5 here), "
        "log_points (5 there, 7 here): leave these flags as they were"
    )


def test_there_must_be_something_to_resume(tmp_path):
    (tmp_path / "empty").mkdir()
    for directory, reason in (
        (None, "--resume needs --run-dir"),
        (tmp_path / "none", "there is no such directory"),
        (tmp_path / "empty", "it has no config.json"),
    ):
        with pytest.raises(stacx.ConfigError, match=reason):
            stacx.train(tiny_config(), directory, resume=True, quiet=True)
    assert contents(tmp_path) == {"empty"}


def test_two_processes_do_not_train_one_run(tiny_run):
    directory = tiny_run().directory
    before = (directory / "metrics.jsonl").read_bytes()
    with (
        RunDirectory(directory).locked(),
        pytest.raises(stacx.ConfigError, match="another process is training ") as caught,
    ):
        train(directory, resume=True, checkpoint_minutes=2.0)
    assert message_of(caught)
    assert (directory / "metrics.jsonl").read_bytes() == before
    train(directory, resume=True, checkpoint_minutes=2.0)  # the lock goes with the process

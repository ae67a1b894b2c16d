"""Commands and exit codes."""

import os
import signal
import subprocess
import sys
import types
import warnings

import pytest

import stacx
from stacx.cli import main as cli
from stacx.cli.main import main

COMMANDS = ("train", "eval", "reproduce", "plot", "envs", "doctor")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_lists_the_commands(arguments, capsys):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert not stop.value.code
    out, err = capsys.readouterr()
    assert f"stacx {command}" in out
    assert err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"{stacx.__version__}\n", "")


def test_an_unknown_command(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == (
        "stacx: unknown command 'trian': use train, eval, reproduce, plot, envs, doctor\n"
    )


@pytest.fixture
def command(monkeypatch):
    """Makes `stacx plot` do something else."""

    def does(action):
        module = types.SimpleNamespace(run=lambda arguments: action(*arguments))
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    return does


def raises(error):
    def action(*_):
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (stacx.ConfigError("no such thing"), 2, "stacx: no such thing\n"),
        (stacx.StacxError("two\n  lines"), 1, "stacx: two lines\n"),
        (stacx.CheckpointError("torn"), 1, "stacx: torn\n"),
        (stacx.BrokenEnvironmentError("broken"), 1, "stacx: broken\n"),
        (stacx.DivergenceError("diverged"), 1, "stacx: diverged\n"),
        (stacx.Interrupted("stopped", signal.SIGTERM), 143, "stacx: stopped\n"),
        (stacx.Interrupted("stopped", signal.SIGINT), 130, "stacx: stopped\n"),
        (KeyboardInterrupt(), 130, "stacx: interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (OSError(28, "No space left"), 1, "stacx: cannot use the output: No space left\n"),
        (OSError(13, "Not yours", "a/b"), 1, "stacx: cannot use a/b: Not yours\n"),
    ],
)
def test_errors_become_exit_codes_and_one_line(command, capsys, error, code, line):
    command(raises(error))
    assert main(["plot"]) == code
    assert capsys.readouterr() == ("", line)


def run_into(output, *arguments):
    """The exit code of a process, and what it says beside its output, which is buffered."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "stacx.cli.main", *arguments],
        env=environment,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["envs", "--help"], ["envs"]])
def test_an_output_that_cannot_be_written(arguments):
    with open("/dev/full", "w") as full:
        assert run_into(full, *arguments) == (
            1,
            "stacx: cannot use the output: No space left on device\n",
        )


def test_an_output_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    assert run_into(write, "--help") == (1, "")
    os.close(write)


def test_a_command_gets_its_arguments_and_gives_its_code(command):
    command(lambda *arguments: 7 if arguments == ("a", "--b") else 0)
    assert main(["plot", "a", "--b"]) == 7


def test_warnings_are_lines_too(command, capsys):
    def warn():
        warnings.warn("look\nout", UserWarning, stacklevel=1)
        return 0

    command(warn)
    show = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["plot"]) == 0
    assert capsys.readouterr() == ("", "stacx: warning: look out\n")
    assert warnings.showwarning is show


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["--version"]) == 0

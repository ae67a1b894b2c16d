"""What a compiled program or the disk says becomes one line."""

from pathlib import Path

import pytest
from support import message_of

from stacx.config import Config
from stacx.errors import BrokenEnvironmentError, CheckpointError, StacxError
from stacx.runs import RunDirectory
from stacx.runs.failures import evaluation_command, resume_command, running, writing_to

TRACEBACK = """INTERNAL: CpuCallback error calling callback: Traceback (most recent call last):
  File "/jax/callback.py", line 816, in _wrapped_callback
    return call()
           ^^^^^^
  File "/mine/game.py", line 15, in step
    raise RuntimeError(text)
RuntimeError: game over
and out
"""


def raised(error, expected):
    with pytest.raises(expected) as caught, running("my:game"):
        raise error
    return message_of(caught)


def test_an_error_in_a_callback_is_the_environments():
    message = raised(ValueError(TRACEBACK), BrokenEnvironmentError)
    assert message == "my:game raised RuntimeError: game over (/mine/game.py:15)"


def test_any_other_error_of_the_program():
    error = ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nand much more")
    message = raised(error, StacxError)
    assert message.startswith(
        "my:game cannot be run: ValueError: RESOURCE_EXHAUSTED: Out of memory"
    )


def test_errors_of_stacx_pass():
    assert raised(CheckpointError("as it was"), CheckpointError) == "as it was"


def test_the_disk_is_full():
    with pytest.raises(StacxError) as caught, writing_to(Path("runs/mine")):
        raise OSError(28, "No space left on device")
    assert message_of(caught) == (
        "cannot write to runs/mine: No space left on device; free some space and continue from "
        "the last checkpoint with: stacx train --run-dir runs/mine --resume"
    )


def test_the_way_on_can_be_pasted_into_a_shell():
    assert resume_command(Path("my runs/a")) == "stacx train --run-dir 'my runs/a' --resume"


def test_the_way_on_names_functions_that_are_not_in_the_users_files(tmp_path):
    for folder, torso, flags in (
        ("own", "my_torso:make", ""),
        ("else", "optax.contrib:make", " --torso optax.contrib:make"),
    ):
        run = RunDirectory.create(tmp_path / folder, Config(torso=torso)).path
        assert resume_command(run) == f"stacx train --run-dir {run} --resume{flags}"
        assert evaluation_command(run) == f"stacx eval {run}{flags}"

"""What the disk says becomes one line, and so does the way on."""

from pathlib import Path

import pytest
from support import message_of

from stacx.config import Config
from stacx.errors import StacxError
from stacx.runs import RunDirectory
from stacx.runs.failures import evaluation_command, resume_command, writing_to


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

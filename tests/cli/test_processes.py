"""Real processes, really killed: nothing that was written before is lost."""

import os
import signal

import pytest
from real_processes import PATIENCE, wait_for
from tiny_runs import OFTEN, assert_same_run, lines_of, newest_checkpoint, tiny_flags

from stacx.cli.main import main
from stacx.runs import RunDirectory
from stacx.runs.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


def stopped_while(condition, process):
    """Whether the process could be halted in the middle of something."""
    if not condition():
        return False
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    if condition():
        return True
    process.send_signal(signal.SIGCONT)
    return False


def kill(process, signum=signal.SIGKILL):
    """The signal, and what the process then returns and says."""
    process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


def test_a_run_killed_again_and_again_continues_bit_for_bit(start, tiny_run, tmp_path):
    wanted = tiny_run().directory
    directory = tmp_path / "run"
    checkpoints = Checkpoints(directory / "checkpoints")
    flags = ["--run-dir", str(directory), "--quiet"]

    process = start(*tiny_flags(**OFTEN), *flags)
    wait_for(RunDirectory(directory).metrics_file.exists, process)
    assert kill(process) == (-signal.SIGKILL, "")

    def writing_a_later_checkpoint():
        return any((directory / "checkpoints").glob("[3-9]*tmp*"))

    process = start("--resume", *flags)
    wait_for(lambda: stopped_while(writing_a_later_checkpoint, process), process)
    assert kill(process) == (-signal.SIGKILL, "")
    assert 0 < checkpoints.steps()[0] < 100
    assert writing_a_later_checkpoint()

    assert main(["train", "--resume", *flags]) == 0
    assert not writing_a_later_checkpoint()
    assert_same_run(directory, wanted)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(start, tiny_run, tmp_path, signum):
    wanted = tiny_run().directory
    directory = tmp_path / "run"
    process = start(*tiny_flags(**OFTEN), "--run-dir", "run", "--quiet")
    wait_for(lambda: len(RunDirectory(directory).metrics()) >= 2, process)
    code, err = kill(process, signum)
    assert code == 128 + signum
    steps = 20 * int(newest_checkpoint(directory).name)
    assert err == (
        f"stacx: stopped by {signum.name} at {steps:,} steps; continue with: "
        "stacx train --run-dir run --resume\n"
    )
    assert 2 <= len(lines_of(directory)) < 5
    assert main(["train", "--resume", "--run-dir", str(directory), "--quiet"]) == 0
    assert_same_run(directory, wanted)

"""Real processes with environments in processes of their own: none of them is left behind."""

import os
import signal
from pathlib import Path

import pytest
from real_processes import PATIENCE, wait_for

from stacx.config import flag_of
from stacx.runs import RunDirectory
from stacx.runs.checkpoints import Checkpoints

pytestmark = pytest.mark.slow
MOMENT = 10.0
"""Seconds in which everything must have stopped."""
SETTINGS = {
    "agent": "impala",
    "num_envs": 2,
    "trajectory_length": 4,
    "mlp_widths": 4,
    "log_points": 1000,
    "steps": 8000,
    "checkpoint_minutes": 0,
}
FLAGS = [
    *(word for name, value in SETTINGS.items() for word in (flag_of(name), str(value))),
    *("--quiet", "--run-dir", "run"),
]


def session(process):
    """The numbers of all processes that a process has started, and theirs, and its own."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, leader = (directory / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(leader) == process.pid and state != "Z":
            found.append(int(directory.name))
    return found


def learning(tmp_path, n=2):
    return lambda: len(RunDirectory(tmp_path / "run").metrics()) >= n


def corridor(**arguments):
    return ["--env", "host_games:Corridor", "--env-args", str(arguments).replace("'", '"')]


def faulty(fault, **arguments):
    arguments = {"fault": fault} | arguments
    return ["--env", "host_games:Faulty", "--env-args", str(arguments).replace("'", '"')]


def test_a_killed_run_leaves_no_process_and_can_be_resumed(start, tmp_path):
    flags = [*corridor(delay=0.002), "--vectorization", "async", "--num-actors", "2"]
    process = start(*flags, *FLAGS)
    wait_for(learning(tmp_path), process)
    assert len(session(process)) >= 5
    process.kill()
    wait_for(lambda: session(process) == [], seconds=MOMENT)

    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    updates = checkpoints.steps()[0]
    process = start("--run-dir", "run", "--resume", "--quiet")
    wait_for(lambda: checkpoints.steps()[0] > updates, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=MOMENT)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.startswith("stacx: stopped by SIGTERM at ")
    assert err.count("\n") == 1
    wait_for(lambda: session(process) == [], seconds=MOMENT)


def test_a_killed_run_takes_processes_that_hang_with_it(start, tmp_path):
    once = tmp_path / "once"
    flags = [*faulty("hang", once=str(once), seconds=100.0), "--vectorization", "async"]
    process = start(*flags, *FLAGS)
    wait_for(once.exists, process)
    process.kill()
    wait_for(lambda: session(process) == [], seconds=MOMENT)


@pytest.mark.parametrize(
    ("vectorization", "restarts"), [("sync", "0"), ("async", "0"), ("async", "3")]
)
def test_a_signal_while_environments_take_long(start, tmp_path, vectorization, restarts):
    """Sent to the whole group, as schedulers do: what it ends is no fault."""
    once = tmp_path / "once"
    flags = [*faulty("hang", once=str(once), seconds=100.0), "--vectorization", vectorization]
    process = start(*flags, *FLAGS, "--num-actors", "2", "--max-env-restarts", restarts)
    wait_for(once.exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=MOMENT)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert err.startswith("stacx: stopped by SIGTERM at ")
    assert err.count("\n") == 1
    wait_for(lambda: session(process) == [], seconds=MOMENT)


@pytest.mark.parametrize("part", ["actor", "learner"])
def test_a_part_that_fails_ends_the_run(start, part):
    flags = [*corridor(), "--vectorization", "async", "--num-actors", "2"]
    process = start(*flags, *FLAGS, program=("failing_parts", part))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"\nZeroDivisionError: in the {part}\n" in err
    wait_for(lambda: session(process) == [], seconds=MOMENT)


@pytest.mark.parametrize(
    ("fault", "vectorization", "shows", "says"),
    [
        ("error", "async", 'raise RuntimeError("the simulator', "raised RuntimeError: the simul"),
        ("quit", "sync", "raise SystemExit(0)", "raised SystemExit: 0"),
        ("die", "async", "Traceback", ": the process of environment "),
        ("hang", "sync", ", in hang\n", "has not answered for 0.5 s"),
    ],
)
def test_environments_that_fail_end_the_run(start, fault, vectorization, shows, says):
    timeout = "0.5" if fault == "hang" else "60"
    process = start(
        *(*faulty(fault, seconds=100.0), *FLAGS, "--vectorization", vectorization),
        *("--max-env-restarts", "0", "--env-timeout", timeout),
    )
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert shows in err
    last = err.splitlines()[-1]
    assert last.startswith("stacx: host_games:Faulty")
    assert says in last
    assert last.endswith(": mend the environment")
    wait_for(lambda: session(process) == [], seconds=MOMENT)

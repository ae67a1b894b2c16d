"""Child processes: how many at once, what fails, what a signal does; with a quick program."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from synthetic_runs import experiment_of, plan_of, tiny_suite, write_all

from stacx.reproduction import devices
from stacx.reproduction.devices import Machine
from stacx.reproduction.estimates import START_SECONDS
from stacx.reproduction.execution import (
    Executor,
    Work,
    cores_of,
    describe,
    last_line,
    still_to_do,
)
from stacx.reproduction.experiments import Experiment, Variant
from stacx.reproduction.plan import State, seconds_left
from stacx.runs.directory import RunDirectory
from stacx.runs.signals import StopRequest

PROGRAM = (sys.executable, str(Path(__file__).parent / "fake_program.py"))
CPU = Machine("cpu", ("cpu",), 4)


@pytest.fixture
def plan_with(tmp_path, monkeypatch):
    """A function from variants' names to a plan on one task, whose runs the program can make."""

    def make(*names):
        variants = tuple(
            Variant(name, {"agent": "impala", "gamma": 0.9 + i / 100})
            for i, name in enumerate(names)
        )
        experiment = Experiment("made-up", "", "", lambda _: variants, lambda _: None)
        suite = tiny_suite(envs=["gymnax:Catch-bsuite"])
        prepared = plan_of(experiment, suite, tmp_path / "prepared")
        write_all(prepared)
        monkeypatch.setenv("PREPARED", str(tmp_path / "prepared" / "runs"))
        return plan_of(experiment, suite, tmp_path / "out")

    return make


def make(plan, said=None, *, jobs=2, request=None, **options):
    lines = [] if said is None else said
    executor = Executor(CPU, jobs, lines.append, program=PROGRAM, **options)
    work = [Work(run, 1.0) for run in still_to_do(plan.runs)]
    return executor.make(work, request or StopRequest())


def test_runs_are_made_and_say_so(plan_with):
    plan, said = plan_with("a", "b", "c"), []
    assert make(plan, said) == []
    assert [run.state() for run in plan.runs] == [State.COMPLETE] * 3
    assert said[0] == "[0/3] Catch-bsuite a begins"
    assert sum("complete in" in line for line in said) == 3
    assert said[-1].startswith("[3/3]")
    assert "left" in next(line for line in said if "complete" in line)
    for run in plan.runs:
        assert f"--run-dir {run.directory}" in run.log.read_text()
        assert 0.1 < run.seconds() < 20


def test_what_is_left_follows_how_long_runs_took(plan_with):
    """Each run takes a sleep of a tenth of a second and its start, and was estimated at an hour."""
    plan, said = plan_with("a", "b", "c"), []
    executor = Executor(CPU, 1, said.append, program=PROGRAM)
    executor.make([Work(run, 3600.0) for run in plan.runs], StopRequest())
    left = [line.partition("; about ")[2] for line in said if "complete in" in line]
    assert left[0].endswith(" s left")
    assert left[1].endswith(" s left")
    assert left[2] == ""


def test_a_run_that_cannot_be_started_stops_no_other(plan_with):
    """Its log's place is a directory."""
    plan, said = plan_with("a", "b"), []
    plan.runs[0].log.mkdir(parents=True)
    (failure,) = make(plan, said, jobs=1)
    assert failure.run == plan.runs[0]
    assert "cannot be started" in failure.last_line
    assert "a FAILED: cannot be started" in said[0]
    assert plan.runs[1].state() is State.COMPLETE


def test_what_is_complete_is_not_made_again(plan_with):
    plan = plan_with("a", "b")
    make(plan)
    assert still_to_do(plan.runs) == []


def test_a_run_that_a_killed_process_s_child_still_writes_to_waits(plan_with):
    """Its turn comes when it is free, and those that are free go before it."""
    plan, said = plan_with("a", "b"), []
    busy = RunDirectory.create(plan.runs[0].directory, plan.runs[0].config)
    lock = busy.locked()
    lock.__enter__()
    assert busy.in_use
    timer = threading.Timer(1.0, lambda: lock.__exit__(None, None, None))
    timer.start()
    assert make(plan, said, jobs=1) == []
    assert not busy.in_use
    turns = [line.partition("] ")[2] for line in said if line.endswith(("begins", "goes on"))]
    assert turns == ["Catch-bsuite b begins", "Catch-bsuite a goes on"]


def test_a_run_that_stays_in_use_is_tried_in_the_end(plan_with):
    """`stacx train` says what is wrong."""
    plan, said, began = plan_with("failing"), [], time.monotonic()
    busy = RunDirectory.create(plan.runs[0].directory, plan.runs[0].config)
    with busy.locked():
        (failure,) = make(plan, said, patience=0.5)
    assert failure.code == 3
    assert time.monotonic() - began >= 0.5
    assert sum("in use by another process" in line for line in said) == 1


def test_a_run_that_was_completed_meanwhile_is_resumed_to_no_effect(plan_with):
    """`stacx train` would refuse its directory otherwise."""
    plan = plan_with("a")
    make(plan)
    (run,) = plan.runs
    assert run.state() is State.COMPLETE
    assert run.arguments_to_go_on[-1] == "--resume"


def test_what_is_no_directory_of_a_run_is_not_in_use(tmp_path):
    (tmp_path / "file").write_text("")
    assert not RunDirectory(tmp_path / "file").in_use


def test_a_run_that_does_not_exist_is_not_in_use(tmp_path):
    assert not RunDirectory(tmp_path / "none").in_use


def test_interrupted_runs_come_first_and_are_resumed(plan_with):
    plan = plan_with("a", "b")
    RunDirectory.create(plan.runs[1].directory, plan.runs[1].config)
    assert [run.variant for run in still_to_do(plan.runs)] == ["b", "a"]
    said = []
    make(plan, said)
    assert "--resume" in plan.runs[1].log.read_text()
    assert "--resume" not in plan.runs[0].log.read_text()
    assert "[0/2] Catch-bsuite b goes on" in said


def test_a_run_whose_config_is_damaged_is_told_and_stops_no_other(plan_with):
    plan, said = plan_with("a", "b"), []
    RunDirectory.create(plan.runs[0].directory, plan.runs[0].config).config_file.write_text("{")
    assert plan.runs[0].state() is State.DAMAGED
    assert [run.variant for run in still_to_do(plan.runs)] == ["b", "a"]
    assert seconds_left(plan.runs[0], []) == (START_SECONDS, True)
    (failure,) = make(plan, said)
    assert failure.run is plan.runs[0]
    assert "is damaged: move the directory away, and it is made anew" in failure.last_line
    assert not plan.runs[0].log.exists()
    assert plan.runs[1].state() is State.COMPLETE


def test_a_failure_is_told_and_stops_no_other_run(plan_with):
    plan, said = plan_with("failing", "b", "c"), []
    (failure,) = make(plan, said, jobs=1)
    assert (failure.run.variant, failure.code) == ("failing", 3)
    assert failure.last_line == "stacx: the disk is full"
    assert [run.state() for run in plan.runs[1:]] == [State.COMPLETE] * 2
    (line,) = [line for line in said if "FAILED" in line]
    assert "exit code 3" in line
    assert str(failure.run.log) in line


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_more_than_so_many_run_at_once(plan_with, jobs):
    most = 0
    said = []

    def count(line):
        nonlocal most
        said.append(line)
        begun = sum("begins" in text for text in said)
        most = max(most, begun - sum("complete" in text for text in said))

    plan = plan_with("a", "b", "c", "d")
    work = [Work(run, 1.0) for run in plan.runs]
    Executor(CPU, jobs, count, program=PROGRAM).make(work, StopRequest())
    assert most == jobs


def stopping(plan, variant, request, number=signal.SIGTERM):
    """Asks to stop once the child of a variant runs."""
    run = next(run for run in plan.runs if run.variant == variant)

    def ask():
        deadline = time.monotonic() + 30
        while not (run.directory / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        request.signum = number

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, run


def ended(run):
    """Whether the process is gone."""
    try:
        os.kill(int((run.directory / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_signal_is_handed_on_and_waited_for(plan_with):
    plan, request = plan_with("polite", "b"), StopRequest()
    thread, run = stopping(plan, "polite", request)
    start = time.monotonic()
    assert make(plan, jobs=1, request=request) == []
    thread.join()
    assert time.monotonic() - start < 20
    assert ended(run)
    assert plan.runs[1].state() is State.TO_DO
    assert run.seconds() > 0


def test_a_child_that_does_not_leave_is_killed(plan_with):
    plan, request = plan_with("stubborn"), StopRequest()
    thread, run = stopping(plan, "stubborn", request)
    make(plan, jobs=1, request=request, patience=0.5)
    thread.join()
    assert ended(run)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells children")
def test_children_end_with_a_parent_that_is_killed(plan_with, tmp_path):
    plan = plan_with("polite")
    run = plan.runs[0]
    program = f"""
import sys
from stacx.reproduction.execution import _start_process
with open({str(tmp_path / "log")!r}, "ab") as log:
    _start_process({[*PROGRAM, *run.arguments]!r}, log, {dict(os.environ)!r})
import time; time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (run.directory / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # until the pid is written
    parent.kill()
    parent.wait()
    while not ended(run):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_child_has_one_thread_of_xla_where_several_run(plan_with, monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    plan = plan_with("a", "b")
    make(plan, jobs=2)
    assert all("NPROC 1\n" in run.log.read_text() for run in plan.runs)
    assert "NPROC" not in CPU.environment(0, 1)
    monkeypatch.setenv("NPROC", "3")
    assert CPU.environment(0, 2)["NPROC"] == "3"


def test_each_child_has_a_gpu_of_its_own(monkeypatch):
    gpus = Machine("gpu", ("H100", "H100"), 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert gpus.jobs == 2
    assert [gpus.environment(s, 2)["CUDA_VISIBLE_DEVICES"] for s in (0, 1)] == ["0", "1"]
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in gpus.environment(0, 2)
    assert gpus.environment(3, 4)["CUDA_VISIBLE_DEVICES"] == "1"
    assert gpus.environment(3, 4)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.45"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [gpus.environment(s, 2)["CUDA_VISIBLE_DEVICES"] for s in (0, 1)] == ["4", "7"]


def test_by_default_a_run_for_each_core_or_each_gpu():
    assert CPU.jobs == 4
    assert Machine("tpu", ("TPU",) * 4, 96).jobs == 1


def test_devices_that_do_not_answer_are_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(devices, "_PROBE", "raise SystemExit(1)")
    assert devices.find_machine().platform == "cpu"


def test_runs_of_the_host_keep_more_cores_busy():
    on_device = plan_of(experiment_of("stac"), tiny_suite(), Path("x"))
    host = plan_of(experiment_of("stac"), tiny_suite(envs=["gym:CartPole-v1"]), Path("x"))
    assert (cores_of(on_device.runs), cores_of(host.runs)) == (1, 2)


def test_logs_and_codes_are_told_in_words(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == "no log"
    log.write_text("")
    assert last_line(log) == "its log is empty"
    log.write_text("one\n  two  \n\n")
    assert last_line(log) == "two"
    assert describe(2) == "exit code 2"
    assert describe(-9) == "killed by SIGKILL"

"""From a plan to a report, with a program that is quick."""

import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time

import pytest
from support import message_of
from synthetic_runs import SCALE, plan_of, tiny_suite, write_all
from test_execution import CPU, PROGRAM

from stacx.errors import ConfigError, Interrupted, StacxError, TrainingWarning
from stacx.reproduction import comparing, devices, reproducing, statistics
from stacx.reproduction.experiments import EXPERIMENTS, Experiment, Variant
from stacx.reproduction.plan import State
from stacx.reproduction.suites import SUITES


def use_by_others(monkeypatch, cores):
    monkeypatch.setattr(devices.OthersUse, "cores", lambda self: cores)
    monkeypatch.setattr(reproducing, "_LOOK", 0.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reproducing, "find_machine", lambda: CPU)
    use_by_others(monkeypatch, 0.0)
    monkeypatch.setattr(statistics, "DRAWS", 20)
    monkeypatch.setattr(statistics, "_FEWER_DRAWS", 20)


def experiment_with(*names, **options):
    variants = tuple(
        Variant(name, {"agent": "impala", "gamma": 0.9 + i / 100}) for i, name in enumerate(names)
    )
    return Experiment("made-up", "T", "P", lambda _: variants, comparing.compare, **options)


@pytest.fixture
def carry_out(tmp_path, monkeypatch):
    """Carries out an experiment of some variants on one task; more settings may be given."""

    def call(*names, experiment=None, **options):
        experiment = experiment or experiment_with(*names)
        suite = tiny_suite(envs=["gymnax:Catch-bsuite"])
        prepared = tmp_path / "prepared"
        if not prepared.exists():
            write_all(plan_of(experiment, suite, prepared))
        monkeypatch.setenv("PREPARED", str(prepared / "runs"))
        settings = {"output": tmp_path / "out", "program": PROGRAM, "scale": SCALE} | options
        return reproducing.reproduce(experiment, suite, **settings)

    return call


def test_everything_is_there_in_the_end(carry_out, tmp_path, capsys):
    report = carry_out("impala", "b")
    out = tmp_path / "out"
    assert report == out / "report.html"
    assert json.loads((out / "experiment.json").read_text()) == {
        **{"experiment": "made-up", "suite": "classic", "scale": SCALE, "num_seeds": 2}
    }
    assert {p.name for p in out.iterdir()} == {
        *("experiment.json", "runs", "figures", "tables", "report.html")
    }
    for name in ("aggregates", "profile", "improvement"):
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    with (out / "tables" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["impala", "b"]
    assert float(rows[0]["normalised"]) == pytest.approx(float(rows[0]["mean"]) / 10)
    printed = capsys.readouterr().out
    assert "0 of 2 runs are complete" in printed
    assert printed.index("to do        Catch-bsuite impala (rough, about") < printed.index("begins")


def test_a_second_time_nothing_is_trained(carry_out, capsys):
    carry_out("a", "b")
    capsys.readouterr()
    carry_out("a", "b", program=["false"])
    printed = capsys.readouterr().out
    assert "2 of 2 runs are complete" in printed
    assert "begins" not in printed


def test_a_dry_run_writes_nothing(carry_out, tmp_path, capsys):
    assert carry_out("a", "b", dry_run=True) is None
    assert not (tmp_path / "out").exists()
    assert "in all" in capsys.readouterr().out


def test_quiet_prints_nothing(carry_out, capsys):
    carry_out("a", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_failures_are_told_after_the_report(carry_out, tmp_path):
    with pytest.raises(StacxError) as caught:
        carry_out("failing", "b")
    assert "1 of 2 runs failed (Catch-bsuite failing)" in message_of(caught)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Not complete: 1 of 2 runs" in text
    assert "stacx: the disk is full" in text
    carry_out_state = plan_of(
        experiment_with("failing", "b"), tiny_suite(envs=["gymnax:Catch-bsuite"]), tmp_path / "out"
    )
    assert carry_out_state.runs[1].state() is State.COMPLETE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_report_and_says_how_to_go_on(carry_out, tmp_path, number):
    mark = tmp_path / "out" / "runs" / "Catch-bsuite" / "polite" / "pid"

    def interrupt():
        deadline = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted) as caught:
        carry_out("a", "polite", "c", jobs=1, quiet=True)
    thread.join()
    assert caught.value.signum == number
    message = message_of(caught)
    assert f"stopped by {number.name} with 1 of 3 runs complete" in message
    assert message.endswith(f"the same command goes on: {shlex.join(['python', *sys.argv])}")
    assert "Not complete: 2 of 3 runs" in (tmp_path / "out" / "report.html").read_text()


def refused(carry_out, *names, **options):
    with pytest.raises(ConfigError) as caught:
        carry_out(*names, **options)
    return message_of(caught)


def test_the_output_with_other_seeds_is_left_alone(carry_out):
    carry_out("a")
    message = refused(carry_out, "a", num_seeds=3)
    assert "holds this experiment with 2 seeds: go on with --num-seeds 2" in message


def test_the_output_of_another_experiment_is_left_alone(carry_out, tmp_path):
    carry_out("a")
    another = dataclasses.replace(experiment_with("a"), name="of-others")
    message = refused(carry_out, experiment=another)
    assert "holds another experiment (experiment made-up, not of-others): choose" in message


def test_other_peoples_directories_are_left_alone(carry_out, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    assert "is not empty, and no directory of stacx reproduce" in refused(carry_out, "a")
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refused(carry_out, "a", output=tmp_path / "file")
    (tmp_path / "out" / "experiment.json").write_text("{")
    assert "cannot read" in refused(carry_out, "a")


def test_a_run_with_other_settings_is_refused_before_anything_starts(carry_out, tmp_path):
    carry_out("a", "b")
    changed = Experiment(
        "made-up",
        "T",
        "P",
        lambda _: (Variant("a", {"agent": "stac"}), Variant("b")),
        comparing.compare,
    )
    assert "a run with other settings" in refused(carry_out, experiment=changed)


def test_intervals_need_two_seeds(carry_out, tmp_path):
    assert refused(carry_out, "a", num_seeds=1) == (
        "made-up needs at least 2 seeds: raise --num-seeds"
    )
    assert not (tmp_path / "out").exists()


def test_what_needs_no_interval_takes_one_seed_and_no_rliable(carry_out, monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr(reproducing.statistics, "check_installed", fail)
    experiment = experiment_with("a", least_seeds=1)
    with contextlib.suppress(AssertionError):
        carry_out(experiment=experiment, num_seeds=1, dry_run=True)
        return
    pytest.fail("rliable was asked for")


def test_a_missing_extra_is_told_before_training(carry_out, monkeypatch, tmp_path):
    def fail():
        raise ConfigError("statistics need rliable")

    monkeypatch.setattr(reproducing.statistics, "check_installed", fail)
    assert refused(carry_out, "a") == "statistics need rliable"
    assert not (tmp_path / "out").exists()


def test_what_measures_time_runs_alone(carry_out):
    experiment = experiment_with("a", "b", one_at_a_time=True)
    assert "--jobs 2 would spoil made-up" in refused(carry_out, experiment=experiment, jobs=2)
    carry_out(experiment=experiment)


@pytest.mark.parametrize(("load", "warned"), [(0.1, False), (1.7, True)])
def test_a_busy_machine_is_told_where_time_is_measured(carry_out, monkeypatch, load, warned):
    use_by_others(monkeypatch, load)
    told = pytest.warns(TrainingWarning, match="keep 1.7 cores busy")
    with told if warned else contextlib.nullcontext():
        carry_out(experiment=experiment_with("a", one_at_a_time=True))


def test_how_busy_others_were_is_kept_beside_a_run(carry_out, monkeypatch, tmp_path):
    use_by_others(monkeypatch, 0.25)
    carry_out("a", jobs=1)
    timing = tmp_path / "out" / "runs" / "Catch-bsuite" / "a.timing.json"
    assert json.loads(timing.read_text())["others"] == 0.25


def test_a_busy_machine_does_not_matter_elsewhere(carry_out, monkeypatch):
    use_by_others(monkeypatch, 9.0)
    carry_out("a")  # where a warning is an error


def test_two_at_once_on_one_directory_are_refused(carry_out, tmp_path):
    carry_out("a")
    with (tmp_path / "out" / "experiment.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another stacx reproduce works on" in refused(carry_out, "a")


def test_an_unknown_scale(carry_out):
    assert "unknown scale 'huge': use small" in refused(carry_out, "a", scale="huge")


def test_the_command_that_goes_on_is_one_that_there_is(tmp_path, monkeypatch):
    known, own = EXPERIMENTS["ablation"], experiment_with("a")
    monkeypatch.setattr(sys, "argv", ["my_script.py", "--steps", "5 k"])
    commands = [
        reproducing._command(plan_of(experiment, suite, tmp_path))
        for experiment, suite in ((known, SUITES["classic"]), (own, SUITES["classic"]))
    ]
    assert commands[0].startswith("stacx reproduce ablation --suite classic --scale small ")
    assert commands[1] == "python my_script.py --steps '5 k'"
    changed = dataclasses.replace(SUITES["classic"], note="other")
    assert reproducing._command(plan_of(known, changed, tmp_path)) == commands[1]
    some = reproducing._only(SUITES["classic"], SCALE, ["catch", "FOUR"])
    command = reproducing._command(plan_of(known, some, tmp_path))
    assert " --tasks Catch-bsuite FourRooms-misc --output " in command


def test_an_experiment_that_is_not_in_the_paper_has_no_column_for_it(carry_out, capsys):
    report = carry_out("impala", "b").read_text()
    assert "<th>paper</th>" not in report
    assert "<h2>In short</h2>" in report
    assert "(paper: " not in capsys.readouterr().out


def test_a_log_begins_with_the_command(carry_out, tmp_path):
    carry_out("a")
    log = (tmp_path / "out" / "runs" / "Catch-bsuite" / "a.log").read_text()
    assert log.startswith("$ stacx train --env gymnax:Catch-bsuite --agent impala ")


def test_a_run_that_fails_after_its_last_line_is_not_complete(carry_out, tmp_path):
    """As one that diverges in its last chunk: its metrics look complete."""
    for _ in range(2):
        with pytest.raises(StacxError, match=r"1 of 2 runs failed \(Catch-bsuite late\)"):
            carry_out("impala", "late")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Not complete: 1 of 2 runs" in report
    assert "Catch-bsuite late: interrupted at 100%; failed: stacx: training diverged" in report


def test_runs_that_were_complete_before_are_counted(carry_out, tmp_path, capsys):
    carry_out("a", "b")
    shutil.rmtree(tmp_path / "out" / "runs" / "Catch-bsuite" / "b")
    capsys.readouterr()
    carry_out("a", "b")
    assert "[2/2] Catch-bsuite b complete" in capsys.readouterr().out

"""Several processes train one run, as several hosts would: real ones, which are really killed."""

import re
import signal
import socket

import numpy as np
import pytest
from real_processes import PATIENCE, free_port, wait_for
from tiny_runs import final_arrays, tiny_flags

from stacx.cli.main import main
from stacx.runs import RunDirectory

pytestmark = pytest.mark.slow
ON_DEVICE = {"agent": "stacx", "tune": "gamma,g_e", "lstm_size": 4}
WITH_ACTORS = {
    "env": "host_games:Corridor",
    "agent": "stacx",
    "tune": "gamma,lambda",
    "num_actors": 2,
    "deterministic": True,
    "vectorization": "sync",
}
"""Learns from the same data whatever the hosts."""


def ends_of(processes):
    """Exit codes, and what stacx said."""
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    lines = [[line for line in text.splitlines() if line.startswith("stacx:")] for text in said]
    return [process.returncode for process in processes], lines


@pytest.mark.parametrize(
    ("settings", "hosts"), [(ON_DEVICE, 2), (ON_DEVICE, 4), (WITH_ACTORS, 2)], ids=str
)
def test_hosts_learn_what_one_device_does(start_hosts, tiny_run, tmp_path, settings, hosts):
    """A hundred updates: the same within float tolerance; the hosts' own copies bit for bit."""
    alone = final_arrays(tiny_run(**settings).directory)
    flags = [*tiny_flags(**settings), "--run-dir", "together"]
    processes = start_hosts(hosts, *flags, program=("kept_states",))
    assert ends_of(processes) == ([0] * hosts, [[]] * hosts)
    together = final_arrays(tmp_path / "together")
    assert together.keys() == alone.keys()
    for name, array in alone.items():
        np.testing.assert_allclose(together[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
    first, *others = (np.load(tmp_path / f"learner-{index}.npz") for index in range(hosts))
    assert any("logits" in name for name in first.files)
    for other in others:
        assert other.files == first.files
        assert all(other[name].tobytes() == first[name].tobytes() for name in first.files)
    assert (tmp_path / "together" / "metrics.jsonl").exists()


def wait_for_lines(directory, count, process):
    wait_for(lambda: len(RunDirectory(directory).metrics()) >= count, process)


@pytest.fixture
def begun(start_hosts, tmp_path):
    """Two hosts in the middle of a run that would take long, and its directory."""
    flags = [*tiny_flags(steps=20_000_000, log_points=100_000), "--run-dir", "run"]
    processes = start_hosts(2, *flags, patience=20)
    wait_for_lines(tmp_path / "run", 3, processes[0])
    return processes


def test_a_signal_to_any_host_stops_all_and_one_alone_goes_on(start_hosts, tiny_run, tmp_path):
    """From the checkpoint of two, to where one alone would have come."""
    settings = {"steps": 40_000, "log_points": 100}
    directory = tmp_path / "run"
    processes = start_hosts(2, *tiny_flags(**settings), "--run-dir", "run")
    wait_for_lines(directory, 2, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    codes, (first, second) = ends_of(processes)
    assert codes == [128 + signal.SIGTERM] * 2
    assert first[-1].endswith("continue with: stacx train --run-dir run --resume")
    assert second == ["stacx: the run was stopped by SIGTERM; host 0 says how to go on"]
    assert main(["train", "--resume", "--run-dir", str(directory), "--quiet"]) == 0
    alone = final_arrays(tiny_run(**settings).directory)
    for name, array in final_arrays(directory).items():
        if "learner.logits" in name:
            np.testing.assert_allclose(array, alone[name], rtol=1e-2, err_msg=name)


@pytest.mark.parametrize("index", [0, 1])
def test_when_a_host_is_killed_the_other_says_so(begun, index):
    begun[index].kill()
    other = begun[1 - index]
    _, err = other.communicate(timeout=PATIENCE)
    assert other.returncode == 1
    lines = [line for line in err.splitlines() if line.startswith("stacx:")]
    assert re.search("another (host|one) is gone", lines[-1])  # who notices first, is chance
    assert "start all hosts again with --resume" in lines[-1]


def test_a_host_that_does_not_answer_is_waited_for_only_so_long(begun):
    begun[1].send_signal(signal.SIGSTOP)
    _, err = begun[0].communicate(timeout=PATIENCE)
    assert begun[0].returncode == 1
    # in the middle of a program, it is JAX whose patience ends
    answer = "stacx: another host (has not answered for 20 s .--host-timeout 20.|is gone)"
    assert re.search(answer, err)
    assert "start all hosts again with --resume" in err


def test_hosts_with_other_settings_are_told_which(start_hosts):
    flags = [*tiny_flags(), "--run-dir", "run"]
    codes, said = ends_of(start_hosts(2, *flags, of={1: ["--learning-rate", "0.5"]}))
    assert codes == [2, 2]
    for (line,) in said:
        assert "hosts must have the same settings; different: --learning-rate (0.00" in line
        assert "on host 0, 0.5 on host 1)" in line


def test_environments_that_do_not_divide(start_hosts):
    flags = [*tiny_flags(num_envs=3), "--run-dir", "run"]
    codes, said = ends_of(start_hosts(2, *flags))
    assert codes == [2, 2]
    for (line,) in said:
        assert "neither --num-seeds 1 nor --num-envs 3 divides over the 2 devices" in line


def test_an_environment_that_one_host_cannot_make_ends_all(start_hosts, tmp_path):
    make = """
import jax
from host_games import Corridor

def of_host_0():
    if jax.process_index():
        import not_on_this_host
    return Corridor()
"""
    (tmp_path / "picky.py").write_text(make)
    flags = [*tiny_flags(env="picky:of_host_0"), "--run-dir", "run"]
    codes, ((first,), (second,)) = ends_of(start_hosts(2, *flags))
    assert codes == [1, 2]
    assert first == "stacx: host 1 cannot begin: its own messages say why"
    assert "not_on_this_host" in second
    assert not (tmp_path / "run").exists()


def test_nobody_is_where_the_coordinator_should_be(start):
    address = f"127.0.0.1:{free_port()}"
    flags = ["--hosts", "2", "--host-index", "1", "--coordinator", address, "--host-timeout", "2"]
    process = start(*tiny_flags(), *flags)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"stacx: no answer from {address}: is --coordinator right, and host 0 started?" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hosts", "2"], "--hosts 2 needs --host-index and --coordinator"),
        (["--hosts", "0"], "--hosts 0 must be at least 1, or auto"),
        (["--hosts", "auto", "--host-index", "1"], "--hosts auto finds --host-index and"),
        (["--host-index", "1"], "--host-index 1 is not one of 0 to 0 (--hosts 1)"),
        (["--hosts", "2", "--host-index", "2", "--coordinator", "a:1"], "is not one of 0 to 1"),
        (["--hosts", "2", "--host-index", "1", "--coordinator", "a"], "'a' is not HOST:PORT"),
        (
            ["--hosts", "2", "--host-index", "1", "--coordinator", "no.such.host.invalid:1"],
            "--coordinator no.such.host.invalid:1: no.such.host.invalid is not a known host",
        ),
    ],
)
def test_flags_that_make_no_host(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_port_that_is_taken(capsys):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--hosts", "2", "--host-index", "0", "--coordinator", address]
        assert main(["train", *flags]) == 2
    assert "host 0 cannot listen on port" in capsys.readouterr().err

"""Remote actors on real Ray clusters of this machine: what befalls them, nodes and the learner.

`STACX_FAULT_SECONDS` says for how long actors are killed; from two minutes on the run goes to its
end, and CartPole must be learned: the greedy policy returns 475 and more.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_processes import PATIENCE, TESTS, wait_for
from tiny_runs import tiny_flags

from stacx.cli.main import main
from stacx.runs import RunDirectory
from stacx.runtimes.ray_cluster import _LOOPBACK, _QUIET

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("STACX_FAULT_SECONDS", "9"))
MOMENT = 20.0
"""Seconds in which all processes must have ended."""
OWN = """
import numpy as np
import helper
from stacx.environments.gym_family import gymnasium

class Wide(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action):
        self.time += 1
        return np.full((64, 64, 3), self.time, np.uint8), helper.REWARD, self.time == 9, False, {}

def make():
    return Wide()
"""


class Nodes:
    """A simulated cluster, whose head has two CPUs, in processes of its own."""

    def __init__(self):
        paths = os.pathsep.join([str(TESTS), *sys.path])
        self._program = subprocess.Popen(
            [sys.executable, "-m", "simulated_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _QUIET | {"PYTHONPATH": paths},
        )
        self.address = self._answer()

    def add(self, cpus):
        """Another node; its number."""
        return self._ask(f"add {cpus}")

    def remove(self, node):
        """At once, as if its machine had failed."""
        self._ask(f"remove {node}")

    def retire(self, node):
        """So that the head places nothing on it for the next test, as it would for a while."""
        self._ask(f"retire {node}")

    def close(self):
        self._program.communicate(timeout=PATIENCE)

    def _ask(self, command):
        self._program.stdin.write(f"{command}\n")
        self._program.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._program.stdout.readline().strip()
        assert line, "the simulated cluster has ended"
        return line


@pytest.fixture(scope="module")
def nodes():
    cluster = Nodes()
    yield cluster
    cluster.close()


@pytest.fixture(autouse=True)
def own_environment(tmp_path):
    """A module of the user's, which needs another one of theirs."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("REWARD = 2.0\n")


def flags_of(nodes=None, **settings):
    settings = {"env": "gym:CartPole-v1", "agent": "impala", "num_actors": 2} | settings
    address = ["--ray-address", nodes.address] if nodes else []
    return [*tiny_flags(actors="ray", **settings), "--quiet", *address, "--run-dir", "run"]


def lines_of(tmp_path):
    return RunDirectory(tmp_path / "run").metrics()


def last(tmp_path, name):
    lines = lines_of(tmp_path)
    return lines[-1][name] if lines else None


def said_by(process):
    """Exit code, and what stacx said itself; but not that actors take long, which a busy machine
    may bring about.
    """
    _, err = process.communicate(timeout=PATIENCE)
    lines = [line for line in err.splitlines() if line.startswith("stacx:")]
    late = "remote actors are in service; the others begin"
    return process.returncode, [line for line in lines if late not in line]


def processes_with(mark, name="", but=None):
    """Those with a mark in their environment, and a name in their command, or none of it."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
            environment = (directory / "environ").read_bytes()
        except OSError:
            continue
        if but is not None and but.encode() in command:
            continue
        if mark.encode() in environment and name.encode() in command:
            found.append(int(directory.name))
    return found


def actors_of(mark):
    return processes_with(mark, "ray::RemoteActor")


def with_mark(mark):
    return ["--ray-env", f'{{"env_vars": {{"MARK": "{mark}"}}}}']


def listened_on(processes):
    """The addresses that they listen on with TCP."""
    sockets = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(link))
    rows = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {row[1].rpartition(":")[0] for row in listening}


@pytest.fixture
def mark(monkeypatch):
    """In the environment of all that is started from here; and nothing of Ray's there."""
    text = f"stacx-mark-{time.time_ns()}"
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STACX_MARK", text)
    return text


def test_functions_of_ones_own_reach_the_nodes_by_rays_runtime_environment(start, nodes, tmp_path):
    process = start(*flags_of(nodes, env="mine:make", steps=160))
    code, said = said_by(process)
    assert (code, said) == (0, [])
    line = lines_of(tmp_path)[-1]
    assert line["episode_return"] == 18.0
    assert line["actors"] == 2
    assert line["actor_steps_per_second"] > 0
    assert line["object_store_bytes"] >= 0
    assert line["lag_max"] <= 10  # twice what two actors and a queue make, and four


def test_what_a_node_lacks_ends_the_run(start, nodes, tmp_path):
    """There the working directory is another one."""
    (tmp_path / "empty").mkdir()
    elsewhere = f'{{"working_dir": "{tmp_path / "empty"}"}}'
    process = start(*flags_of(nodes, env="mine:make", ray_env=elsewhere))
    code, said = said_by(process)
    assert code == 2
    assert re.match(r"stacx: actor [01] on node [\d.]+: .*no module of that name", said[-1]), said


def test_actors_that_are_killed_are_replaced_and_the_run_goes_on(start, nodes, tmp_path, capsys):
    """One every three seconds, each of which needs as long to begin."""
    mark = f"stacx-mark-{time.time_ns()}"
    settings = {"env": "gym:CartPole-v1", "agent": "impala", "actors": "ray", "num_actors": 2}
    settings |= {"steps": 800_000, "log_points": 800, "ray_address": nodes.address}
    words = [w for name, v in settings.items() for w in (f"--{name.replace('_', '-')}", str(v))]
    process = start(*words, *with_mark(mark), "--run-dir", "run", "--quiet")
    wait_for(lambda: lines_of(tmp_path), process)
    killed, deadline = 0, time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if actors := actors_of(mark):
            os.kill(random.choice(actors), signal.SIGKILL)
            killed += 1
        time.sleep(3)
    if SECONDS < 120:
        updates = last(tmp_path, "updates")
        wait_for(lambda: last(tmp_path, "updates") > updates + 20, process)
        process.send_signal(signal.SIGTERM)
    code, said = said_by(process)
    if SECONDS < 120:
        assert code == 128 + signal.SIGTERM
        assert said.pop().startswith("stacx: stopped by SIGTERM")
    else:
        assert code == 0
        assert main(["eval", str(tmp_path / "run"), "--greedy", "--episodes", "20"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean_return"] >= 475
    assert killed >= SECONDS / 6
    assert killed - 2 <= last(tmp_path, "actor_replacements") <= killed
    assert said
    assert all(line.startswith("stacx: warning: lost, to be replaced: actor ") for line in said)


def test_nodes_come_and_go_while_a_run_goes_on(start, nodes, tmp_path):
    """It begins with two of its three actors; the third is on whatever node there is for it."""
    flags = flags_of(nodes, num_actors=3, steps=10**8, log_points=10**6)
    process = start(*flags, "--min-actors", "2")
    wait_for(lambda: last(tmp_path, "actors") == 2, process)
    node = nodes.add(cpus=1)
    wait_for(lambda: last(tmp_path, "actors") == 3, process)
    assert last(tmp_path, "actor_replacements") == 0
    nodes.remove(node)
    wait_for(lambda: last(tmp_path, "actors") == 2, process)
    updates = last(tmp_path, "updates")
    wait_for(lambda: last(tmp_path, "updates") > updates + 20, process)
    node = nodes.add(cpus=1)
    wait_for(lambda: last(tmp_path, "actors") == 3, process)
    process.send_signal(signal.SIGTERM)
    code, said = said_by(process)
    nodes.retire(node)
    assert code == 128 + signal.SIGTERM
    assert "lost, to be replaced: actor" in said[0]
    assert last(tmp_path, "actor_replacements") >= 1


def test_a_learner_that_is_killed_takes_its_cluster_along_and_resumes(mark, start, tmp_path):
    """Its own cluster, which listens on nothing but the loopback address meanwhile."""
    process = start(*flags_of(steps=10**6, log_points=5000, checkpoint_points=5000))
    wait_for(lambda: (last(tmp_path, "updates") or 0) >= 100, process)
    assert len(actors_of(mark)) == 2
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
    addresses = listened_on(processes_with(mark))
    assert addresses
    assert addresses <= loopback
    process.kill()
    wait_for(lambda: not processes_with(mark, but="Agent"), seconds=MOMENT)  # those take longer
    updates = last(tmp_path, "updates")
    process = start("--run-dir", "run", "--resume", "--quiet")
    wait_for(lambda: last(tmp_path, "updates") > updates + 100, process)
    process.send_signal(signal.SIGTERM)
    code, said = said_by(process)
    assert code == 128 + signal.SIGTERM
    assert len(said) == 1
    wait_for(lambda: not processes_with(mark, but="Agent"), seconds=MOMENT)


def test_a_host_of_several_that_is_killed_ends_all_their_actors(mark, start_hosts, start, tmp_path):
    """Each with a cluster and an actor of its own; then one host goes on, with a cluster."""
    settings = {"num_actors": 1, "num_envs": 4, "actor_envs": 2}
    flags = flags_of(**settings, steps=10**6, log_points=5000, checkpoint_points=5000)
    first, second = start_hosts(2, *flags)
    wait_for(lambda: (last(tmp_path, "updates") or 0) >= 50, first)
    assert len(actors_of(mark)) == 2
    second.kill()
    code, said = said_by(first)
    assert code == 1
    assert re.search(r"another (host|one) is gone.*start all hosts again with --resume", said[-1])
    wait_for(lambda: not processes_with(mark, but="Agent"), seconds=MOMENT)
    updates = last(tmp_path, "updates")
    process = start("--run-dir", "run", "--resume", "--quiet")
    wait_for(lambda: last(tmp_path, "updates") > updates + 50, process)
    process.send_signal(signal.SIGTERM)
    assert said_by(process)[0] == 128 + signal.SIGTERM


def test_an_environment_that_hangs_on_one_actor_only(start, nodes, tmp_path):
    arguments = f'{{"fault": "hang", "once": "{tmp_path / "once"}", "seconds": 100.0}}'
    flags = flags_of(nodes, env="host_games:Faulty", env_args=arguments, steps=10**8)
    code_path = f'{{"env_vars": {{"PYTHONPATH": "{TESTS}"}}}}'
    process = start(*flags, "--log-points", "1000000", "--env-timeout", "2", "--ray-env", code_path)
    wait_for(lambda: last(tmp_path, "environment_restarts") == 1, process)
    wait_for(lambda: last(tmp_path, "actors") == 2, process)
    process.send_signal(signal.SIGTERM)
    code, said = said_by(process)
    assert code == 128 + signal.SIGTERM
    assert re.search(
        r"has not answered for 2 s \(--env-timeout\) \(actor [01] on node [\d.]+\); its batch is "
        r"restarted \(1 of at most 3 times\)",
        said[0],
    )
    assert len(said) == 2
    assert last(tmp_path, "actor_replacements") == 0


def test_a_full_object_store_does_not_stop_a_run(start, nodes, tmp_path):
    """Someone else's objects take more than all of it."""
    filling = (
        "import numpy as np, ray, sys\n"
        "ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)\n"
        "kept = [ray.put(np.ones(2**24, np.uint8)) for _ in range(8)]\n"
        "print('full', flush=True)\n"
        "sys.stdin.read()\n"
    )
    filler = subprocess.Popen(
        [sys.executable, "-c", filling, nodes.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=os.environ | _LOOPBACK,
    )
    try:
        assert "full" in filler.stdout.readline()
        settings = {"num_envs": 8, "trajectory_length": 20, "steps": 16_000}
        process = start(*flags_of(nodes, env="mine:make", **settings))
        code, said = said_by(process)
        assert (code, said) == (0, [])
        assert last(tmp_path, "object_store_bytes") > 0
    finally:
        filler.communicate("")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ray-address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--ray-address", "ray://head:10001"], "is not HOST:PORT of the head of a cluster"),
        (["--ray-address", "head"], "is not HOST:PORT of the head of a cluster"),
    ],
)
def test_an_address_without_a_cluster_is_said_at_once(tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags_of(), *flags]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_no_head_of_a_cluster_is_not_waited_for_long(start, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = start(*flags_of(), "--ray-address", address, program=("impatient",))
        code, said = said_by(process)
    assert code == 2
    assert said == [f"stacx: cannot use Ray at {address}: no answer for 3 s; is that its head?"]
    assert not (tmp_path / "run").exists()


def test_more_actors_than_there_is_room_for_leave_nothing_behind(start, nodes, tmp_path):
    mark = f"stacx-mark-{time.time_ns()}"
    process = start(*flags_of(nodes, num_actors=7), *with_mark(mark))
    code, said = said_by(process)
    assert code == 2
    assert said[-1] == (
        "stacx: 7 actors of 1 CPUs each (--actor-cpus) find no place on a cluster with room for "
        "2: use --num-actors 2, --min-actors 2 to begin with fewer, fewer --actor-cpus or a larger "
        "cluster"
    )
    assert not (tmp_path / "run").exists()
    wait_for(lambda: not actors_of(mark), seconds=MOMENT)


def test_actors_for_which_others_leave_no_room_are_not_waited_for_for_ever(start, nodes, tmp_path):
    """The first run has both CPUs."""
    process = start(*flags_of(nodes, steps=10**8, log_points=10**6))
    wait_for(lambda: last(tmp_path, "actors") == 2, process)
    other = start(*flags_of(nodes)[:-2], "--run-dir", "other", "--actor-timeout", "3")
    code, said = said_by(other)
    process.kill()
    assert code == 1
    assert said == [
        "stacx: 0 of at least 1 remote actors are in service, for 3 s (--actor-timeout): does the "
        "cluster have 1 free CPUs for each (ray status)?"
    ]

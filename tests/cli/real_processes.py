"""`stacx train` in processes of its own, and how tests wait for them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PATIENCE = 120.0
"""Seconds until a process must have got anywhere."""


@pytest.fixture
def start(compile_cache, tmp_path):
    """Starts `stacx train` in a process and a session of its own, which ends with the test."""
    environment = os.environ | {name.upper(): str(v) for name, v in compile_cache.items()}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
    processes = []

    def train(*flags, program=("stacx.cli.main",)):
        command = [sys.executable, "-m", *program, "train", *flags]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield train
    for process in processes:
        process.kill()
        process.communicate()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start_hosts(start):
    """Starts so many hosts with the same flags, or with others for some; returns the processes."""

    def start_all(count, *flags, program=("stacx.cli.main",), of=None, patience=PATIENCE):
        port = free_port()
        common = ["--hosts", str(count), "--coordinator", f"127.0.0.1:{port}"]
        common += ["--host-timeout", str(patience), "--quiet", *flags]
        return [
            start(*common, "--host-index", str(index), *(of or {}).get(index, ()), program=program)
            for index in range(count)
        ]

    return start_all


def wait_for(condition, process=None, seconds=PATIENCE):
    """Looks every few milliseconds; a process that ends before has failed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)

"""`stacx train` in processes of its own, and how tests wait for them."""

import os
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


def wait_for(condition, process=None, seconds=PATIENCE):
    """Looks every few milliseconds; a process that ends before has failed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)

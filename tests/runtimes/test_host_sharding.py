"""Actors and a learner on four devices: the work is really split, the results are those of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
DEVICES = 4
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    """What the program on four devices has printed."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]),
    }
    command = [sys.executable, str(HERE / "host_sharded_runs.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_parameters_as_on_one_device(found):
    pairs = zip(found["apart"]["parameters"], found["one"]["parameters"], strict=True)
    for leaf, other in pairs:
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-5)


def test_rollouts_are_split_and_the_learner_is_not(found):
    assert found["apart"]["rollout_parts"] == [2]
    assert found["one"]["rollout_parts"] == [1]
    assert found["apart"]["state_parts"] == found["one"]["state_parts"] == [1]


def test_actors_and_the_learner_are_where_they_were_told_to_be(found):
    assert found["apart"]["actor_devices"] == [0, 1]
    assert found["apart"]["state_devices"] == [2, 3]
    assert found["one"]["actor_devices"] == found["one"]["state_devices"] == [0]


def test_devices_are_those_named_or_what_is_usual(found):
    assert found["plans"] == [
        [[0], [1, 2]],
        [[2, 3], [0, 1]],
        [[0], [0, 1, 2, 3]],
        [[1], [1]],
        [[], [0, 1, 2, 3]],
    ]


def test_devices_that_do_not_fit_are_refused(found):
    assert found["refused"] == [
        "--num-envs 4 does not divide over 3 learner devices: change it or --learner-devices",
        "--actor-devices names 3 devices for 2 actors: name fewer, or raise --num-actors",
        "--actor-devices 4: there are only devices 0 to 3, each to be named once",
    ]

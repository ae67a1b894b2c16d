"""Four devices: the work is really split, and the results are those of one device."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from sharded_runs import ITERATIONS, PLANS
from small_runtimes import assert_close, differ, lane

DEVICES = 4
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The arrays that the program on four devices wrote."""
    file = tmp_path_factory.mktemp("sharded") / "arrays.npz"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]),
    }
    command = [sys.executable, str(HERE / "sharded_runs.py"), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(file)


@pytest.fixture(scope="module")
def sharded(written, recurrent):
    """From a number of seeds and a moment to the state that was written."""
    structure = jax.tree.structure(recurrent.start)

    def state_of(seeds, moment):
        leaves = [written[f"{seeds}/{moment}/{n}"] for n in range(structure.num_leaves)]
        return jax.tree.unflatten(structure, leaves)

    return state_of


@pytest.mark.slow
def test_seeds_are_split_but_for_what_every_host_looks_at(sharded):
    for moment in ("start", "end"):
        parts = sharded(DEVICES, f"{moment}/parts")
        seen = parts.iteration, parts.interval, parts.learner.skipped_in_a_row
        assert {int(number) for number in jax.tree.leaves(seen)} == {1}
        rest = eqx.tree_at(
            lambda s: (s.iteration, s.interval, s.learner.skipped_in_a_row), parts, (None,) * 3
        )
        assert {int(number) for number in jax.tree.leaves(rest)} == {DEVICES}


@pytest.mark.slow
def test_no_device_computes_the_network_for_environments_of_another(written):
    assert written["gathers"] == 0


@pytest.mark.slow
def test_environments_are_split_and_the_learner_is_not(sharded):
    for moment in ("start", "end"):
        parts = sharded(1, f"{moment}/parts")
        for leaf in jax.tree.leaves((parts.environments, parts.recurrent_state)):
            assert int(leaf) == DEVICES
        for leaf in jax.tree.leaves((parts.learner, parts.interval, parts.seed, parts.iteration)):
            assert int(leaf) == 1


@pytest.mark.slow
def test_split_seeds_are_single_runs(sharded, recurrent):
    start, end = sharded(DEVICES, "start"), sharded(DEVICES, "end")
    for index in range(DEVICES):
        alone = recurrent.after(ITERATIONS, start=lane(start, index))
        assert_close(lane(end, index), alone)
    assert differ(lane(end, 0).learner, lane(end, 1).learner)


@pytest.mark.slow
def test_a_run_with_split_environments_is_the_run_on_one_device(sharded, recurrent):
    assert_close(sharded(1, "start"), recurrent.start)
    assert_close(sharded(1, "end"), recurrent.after(ITERATIONS))


@pytest.mark.slow
def test_seeds_or_else_environments_must_divide_into_the_devices(written):
    numbers = {plan: int(written[f"plan/{plan}"]) for plan in PLANS}
    assert numbers == {(4, 3): 4, (8, 3): 4, (3, 8): 4, (3, 6): 1, (2, 6): 1}

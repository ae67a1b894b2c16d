"""A run leaves a complete directory, and says in one line what ends it early."""

import itertools
import json
import math
import types

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image
from tiny_runs import (
    TWO_SEEDS,
    assert_same_run,
    contents,
    final_arrays,
    lines_of,
    tiny_config,
)

import stacx
from stacx.agents import METAPARAMETERS
from stacx.config import Config
from stacx.runs import RunDirectory, training
from stacx.runs.checkpoints import Checkpoints
from stacx.runs.training import default_directory
from stacx.runtimes.on_device import OnDeviceRuntime


@pytest.fixture
def run(tiny_run):
    return tiny_run(**TWO_SEEDS)


def test_the_directory_holds_what_the_contract_says(run):
    names = {path.name for path in run.directory.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "events", "checkpoints", "figures"}
    assert {path.name for path in (run.directory / "events").iterdir()} == {"seed_3", "seed_4"}
    with Image.open(run.directory / "figures" / "training.png") as figure:
        assert min(figure.size) > 300


def test_the_config_is_complete_and_comes_back(run):
    stored = json.loads((run.directory / "config.json").read_text())
    assert stored.keys() == set(Config.__dataclass_fields__)
    assert run.config() == tiny_config(**TWO_SEEDS)


def test_each_seed_has_a_line_at_every_point(run):
    lines = run.metrics()
    points = [20, 40, 60, 80, 100]
    for seed in (3, 4):
        mine = [line for line in lines if line["seed"] == seed]
        assert [line["updates"] for line in mine] == points
        assert [line["env_steps"] for line in mine] == [20 * point for point in points]
    assert len(lines) == 2 * 5


def test_a_line_has_everything_that_the_contract_names(run):
    names = {"env_steps", "updates", "seed", "episode_return", "episode_length"}
    names |= {"steps_per_second", "skipped_updates"}
    names |= {f"meta/{name}/{head}" for name in METAPARAMETERS for head in range(3)}
    names |= {
        f"{name}/{head}"
        for name in ("entropy", "value_min", "value_max", "importance_max")
        for head in range(3)
    }
    for line in run.metrics():
        assert names <= line.keys()
        assert line["steps_per_second"] > 0
        assert line["skipped_updates"] == 0
        assert 0 < line["entropy/0"] <= math.log(3) + 1e-6
        assert line["value_min/2"] <= line["value_max/2"]


def test_compilation_does_not_count_as_training_time(tmp_path, monkeypatch):
    """On a clock where it takes a hundred seconds, and then every update one."""
    runtime, now = training.OnDeviceRuntime, [0.0]
    prepare, run = runtime.prepare, runtime.run

    def long_prepare(self, state):
        now[0] += 100
        return prepare(self, state)

    def timed(self, state, iterations, *should_stop):
        now[0] += iterations
        return run(self, state, iterations, *should_stop)

    monkeypatch.setattr(runtime, "prepare", long_prepare)
    monkeypatch.setattr(runtime, "run", timed)
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(training, "plot_runs", lambda directories, output: output)
    lines = stacx.train(tiny_config(), tmp_path / "run", quiet=True).metrics()
    assert [line["steps_per_second"] for line in lines] == 5 * [20.0]


def test_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    """By a runtime that no other test has compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(training, "OnDeviceRuntime", OnDeviceRuntime)
    monkeypatch.setattr(training, "plot_runs", lambda directories, output: output)
    jax.config.update("jax_compilation_cache_dir", None)  # the fixture of all runs puts it back
    compilation_cache.reset_cache()
    stacx.train(tiny_config(agent="impala", tune="none", steps=20), tmp_path / "run", quiet=True)
    assert any((tmp_path / "stacx" / "programs").iterdir())


def test_metaparameters_are_those_of_the_inner_loss(run):
    """Tuned ones start at sigmoid(4.6), of the outer value for weights; the others stay."""
    first, last = run.metrics()[0], run.metrics()[-1]
    for line in (first, last):
        assert line["meta/lambda/1"] == pytest.approx(1.0)
        assert line["meta/g_v/2"] == pytest.approx(0.25)
    assert first["meta/gamma/0"] == pytest.approx(0.99005, abs=1e-4)
    assert first["meta/g_e/0"] == pytest.approx(0.0099005, abs=1e-5)
    assert last["meta/gamma/0"] != first["meta/gamma/0"]


def test_returns_are_means_of_the_episodes_that_ended(run):
    returns = [line["episode_return"] for line in run.metrics() if line["seed"] == 3]
    lengths = [line["episode_length"] for line in run.metrics() if line["seed"] == 3]
    assert all(-1 <= value <= 1 for value in returns)
    assert all(value == 9 for value in lengths)


def test_returns_are_null_until_an_episode_has_ended(tiny_run):
    """Catch ends after 9 steps: every second rollout of 5. In between, the last return stays."""
    lines = tiny_run(log_points=100).metrics()
    assert lines[0]["episode_return"] is None
    assert lines[0]["episode_length"] is None
    quiet = [pair for pair in itertools.pairwise(lines) if pair[1]["episodes"] == 0]
    assert quiet
    for before, line in quiet:
        assert line["episode_return"] == before["episode_return"]
    assert sum(line["episodes"] for line in lines) == 4 * (500 // 10)


def test_the_number_of_lines_does_not_change_the_run(tiny_run):
    few, many = tiny_run("few"), tiny_run("many", log_points=100)
    assert lines_of(few.directory)[-1]["meta/gamma/0"] == many.metrics()[-1]["meta/gamma/0"]
    arrays, others = final_arrays(few.directory), final_arrays(many.directory)
    for name, array in arrays.items():
        if not name.startswith(".interval"):
            np.testing.assert_array_equal(array, others[name], strict=True, err_msg=name)


@pytest.mark.parametrize(("points", "updates"), [(0, [100]), (1, [100]), (3, [100, 67, 34])])
def test_checkpoints_are_spread_over_the_run_and_do_not_change_it(tiny_run, points, updates):
    """With a line at every update, chunks are of one."""
    run = tiny_run(log_points=100, checkpoint_points=points)
    assert Checkpoints(RunDirectory(run.directory).checkpoints).steps() == updates
    assert_same_run(run.directory, tiny_run("other", log_points=100).directory)


def test_seeds_differ(run):
    arrays = final_arrays(run.directory)
    weights = [array for name, array in arrays.items() if "parameters" in name and array.ndim > 2]
    assert weights
    for array in weights:
        assert len(array) == 2
        assert not np.array_equal(array[0], array[1])


def test_the_default_directory_tells_runs_apart():
    directory = default_directory(Config(env="gymnax:CartPole-v1", agent="stac", seed=7))
    assert directory.parent.name == "runs"
    assert directory.name.startswith("CartPole-v1-stac-7-")


def test_a_directory_in_use_is_refused_before_anything_is_written(run):
    before = contents(run.directory)
    with pytest.raises(stacx.ConfigError, match="holds a run already: continue it with --resume"):
        stacx.train(tiny_config(), run.directory, quiet=True)
    assert contents(run.directory) == before
    assert RunDirectory(run.directory).config() == tiny_config(**TWO_SEEDS)

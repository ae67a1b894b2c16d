"""`stacx eval`: the last line is for programs."""

import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TWO_SEEDS, change_config, contents, newest_checkpoint, spoil

import stacx
from stacx import environments
from stacx.cli.main import main
from stacx.environments.host import ReferenceScores


@pytest.fixture
def evaluation(capsys):
    """The object on the last line, after a successful `stacx eval`."""

    def evaluate(*arguments):
        assert main(["eval", *map(str, arguments)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out.splitlines()[-1])

    return evaluate


def test_the_last_line_is_an_object(evaluation, tiny_run):
    directory = tiny_run().directory
    before = contents(directory)
    outcome = evaluation(directory, "--episodes", 30, "--seed", 5)
    assert outcome.keys() >= {"mean_return", "std_return", "episodes"}
    assert outcome["episodes"] == 30
    assert not outcome["greedy"]
    environment = environments.make("gymnax:Catch-bsuite")
    returns = stacx.evaluate(stacx.load(directory), environment, episodes=30, seed=5).returns
    assert outcome["mean_return"] == pytest.approx(returns.mean())
    assert outcome["std_return"] == pytest.approx(returns.std())
    assert contents(directory) == before


def test_it_says_how_long_the_policy_was_trained(capsys, tiny_run):
    assert main(["eval", str(tiny_run().directory), "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith("seed 0, trained for 2,000 steps: return ")


def test_all_seeds_count_and_episodes_can_be_filmed(evaluation, tiny_run, tmp_path):
    directory = tiny_run(**TWO_SEEDS).directory
    film = tmp_path / "films" / "episode.gif"
    outcome = evaluation(directory, "--episodes", "0.005k", "--greedy", "--gif", film)
    assert outcome["episodes"] == 10
    assert outcome["greedy"]
    assert len(outcome["mean_return_by_seed"]) == 2
    assert outcome["mean_return"] == pytest.approx(np.mean(outcome["mean_return_by_seed"]))
    with Image.open(film) as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 10  # Catch: nine steps


@pytest.fixture
def refused(capsys):
    def refuse(code, *arguments):
        assert main(["eval", *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return refuse


def test_bad_arguments(refused, tiny_run, tmp_path):
    directory = tiny_run().directory
    before = contents(tmp_path)
    assert "nothing is not a run directory" in refused(2, tmp_path / "nothing")
    assert "it has no config.json" in refused(2, tmp_path)
    assert "--episodes must be positive, not 0" in refused(2, directory, "--episodes", 0)
    assert "--episodes must be positive, not -2" in refused(2, directory, "--episodes", -2)
    assert "'many' is not a whole number" in refused(2, directory, "--episodes", "many")
    assert "did you mean --episodes?" in refused(2, directory, "--episode", 3)
    assert "--env-timeout must be positive, not -1.0" in refused(2, directory, "--env-timeout", -1)
    assert refused(2, directory, "--env-timeout", 9) == (
        "stacx: --env-timeout has no effect for gymnax:Catch-bsuite, which steps on the device: "
        "leave it out\n"
    )
    assert refused(2) == "stacx: stacx eval needs RUN_DIR, the run directory\n"
    assert contents(tmp_path) == before


def test_a_film_that_cannot_be_written_is_refused_before_anything_is_done(
    refused, tiny_run, monkeypatch
):
    directory = tiny_run().directory
    monkeypatch.setattr("stacx.runs.load", None)
    before = contents(directory)
    config = directory / "config.json"
    below = config / "films" / "film.gif"
    for film, wish in (
        (below, f"{below} cannot be written: {config} is not a directory"),
        (directory, f"{directory} is a directory: name a file"),
        (directory / "film.mp4", f"{directory}/film.mp4 must end in .gif"),
        (directory / "film", f"{directory}/film must end in .gif"),
    ):
        assert refused(2, directory, "--gif", film) == f"stacx: --gif {wish}\n"
    assert contents(directory) == before


def test_a_run_without_a_whole_checkpoint(refused, tiny_run):
    directory = tiny_run().directory
    spoil(newest_checkpoint(directory), "truncate")
    assert "no checkpoint is whole: " in refused(1, directory)
    shutil.rmtree(directory / "checkpoints")
    assert "there is no checkpoint in " in refused(1, directory)


@pytest.mark.filterwarnings("default::stacx.runs.CheckpointWarning")
def test_a_damaged_checkpoint_is_a_line_on_the_standard_error(tiny_run, capsys):
    directory = tiny_run().directory
    newest = newest_checkpoint(directory)
    shutil.copytree(newest, newest.with_name("50"))
    spoil(newest, "flip")
    assert main(["eval", str(directory), "--episodes", "30"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["episodes"] == 30
    assert err.startswith(f"stacx: warning: {newest} is damaged (")
    assert err.count("\n") == 1


def test_a_run_cannot_have_a_command_executed(refused, tiny_run, tmp_path):
    directory, trace = tiny_run().directory, tmp_path / "executed"
    command = json.dumps({"cmd": f"touch {trace}"})
    change_config(directory, env="subprocess:getoutput", env_args=command)
    line = refused(2, directory)
    assert line.endswith("if you trust it, add --env subprocess:getoutput\n")
    assert "is a run with env 'subprocess:getoutput', not 'o:f'" in refused(
        2, directory, "--env", "o:f"
    )
    change_config(directory, env="gymnax:Catch-bsuite", env_args="{}", torso="os:system")
    assert "if you trust it, add --torso os:system\n" in refused(2, directory)
    assert not trace.exists()


OWN = """
import stacx

def game():
    return stacx.environments.make("gymnax:Catch-bsuite")
"""


def test_an_environment_of_ones_own_needs_no_flag(evaluation, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_catch.py").write_text(OWN)
    directory = tiny_run().directory
    wanted = evaluation(directory, "--episodes", 3)
    change_config(directory, env="own_catch:game")
    assert evaluation(directory, "--episodes", 3) == wanted
    assert evaluation(directory, "--episodes", 3, "--env", "own_catch:game") == wanted


def test_what_is_named_on_the_command_line_is_trusted(evaluation, tiny_run, tmp_path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "installed_catch.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    directory = tiny_run().directory
    change_config(directory, env="installed_catch:game")
    assert evaluation(directory, "--episodes", 3, "--env", "installed_catch:game")["episodes"] == 3


BROKEN = """
import jax, jax.numpy as jnp, stacx

def game():
    environment = stacx.environments.make("gymnax:Catch-bsuite")
    step = type(environment).step

    class Broken(type(environment)):
        def step(self, key, state, action):
            state, timestep = step(self, key, state, action)
            return state, timestep._replace(reward=timestep.reward * PAYS)

    return Broken(*environment.gymnax)
"""


@pytest.fixture
def paying(tiny_run, tmp_path, monkeypatch):
    """A run in Catch, where every reward is multiplied."""

    def make(name, factor):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / f"{name}.py").write_text(BROKEN.replace("PAYS", factor))
        directory = tiny_run().directory
        change_config(directory, env=f"{name}:game")
        return directory

    return make


def test_rewards_that_are_not_finite(refused, paying):
    line = refused(1, paying("broken_catch", "jnp.nan"), "--episodes", 3)
    assert line == (
        "stacx: broken_catch:game returned rewards that are not finite, in 3 of 3 episodes: "
        "mend the environment\n"
    )


def test_numbers_have_no_noise_of_single_precision(paying, capsys):
    assert main(["eval", str(paying("small_catch", "0.1")), "--episodes", "10"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r'"mean_return": -0\.\d+, ', last)
    assert not re.search(r"\d{9}", last)


ON_THE_CPU = """
import time

import gymnasium, numpy as np

class Board(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (10, 5), np.float32)
    action_space = gymnasium.spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros((10, 5), np.float32), {}

    def step(self, action):
        self.time += 1
        if self.time == RAISES:
            raise RuntimeError("no more")
        return np.zeros((10, 5), np.float32), 1.0, self.time == 4, False, {}

    def render(self):
        return np.full((8, 8, 3), 50 * self.time, np.uint8)
"""


@pytest.fixture
def board(tiny_run, tmp_path, monkeypatch):
    """A run whose environment steps on the CPU, four steps of reward 1."""

    def make(name, raises="None"):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / f"{name}.py").write_text(ON_THE_CPU.replace("RAISES", raises))
        directory = tiny_run().directory
        change_config(directory, env=f"{name}:Board")
        return directory

    return make


def test_an_environment_on_the_cpu(evaluation, board, tmp_path):
    film = tmp_path / "episode.gif"
    outcome = evaluation(board("own_board"), "--episodes", 40, "--gif", film)
    assert outcome == {
        "mean_return": 4.0,
        "std_return": 0.0,
        "episodes": 40,
        "mean_return_by_seed": [4.0],
        "greedy": False,
    }
    with Image.open(film) as gif:
        assert gif.n_frames == 5
        assert gif.info["duration"] == 100


def test_a_film_that_is_cut_says_so(board, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("stacx.runs.evaluation.MOST_FRAMES", 5)
    film = tmp_path / "episode.gif"
    assert main(["eval", str(board("own_board")), "--episodes", "1", "--gif", str(film)]) == 0
    assert f"gif: {film} (the first 5 pictures)\n" in capsys.readouterr().out


def test_frames_and_scores_are_reported_as_in_training(evaluation, board, monkeypatch):
    directory, make = board("scored_board"), environments.make
    known = {"scores": ReferenceScores(random=2.0, human=9.0), "frames_per_step": 4}
    monkeypatch.setattr(
        environments, "make", lambda *env, **o: dataclasses.replace(make(*env), **known)
    )
    outcome = evaluation(directory, "--episodes", 3)
    assert outcome["human_normalised_score"] == 0.2857143
    assert outcome["frames"] == 4 * 4 * 3
    assert isinstance(outcome["frames"], int)


def test_an_environment_on_the_cpu_that_raises(board, capsys):
    assert main(["eval", str(board("raising_board", "3")), "--episodes", "2"]) == 1
    *details, last = capsys.readouterr().err.splitlines()
    assert details[0] == "Traceback (most recent call last):"
    assert last.startswith(
        "stacx: raising_board:Board: environment 0 raised RuntimeError: no more ("
    )


def test_an_environment_on_the_cpu_that_does_not_answer(board, capsys):
    directory = board("hanging_board", "time.sleep(20)")
    assert main(["eval", str(directory), "--episodes", "2", "--env-timeout", "0.5"]) == 1
    *details, last = capsys.readouterr().err.splitlines()
    assert any(line.endswith(", in step") for line in details)
    assert last == (
        "stacx: hanging_board:Board has not answered for 0.5 s (--env-timeout 0.5): mend the "
        "environment"
    )

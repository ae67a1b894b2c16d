"""A game of Atari from training to a film, as a user goes about it."""

import json

import pytest
from PIL import Image
from tiny_runs import final_arrays

from stacx.cli.main import main
from stacx.environments.atari_family import reference_scores
from stacx.runs import RunDirectory

FRAMES = 600
"""Of an episode at most: a few points are lost in it."""
ARGUMENTS = {
    "max_num_frames_per_episode": FRAMES,
    "num_threads": 1,
    **{"img_height": 42, "img_width": 42},  # a quarter of the time
}
SETTINGS = {
    "env": "atari:Pong",
    "env-args": json.dumps(ARGUMENTS),
    "agent": "impala",
    "torso": "shallow",
    "num-actors": 1,
    "num-envs": 2,
    "trajectory-length": 4,
    "steps": 320,
    **{"log-points": 2, "checkpoint-points": 0},
    "reward-clip": 0.1,
}


def train(directory):
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    assert main(["train", *flags, "--deterministic", "--quiet", "--run-dir", str(directory)]) == 0
    return RunDirectory(directory)


@pytest.mark.slow
def test_a_game_is_learned_and_played(tmp_path, capsys):
    run, other = train(tmp_path / "run"), train(tmp_path / "other")
    arrays, others = final_arrays(run.path), final_arrays(other.path)
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in others.items()
    }
    _, line = run.metrics()
    assert line["env_steps"] == 320
    assert line["frames"] == 4 * 320
    assert line["episode_length"] <= FRAMES / 4
    assert (2 * line["episode_return"]).is_integer()  # raw: clipped, a point is a tenth
    score = reference_scores()["Pong"].normalised(line["episode_return"])
    assert line["human_normalised_score"] == pytest.approx(score)

    film = tmp_path / "film.gif"
    assert main(["eval", str(run.path), "--episodes", "2", "--gif", str(film)]) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (2 * outcome["mean_return"]).is_integer()
    assert outcome["frames"] <= 2 * FRAMES
    with Image.open(film) as gif:
        assert gif.size == (160, 210)
        assert 2 < gif.n_frames <= FRAMES / 4 + 1

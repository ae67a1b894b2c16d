"""A run that goes on, but should be looked at, says so in a warning, even if it is quiet."""

import itertools
import warnings

import jax.numpy as jnp
import pytest
from support import Walk, as_module
from tiny_runs import TWO_SEEDS, tiny_config

import stacx
from stacx.runs import training


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(training, "plot_runs", lambda directories, output: output)


@pytest.fixture
def warnings_of(tmp_path):
    """The warnings of a run with these settings."""

    def run(**settings):
        with pytest.warns(stacx.TrainingWarning) as caught:
            stacx.train(tiny_config(**settings), tmp_path / "run", quiet=True)
        return [str(warning.message) for warning in caught]

    return run


@pytest.fixture
def doctored(monkeypatch):
    """Changes every line of metrics."""
    original = training.metric_lines

    def change(**changes):
        def metric_lines(*arguments):
            return [line | changes for line in original(*arguments)]

        monkeypatch.setattr(training, "metric_lines", metric_lines)

    return change


def test_a_head_that_runs_away_is_named_once_per_seed(warnings_of, doctored):
    doctored(**{"value_max/1": 1e6})
    messages = warnings_of(**TWO_SEEDS)
    assert [message.partition(": ")[0] for message in messages] == [
        "auxiliary head 2 of seed 3 runs away",
        "auxiliary head 2 of seed 4 runs away",
    ]
    assert "to 1e+06, largest importance weight " in messages[0]


def test_gradients_that_stay_too_long_are_named_once_per_seed(warnings_of, doctored):
    doctored(gradient_norm=5000.0)
    messages = warnings_of(**TWO_SEEDS, log_points=5)
    assert [message.partition(" are ")[0] for message in messages] == [
        "gradients of seed 3",
        "gradients of seed 4",
    ]
    assert "are 125 times as long as --max-gradient-norm" in messages[0]
    assert "a smaller --reward-scale (now 1)" in messages[0]


def test_a_few_long_gradients_in_a_row_are_nothing(tmp_path, monkeypatch):
    original, points = training.metric_lines, itertools.count()

    def metric_lines(*arguments):
        norm = 10.0 if next(points) == 4 else 5000.0  # four, then another four
        return [line | {"gradient_norm": norm} for line in original(*arguments)]

    monkeypatch.setattr(training, "metric_lines", metric_lines)
    stacx.train(tiny_config(log_points=9), tmp_path / "run", quiet=True)
    assert next(points) == 9


def test_updates_that_were_skipped_are_counted_over_seeds(warnings_of, doctored):
    doctored(skipped_updates=7)
    (message,) = warnings_of(**TWO_SEEDS)
    assert message.startswith("14 of 200 updates were skipped, since a gradient or ")


class Endless(Walk):
    def step(self, key, state, action):
        state, timestep = super().step(key, (state[0] * 0, state[1] * 0), action)
        return state, timestep._replace(terminated=jnp.bool_(False), truncated=jnp.bool_(False))


def test_an_environment_whose_episodes_never_end(warnings_of, monkeypatch):
    """As soon as that can be told, and at the end: after 300 of 500 steps of an environment."""
    monkeypatch.setattr(training, "_ENDLESS_STEPS", 250)
    env = as_module(monkeypatch, Endless=Endless) + ":Endless"
    messages = warnings_of(env=env, agent="impala", tune="none")
    assert [message.partition(", so ")[0] for message in messages] == [
        f"no episode of {env} has ended in {steps} steps of each environment"
        for steps in (300, 500)
    ]
    assert "`terminated` and `truncated`" in messages[0]


def test_a_first_episode_may_be_late(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_ENDLESS_STEPS", 0)
    stacx.train(tiny_config(), tmp_path / "run", quiet=True)


class Robot(Walk):
    action_space = stacx.Box((-1.0,), (1.0,))

    def step(self, key, state, action):
        return super().step(key, state, jnp.int32(action[0] > 0))


def test_a_preset_for_choices_is_not_for_numbers(warnings_of, monkeypatch, tmp_path):
    env = as_module(monkeypatch, Robot=Robot) + ":Robot"
    (message,) = warnings_of(env=env)
    assert message == (
        f"actions of {env} are numbers, and the preset `classic` is made for choices: "
        "--suite continuous may suit it better"
    )
    config = tiny_config(env=env, suite="continuous", overlap=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", stacx.TrainingWarning)
        stacx.train(config, tmp_path / "continuous", quiet=True)


class Camera(Robot):
    observation_shape, observation_dtype = (36, 36, 3), jnp.uint8

    def reset(self, key):
        return super().reset(key)[0], jnp.zeros(self.observation_shape, jnp.uint8)

    def step(self, key, state, action):
        state, timestep = super().step(key, state, action)
        picture = jnp.zeros(self.observation_shape, jnp.uint8)
        return state, timestep._replace(observation=picture)


def test_pictures_are_not_sent_to_a_preset_for_features(monkeypatch):
    env = as_module(monkeypatch, Camera=Camera) + ":Camera"
    with warnings.catch_warnings():
        warnings.simplefilter("error", stacx.TrainingWarning)
        training._make_runtime(tiny_config(env=env, torso="nature")).close()

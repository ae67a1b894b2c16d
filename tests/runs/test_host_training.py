"""Whole runs on environments of the host: reproducible, resumable, and loud when one fails."""

import multiprocessing
import re
import threading
import time
import warnings

import host_games
import jax
import numpy as np
import pytest
from support import as_module, message_of
from tiny_runs import final_arrays, lines_of, newest_checkpoint

import stacx
from stacx.config import Config
from stacx.runs import RunDirectory, training
from stacx.runtimes import actor_learner
from stacx.runtimes.actor_learner import ActorLearnerRuntime
from stacx.runtimes.arrays import flatten
from stacx.runtimes.inference import Inference
from stacx.runtimes.supervision import Supervision

TINY = {
    "env": "host_games:Corridor",
    "agent": "stac",
    "tune": "gamma",
    "num_envs": 2,
    "trajectory_length": 4,
    "mlp_widths": (4,),
    "steps": 160,
    "log_points": 4,
    "checkpoint_points": 0,
    "deterministic": True,
}
"""Twenty updates."""
PATIENCE = 10.0
"""Seconds in which everything must have stopped."""


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(training, "plot_runs", lambda directories, output: output)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No actor and no process of an environment stays behind, but one that hangs for a moment."""
    yield
    deadline = time.monotonic() + PATIENCE
    while multiprocessing.active_children() or any(
        thread.name.startswith("stacx-actor") for thread in threading.enumerate()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def train(directory, *, resume=False, quiet=True, env_args="{}", **settings):
    config = Config(**TINY | {"env_args": env_args} | settings)
    stacx.train(config, directory, resume=resume, quiet=quiet)
    return directory


def steady(directory):
    """The lines of metrics without what the clock decides."""
    return [
        {k: v for k, v in line.items() if not k.startswith("time/") and k != "queue"}
        for line in lines_of(directory)
    ]


def differences(one, other):
    """The names of the arrays in which two runs' last checkpoints differ."""
    arrays, others = final_arrays(one), final_arrays(other)
    assert arrays.keys() == others.keys()
    return [name for name in arrays if not np.array_equal(arrays[name], others[name])]


@pytest.mark.parametrize("actors", [1, 3])
def test_a_deterministic_run_is_the_same_however_long_steps_take(tmp_path, actors):
    runs = [
        train(tmp_path / str(delay), num_actors=actors, env_args=f'{{"delay": {delay}}}')
        for delay in (0.0, 0.004)
    ]
    assert differences(*runs) == []
    assert steady(runs[0]) == steady(runs[1])
    lags = [line["lag_max"] for line in steady(runs[0])]
    assert lags == [actors] * 4
    assert sum(line["episode_return"] is not None for line in steady(runs[0])) >= 3


def test_another_seed_is_another_run(tmp_path):
    one, other = (train(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    returns, others = ([line["episode_return"] for line in steady(run)] for run in (one, other))
    assert returns != others
    assert differences(one, other)


def test_what_a_run_says(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(actor_learner, "_TELLING", 0.0)
    train(tmp_path / "run", quiet=False, num_actors=2, deterministic=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].startswith("time: learner learning ")
    assert " is the bottleneck: " in lines[-3] or " are in balance: " in lines[-3]
    for line in RunDirectory(tmp_path / "run").metrics():
        assert 0 <= line["lag_mean"] <= line["lag_max"]  # no bound: an actor may be starved
        assert {"queue", "environment_restarts", "time/actor_environment"} <= line.keys()
    assert stacx.load(tmp_path / "run").num_actions == 3


def test_time_for_what_is_kept_is_accounted_for(tmp_path, monkeypatch):
    append_metrics = RunDirectory.append_metrics

    def slow(*arguments):
        time.sleep(0.5)
        append_metrics(*arguments)

    monkeypatch.setattr(RunDirectory, "append_metrics", slow)
    train(tmp_path / "run")
    lines = RunDirectory(tmp_path / "run").metrics()
    assert all(line["time/learner_saving"] > 0.2 for line in lines[1:])


class Endless(host_games.Corridor):
    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


def test_steps_without_an_end_are_those_of_one_environment(tmp_path, monkeypatch):
    """Each of two actors makes ten of the twenty trajectories."""
    monkeypatch.setattr(training, "_ENDLESS_STEPS", 25)
    env = as_module(monkeypatch, Endless=Endless) + ":Endless"
    with pytest.warns(stacx.TrainingWarning) as caught:
        train(tmp_path / "run", env=env, num_actors=2)
    assert [str(warning.message).partition(", so ")[0] for warning in caught] == [
        f"no episode of {env} has ended in {steps} steps of each environment" for steps in (30, 40)
    ]


@pytest.fixture
def stopped_run(tmp_path, monkeypatch):
    """A run that a signal has stopped after its tenth update."""

    def stop(**settings):
        original = RunDirectory.append_metrics

        def signalled(directory, lines):
            original(directory, lines)
            if lines[0]["updates"] == 10:
                training.signal.raise_signal(training.signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "append_metrics", signalled)
            with pytest.raises(stacx.Interrupted) as caught:
                train(tmp_path / "run", **settings)
        assert "--resume" in message_of(caught)
        assert newest_checkpoint(tmp_path / "run").name == "10"
        return tmp_path / "run"

    return stop


def test_a_resumed_run_goes_on_from_exactly_what_was_saved(stopped_run, monkeypatch, capsys):
    """But its environments begin with other seeds."""
    prepared, seeds = [], []
    prepare, next_seed = ActorLearnerRuntime.prepare, Supervision.next_seed

    def noted_prepare(runtime, state):
        prepared.append({name: np.array(leaf) for name, leaf in flatten(state).items()})
        return prepare(runtime, state)

    def noted_seed(supervision, actor):
        seeds.append(next_seed(supervision, actor))
        return seeds[-1]

    monkeypatch.setattr(ActorLearnerRuntime, "prepare", noted_prepare)
    monkeypatch.setattr(Supervision, "next_seed", noted_seed)
    directory = stopped_run()
    saved = final_arrays(directory)
    train(directory, resume=True, quiet=False)
    assert prepared[1].keys() == saved.keys()
    for name, array in saved.items():
        np.testing.assert_array_equal(array, prepared[1][name], strict=True, err_msg=name)
    assert [line["updates"] for line in lines_of(directory)] == [5, 10, 15, 20]
    assert len(set(seeds)) == len(seeds) == 2
    out = capsys.readouterr().out.splitlines()
    assert "resumed at 80 steps (10 updates)" in out
    assert "environments start again, with other seeds" in out
    assert newest_checkpoint(directory).name == "20"


def faulty(fault, place, once="", seconds=3.0):
    return {
        "env": "host_games:Faulty",
        "env_args": f'{{"fault": "{fault}", "place": "{place}", "once": "{once}", '
        f'"seconds": {seconds}}}',
    }


@pytest.mark.parametrize(
    ("fault", "place", "vectorization"),
    [
        ("error", "step", "sync"),
        ("error", "reset", "sync"),
        ("hang", "step", "sync"),
        ("hang", "reset", "sync"),
        pytest.param("error", "step", "async", marks=pytest.mark.slow),
        pytest.param("hang", "step", "async", marks=pytest.mark.slow),
    ],
)
def test_environments_that_fail_once_are_restarted(tmp_path, fault, place, vectorization):
    in_processes = vectorization == "async"  # which take a while to start, and are killed
    timeout, seconds = (6.0, 60.0) if in_processes else (1.0, 8.0)  # longer than compiling
    settings = faulty(fault, place, once=str(tmp_path / "once"), seconds=seconds)
    with pytest.warns(stacx.TrainingWarning, match="its batch is restarted") as caught:
        train(tmp_path / "run", vectorization=vectorization, env_timeout=timeout, **settings)
    (message,) = [str(warning.message) for warning in caught]
    reason, restarted = message.split("; ")
    assert restarted == "its batch is restarted (1 of at most 3 times)"
    if fault == "error":
        assert reason.removeprefix("host_games:Faulty: environment ")[0] in "01"
        assert "raised RuntimeError: the simulator broke: 100 % of it (" in reason
        assert reason.endswith(f") in {place}")
    else:
        assert reason == (
            f"host_games:Faulty has not answered for {timeout:g} s (--env-timeout), in the "
            "environments of actor 0"
        )
    lines = steady(tmp_path / "run")
    assert lines[-1]["updates"] == 20
    assert lines[-1]["environment_restarts"] == 1


def test_restarts_are_counted_on_in_a_resumed_run(stopped_run, tmp_path):
    """And count for the limit."""
    settings = {"max_env_restarts": 1, **faulty("error", "step", once=str(tmp_path / "once"))}
    with pytest.warns(stacx.TrainingWarning, match="1 of at most 1 times"):
        directory = stopped_run(**settings)
    (tmp_path / "once").unlink()
    with pytest.raises(stacx.BrokenEnvironmentError, match="one more than --max-env-restarts 1"):
        train(directory, resume=True, **settings)
    train(directory, resume=True, **settings)
    assert [line["environment_restarts"] for line in steady(directory)] == [1] * 4


def test_restarts_since_the_last_line_are_counted_on(tmp_path, monkeypatch):
    run = stopped_in(
        "give_warnings", monkeypatch, tmp_path, when=lambda supervision: supervision.has_warnings
    )
    assert lines_of(run) == []
    train(run, resume=True, **faulty("error", "step", once=str(tmp_path / "once")))
    assert [line["environment_restarts"] for line in steady(run)] == [1] * 4


def test_restarts_that_a_signal_may_have_caused_are_not_counted(tmp_path, monkeypatch):
    run = stopped_in("count_restart", monkeypatch, tmp_path)
    train(run, resume=True, **faulty("error", "step", once=str(tmp_path / "once")))
    assert [line["environment_restarts"] for line in steady(run)] == [0] * 4


def test_episodes_that_unstable_physics_end_are_counted(tmp_path, monkeypatch):
    step = host_games.Corridor.step

    def unstable(self, action):
        observation, reward, terminated, truncated, info = step(self, action)
        truncated = truncated or not terminated
        return observation, reward, terminated, truncated, info | {"physics_error": truncated}

    monkeypatch.setattr(host_games.Corridor, "step", unstable)
    run = train(tmp_path / "run")
    counts = [line["physics_errors"] for line in lines_of(run)]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert counts[-1] > counts[0]


def stopped_in(method, monkeypatch, tmp_path, when=lambda supervision: True):
    """A run that is asked to stop after its supervision's method was called, about a restart."""
    called = getattr(Supervision, method)

    def signalled(supervision, *arguments):
        due = when(supervision)
        called(supervision, *arguments)
        if due:
            training.signal.raise_signal(training.signal.SIGTERM)

    run, settings = tmp_path / "run", faulty("error", "step", once=str(tmp_path / "once"))
    with monkeypatch.context() as patch:
        patch.setattr(Supervision, method, signalled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stacx.TrainingWarning)
            with pytest.raises(stacx.Interrupted):
                train(run, **settings)
    return run


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """The error of a run that fails, which takes a moment only once programs are compiled."""

    def run(error=stacx.BrokenEnvironmentError, **settings):
        prepare, prepared = ActorLearnerRuntime.prepare, []

        def noted(runtime, state):
            state = prepare(runtime, state)
            prepared.append(time.monotonic())
            return state

        monkeypatch.setattr(ActorLearnerRuntime, "prepare", noted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stacx.TrainingWarning)
            with pytest.raises(error) as caught:
                train(tmp_path / "run", **settings)
        assert time.monotonic() - prepared[0] < PATIENCE
        assert RunDirectory(tmp_path / "run").config()
        return caught.value

    return run


@pytest.mark.parametrize("place", ["step", "reset"])
def test_environments_that_fail_again_and_again_end_the_run(failing, place):
    error = failing(num_actors=2, max_env_restarts=2, **faulty("error", place))
    assert re.match("host_games:Faulty: environment [01] raised RuntimeError: ", str(error))
    assert str(error).endswith(
        f") in {place}; that is one more than --max-env-restarts 2: mend the environment"
    )
    assert "Traceback (most recent call last):" in error.details
    assert 'raise RuntimeError("the simulator broke' in error.details


@pytest.mark.slow
def test_environments_that_hang_while_they_are_made_end_the_run(failing):
    settings = faulty("hang", "worker", seconds=60.0)
    error = failing(vectorization="async", env_timeout=0.5, max_env_restarts=0, **settings)
    assert str(error).startswith("host_games:Faulty has not answered for 0.5 s (--env-timeout), in")


@pytest.mark.parametrize("place", ["step", "reset"])
def test_environments_that_hang_again_and_again_end_the_run(failing, place):
    settings = faulty("hang", place, seconds=4.0)
    error = failing(env_timeout=1.0, max_env_restarts=1, **settings)
    assert str(error).startswith("host_games:Faulty has not answered for 1 s (--env-timeout), in")
    assert "one more than --max-env-restarts 1" in str(error)
    assert ", in hang\n" in error.details


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            "nan",
            "returned observations that are not finite: environment [01] of 2 returned .nan nan",
        ),
        (
            "nan_reward",
            "returned rewards that are not finite: environment [01] of 2 returned nan: me",
        ),
        (
            "wrong_shape",
            r"environment [01] returned an observation of shape \[2\], not \[3\] as its sp",
        ),
    ],
)
def test_what_no_environment_may_return_ends_the_run(failing, fault, says):
    message = str(failing(**faulty(fault, "step")))
    assert message.startswith("host_games:Faulty")
    assert re.search(says, message)
    assert message.endswith(": mend the environment")


def test_an_error_of_an_actor_ends_the_run(failing, monkeypatch):
    def act(*_):
        raise ZeroDivisionError("in an actor")

    monkeypatch.setattr(Inference, "act", act)
    assert str(failing(ZeroDivisionError, num_actors=2)) == "in an actor"


@pytest.mark.parametrize("program", ["begin", "act", "_finish"])
def test_a_program_of_an_actor_that_fails_is_one_line(failing, monkeypatch, program):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.\nand much more")

    monkeypatch.setattr(Inference, program, fail)
    assert str(failing(stacx.StacxError)).startswith(
        "host_games:Corridor cannot be run: JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory ("
    )


def test_an_error_of_the_learner_ends_the_run(failing, monkeypatch):
    prepare = ActorLearnerRuntime.prepare

    def update(*_):
        raise ZeroDivisionError("in the learner")

    def prepared(runtime, state):
        prepare(runtime, state)
        runtime._compiled_update = update
        return state

    monkeypatch.setattr(ActorLearnerRuntime, "prepare", prepared)
    assert str(failing(ZeroDivisionError, num_actors=2)) == "in the learner"

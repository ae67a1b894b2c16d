"""Continuous control from training to a policy elsewhere, as a user goes about it."""

import json

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import final_arrays

import stacx
from stacx.cli.main import main
from stacx.networks.normaliser import Normaliser
from stacx.runs import RunDirectory

SMALL = {
    "mlp-widths": 8,
    "num-envs": 2,
    "trajectory-length": 8,
    "overlap": 4,
    "lstm-size": 4,
    "head-widths": 8,
    **{"log-points": 2, "checkpoint-points": 2},
}
LONG = {"num-actors": 1, "trajectory-length": 40, "overlap": 20, "steps": 2400}
"""For episodes of 1,000 steps, with few updates."""


def train(directory, env, *flags, **settings):
    chosen = SMALL | {"env": env, "agent": "stac"} | settings
    words = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    assert main(["train", *words, *flags, "--quiet", "--run-dir", str(directory)]) == 0
    return RunDirectory(directory)


def evaluated(run, capsys, *flags):
    assert main(["eval", str(run.path), "--episodes", "2", *flags]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("env", ["dmc:cartpole-balance", "rwrl:cartpole-swingup-easy"])
def test_dm_control(env, tmp_path, capsys):
    """Returns are those of 1,000 steps of rewards in [0, 1]; the same seed gives the same run."""
    run = train(tmp_path / "run", env, "--deterministic", **LONG)
    if env.startswith("dmc"):
        other = train(tmp_path / "other", env, "--deterministic", **LONG)
        arrays, others = final_arrays(run.path), final_arrays(other.path)
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in others.items()
        }
    line = run.metrics()[-1]
    assert line["episode_length"] == 1000
    assert 0 < line["episode_return"] < 1000
    assert line["physics_errors"] == 0
    assert line["meta/gamma/0"] != pytest.approx(0.99, abs=1e-6)
    assert 0 < evaluated(run, capsys)["mean_return"] < 1000


@pytest.mark.slow
def test_playground(tmp_path, capsys):
    """Overlapping trajectories on the device, and a policy that is evaluated there."""
    arguments = {"env-args": '{"episode_length": 6}'}
    run = train(tmp_path / "run", "playground:CartpoleBalance", steps=64, **arguments)
    line = run.metrics()[-1]
    assert line["episode_length"] == 6
    assert 0 < line["episode_return"] < 6
    assert line["physics_errors"] == 0
    assert line["meta/gamma/0"] != pytest.approx(0.99, abs=1e-6)
    assert 0 < evaluated(run, capsys)["mean_return"] < 6


@pytest.mark.slow
def test_gymnasium_s_pendulum_and_its_policy_elsewhere(tmp_path, capsys):
    run = train(tmp_path / "run", "gym:Pendulum-v1", "--deterministic", steps=1000)
    assert -2000 < evaluated(run, capsys)["mean_return"] < 0
    policy = stacx.load(run.path)
    assert policy.action_space == stacx.Box((-2.0,), (2.0,))
    environment = gymnasium.make("Pendulum-v1")
    observation, _ = environment.reset(seed=0)
    median = median_action(policy, policy.parameters, observation)
    np.testing.assert_allclose(policy.act(observation)[0], median, rtol=1e-5)
    state, taken = None, []
    for step in range(20):
        action, state = policy.act(observation, state, jax.random.key(step))
        assert environment.action_space.contains(action)
        observation, *_ = environment.step(action)
        taken.append(action[0])
    assert np.ptp(taken) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("env", "flags"), [("gym", ["--deterministic"]), ("gymnax", [])])
def test_a_policy_knows_the_averages_that_it_was_trained_with(env, flags, tmp_path, capsys):
    """Every step is in four trajectories of 8, and counts once; the dummies of resets do not."""
    flags = [*flags, "--normalise-observations"]
    run = train(tmp_path / "run", f"{env}:Pendulum-v1", *flags, steps=1000, overlap=6)
    policy = stacx.load(run.path)
    averages = policy.parameters.normaliser
    assert 0.95 * 1000 < float(averages.count) < 1000
    assert float(averages.variance[2]) > 5 * float(averages.variance[0])  # a velocity, a sine
    observation = np.array([0.0, 1.0, 4.0], np.float32)
    normalised = averages(jnp.asarray(observation)[None])
    plain = eqx.tree_at(lambda p: p.normaliser, policy.parameters, Normaliser((3,)))
    acted = policy.act(observation)[0]
    np.testing.assert_allclose(median_action(policy, plain, normalised[0]), acted, rtol=1e-4)
    assert not np.allclose(median_action(policy, plain, observation), acted, rtol=1e-3)
    assert evaluated(run, capsys)["mean_return"] < 0


def median_action(policy, parameters, observation):
    """Of section 9.3, within the bounds."""
    seen = jnp.asarray(observation)[None, None], jnp.zeros((1, 1), bool)
    output, _ = policy.network.unroll(parameters, *seen, policy.initial_state())
    return 2 * np.tanh(np.tanh(output.policy[0, 0, 0, :1]))


@pytest.mark.slow
def test_a_pendulum_is_held_up(tmp_path, capsys):
    """By its preset, but for the torso's and heads' width. Random actions have -1,246."""
    words = ["--env", "gymnax:Pendulum-v1", "--agent", "impala", "--steps", "200k"]
    narrow = ["--mlp-widths", "64", "64", "--head-widths", "64"]
    path = str(tmp_path / "run")
    assert main(["train", *words, *narrow, "--quiet", "--run-dir", path]) == 0
    assert main(["eval", path, "--episodes", "32"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean_return"] > -600


@pytest.mark.slow
def test_a_cheetah(tmp_path, capsys):
    run = train(tmp_path / "run", "gym:HalfCheetah-v5", **LONG)
    line = run.metrics()[-1]
    assert line["episode_length"] == 1000
    assert line["meta/gamma/0"] != pytest.approx(0.99, abs=1e-6)
    assert -1500 < evaluated(run, capsys)["mean_return"] < 1500


@pytest.mark.slow
def test_a_pendulum_on_the_device(tmp_path, capsys):
    """Resumed halfway, it ends with the same bits: what trajectories share is in the checkpoint."""
    whole = train(tmp_path / "whole", "gymnax:Pendulum-v1", steps=4000)
    halfway = train(tmp_path / "halfway", "gymnax:Pendulum-v1", steps=4000)
    newest = sorted(halfway.checkpoints.iterdir(), key=lambda path: int(path.name))[-1]
    for file in sorted(newest.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    newest.rmdir()
    flags = ["--env", "gymnax:Pendulum-v1", "--agent", "stac", "--steps", "4000"]
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    directory = str(halfway.path)
    assert main(["train", *flags, *words, "--quiet", "--resume", "--run-dir", directory]) == 0
    arrays, others = final_arrays(whole.path), final_arrays(halfway.path)
    assert any(".overlap" in name for name in arrays)
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in others.items()
    }
    assert evaluated(whole, capsys)["mean_return"] < 0

"""Continuous control from training to a policy elsewhere, as a user goes about it."""

import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import final_arrays

import stacx
from stacx.cli.main import main
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
    """The same seed gives the same run; returns are those of 1,000 steps of rewards in [0, 1]."""
    run = train(tmp_path / "run", env, "--deterministic", steps=6000)
    other = train(tmp_path / "other", env, "--deterministic", steps=6000)
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
def test_gymnasium_s_pendulum_and_its_policy_elsewhere(tmp_path, capsys):
    run = train(tmp_path / "run", "gym:Pendulum-v1", "--deterministic", steps=1000)
    assert -2000 < evaluated(run, capsys)["mean_return"] < 0
    policy = stacx.load(run.path)
    assert policy.action_space == stacx.Box((-2.0,), (2.0,))
    environment = gymnasium.make("Pendulum-v1")
    observation, _ = environment.reset(seed=0)
    seen = jnp.asarray(observation)[None, None], jnp.zeros((1, 1), bool)
    output, _ = policy.network.unroll(policy.parameters, *seen, policy.initial_state())
    median = 2 * np.tanh(np.tanh(output.policy[0, 0, 0, :1]))  # of section 9.3, within the bounds
    np.testing.assert_allclose(policy.act(observation)[0], median, rtol=1e-5)
    state, taken = None, []
    for step in range(20):
        action, state = policy.act(observation, state, jax.random.key(step))
        assert environment.action_space.contains(action)
        observation, *_ = environment.step(action)
        taken.append(action[0])
    assert np.ptp(taken) > 0.01


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

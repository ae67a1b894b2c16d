"""Variants from the command to a policy: everything that a run does, it does with them too."""

import jax
import numpy as np
import pytest
from tiny_runs import tiny_config

import stacx
from stacx.runs import train

MANY = {
    "agent": "stacx",
    "tune": "gamma,alpha_rho,alpha_c,clip",
    "gamma_embedding": "per-head",
    "behaviour": "average",
    "meta_interval": 2,
    "outer_fraction": 0.5,
    "meta_learning_rate": 0.1,  # an update moves gamma by far more than rounding does
    "steps": 400,
}
OTHERS = {
    "agent": "stac",
    "tune": "gamma,lambda",
    "outer_steps": 2,
    "outer_value_head": True,
    "through_second_moment": False,
    "bootstrap": "mixed",
}
FEW = {"agent": "impala-aux", "tune": "none", "behaviour": "random", "aux_gamma": (0.9, 0.5)}


@pytest.fixture(scope="module", params=[MANY, OTHERS, FEW], ids=["many", "others", "few"])
def run(request, tmp_path_factory):
    config = tiny_config(**request.param)
    return train(config, tmp_path_factory.mktemp("runs") / "run")


def test_metrics_have_what_was_tuned(run):
    lines, config = run.metrics(), run.config()
    for name in config.reported:
        values = np.array(
            [[line[f"meta/{name}/{head}"] for head in range(config.heads)] for line in lines]
        )
        moved = np.abs(values - values[0]).max() > 0
        assert moved <= (name in config.tuned)
        assert moved or name != "gamma" or not config.tuned or config.outer_steps
    for line in lines:  # with the next steps it is too small here to move anything in 100 updates
        assert (line["metagradient_norm"] > 0) == bool(config.tuned)
    assert (run.directory / "figures" / "training.png").exists()


def test_auxiliary_heads_have_what_was_given_from_the_start(run):
    first, given, heads = run.metrics()[0], run.config().aux_gamma, run.config().heads
    gammas = [first[f"meta/gamma/{head}"] for head in range(heads)]
    expected = [0.99, *given] if given else [1 / (1 + np.exp(-4.6))] * heads
    assert gammas == pytest.approx(expected, abs=1e-3)


def test_the_policy_knows_the_gamma_that_heads_were_told(run):
    """The metaparameters after the last update: what the next trajectory is made with."""
    policy = stacx.load(run.directory)
    embedding = policy.parameters.heads.embedding
    if run.config().gamma_embedding == "none":
        assert embedding is None
    else:
        last = [run.metrics()[-1][f"meta/gamma/{head}"] for head in range(3)]
        np.testing.assert_allclose(embedding.gamma, last, atol=2e-5)
        assert np.all(np.asarray(embedding.gamma) > 0.9)
    boards = np.zeros((4, 10, 5), np.float32)
    for key in (None, jax.random.key(0)):
        actions, _ = policy.act(boards, key=key)
        assert set(np.unique(actions)) <= {0, 1, 2}


def test_the_console_shows_what_was_tuned(tmp_path, capsys):
    train(tiny_config(**MANY), tmp_path / "run")
    shown = capsys.readouterr()
    for name in ("gamma", "alpha_rho", "alpha_c", "clip"):
        assert f"  {name} " in shown.out + shown.err

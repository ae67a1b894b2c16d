"""Suites: how long, how many seeds, and what a score of 1 is."""

import csv
import importlib.resources
import types

import numpy as np
import pytest
from support import message_of

from stacx import environments
from stacx.errors import ConfigError
from stacx.reproduction.suites import SCALES, SUITES, Reference, Task, check_installed

COUNTS = {
    "classic": (8, 8, 8),
    "minatar": (5, 5, 5),
    "atari5": (5, 5, 5),
    "atari57": (57, 57, 57),
    "dmc": (8, 8, 28),
    "dmc-pixels": (8, 8, 28),
    "rwrl": (3, 6, 12),
}


def test_every_suite_has_its_tasks_at_every_scale():
    assert {n: tuple(len(s.tasks[x]) for x in SCALES) for n, s in SUITES.items()} == COUNTS


@pytest.mark.parametrize(
    ("suite", "steps"),
    [
        ("atari5", (250_000, 2_500_000, 50_000_000)),
        ("dmc", (500_000, 5_000_000, 30_000_000)),
        ("minatar", (1_000_000, 10_000_000, 10_000_000)),
    ],
)
def test_steps_are_agent_steps(suite, steps):
    """The paper's 200M frames are 50M steps of an agent."""
    assert tuple(SUITES[suite].tasks[scale][0].steps for scale in SCALES) == steps


def test_small_problems_grow_with_the_scale():
    catch = [SUITES["classic"].tasks[scale][0].steps for scale in SCALES]
    assert catch == [300_000, 1_200_000, 3_000_000]


def test_the_papers_seeds_are_the_default_of_its_suites():
    for name in ("atari57", "dmc", "dmc-pixels", "rwrl"):
        assert set(SUITES[name].seeds.values()) == {3}
    assert SUITES["classic"].seeds["small"] == 10
    assert SUITES["minatar"].seeds == {"small": 5, "medium": 10, "paper": 10}


def test_names_are_those_of_directories_and_differ():
    for suite in SUITES.values():
        for tasks in suite.tasks.values():
            names = [task.name for task in tasks]
            assert len(set(names)) == len(names)
            assert not any(set(name) & set(":/\\ ") for name in names)


@pytest.mark.parametrize("family", ["gymnax", "atari", "dmc", "rwrl"])
def test_every_task_is_an_environment(family):
    known = environments.FAMILIES[family].names()
    every = {t.env for s in SUITES.values() for tasks in s.tasks.values() for t in tasks}
    names = [env.partition(":")[2] for env in every if env.startswith(f"{family}:")]
    assert names
    assert all(known[name] is None for name in names)


def test_seeds_share_a_run_on_the_device_only():
    by_family = {t.env.partition(":")[0]: t for s in SUITES.values() for t in s.tasks["small"]}
    shared = {family: task.seeds_share_a_run for family, task in by_family.items()}
    assert shared == {
        **{"gymnax": True, "atari": False, "dmc": False, "dmc-pixels": False, "rwrl": False}
    }
    own = Task("my_env:make", 1, Reference(0, 1, ""), on_device=True)
    assert own.seeds_share_a_run


def test_normalisation_by_hand():
    reference = Reference(-20.0, 80.0, "")
    np.testing.assert_allclose(reference.normalised(np.array([-20.0, 30.0, 130.0])), [0, 0.5, 1.5])


@pytest.mark.parametrize(
    ("suite", "env", "score", "expected"),
    [
        ("classic", "gymnax:CartPole-v1", 500.0, 1.0),
        ("classic", "gymnax:CartPole-v1", 22.09, 0.0),
        ("classic", "gymnax:DiscountingChain-bsuite", 1.1, 1.0),
        ("classic", "gymnax:Acrobot-v1", -80.0, 1.0),
        ("atari5", "atari:Qbert", 163.9, 0.0),
        ("atari5", "atari:Qbert", 13455.0, 1.0),
        ("dmc", "dmc:walker-walk", 250.0, 0.25),
        ("rwrl", "rwrl:cartpole-swingup-easy", 0.0, 0.0),
    ],
)
def test_scores_of_0_and_1(suite, env, score, expected):
    task = next(task for task in SUITES[suite].tasks["small"] if task.env == env)
    assert task.reference.normalised(score) == pytest.approx(expected)


def test_every_number_of_the_table_has_a_source_and_the_reference_is_above_random():
    text = importlib.resources.files("stacx.reproduction").joinpath("scores.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    wanted = {t.env for n in ("classic", "minatar") for t in SUITES[n].tasks["small"]}
    assert {row["env"] for row in rows} == wanted
    for row in rows:
        assert "random:" in row["source"]
        assert "reference:" in row["source"]
        assert float(row["random"]) < float(row["reference"])


def with_family(monkeypatch, names):
    family = types.SimpleNamespace(names=names, installation="pip install '.[atari]' here")
    monkeypatch.setitem(environments.FAMILIES, "atari", family)


def missing():
    raise ImportError("No module named 'ale_py'")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (missing, "needs a package that is missing (No module named 'ale_py'): pip install"),
        (lambda: {}, "unknown environment 'atari:Pong'"),
        (lambda: {"Pong": "its ROM is lost"}, "atari:Pong cannot be trained on: its ROM is lost"),
    ],
)
def test_what_cannot_be_trained_on_here_is_refused(names, message, monkeypatch):
    with_family(monkeypatch, names)
    with pytest.raises(ConfigError) as caught:
        check_installed([Task("atari:Pong", 1, Reference(0, 1, ""))])
    assert message in message_of(caught)


def test_what_can_be_trained_on_is_not_refused(monkeypatch):
    with_family(monkeypatch, lambda: {"Pong": None})
    check_installed([Task("atari:Pong", 1, Reference(0, 1, ""))])
    check_installed([Task("my_env:make", 1, Reference(0, 1, ""))])

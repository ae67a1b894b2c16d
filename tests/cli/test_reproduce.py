"""`stacx reproduce`: bad input, the list, and one experiment from end to end."""

import dataclasses
import json

import pytest
from tiny_runs import TINY, contents

from stacx import environments
from stacx.cli.main import main
from stacx.reproduction import EXPERIMENTS, SUITES, Reference, Suite, Task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "stacx reproduce needs NAME, one of learning-curves, per-domain"),
        (["abblation"], "unknown experiment 'abblation': use learning-curves, "),
        (["abblation"], "; did you mean ablation?"),
        (["ablation", "--suite", "atari"], "unknown suite 'atari': use classic, minatar, "),
        (["ablation", "--scale", "tiny"], "unknown scale 'tiny': use small, medium, paper"),
        (["ablation", "--num-seeds", "1"], "ablation needs at least 2 seeds: raise --num-seeds"),
        (["adaptivity", "--num-seeds", "0"], "--num-seeds must be positive, not 0"),
        (["ablation", "--jobs", "0"], "--jobs must be positive, not 0"),
        (["ablation", "--seeds", "3"], "did you mean --num-seeds?"),
        (["ablation", "--num-seeds", "x"], "--num-seeds 'x' is not a whole number"),
        (["runtime", "--jobs", "2"], "--jobs 2 would spoil runtime"),
        (
            ["ablation", "--tasks", "pong"],
            "--tasks pong: classic at scale small has Catch-bsuite, ",
        ),
        (["ablation", "--output", "here"], "--output here is not empty"),
        (["ablation", "--output", "x" * 300], "cannot use --output xxx"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("")
    before = contents(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adaptivity"], "(experiment ablation, not adaptivity): choose another"),
        (["ablation", "--suite", "minatar"], "(suite classic, not minatar): choose another"),
        (["ablation", "--scale", "medium"], "(scale small, not medium): choose another"),
        (["ablation", "--num-seeds", "5"], "holds this experiment with 4 seeds: go on with"),
    ],
)
def test_the_output_of_something_else_is_left_alone(arguments, message, tmp_path, capsys):
    there = {"experiment": "ablation", "suite": "classic", "scale": "small", "num_seeds": 4}
    (tmp_path / "experiment.json").write_text(json.dumps(there))
    before = contents(tmp_path)
    given = ["--num-seeds", "4", *arguments[1:], "--output", str(tmp_path)]
    assert main(["reproduce", arguments[0], *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.filterwarnings("default")
def test_a_suite_whose_engine_is_missing(monkeypatch, tmp_path, capsys):
    def names():
        raise ImportError("No module named 'ale_py'")

    family = environments.FAMILIES["atari"]._replace(names=names)
    monkeypatch.setitem(environments.FAMILIES, "atari", family)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "learning-curves", "--suite", "atari5"]) == 2
    err = capsys.readouterr().err
    assert "'ale_py'" in err
    assert "pip install '.[atari]'" in err
    assert main(["reproduce", "learning-curves", "--suite", "atari5", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "0 of 60 runs are complete" in out
    assert "warning: not to be made here: atari:BattleZone needs" in err
    assert contents(tmp_path) == set()


def test_some_tasks_of_a_suite(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "learning-curves", "--dry-run", "--tasks", "catch", "CART"]) == 0
    out = capsys.readouterr().out
    assert out.count("to do") == out.count("Catch-bsuite") + out.count("CartPole-v1") == 8


def test_a_dry_run_lists_every_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "learning-curves", "--dry-run", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("to do") == 32
    assert "0 of 32 runs are complete" in out
    assert "1 at once (a rough estimate)" in out
    assert contents(tmp_path) == set()


@pytest.mark.slow
def test_an_experiment_from_end_to_end(monkeypatch, tmp_path, capsys, compile_cache):
    """Real runs, with two seeds each: of two variants on one task of 2,000 steps."""
    for name, value in compile_cache.items():
        monkeypatch.setenv(name.upper(), str(value))
    settings = {k: v for k, v in TINY.items() if k not in ("env", "agent", "tune", "steps")}
    task = Task("gymnax:Catch-bsuite", 2000, Reference(-0.6, 1.0, "made up"), settings)
    suite = Suite("classic", {"small": (task,)}, {"small": 2}, "the optimum")
    two = EXPERIMENTS["learning-curves"].variants(suite)[:2]
    few = dataclasses.replace(EXPERIMENTS["learning-curves"], variants=lambda _: two)
    monkeypatch.setitem(SUITES, "classic", suite)
    monkeypatch.setitem(EXPERIMENTS, "learning-curves", few)
    output = tmp_path / "out"
    assert main(["reproduce", "learning-curves", "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "[2/2]" in out
    assert f"report: {output / 'report.html'}" in out
    assert "Not complete" not in (output / "report.html").read_text()
    assert (output / "runs" / "Catch-bsuite" / "impala" / "metrics.jsonl").exists()

"""What a person sees."""

import subprocess
import sys

import pytest
from rich.console import Console

from stacx.config import OF_ACTORS, Config
from stacx.runs.console import TrainingConsole
from stacx.runs.lines import summary

CONFIG = Config(agent="stac", tune="gamma", learning_rate=0.25, steps=1_000_000)
LINE = {f"meta/{name}/0": 0.5 for name in ("gamma", "lambda", "alpha", "g_v", "g_p", "g_e")}


def test_every_resolved_setting_is_shown_with_its_source(capsys):
    TrainingConsole(CONFIG).show_settings()
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert "0.25" in rows["learning-rate"]
    assert "given" in rows["learning-rate"]
    assert "Table 3" in rows["rmsprop-eps"]
    assert "agent stac" in rows["heads"]


def shown(capsys, **settings) -> tuple[dict[str, str], str]:
    """The table's rows by setting, with single spaces, and everything that was printed."""
    TrainingConsole(Config(**settings)).show_settings()
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if "  " in line)
    rows = [row.split() for row in out.splitlines() if row[0] != " "]
    return {row[0]: " ".join(row[1:]) for row in rows}, out


def test_what_was_asked_for_comes_first(capsys):
    rows, _ = shown(capsys, agent="stac", seed=5, env_args='{"x": [":key:", 1]}', clip_c=2.0)
    first = ["env", "env-args", "agent", "suite", "steps", "seed", "num-seeds", "tune", "heads"]
    assert list(rows)[1:10] == first
    assert rows["env"] == "gymnax:CartPole-v1 default"
    assert rows["env-args"] == '{"x": [":key:", 1]} given'
    assert rows["seed"] == "5 given"
    assert rows["num-seeds"] == "1 default"
    assert rows["clip-c"] == "2.0 given"
    assert "clip-rho" not in rows


def test_the_names_that_are_tuned_are_whole(capsys):
    assert shown(capsys, agent="stac")[0]["tune"] == "all agent stac"
    assert shown(capsys, agent="stac", tune="all")[0]["tune"] == "all agent stac"
    assert shown(capsys, agent="impala")[0]["tune"] == "none agent impala"
    rows, out = shown(capsys, tune="gamma,lambda,alpha,g_v,g_p")
    assert rows["tune"] == "gamma, lambda, alpha, g_v, given"
    assert " g_p  " in out  # on a line of its own
    assert "\N{HORIZONTAL ELLIPSIS}" not in out


def test_where_inner_values_start(capsys):
    _, out = shown(capsys, agent="stac", tune="lambda,g_v,g_e", initial_g_v=0.5)
    assert "inner values start at: lambda 0.99, g_v 0.125, g_e 0.0099\n" in out
    assert "inner values" not in shown(capsys, agent="impala")[1]


@pytest.mark.parametrize(("interval", "reach"), [(1, "3.1"), (4, "0.78")])
def test_how_far_metaparameters_can_get(capsys, interval, reach):
    _, out = shown(capsys, agent="stac", steps=1_000_000, meta_interval=interval)
    expected = f"3,125 updates, in which metaparameters' logits move by at most about {reach} "
    assert expected in " ".join(out.split())
    assert "logits" not in shown(capsys, agent="impala-aux")[1]


def test_what_has_no_effect_is_shown_only_if_it_was_given(capsys):
    idle = {"channels", "torso-output", "initial-logit", "meta-learning-rate", "g-kl"}
    rows, _ = shown(capsys, agent="impala")
    assert "mlp-widths" in rows
    assert not idle & rows.keys()
    assert "mlp-widths" not in shown(capsys, torso="minatar")[0]
    assert idle <= shown(capsys, torso="resnet")[0].keys()
    for torso in ("shallow", "nature"):
        rows, _ = shown(capsys, torso=torso)
        assert "torso-output" in rows
        assert "channels" not in rows
    assert shown(capsys, agent="impala", channels=(8,))[0]["channels"] == "8 given"
    for agent in ("impala", "stacx"):
        shows = "max-aux-gradient" in shown(capsys, agent=agent)[0]
        assert shows == (agent == "stacx")
    assert "num-actors" in rows
    TrainingConsole(CONFIG).show_settings(OF_ACTORS)
    assert "num-actors" not in capsys.readouterr().out


def test_steps_that_are_rounded_up(capsys):
    assert "\n3,000 steps become 3,200: whole updates of 320\n" in shown(capsys, steps=3000)[1]
    assert "whole updates" not in shown(capsys, steps=3200)[1]


def test_means_over_seeds(capsys):
    _, out = shown(capsys, steps=3200, num_seeds=5)
    assert "\n5 seeds, each of 3,200 steps; return and metaparameters below are their m" in out
    assert "their means" not in shown(capsys)[1]


@pytest.mark.parametrize(("value", "text"), [(None, "return -"), (12.345, "return 12.35")])
def test_the_last_line_says_how_far_and_how_well(capsys, value, text):
    console = TrainingConsole(CONFIG)
    lines = [LINE | {"episode_return": value}]
    assert summary(lines)["episode_return"] == value
    console.update(CONFIG.total_updates - 1, lines, 1e6)
    assert capsys.readouterr().out == ""
    console.update(CONFIG.total_updates, lines, 123_456.0)
    steps = CONFIG.total_updates * CONFIG.batch_steps
    assert capsys.readouterr().out == f"{steps:,} steps  123k/s  {text}  gamma 0.5\n"


def test_quiet_is_quiet(capsys):
    with TrainingConsole(CONFIG, quiet=True) as console:
        console.show_settings()
        console.say("[bold]hello[/bold]")
        console.update(CONFIG.total_updates, [LINE | {"episode_return": 1.0}], 1e6)
    assert capsys.readouterr().out == ""


def test_what_is_said_is_no_markup(capsys):
    TrainingConsole(CONFIG).say("a path [x]/" + "y" * 200)
    assert capsys.readouterr().out == "a path [x]/" + "y" * 200 + "\n"


UNREAD = """
import sys
from stacx.config import Config
from stacx.runs.console import TrainingConsole
with TrainingConsole(Config()) as console:
    console.say("first")
    sys.stdin.readline()
    for _ in range(3):
        console.show_settings()
sys.exit(3)
"""


def test_a_run_whose_output_nobody_reads_goes_on():
    process = subprocess.Popen(
        [sys.executable, "-c", UNREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.write("go on\n")
    process.stdin.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (3, "")


@pytest.mark.parametrize("quiet", [True, False])
def test_a_progress_bar_lets_warnings_through(capsys, monkeypatch, quiet):
    """On a terminal, rich takes the standard error for as long as the bar is there."""
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TrainingConsole(Config(), quiet=quiet):
        print("warning: beware", file=sys.stderr)
    assert "warning: beware" in "".join(capsys.readouterr())

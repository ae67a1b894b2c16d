"""What a person sees."""

import subprocess
import sys

import pytest

from stacx.config import Config
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

"""Arguments become numbers and dataclasses; what does not fit becomes one line."""

import dataclasses
import io
import sys

import pytest
from support import message_of

from stacx.cli.parsing import check_output, fail, parse, parse_count, take_options
from stacx.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500000", 500_000),
        ("5e5", 500_000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("2M", 2_000_000),
        ("1.5m", 1_500_000),
        ("0.25B", 250_000_000),
        ("1e9", 10**9),
        ("-5", -5),
        ("0", 0),
    ],
)
def test_counts(text, number):
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "abc", "1.5", "k", "1e", "2MM", "nan", "inf", "1e999"])
def test_what_is_no_count(text):
    with pytest.raises(ConfigError) as caught:
        parse_count(text)
    wanted = "is not a whole number such as 500000, 5e5, 500k or 2M"
    assert message_of(caught) == f"{text!r} {wanted}"


def test_options_are_found_before_the_rest_is_parsed():
    arguments = ["--env", "a", "--run_dir=b", "--steps", "3", "--agent"]
    assert take_options(arguments, ("env", "run-dir", "agent")) == {"env": "a", "run-dir": "b"}
    assert take_options(["env", "a"], ("env",)) == {}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape."""

    sides: int
    """How many."""
    colour: str = "red"
    """Which."""
    filled: bool = False
    """Whether."""

    def __post_init__(self):
        if self.sides < 3:
            raise ConfigError("--sides must be 3 or more")


def test_arguments_become_a_dataclass():
    assert parse(Shape, ["--sides", "3"], command="draw") == Shape(3)
    assert parse(Shape, ["--colour", "blue"], command="draw", default=Shape(4)) == Shape(4, "blue")


@pytest.mark.parametrize("before", [False, True])
def test_a_switch_can_be_given_whatever_it_was(before):
    """As a preset or a stored run may have it already."""
    default = Shape(4, filled=before)
    for flag, filled in (("--filled", True), ("--no-filled", False)):
        assert parse(Shape, [flag], command="draw", default=default).filled is filled


@pytest.fixture(params=["utf-8", "ascii"], autouse=True)
def encoding(request, monkeypatch):
    """Of the terminal: tyro draws its boxes accordingly."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=request.param))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--sides", "three"],
            "--sides 'three' is not a whole number",
        ),
        (["--sides", "2"], "--sides must be 3 or more"),
        (["--sides"], "Missing value for argument '--sides'. Expected 1 values."),
        ([], "stacx draw needs --sides INT, how many"),
        (
            ["--sides", "3", "--color", "blue"],
            "Unrecognized options: --color, blue; did you mean --colour?",
        ),
        (["--sides", "3", "extra"], "Unrecognized options: extra"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, message, capfd):
    with pytest.raises(ConfigError) as caught:
        parse(Shape, arguments, command="draw")
    assert message_of(caught) == message
    assert capfd.readouterr() == ("", "")


def test_a_failure_is_one_line_on_the_standard_error(capsys):
    fail("all is\n   lost")
    assert capsys.readouterr() == ("", "stacx: all is lost\n")


def test_a_file_that_may_not_be_written(tmp_path, monkeypatch):
    check_output(tmp_path / "new" / "film.GIF", "--gif", ".gif")
    (tmp_path / "old.gif").touch()
    monkeypatch.setattr("os.access", lambda place, mode: False)  # root may write everywhere
    for file, place in (("new/film.gif", tmp_path), ("old.gif", tmp_path / "old.gif")):
        with pytest.raises(ConfigError, match=f"cannot be written: you may not write to {place}$"):
            check_output(tmp_path / file, "--gif", ".gif")

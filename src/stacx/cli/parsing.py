"""From command-line arguments to dataclasses, through tyro; errors as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from stacx.config import Config, flag_of
from stacx.errors import ConfigError

T = TypeVar("T")

_BOX = re.compile("[\u2500-\u257f]")
_MAY_BE_NONE = {
    flag_of(field.name) for field in dataclasses.fields(Config) if "| None" in str(field.type)
}
_NO_NUMBER = {
    "invalid literal for int() with base 10:": "whole number",
    "could not convert string to float:": "number",
}
"""What Python says, and what was expected."""
_MULTIPLES = {"k": 1e3, "K": 1e3, "m": 1e6, "M": 1e6, "b": 1e9, "B": 1e9, "G": 1e9}


def parse_count(text: str) -> int:
    """A number of steps: 500000, 5e5, 500k or 2M.

    Raises:
        ConfigError: if it is no whole number.
    """
    multiple = _MULTIPLES.get(text[-1:], 1.0)
    try:
        number = float(text[:-1] if text[-1:] in _MULTIPLES else text) * multiple
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is not a whole number such as 500000, 5e5, 500k or 2M"
        ) from None
    return int(number)


def parse(shape: type[T], arguments: Sequence[str], *, command: str, default: T | None = None) -> T:
    """Parses `arguments` into the dataclass `shape`; `--help` prints and leaves.

    Raises:
        ConfigError: if they do not fit, as one line.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                shape,
                args=_with_none(arguments),
                prog=f"stacx {command}",
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as stop:
        if not stop.code:
            if sys.stdout is not None:
                sys.stdout.flush()
            raise
        raise ConfigError(_one_line(printed.getvalue())) from None


def _with_none(arguments: Sequence[str]) -> list[str]:
    """`none` as tyro has it, where a setting may be a number or none: as it is printed."""
    spelled = list(arguments)
    for index, argument in enumerate(spelled):
        flag, equals, value = argument.partition("=")
        if flag in _MAY_BE_NONE and equals and value == "none":
            spelled[index] = f"{flag}=None"
        elif argument == "none" and index and spelled[index - 1] in _MAY_BE_NONE:
            spelled[index] = "None"
    return spelled


def _one_line(box: str) -> str:
    """What tyro's box of several lines says, before its hints and its help."""
    sentences: list[str] = []
    for line in box.splitlines()[1:]:
        text = _BOX.sub("", line).strip()
        rule = line.count("\u2500") > 10 or set(text) == {"-"}  # where the locale has no lines
        if rule and not sentences:
            continue
        if rule or text.startswith(("Perhaps you meant", "Argument helptext")):
            break
        sentences.append(text)
    hint = re.search(r"Perhaps you meant:\W*(--[\w-]+)", _BOX.sub("", box))
    text = " ".join(sentence for sentence in sentences if sentence)
    text = re.sub(r"^Error parsing \w+: ", "", text)  # not of a flag: what follows names it
    text = _plain_number(text)
    missing = re.match(r"Missing from (stacx \w+): ((?:--\S+ )?\S+) (.*)\. \(required\)$", text)
    if missing:
        command, name, meaning = missing.groups()
        text = f"{command} needs {name}, {meaning[0].lower()}{meaning[1:]}"
    return text + (f"; did you mean {hint.group(1)}?" if hint else "")


def _plain_number(text: str) -> str:
    """The same, where a flag's value is no number, without Python's own words for it."""
    flag = re.match(r"Error parsing (--\S+): ", text)
    for words, kind in _NO_NUMBER.items():
        value = re.search(re.escape(words) + r" '([^']*)'", text)
        if flag and value:
            return f"{flag[1]} {value[1]!r} is not a {kind}"
    return text


def take_options(arguments: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The values of a few options, read before the rest can be parsed."""
    found = {}
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("_", "-")  # as tyro, which takes both
        if flag.startswith("--") and name in names:
            if equals:
                found[name] = value
            elif index + 1 < len(arguments):
                found[name] = arguments[index + 1]
    return found


def plain_counts(arguments: Sequence[str], flag: str) -> list[str]:
    """The arguments with `flag 500k` as `flag 500000`."""
    plain: list[str] = []
    for argument in arguments:
        if plain and plain[-1] == flag:
            plain.append(str(parse_count(argument)))
        elif argument.startswith(f"{flag}="):
            plain += [flag, str(parse_count(argument.removeprefix(f"{flag}=")))]
        else:
            plain.append(argument)
    return plain


def check_output(file: Path, flag: str, suffix: str | None = None) -> None:
    """Whether a file can be written, before there is anything to write.

    Raises:
        ConfigError: if it cannot, or its name does not end in `suffix`.
    """
    if file.is_dir():
        raise ConfigError(f"{flag} {file} is a directory: name a file")
    if suffix and file.suffix.lower() != suffix:
        raise ConfigError(f"{flag} {file} must end in {suffix}")
    folder = next(folder for folder in file.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise ConfigError(f"{flag} {file} cannot be written: {folder} is not a directory")
    place = file if file.exists() else folder
    if not os.access(place, os.W_OK):
        raise ConfigError(f"{flag} {file} cannot be written: you may not write to {place}")


def fail(message: str) -> None:
    """One line on the standard error."""
    print(f"stacx: {' '.join(message.split())}", file=sys.stderr)

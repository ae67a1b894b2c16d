"""`stacx envs`: what can be trained on here, and what to install for the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from stacx.cli.parsing import parse
from stacx.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """List environment ids, by family."""

    family: Annotated[str | None, tyro.conf.Positional] = None
    """Only this family."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parsed = parse(Arguments, arguments, command="envs")
    from stacx.environments import FAMILIES

    if parsed.family is not None and parsed.family not in FAMILIES:
        raise ConfigError(
            f"unknown environment family {parsed.family!r}: there are {', '.join(FAMILIES)}"
        )
    for name, family in FAMILIES.items():
        if parsed.family not in (None, name):
            continue
        try:
            names = family.names()
        except ImportError:
            print(f"{name}: {family.installation}")
            continue
        for environment, obstacle in names.items():
            print(f"{name}:{environment}" + (f"  ({obstacle})" if obstacle else ""))
    if parsed.family is None:
        print("package.module:function  (your own; see docs/guide.md)")
    return 0

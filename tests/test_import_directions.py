"""Imports point one way: cli -> reproduction -> runs -> runtimes -> environments, core, networks.

These import what is left: types, config, agents, errors, imports.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import stacx

ROOT = Path(stacx.__file__).parent
BASE = {"types", "config", "agents", "errors", "imports"}
LOWER = BASE | {"environments", "core", "networks"}
ALLOWED = {
    "agents": set(),
    "errors": set(),
    "types": set(),
    "imports": {"errors"},
    "config": {"agents", "errors"},
    "core": {"types", "config"},
    "networks": BASE,
    "environments": BASE,
    "reporting": BASE,
    "runtimes": LOWER,
    "runs": LOWER | {"runtimes", "reporting"},
    "stacx": LOWER | {"runtimes", "reporting", "runs"},
    "reproduction": LOWER | {"runtimes", "reporting", "runs"},
    "cli": LOWER | {"runtimes", "reporting", "runs", "reproduction", "stacx"},
}
"""The rooms that a room may import, besides itself; `stacx` is the public names."""
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "stacx" if room == "__init__" else room


def imported_modules(tree: ast.AST) -> set[str]:
    """Everything that is imported anywhere in a module, also inside functions."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the room"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def imported_rooms(source: str) -> set[str]:
    """Rooms; a name that is no room was imported from the package itself, as a user would."""
    names = [module.split(".") for module in imported_modules(ast.parse(source))]
    return {(parts[1:] or ["stacx"])[0] for parts in names if parts[0] == "stacx"}


def test_every_module_is_in_a_room():
    assert {room_of(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_those_below(path):
    room = room_of(path)
    assert imported_rooms(path.read_text()) - {room} <= ALLOWED[room]


def test_all_ways_to_import_are_seen():
    source = """
import numpy, stacx
import stacx.runs.training as t
from stacx import reporting, Config
from stacx.core.losses import kl_loss
def f():
    from stacx.cli import main
"""
    assert imported_rooms(source) == {"stacx", "runs", "reporting", "Config", "core", "cli"}


def test_the_directions_have_no_circle():
    graphlib.TopologicalSorter(ALLOWED).prepare()


def test_the_mathematics_needs_no_engine_and_no_output():
    """What `import stacx.core` brings in, with the package's own names."""
    heavy = ["gymnax", "gymnasium", "matplotlib", "orbax", "tensorboardX", "PIL"]
    program = f"import stacx.core.learner, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

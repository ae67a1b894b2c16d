"""A user's functions by name."""

import sys

import pytest
from support import as_module, message_of

from stacx.errors import ConfigError
from stacx.imports import load_function


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The working directory, where modules may be written; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(reference) -> str:
    with pytest.raises(ConfigError) as caught:
        load_function(reference)
    return message_of(caught)


def test_a_module_of_the_working_directory(directory):
    (directory / "written_here.py").write_text("def answer():\n    return 42\n")
    assert load_function("written_here:answer")() == 42


def test_a_module_of_a_package(directory):
    package = directory / "written_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("answer = 42\nclass Answer:\n    pass\n")
    assert load_function("written_package.inner:Answer").__name__ == "Answer"
    assert "has no function 'answer'" in refusal("written_package.inner:answer")
    assert "has no function 'question'" in refusal("written_package.inner:question")


def test_the_working_directory_does_not_hide_installed_modules(directory, monkeypatch):
    (directory / "colorsys.py").write_text("def rgb_to_yiq(*colour):\n    return 'mine'\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert load_function("colorsys:rgb_to_yiq")(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)


def test_no_such_module(directory):
    assert "cannot import 'not_written' of 'not_written:f'" in refusal("not_written:f")


@pytest.mark.parametrize("source", ["1 / 0", "def f(:", "import not_written_either"])
def test_a_module_that_fails(directory, source):
    (directory / "failing.py").write_text(source)
    assert "cannot import 'failing'" in refusal("failing:f")


def test_no_function_named(monkeypatch):
    assert "has no function ''" in refusal(as_module(monkeypatch) + ":")

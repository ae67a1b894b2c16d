"""A user's functions by name."""

import sys
import sysconfig
from pathlib import Path

import pytest
from support import as_module, message_of

from stacx.errors import ConfigError
from stacx.imports import load_function, one_line, require_own


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


def test_a_module_that_ends_the_program_does_not(directory):
    (directory / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    assert refusal("leaving:anything").startswith(
        "cannot import 'leaving' of 'leaving:anything': SystemExit: 0 ("
    )


def test_no_such_module(directory):
    place = "in the working directory or on PYTHONPATH"
    assert refusal("not_written:f") == (
        f"cannot import 'not_written' of 'not_written:f': no module 'not_written' {place}"
    )
    assert refusal("not.written:f").endswith(f"no module 'not' {place}")
    assert refusal("json.not_written:f").endswith(f"no module 'json.not_written' {place}")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n1 / 0", "ZeroDivisionError: division by zero (failing.py:2)"),
        ("def f(:", "SyntaxError: invalid syntax (failing.py, line 1)"),
        ("import not_written", "ModuleNotFoundError: No module named 'not_written' (failing.py:1)"),
    ],
)
def test_a_module_that_fails(directory, source, reason):
    (directory / "failing.py").write_text(source)
    assert refusal("failing:f") == f"cannot import 'failing' of 'failing:f': {reason}"


def test_an_error_says_where_in_the_users_code_it_arose(directory):
    (directory / "calling.py").write_text("import json\n\ndef f(text):\n    json.loads(text)\n")
    with pytest.raises(ValueError, match="Expecting value") as caught:
        load_function("calling:f")("[")
    assert one_line(caught.value) == (
        "JSONDecodeError: Expecting value: line 1 column 2 (char 1) (calling.py:4)"
    )
    assert one_line(RuntimeError("one.\ntwo")) == "RuntimeError: one"
    assert one_line(RuntimeError()) == "RuntimeError"


def test_a_function_that_is_nearly_there(directory):
    (directory / "corridor.py").write_text("class Corridor: ...\ndoor = 3\n")
    assert refusal("corridor:corridor") == (
        "module 'corridor' has no function 'corridor'; did you mean Corridor?"
    )
    assert refusal("corridor:door") == "module 'corridor' has no function 'door'"


def test_no_function_named(monkeypatch):
    assert "has no function ''" in refusal(as_module(monkeypatch) + ":")


def ownership_refusal(reference, run="run") -> str:
    with pytest.raises(ConfigError) as caught:
        require_own(reference, Path(run), "--env it")
    return message_of(caught)


SOMEONE_ELSES = (
    *("subprocess", "os.path", "sys", "builtins", "_ssl", "zipimport", "encodings.utf_8"),
    *("numpy.lib", "gymnax", "stacx.cli.main", "__main__"),
)


@pytest.mark.parametrize("module", SOMEONE_ELSES)
def test_a_function_that_is_not_in_a_file_of_the_user(directory, module):
    assert ownership_refusal(f"{module}:function") == (
        f"run names '{module}:function', which is in no file of your own: if you trust it, "
        "add --env it"
    )


def test_a_function_of_the_users_own_is_found_without_executing_anything(directory):
    (directory / "written_here.py").write_text("1 / 0")
    (directory / "written_space").mkdir()
    (directory / "written_space" / "inner.py").write_text("1 / 0")
    require_own("written_here:function", Path("run"), "")
    require_own("written_space.inner:function", Path("run"), "")
    require_own("written_nowhere:function", Path("run"), "")  # nor is there anything to execute


def test_what_is_installed_or_in_the_run_is_not_the_users(directory, monkeypatch):
    (directory / "written_here.py").touch()
    assert "in no file of your own" in ownership_refusal("written_here:function", directory)
    (directory / "runs" / "mine").mkdir(parents=True)
    (directory / "runs" / "mine" / "code.py").touch()
    assert "in no file of your own" in ownership_refusal("runs.mine.code:f", "runs/mine")
    require_own("runs.code:f", Path("runs/mine"), "")
    packages = directory / "dist-packages"
    (packages / "written_space").mkdir(parents=True)
    (packages / "written_there.py").touch()
    monkeypatch.syspath_prepend(packages)
    assert "in no file of your own" in ownership_refusal("written_there:function")
    assert "in no file of your own" in ownership_refusal("written_space.inner:function")


def test_a_module_made_by_hand_is_in_no_file(monkeypatch):
    assert "in no file of your own" in ownership_refusal(as_module(monkeypatch) + ":function")


def test_a_function_of_the_users_script(directory, monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(directory / "script.py"), raising=False)
    require_own("__main__:make", Path("run"), "")
    monkeypatch.setattr(main, "__file__", str(Path(sysconfig.get_path("scripts"), "stacx")))
    assert "in no file of your own" in ownership_refusal("__main__:make")

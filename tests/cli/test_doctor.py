"""`stacx doctor` looks at this machine, and says what is wrong."""

import importlib.metadata

import jax
import pytest

from stacx.cli import doctor
from stacx.cli.main import main
from stacx.environments import FAMILIES, Family
from stacx.environments.rendering import NoRendererError


@pytest.fixture(autouse=True)
def one_quick_family(monkeypatch, tmp_path):
    """Making one of gymnax's environments is tested elsewhere, and takes seconds."""
    monkeypatch.setitem(FAMILIES, "gymnax", Family(lambda *_: None, lambda: {"A": None, "B": ""}))


def test_all_is_well(capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"jax {jax.__version__}\n" in out
    assert f"ale-py {importlib.metadata.version('ale-py')}\n" in out
    assert "Box2D " in out
    assert f"device 0: {jax.devices()[0].platform}" in out
    assert "engine gymnax: 1 environments" in out
    assert "stacx[" not in out
    assert "compiled programs are kept in " in out
    assert out.endswith("all is well\n")


def missing(package):
    version = importlib.metadata.version

    def find(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    return find


def test_a_missing_package(capsys, monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "version", missing("optax"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "problem: optax is not installed: pip install . in stacx's project directory" in out
    assert out.endswith("1 problems\n")


def test_an_engine_may_be_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "version", missing("ale-py"))
    assert main(["doctor"]) == 0
    assert "ale-py" not in capsys.readouterr().out


def test_jax_that_cannot_compute(capsys, monkeypatch):
    def broken():
        raise RuntimeError("no device")

    monkeypatch.setattr(jax, "local_devices", broken)
    assert main(["doctor"]) == 1
    assert "problem: JAX cannot compute: no device\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ImportError("no engine"), 0, "engine mine: not installed (no engine); pip install '.[m"),
        (ValueError("bad engine"), 1, "problem: engine mine fails: bad engine"),
        (NoRendererError("mine:Walk cannot be drawn"), 0, "engine mine: mine:Walk cannot be drawn"),
    ],
)
def test_engines(capsys, monkeypatch, error, code, says):
    def names():
        raise error

    monkeypatch.setitem(FAMILIES, "mine", Family(make=None, names=names, extra="mine"))
    assert main(["doctor"]) == code
    assert says in capsys.readouterr().out


def test_a_cache_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "stacx.runtimes.compilation.enable_compile_cache", lambda: tmp_path / "file" / "programs"
    )
    assert main(["doctor"]) == 1
    assert "problem: compiled programs cannot be kept: " in capsys.readouterr().out

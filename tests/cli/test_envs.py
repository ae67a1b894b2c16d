"""`stacx envs` names everything that can be trained on."""

from stacx.cli.main import main
from stacx.environments import FAMILIES, Family


def test_all_families(capsys):
    assert main(["envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "gymnax:CartPole-v1" in lines
    assert "gymnax:Breakout-MinAtar" in lines
    assert "gymnax:Pendulum-v1  (continuous actions, not supported yet)" in lines
    assert lines[-1].startswith("package.module:function")


def test_one_family(capsys, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mine", Family(make=None, names=lambda: {"Walk": None}))
    assert main(["envs", "mine"]) == 0
    assert capsys.readouterr().out.splitlines() == ["mine:Walk"]
    assert main(["envs", "gymnax"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("gymnax:") for line in lines)
    assert len(lines) > 20


def test_an_engine_that_is_missing(capsys, monkeypatch):
    def names():
        raise ImportError("no engine")

    monkeypatch.setitem(FAMILIES, "mine", Family(make=None, names=names, extra="mine"))
    assert main(["envs", "mine"]) == 0
    assert capsys.readouterr().out == "mine: pip install '.[mine]' in stacx's project directory\n"


def test_no_such_family(capsys):
    assert main(["envs", "nope"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "stacx: unknown environment family 'nope': there are gymnax, gym, atari\n"

"""`stacx envs` names everything that can be trained on."""

from stacx.cli.main import main
from stacx.environments import FAMILIES, Family
from stacx.environments.atari_family import reference_scores


def test_all_families(capsys):
    assert main(["envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "gymnax:CartPole-v1" in lines
    assert "gymnax:Breakout-MinAtar" in lines
    assert "gymnax:Pendulum-v1" in lines
    assert "gym:CartPole-v1" in lines
    assert "gym:Pendulum-v1" in lines
    assert "atari:Breakout" in lines
    assert {"dmc:walker-walk", "dmc-pixels:walker-walk", "rwrl:walker-walk-easy"} <= set(lines)
    assert lines[-1].startswith("package.module:function")


def test_one_family(capsys, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mine", Family(make=None, names=lambda: {"Walk": None}))
    assert main(["envs", "mine"]) == 0
    assert capsys.readouterr().out.splitlines() == ["mine:Walk"]
    assert main(["envs", "gymnax"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("gymnax:") for line in lines)
    assert len(lines) > 20


def test_all_games_of_atari(capsys):
    assert main(["envs", "atari"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert set(lines) > {f"atari:{name}" for name in reference_scores()}


def test_what_cannot_be_trained_on_is_refused_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for flags, complaint in (
        (["atari:Brekout"], "unknown environment 'atari:Brekout'; did you mean atari:Breakout?"),
        (["atari:Pong", "--env-args", '{"stack_num": 0}'], "atari:Pong: stack_num must be a"),
        (["gym:Hopper-v2"], "gym:Hopper-v2 cannot be trained on: is in the package gymnasium-rob"),
        (["dmc:walker-wlak"], "unknown environment 'dmc:walker-wlak'; did you mean dmc:walker-"),
        (
            ["rwrl:walker-walk-easy", "--env-args", '{"body": [2]}'],
            "rwrl:walker-walk-easy: body m",
        ),
        (["dmc:fish-swim", "--env-args", '{"engine": "x"}'], "dmc:fish-swim: engine must be envp"),
        (["gym:CarRacing-v4"], "unknown environment 'gym:CarRacing-v4'; did you mean gym:CarRac"),
    ):
        assert main(["train", "--env", *flags]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"stacx: {complaint}")
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


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
    known = "gymnax, gym, atari, dmc, dmc-pixels, playground, rwrl"
    assert err == f"stacx: unknown environment family 'nope': there are {known}\n"

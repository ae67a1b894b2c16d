"""`stacx plot` draws several runs into one file."""

from PIL import Image
from tiny_runs import TWO_SEEDS, contents

from stacx.cli.main import main


def test_several_runs(tiny_run, tmp_path, capsys):
    runs = [str(tiny_run(name, **settings).directory) for name, settings in RUNS.items()]
    output = tmp_path / "figures" / "both.png"
    assert main(["plot", *runs, "--output", str(output)]) == 0
    assert capsys.readouterr() == (f"{output}\n", "")
    with Image.open(output) as figure:
        assert figure.format == "PNG"


RUNS = {"one": {}, "two": TWO_SEEDS}


def test_bad_arguments(tiny_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = str(tiny_run().directory)
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    for arguments, message in (
        ([], "stacx plot needs a run directory"),
        (["nothing"], "nothing is not a run directory: there is no such directory"),
        ([run, "empty"], "empty is not a run directory: it has no config.json"),
        ([run, "--output", "a.tiff.doc"], "cannot write the figure a.tiff.doc"),
        ([run, "--output", f"{run}/config.json/a.png"], "config.json is not a directory"),
        ([run, "--output", "empty"], "--output empty is a directory: name a file"),
        ([run, "--out", "a.png"], "did you mean --output?"),
    ):
        assert main(["plot", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
        assert contents(tmp_path) == before

"""The run directory's two text files survive what can happen to them."""

import math
import os

import pytest
from support import message_of
from tiny_runs import contents

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.runs import RunDirectory

CONFIG = Config(agent="stac", seed=5)


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "new" / "run", CONFIG)


def test_a_new_directory_holds_its_config(run):
    assert contents(run.path) == {"config.json"}
    assert RunDirectory.open(run.path).config() == CONFIG


def test_an_empty_directory_may_be_used(tmp_path):
    assert RunDirectory.create(tmp_path, CONFIG).config() == CONFIG


def occupied_by_a_run(path):
    RunDirectory.create(path, CONFIG)
    return path


def occupied_by_a_file(path):
    path.mkdir()
    (path / "thesis.tex").touch()
    return path


def a_file(path):
    path.touch()
    return path


def below_a_file(path):
    return a_file(path) / "run"


@pytest.mark.parametrize(
    ("obstacle", "complaint"),
    [
        (occupied_by_a_run, "holds a run already: continue it with --resume, or choose another"),
        (occupied_by_a_file, "exists and is not empty: choose another --run-dir"),
        (a_file, "exists and is not a directory"),
        (below_a_file, "cannot write to .*Not a directory"),
    ],
)
def test_what_is_in_the_way_is_left_alone(tmp_path, obstacle, complaint):
    path = obstacle(tmp_path / "way")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=complaint) as caught:
        RunDirectory.create(path, Config())
    assert str(path) in message_of(caught)
    assert contents(tmp_path) == before


def test_what_is_no_run_is_not_opened(tmp_path):
    with pytest.raises(ConfigError, match="is not a run directory: it has no config"):
        RunDirectory.open(tmp_path)
    with pytest.raises(ConfigError, match="is not a run directory: there is no such directory"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is not a run directory: it is not a directory"):
        RunDirectory.open(a_file(tmp_path / "file"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not a stacx config"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", "cannot read"),
        (b'{"learning_speed": 3}', "this version of stacx has no setting learning_speed"),
        (b'{"gamma": 3.0}', "--gamma must be between 0 and 1"),
    ],
)
def test_a_damaged_config_is_an_error_of_one_line(run, content, complaint):
    run.config_file.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        run.config()
    assert str(run.config_file) in message_of(caught)


def test_metrics_come_back_and_grow(run):
    assert run.metrics() == []
    run.append_metrics([{"updates": 1, "seed": 0}, {"updates": 1, "seed": 1}])
    run.append_metrics([{"updates": 2, "seed": 0, "episode_return": 0.1}])
    assert [line["updates"] for line in run.metrics()] == [1, 1, 2]
    assert run.metrics()[2] == {"updates": 2, "seed": 0, "episode_return": 0.1}


def test_numbers_that_are_not_finite_become_null(run):
    run.append_metrics([{"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": None}])
    assert run.metrics() == [{"a": None, "b": None, "c": None, "d": 1.5, "e": None}]
    assert "NaN" not in run.metrics_file.read_text()


def test_lines_are_on_the_disk_when_append_returns(run, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), fsync(fd)))
    run.append_metrics([{"updates": 1}])
    assert synced == [len('{"updates": 1}\n')]


def test_a_line_cut_short_is_passed_over(run):
    run.append_metrics([{"updates": 1}, {"updates": 2}])
    run.metrics_file.write_text(run.metrics_file.read_text()[:-3])
    assert run.metrics() == [{"updates": 1}]


def test_a_damaged_line_is_passed_over(run):
    run.append_metrics([{"updates": 1}])
    with run.metrics_file.open("ab") as file:
        file.write(b'{"updates": 2, "gam\n\xff\xfe\n\n[3]\nnull\n{"seed": 0}\n')
    run.append_metrics([{"updates": 4}])
    assert run.metrics() == [{"updates": 1}, {"seed": 0}, {"updates": 4}]
    assert run.truncate_metrics(4) == [{"updates": 1}, {"updates": 4}]
    assert run.metrics() == [{"updates": 1}, {"updates": 4}]


def test_lines_after_a_checkpoint_are_dropped(run):
    run.append_metrics([{"updates": n, "value": n / 7} for n in (10, 20, 30)])
    with run.metrics_file.open("a") as file:
        file.write('{"updates": 4')
    assert run.truncate_metrics(20) == [{"updates": n, "value": n / 7} for n in (10, 20)]
    run.append_metrics([{"updates": 25}])
    assert [line["updates"] for line in run.metrics()] == [10, 20, 25]
    assert contents(run.path) == {"config.json", "metrics.jsonl"}


def test_before_the_first_line_there_is_nothing_to_drop(run):
    assert run.truncate_metrics(0) == []
    assert run.metrics() == []

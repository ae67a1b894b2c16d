"""TensorBoard finds every number, and of a resumed run only those that still hold."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from stacx.runs.events import EventWriters


def line(seed, env_steps, **values):
    return {"env_steps": env_steps, "updates": env_steps // 10, "seed": seed} | values


def events_of(file):
    """The events in a file of TensorFlow records: a length, its checksum, the data, a checksum."""
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def write(directory, lines, updates=0):
    with EventWriters(directory, updates) as events:
        events.write(lines)


def test_every_number_is_a_curve_of_its_seed(tmp_path):
    lines = [line(0, 100, loss=0.5, episode_return=None), line(3, 100, **{"meta/gamma/0": 0.25})]
    write(tmp_path, lines)
    assert {path.name for path in tmp_path.iterdir()} == {"seed_0", "seed_3"}
    for seed, name, value in ((0, "loss", 0.5), (3, "meta/gamma/0", 0.25)):
        (file,) = (tmp_path / f"seed_{seed}").iterdir()
        assert "tfevents" in file.name
        version, scalars = events_of(file)
        assert version.file_version == "brain.Event:2"
        assert scalars.step == 100
        assert [(v.tag, v.simple_value) for v in scalars.summary.value] == [(name, value)]


def test_lines_are_on_the_disk_at_once(tmp_path):
    with EventWriters(tmp_path) as events:
        events.write([line(0, 100, loss=0.5)])
        (file,) = tmp_path.rglob("*tfevents*")
        assert len(events_of(file)) == 2


def test_events_after_the_checkpoint_of_a_resumed_run_are_hidden(tmp_path):
    write(tmp_path, [line(0, 100, loss=1.0)])
    write(tmp_path, [line(0, 60, loss=2.0)], updates=5)
    first, second = sorted((tmp_path / "seed_0").iterdir())
    assert SessionLog.START not in [event.session_log.status for event in events_of(first)]
    _, start, scalars = events_of(second)
    assert (start.step, start.session_log.status) == (60, SessionLog.START)
    assert scalars.summary.value[0].simple_value == 2.0


def test_a_full_disk_is_raised_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    original = RecordWriter.close

    def close(writer):
        original(writer)
        full()

    def write_on_a_disk_that_fills():
        with EventWriters(tmp_path) as events:
            events.write([line(0, 10, loss=1.0)])
            monkeypatch.setattr(RecordWriter, "flush", full)
            monkeypatch.setattr(RecordWriter, "close", close)
            events.write([line(0, 20, loss=1.0)])

    with pytest.raises(OSError, match="No space left") as caught:
        write_on_a_disk_that_fills()
    assert caught.value.__context__ is None

"""What the machine does beside the runs."""

import subprocess
import sys
import time

import pytest

from stacx.reproduction import devices
from stacx.reproduction.devices import OthersUse

BUSY = "import time\nend = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass"


def test_children_are_not_others(monkeypatch):
    """By the clocks of a made-up machine on which a child has one core, and another process two."""
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(devices, "_busy_seconds", iter([100.0, 112.0]).__next__)
    monkeypatch.setattr(devices, "_own_seconds", iter([5.0, 9.0]).__next__)
    monkeypatch.setattr(devices.time, "monotonic", clock.__next__)
    assert OthersUse().cores() == pytest.approx(2.0)


def test_own_seconds_have_those_of_children():
    before = devices._own_seconds()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert devices._own_seconds() - before > 0.2


def test_where_linux_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_CPU_TIMES", tmp_path / "nothing")
    assert OthersUse().cores() is None


@pytest.mark.skipif(not devices._CPU_TIMES.exists(), reason="only Linux has it")
def test_seconds_pass_on_a_real_machine():
    before = devices._busy_seconds()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        pass
    assert devices._busy_seconds() - before > 0.1

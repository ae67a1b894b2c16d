"""What hosts tell each other, as far as one process can; test_several_hosts.py has several."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from stacx.errors import ConfigError, LostHostError
from stacx.runtimes import hosts


@pytest.fixture
def host_1_of_3(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)


@pytest.fixture
def ends(monkeypatch):
    """Codes with which the process would have ended."""
    codes = []
    monkeypatch.setattr(hosts.os, "_exit", codes.append)
    return codes


def test_a_single_host_has_the_whole_batch():
    assert hosts.own_part(5) == range(5)


def test_hosts_have_parts_of_a_batch(host_1_of_3):
    assert hosts.own_part(6) == range(2, 4)
    with pytest.raises(ConfigError, match="--num-envs 7 does not divide over 3 hosts"):
        hosts.own_part(7)


def test_numbers_and_texts_of_one_host_are_its_own():
    assert hosts.exchange([3, -4]).tolist() == [[3, -4]]
    assert hosts.exchange([]).shape == (1, 0)
    assert hosts.texts("\u03b3 and more") == ["\u03b3 and more"]


def test_arrays_are_shared_bit_for_bit():
    arrays = {
        "special": np.array([np.nan, -0.0, 1e-45], np.float32),
        "flags": np.array([[True], [False]]),
        "a number": np.array(7, np.uint32),
    }
    shared = hosts.share(arrays)
    assert shared.keys() == arrays.keys()
    for name, array in arrays.items():
        assert shared[name].tobytes() == array.tobytes()
        assert (shared[name].dtype, shared[name].shape) == (array.dtype, array.shape)


def test_who_waits_too_long_ends_with_a_line(ends, capsys):
    with hosts._watch().waiting(0.1, "nobody came", code=2):
        deadline = time.monotonic() + 10
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)
    assert ends[0] == 2
    assert capsys.readouterr().err.startswith("stacx: nobody came\n")


def test_who_is_answered_in_time_goes_on(ends):
    with hosts._watch().waiting(0.3, "nobody came"):
        pass
    time.sleep(0.8)
    assert not ends


def test_a_single_host_waits_for_nobody(ends, monkeypatch):
    monkeypatch.setattr(hosts._watch(), "patience", 0.0)
    with hosts.together():
        time.sleep(0.5)
    assert not ends


@pytest.mark.parametrize(
    "reason",
    [
        "UNKNOWN: Gloo all-reduce failed: Read error [127.0.0.1]:4: Connection reset by peer",
        "INTERNAL: NCCL operation ncclGroupEnd() failed: unhandled system error",
    ],
)
def test_programs_that_break_with_a_host_say_so(host_1_of_3, reason):
    gone = pytest.raises(LostHostError, match=r"another host is gone.* with --resume")
    with gone, hosts.noticing_lost_hosts():
        raise ValueError(reason)


def test_other_errors_are_what_they_are(host_1_of_3):
    with pytest.raises(ValueError, match="a shape"), hosts.noticing_lost_hosts():
        raise ValueError("a shape")


def test_on_a_single_host_nobody_is_lost():
    with pytest.raises(ValueError, match="Gloo"), hosts.noticing_lost_hosts():
        raise ValueError("Gloo")


@pytest.mark.parametrize("heard", [True, False])
def test_a_call_that_does_not_return_ends_the_process(heard):
    """Also where nobody reads what it says any more."""
    program = (
        "import time\nfrom stacx.runtimes.hosts import ending_after\n"
        "with ending_after(0.3, 'no answer', code=3):\n    time.sleep(100)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    if not heard:
        process.stderr.close()
    assert process.wait(60) == 3
    if heard:
        assert process.stderr.read() == "stacx: no answer\n"
        process.stderr.close()

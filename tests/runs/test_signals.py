"""The first signal is a request; the handlers of before come back."""

import hashlib
import os
import signal
import threading
import time

import pytest

from stacx.runs.signals import stop_on_signals


@pytest.fixture
def received():
    """The signals that reached the handlers of before."""
    signals = []
    before = {
        number: signal.signal(number, lambda signum, frame: signals.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_acts(received, signum):
    with stop_on_signals() as request:
        assert request.signum is None
        os.kill(os.getpid(), signum)
        assert request.signum == signum
        assert received == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_signal_is_acknowledged_once_and_at_once(received, capfd, quiet):
    with stop_on_signals(quiet=quiet):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT]
    line = "stacx: stopping after the current chunk; a checkpoint will be written\n"
    assert capfd.readouterr().err == ("" if quiet else line)


def test_the_words_can_be_the_callers(received, capfd):
    with stop_on_signals(notice="soon"):
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == "stacx: soon\n"


def test_the_word_comes_while_a_long_call_of_c_lasts(received, monkeypatch):
    """Such as XLA's compiler; handlers of Python run after it."""
    words = []

    def write(descriptor, _):
        if descriptor == 2:
            words.append(time.monotonic())

    monkeypatch.setattr(os, "write", write)
    kill = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    with stop_on_signals():
        kill.start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)
        end = time.monotonic()
    kill.join()
    (word,) = words
    assert end - word > 0.2


def test_afterwards_all_is_as_before(received):
    with stop_on_signals():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT]


def test_other_threads_get_no_request(received):
    requests = []

    def run():
        with stop_on_signals() as request:
            os.kill(os.getpid(), signal.SIGTERM)
            requests.append(request.signum)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert requests == [None]
    assert received == [signal.SIGTERM]

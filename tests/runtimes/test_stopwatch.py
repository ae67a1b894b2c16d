"""Seconds and shares on a clock that the test winds."""

from types import SimpleNamespace

import pytest

from stacx.runtimes import stopwatch
from stacx.runtimes.stopwatch import ACTOR, LEARNER, Shares, Stopwatch, bottleneck


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

        def advance(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


@pytest.fixture
def actor(clock):
    return Stopwatch("actor", ACTOR)


def seconds(environment, inference, waiting):
    return {
        "time/actor_environment": environment,
        "time/actor_inference": inference,
        "time/actor_waiting": waiting,
    }


def learner_seconds(learning, saving, waiting):
    return {
        "time/learner_learning": learning,
        "time/learner_saving": saving,
        "time/learner_waiting": waiting,
    }


def test_seconds_by_activity(clock, actor):
    for activity, duration in (("environment", 2.0), ("inference", 3.0), ("environment", 4.0)):
        with actor.on(activity):
            clock.advance(duration)
        clock.advance(10.0)  # on nothing
    assert actor.read() == seconds(6.0, 3.0, 0.0)


def test_what_is_going_on_counts(clock, actor):
    with actor.on("waiting"):
        clock.advance(2.0)
        assert actor.read() == seconds(0.0, 0.0, 2.0)
        clock.advance(1.0)
    assert actor.read() == seconds(0.0, 0.0, 3.0)


def test_an_activity_that_raises_has_ended(clock, actor):
    def fall():
        clock.advance(2.0)
        raise RuntimeError

    with pytest.raises(RuntimeError), actor.on("environment"):
        fall()
    clock.advance(1.0)
    assert actor.read() == seconds(2.0, 0.0, 0.0)


def test_a_thread_that_hangs_hands_its_stopwatch_over(clock, actor):
    """When it returns, what it did since then does not count."""
    shares = Shares([actor])
    hanging = actor.on("environment")
    hanging.__enter__()
    clock.advance(4.0)
    with actor.on("inference"):
        clock.advance(1.0)
        hanging.__exit__(None, None, None)
        clock.advance(1.0)
    clock.advance(2.0)
    assert actor.read() == seconds(4.0, 2.0, 0.0)
    assert shares.read() == seconds(0.5, 0.25, 0.0)


def test_shares_of_a_thread_sum_to_1_at_most(clock, actor):
    shares = Shares([actor])
    with actor.on("environment"):
        clock.advance(6.0)
    clock.advance(1.0)
    with actor.on("inference"):
        clock.advance(1.0)
        assert shares.read() == seconds(0.75, 0.125, 0.0)
        clock.advance(2.0)
    assert shares.read() == seconds(0.6, 0.3, 0.0)


def test_shares_begin_anew(clock, actor):
    """Also in the middle of an activity, which counts from then on only."""
    shares = Shares([actor])
    with actor.on("environment"):
        clock.advance(6.0)
        shares.restart()
        clock.advance(3.0)
    clock.advance(1.0)
    assert shares.read() == seconds(0.75, 0.0, 0.0)


def test_threads_of_a_kind_are_averaged(clock, actor):
    other, learner = Stopwatch("actor", ACTOR), Stopwatch("learner", LEARNER)
    shares = Shares([learner, actor, other])
    with actor.on("environment"), learner.on("learning"):
        clock.advance(4.0)
    assert shares.read() == seconds(0.5, 0.0, 0.0) | learner_seconds(1.0, 0.0, 0.0)


def test_what_is_reported_late_is_no_more_than_all_of_the_time(clock):
    """An actor elsewhere tells of a rollout when it is made, which may have begun long before."""
    reported = SimpleNamespace(read=lambda: seconds(*totals))
    totals = (1.0, 1.0, 1.0)
    shares = Shares([reported])
    clock.advance(2.0)
    totals = (4.0, 2.0, 1.0)
    assert shares.read() == seconds(0.75, 0.25, 0.0)


@pytest.mark.parametrize(
    ("actor_shares", "learner_shares", "sentence"),
    [
        (
            (0.2, 0.1, 0.7),
            (0.85, 0.1, 0.05),
            "the learner is the bottleneck: it computes 85 % of the time, saves for 10 % and waits "
            "for 5 %; actors wait 70 %",
        ),
        (
            (0.2, 0.1, 0.7),
            (0.12, 0.87, 0.01),
            "saving metrics and checkpoints is the bottleneck: the learner spends 87 % of the time "
            "on it, and actors wait 70 %",
        ),
        (
            (0.8, 0.1, 0.1),
            (0.1, 0.3, 0.6),
            "stepping the environments is the bottleneck: actors spend 80 % of the time on it, and "
            "the learner waits for 60 %",
        ),
        (
            (0.1, 0.8, 0.1),
            (0.4, 0.0, 0.6),
            "the actors' inference is the bottleneck: actors spend 80 % of the time on it, and "
            "the learner waits for 60 %",
        ),
        (
            (0.4, 0.2, 0.33),
            (0.65, 0.1, 0.25),
            "actors and learner are in balance: actors wait 33 % of the time, and the learner 25 %",
        ),
        (
            (0.1, 0.2, 0.2),
            (0.1, 0.0, 0.9),
            "missing actors are the bottleneck: 50 % of the time there was none in an actor's "
            "place, or it was not ready",
        ),
    ],
)
def test_the_bottleneck_is_named(actor_shares, learner_shares, sentence):
    assert bottleneck(seconds(*actor_shares) | learner_seconds(*learner_shares)) == sentence

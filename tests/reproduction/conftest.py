"""Fixtures of the tests of `stacx.reproduction`."""

import pytest
from tiny_runs import compile_cache  # noqa: F401

from stacx.reproduction import statistics


@pytest.fixture
def few_draws(monkeypatch):
    """Intervals that are fast, and rough."""
    monkeypatch.setattr(statistics, "DRAWS", 50)
    monkeypatch.setattr(statistics, "_FEWER_DRAWS", 20)

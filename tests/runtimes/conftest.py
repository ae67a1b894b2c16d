"""Fixtures of the tests of `stacx.runtimes`; each runtime is compiled once."""

import pytest
from small_runtimes import RECURRENT, TUNED, Case
from support import quick_compilation  # noqa: F401


@pytest.fixture(scope="session")
def tuned() -> Case:
    return Case(TUNED)


@pytest.fixture(scope="session")
def recurrent() -> Case:
    return Case(RECURRENT)

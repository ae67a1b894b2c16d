"""Fixtures of the tests of `stacx.core`."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision during one test, for finite differences."""
    with jax.enable_x64(True):
        yield

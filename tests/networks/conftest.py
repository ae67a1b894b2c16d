"""Fixtures of the tests of `stacx.networks`."""

from support import quick_compilation  # noqa: F401

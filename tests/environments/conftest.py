"""Fixtures of the tests of `stacx.environments`."""

from support import quick_compilation  # noqa: F401

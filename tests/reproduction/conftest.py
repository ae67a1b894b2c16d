"""Fixtures of the tests of `stacx.reproduction`."""

from tiny_runs import compile_cache  # noqa: F401

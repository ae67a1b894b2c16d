"""Fixtures of the tests of `stacx.cli`."""

from tiny_runs import cheap_programs, compile_cache, tiny_run  # noqa: F401

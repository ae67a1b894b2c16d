"""Fixtures of the tests of `stacx.cli`."""

from real_processes import start, start_hosts  # noqa: F401
from tiny_runs import cheap_programs, compile_cache, tiny_run  # noqa: F401

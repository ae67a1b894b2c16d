"""How long a run may take, before one has been measured: rough rates on two CPU cores.

From docs/results (classic.csv, speed.md, control.csv, host.csv) and docs/guide.md; MinAtar's with
16 environments. Where an agent was not measured, its rate is IMPALA's by what its update has more
of floating-point operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stacx.config import Config

START_SECONDS = 10.0
"""Starting, and compiling in part (docs/results/speed.md)."""


class _Rates(NamedTuple):
    """Environment steps per second of all seeds together."""

    prefix: str
    """Of the environment id."""
    impala: float
    stac: float
    impala_aux: float
    stacx: float


_RATES = (
    _Rates("gymnax:Breakout-MinAtar", 33_000, 12_000, 30_000, 18_000),
    _Rates("gymnax:MemoryChain", 75_000, 44_000, 80_000, 36_000),
    _Rates("gymnax:Catch", 150_000, 84_000, 134_000, 71_000),
    _Rates("gymnax:", 250_000, 150_000, 250_000, 130_000),
    _Rates("playground:", 2_000, 1_500, 2_000, 1_300),
    _Rates("gym:", 9_000, 7_000, 9_000, 7_500),
    _Rates("atari:", 154, 63, 145, 58),
    _Rates("dmc-pixels:", 370, 160, 340, 150),
    _Rates("dmc:humanoid", 2_900, 1_550, 2_700, 1_300),
    _Rates("dmc:", 3_600, 1_800, 3_300, 1_500),
    _Rates("rwrl:", 900, 600, 850, 550),
)
"""The first that fits counts."""
_MINATAR = _Rates("", 50_000, 22_000, 45_000, 20_000)
_SHALLOW_ATARI = _Rates("", 1_580, 1_000, 1_500, 965)
_UNKNOWN = _Rates("", 1_000, 500, 900, 400)
_UNKNOWN_ON_DEVICE = _Rates("", 100_000, 50_000, 90_000, 40_000)


def rough_rate(config: Config, *, on_device: bool = False) -> float:
    """Environment steps per second of all seeds of a run, alone on two CPU cores."""
    rates = _rates_of(config, on_device)
    if config.tuned:
        return float(rates.stacx if config.heads > 1 else rates.stac)
    return float(rates.impala_aux if config.heads > 1 else rates.impala)


def _rates_of(config: Config, on_device: bool) -> _Rates:
    if config.env.startswith("atari:") and config.torso == "shallow":
        return _SHALLOW_ATARI
    table = [rates for rates in _RATES if config.env.startswith(rates.prefix)]
    if config.suite == "minatar" and table and table[0].prefix == "gymnax:":
        return _MINATAR
    if table:
        return table[0]
    return _UNKNOWN_ON_DEVICE if on_device else _UNKNOWN


def in_all(seconds: Sequence[float], jobs: int, cores_each: int) -> float:
    """The time of many runs, of which `jobs` at once share the machine.

    Runs that keep `cores_each` cores busy alone are slower side by side.
    """
    return sum(seconds) / max(1.0, min(jobs, len(seconds)) / cores_each)


def duration(seconds: float) -> str:
    """40 s, 12 min, 3.5 h or 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"

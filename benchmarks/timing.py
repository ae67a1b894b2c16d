"""Shared by the benchmarks: settings, and interleaved timing, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def interleaved_medians(
    functions: Mapping[str, Callable[[], Any]], *, rounds: int = 7
) -> dict[str, float]:
    """Median seconds of each function, called in turn; results are waited for."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> str:
    """The devices and the versions that a figure depends on."""
    device = jax.local_devices()[0]
    return f"{len(jax.local_devices())} x {device.device_kind}, jax {jax.__version__}"


def setting(text: str) -> tuple[str, Any]:
    """A setting and its value, of NAME=VALUE on the command line."""
    name, _, value = text.partition("=")
    if value in ("true", "false"):
        return name, value == "true"
    if value.startswith("{"):
        return name, value
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, tuple(map(int, value.split(","))) if "," in value else value

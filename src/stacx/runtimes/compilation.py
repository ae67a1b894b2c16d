"""How programs are compiled, and where they are kept, so that a second run starts at once."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import jax

_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
"""On a CPU, XLA hands small loops to library kernels too (YNNPACK). For products that pays, for the
softmax of a few actions it does not: with 256 CartPoles a program is up to 1.5 times faster so."""


def enable_compile_cache() -> Path:
    """Keeps compiled programs in the user's cache directory, unless JAX has been told another.

    Returns:
        The directory in use.
    """
    directory = jax.config.values.get("jax_compilation_cache_dir")
    if directory is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = str(Path(base) / "stacx" / "programs")
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return Path(directory)


def run_cpu_programs_at_once() -> None:
    """Lets the thread that calls a CPU program run it, if JAX has no CPU client yet.

    JAX hands programs to a thread of its own, and whoever waits for the result is woken by it. A
    step of an actor is so small that this takes up to a fifth of its time (docs/results/speed.md).
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


@functools.cache
def compiler_options() -> dict[str, str]:
    """The options to compile a training program with; none where XLA does not know them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _CPU_OPTIONS

"""Compiled programs are kept on disk, so that a second run starts at once."""

from __future__ import annotations

import os
from pathlib import Path

import jax


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

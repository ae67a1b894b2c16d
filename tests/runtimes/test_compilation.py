"""Where compiled programs are kept."""

from pathlib import Path

import jax
import pytest

from stacx.runtimes.compilation import enable_compile_cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def settings():
    """JAX's settings are as before afterwards; none is made by the test's own user."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    jax.config.update(SETTINGS[0], None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compile_cache() == tmp_path / "stacx" / "programs"
    assert jax.config.values[SETTINGS[0]] == str(tmp_path / "stacx" / "programs")


@pytest.mark.parametrize("unset", [None, ""])
def test_the_usual_place_is_in_the_home_directory(tmp_path, monkeypatch, unset):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if unset is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
    assert enable_compile_cache() == tmp_path / ".cache" / "stacx" / "programs"


def test_a_place_that_jax_was_told_stays(tmp_path):
    jax.config.update(SETTINGS[0], str(tmp_path))
    assert enable_compile_cache() == tmp_path
    assert jax.config.values[SETTINGS[0]] == str(tmp_path)


def test_programs_of_a_moment_are_kept_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    enable_compile_cache()
    assert jax.config.values[SETTINGS[1]] <= 0.2
    assert jax.config.values[SETTINGS[2]] == 0

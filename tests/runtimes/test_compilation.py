"""How programs are compiled, and where they are kept."""

from pathlib import Path

import jax
import pytest

from stacx.runtimes import compilation
from stacx.runtimes.compilation import compiler_options, enable_compile_cache

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


@pytest.fixture
def fresh_options():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


def test_only_products_are_left_to_libraries(fresh_options):
    def head(features, weights):
        return jax.nn.log_softmax(features @ weights)

    shapes = jax.ShapeDtypeStruct((5120, 64), "float32"), jax.ShapeDtypeStruct((64, 2), "float32")
    program = jax.jit(head, compiler_options=compiler_options()).lower(*shapes).compile().as_text()
    in_libraries = [line for line in program.splitlines() if "__ynn_fusion" in line]
    assert "dot" in program
    assert not [line for line in in_libraries if "log_softmax" in line]


def test_an_xla_that_does_not_know_an_option_goes_without(fresh_options, monkeypatch):
    monkeypatch.setattr(compilation, "_CPU_OPTIONS", {"xla_cpu_of_another_time": "1"})
    assert compiler_options() == {}


def test_an_accelerator_needs_none(fresh_options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}

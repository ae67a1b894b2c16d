"""`stacx doctor`: devices, engines, versions, and what is wrong with them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import warnings
from collections.abc import Sequence

from stacx.cli.parsing import parse

_PACKAGES = (
    *("stacx", "jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "jaxtyping", "numpy"),
    *("gymnax", "gymnasium", "flax", "tyro", "rich", "tensorboardX", "matplotlib", "pillow"),
)

_OF_ENGINES = ("ale-py", "Box2D", "dm_control", "envpool", "mujoco", "mujoco-mjx", "playground")
"""Packages that may be missing; the engines say what to do about it."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show versions and devices, and try them; exits with 1 if something is wrong."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parse(Arguments, arguments, command="doctor")
    print(f"python {platform.python_version()} on {platform.platform()}")
    problems = _print_versions() + _check_devices() + _check_engines()
    for problem in problems:
        print(f"problem: {problem}")
    print("all is well" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _print_versions() -> list[str]:
    problems = []
    for package in _PACKAGES:
        try:
            print(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            problems.append(
                f"{package} is not installed: pip install . in stacx's project directory"
            )
    for package in _OF_ENGINES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            print(f"{package} {importlib.metadata.version(package)}")
    return problems


def _check_devices() -> list[str]:
    try:
        import jax
        import jax.numpy as jnp

        for device in jax.local_devices():
            print(f"device {device.id}: {device.platform} {device.device_kind}")
            ones = jax.device_put(jnp.ones((64, 64)), device)
            if float((ones @ ones).sum()) != 64.0**3:
                return [f"{device} computes wrong products"]
    except Exception as error:
        return [f"JAX cannot compute: {error}"]
    if jax.default_backend() == "cpu":
        print(
            "no accelerator: for an NVIDIA GPU, pip install '.[cuda]' in stacx's project directory"
        )
    return []


def _check_engines() -> list[str]:
    from stacx.environments import FAMILIES
    from stacx.environments.rendering import NoRendererError
    from stacx.runtimes.compilation import enable_compile_cache

    problems = []
    for name, family in FAMILIES.items():
        try:
            names = family.names()
            usable = [n for n, obstacle in names.items() if obstacle is None]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old versions
                family.make(usable[0], {})
            print(f"engine {name}: {len(usable)} environments")
        except ImportError as error:
            print(f"engine {name}: not installed ({error}); {family.installation}")
        except NoRendererError as error:
            print(f"engine {name}: {error}")
        except Exception as error:
            problems.append(f"engine {name} fails: {error}")
    try:
        cache = enable_compile_cache()
        cache.mkdir(parents=True, exist_ok=True)
        print(f"compiled programs are kept in {cache}")
    except OSError as error:
        problems.append(f"compiled programs cannot be kept: {error}")
    return problems

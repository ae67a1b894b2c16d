"""Which renderer draws dm_control's pictures here: a trial in a process that may fail or hang."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from stacx.errors import ConfigError

_RENDERERS = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri", "osmesa": "libosmesa6"}
"""Those that need no screen, in the order in which they are tried, and their Debian packages."""
_PATIENCE = 60.0
"""Seconds until a trial must have drawn; on a slow disk the import alone takes ten."""
_TRIAL = """
from dm_control import suite
picture = suite.load("cartpole", "balance").physics.render(8, 8, camera_id=0)
assert picture.shape == (8, 8, 3) and picture.any()
"""


class NoRendererError(ConfigError):
    """Nothing draws here."""


def renderer(env: str) -> str:
    """The name of a renderer that works: MUJOCO_GL, if it is set, or else egl or osmesa.

    Raises:
        NoRendererError: if there is none, with what each trial said.
    """
    wanted = os.environ.get("MUJOCO_GL")
    candidates = (wanted,) if wanted else tuple(_RENDERERS)
    failures = []
    for candidate in candidates:
        failure = _failure(candidate)
        if failure is None:
            return candidate
        failures.append(f"{candidate} {failure}")
    packages = " or ".join(f"apt-get install {packages}" for packages in _RENDERERS.values())
    setting = f" (MUJOCO_GL is {wanted})" if wanted else ""
    raise NoRendererError(
        f"{env} cannot be drawn here{setting}: {'; '.join(failures)}. On Debian and Ubuntu a "
        f"renderer comes with {packages}"
    )


@functools.cache
def _failure(candidate: str) -> str | None:
    """What went wrong when a renderer was tried; None: nothing."""
    environment = os.environ | {"MUJOCO_GL": candidate}
    try:
        trial = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _TRIAL],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"has drawn nothing within {_PATIENCE:g} s"
    if trial.returncode == 0:
        return None
    lines = trial.stderr.strip().splitlines()
    return f"failed ({lines[-1] if lines else f'exit code {trial.returncode}'})"

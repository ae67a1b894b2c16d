"""Which renderer draws MuJoCo's pictures here: a trial in a process that may fail or hang."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from stacx.errors import ConfigError

_RENDERERS = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri", "osmesa": "libosmesa6"}
"""Those that need no screen, in the order in which they are tried, and their Debian packages."""
_PATIENCE = 25.0
"""Seconds until a trial must have drawn; on a slow disk the import alone takes ten. Two trials end
before an environment must have been made (`env_timeout`), so that a hanging one is named."""
DM_CONTROL = """
from dm_control import suite
picture = suite.load("cartpole", "balance").physics.render(8, 8, camera_id=0)
assert picture.shape == (8, 8, 3) and picture.any()
"""
MUJOCO = """
import mujoco
sphere = "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"
model = mujoco.MjModel.from_xml_string(sphere)
data, renderer = mujoco.MjData(model), mujoco.Renderer(model, 8, 8)
mujoco.mj_forward(model, data)
renderer.update_scene(data)
assert renderer.render().any()
"""


class NoRendererError(ConfigError):
    """Nothing draws here."""


def renderer(env: str, trial: str = DM_CONTROL) -> str:
    """The name of a renderer that works: MUJOCO_GL, if it is set, or else egl or osmesa.

    Args:
        env: what is to be drawn, for errors.
        trial: the program to try it with, `DM_CONTROL` or, without that package, `MUJOCO`.

    Raises:
        NoRendererError: if there is none, with what each trial said.
    """
    wanted = os.environ.get("MUJOCO_GL")
    candidates = (wanted,) if wanted else tuple(_RENDERERS)
    failures = []
    for candidate in candidates:
        failure = _failure(candidate, trial)
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
def _failure(candidate: str, trial: str) -> str | None:
    """What went wrong when a renderer was tried; None: nothing."""
    environment = os.environ | {"MUJOCO_GL": candidate}
    try:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", trial],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"has drawn nothing within {_PATIENCE:g} s"
    if ended.returncode == 0:
        return None
    lines = ended.stderr.strip().splitlines()
    return f"failed ({lines[-1] if lines else f'exit code {ended.returncode}'})"

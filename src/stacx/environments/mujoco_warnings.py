"""MuJoCo's warnings, without those that a user can do nothing about."""

from __future__ import annotations

import logging


def leave_out_deprecations() -> None:
    """Lets MuJoCo say nothing of what is deprecated in models that come with a package.

    It would for every environment of a batch, and by default to a file MUJOCO_LOG.TXT, too.
    """
    import mujoco

    mujoco.set_mju_user_warning(_warn)


def _warn(message: str) -> None:
    if "deprecated" not in message:
        logging.getLogger("mujoco").warning(message)

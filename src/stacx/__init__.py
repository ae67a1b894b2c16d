"""The reference implementation of self-tuning actor-critic agents (STAC and STACX).

Names are imported when they are first used, so that `stacx --help` need not wait for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stacx.config import Config as Config
    from stacx.core.leaky_vtrace import LeakyVTraceOutput as LeakyVTraceOutput
    from stacx.core.leaky_vtrace import leaky_vtrace as leaky_vtrace
    from stacx.environments import Family as Family
    from stacx.environments import OnDeviceEnvironment as OnDeviceEnvironment
    from stacx.environments import register as register
    from stacx.errors import BrokenEnvironmentError as BrokenEnvironmentError
    from stacx.errors import CheckpointError as CheckpointError
    from stacx.errors import ConfigError as ConfigError
    from stacx.errors import DivergenceError as DivergenceError
    from stacx.errors import Interrupted as Interrupted
    from stacx.errors import StacxError as StacxError
    from stacx.errors import TrainingWarning as TrainingWarning
    from stacx.runs import CheckpointWarning as CheckpointWarning
    from stacx.runs import Policy as Policy
    from stacx.runs import Run as Run
    from stacx.runs import evaluate as evaluate
    from stacx.runs import load as load
    from stacx.runs import train as train
    from stacx.types import ActionSpace as ActionSpace
    from stacx.types import Box as Box
    from stacx.types import Discrete as Discrete
    from stacx.types import MultiDiscrete as MultiDiscrete
    from stacx.types import Timestep as Timestep
    from stacx.types import Trajectory as Trajectory

__version__ = "0.1.0"

_HOME = {
    "stacx.config": ("Config",),
    "stacx.core.leaky_vtrace": ("LeakyVTraceOutput", "leaky_vtrace"),
    "stacx.environments": ("Family", "OnDeviceEnvironment", "register"),
    "stacx.errors": (
        "BrokenEnvironmentError",
        "CheckpointError",
        "ConfigError",
        "DivergenceError",
        "Interrupted",
        "StacxError",
        "TrainingWarning",
    ),
    "stacx.runs": ("CheckpointWarning", "Policy", "Run", "evaluate", "load", "train"),
    "stacx.types": ("ActionSpace", "Box", "Discrete", "MultiDiscrete", "Timestep", "Trajectory"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stacx' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])

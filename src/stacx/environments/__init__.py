"""From an id string to an environment: one file per engine, one registry."""

from stacx.environments.base import OnDeviceEnvironment
from stacx.environments.registry import FAMILIES, Family, make, register
from stacx.environments.vector import Transition, VectorEnvironment, VectorState

__all__ = [
    "FAMILIES",
    "Family",
    "OnDeviceEnvironment",
    "Transition",
    "VectorEnvironment",
    "VectorState",
    "make",
    "register",
]

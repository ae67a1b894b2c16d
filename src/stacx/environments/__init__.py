"""From an id string to an environment: one file per engine, one registry."""

from stacx.environments.base import OnDeviceEnvironment
from stacx.environments.guard import EnvironmentRaised, diagnosis
from stacx.environments.host import HostEnvironment, HostTransition, HostVector
from stacx.environments.registry import FAMILIES, Environment, Family, code_of, make, register
from stacx.environments.vector import Transition, VectorEnvironment, VectorState

__all__ = [
    "FAMILIES",
    "Environment",
    "EnvironmentRaised",
    "Family",
    "HostEnvironment",
    "HostTransition",
    "HostVector",
    "OnDeviceEnvironment",
    "Transition",
    "VectorEnvironment",
    "VectorState",
    "code_of",
    "diagnosis",
    "make",
    "register",
]

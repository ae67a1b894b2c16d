"""Every setting of a run, and what is refused."""

from stacx.agents import METAPARAMETERS
from stacx.config.names import flag_of
from stacx.config.settings import OF_ACTORS, Config

__all__ = ["METAPARAMETERS", "OF_ACTORS", "Config", "flag_of"]

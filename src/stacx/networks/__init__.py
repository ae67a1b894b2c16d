"""Torsos, the recurrent core, heads, and their assembly."""

from stacx.networks.assembly import ActorCriticNetwork

__all__ = ["ActorCriticNetwork"]

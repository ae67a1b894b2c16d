"""From the metaparameters eta to the hyperparameters zeta(eta) of the inner loss.

Algorithm 2, line 10: gamma, lambda and alpha are sigmoids of their logits; the loss weights are
sigmoids times their outer values. What is not tuned has exactly its outer value, or in auxiliary
heads the one given for them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stacx.config import METAPARAMETERS, Config

Logits = dict[str, Float[Array, "P"]]
"""eta: one logit per head for every tuned metaparameter."""

Hyperparameters = dict[str, Float[Array, "P"]]
"""zeta: the value of each of `METAPARAMETERS` for every head, and of tuned `VARIANTS`."""


def initial_logits(config: Config) -> Logits:
    """eta at the start of a run: `initial_logit`, or the logit of a given initial value."""

    def logit(name: str) -> float:
        value = config.initial_value(name)
        return config.initial_logit if value is None else math.log(value / (1.0 - value))

    return {name: jnp.full((config.heads,), logit(name), float) for name in config.tuned}


def hyperparameters(logits: Logits, config: Config) -> Hyperparameters:
    """zeta(eta) for the inner loss, one value per head."""
    zeta = outer_hyperparameters(config, heads=config.heads)
    for name in METAPARAMETERS:
        if auxiliary := config.auxiliary_values(name):
            zeta[name] = jnp.concatenate([zeta[name][:1], jnp.array(auxiliary)])
    for name, logit in logits.items():
        zeta[name] = jax.nn.sigmoid(logit) * config.scale(name)
    return zeta


def outer_hyperparameters(config: Config, *, heads: int = 1) -> Hyperparameters:
    """zeta of the outer loss (Algorithm 2, line 5), the same for every head."""
    values = config.outer_values()
    return {name: jnp.full((heads,), values[name], float) for name in METAPARAMETERS}

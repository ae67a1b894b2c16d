"""Which policy acts, and which policies and values the outer loss judges.

In the paper both are head 1's. Its ensembles let the other heads act, too (section 9.3), and then
the outer loss follows: it is about the policy that acts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from stacx.config import Config
from stacx.core.distributions import Distribution, distribution
from stacx.types import Network, NetworkOutput, Parameters, RecurrentState


def acting_policy(
    network: Network,
    parameters: Parameters,
    observations: Array,
    starts: Bool[Array, " B"],
    recurrent_state: RecurrentState,
    heads: Int[Array, " B"],
    config: Config,
) -> tuple[Distribution, RecurrentState]:
    """The policies that act on a batch of observations [B, ...], and the next recurrent state.

    Args:
        network: of which the heads are.
        parameters: of the network.
        observations: one of each environment.
        starts: whether it is an episode's first, where the recurrent state is reset.
        recurrent_state: before them.
        heads: which head acts in each environment, from `draw_heads`.
        config: `behaviour`, and what policies are made of.
    """
    output, recurrent_state = network.unroll(
        parameters,
        observations[None],
        starts[None],
        recurrent_state,
        main_head_only=main_head_suffices(config),
    )
    policies = (
        _of_head(output.policy[0], heads)
        if config.behaviour == "random"
        else (judged(output, config).policy[0, :, 0])
    )
    return distribution(network.action_space, policies, config), recurrent_state


def main_head_suffices(config: Config) -> bool:
    """Whether the policy that acts needs no auxiliary head."""
    return config.behaviour == "main"


def draw_heads(key: PRNGKeyArray, batch: int, config: Config) -> Int[Array, " B"]:
    """The head that acts in each environment for one trajectory; 0 is head 1, the main one."""
    if config.behaviour != "random":
        return jnp.zeros((batch,), jnp.int32)
    return jax.random.randint(jax.random.fold_in(key, 1), (batch,), 0, config.heads)


def judged(output: NetworkOutput, config: Config) -> NetworkOutput:
    """The policies that act, and their values, as the outer loss takes them.

    Head 1's; the average one's; or all heads', if each acts in its turn. Values are those of the
    outer value head, where there is one.
    """
    if config.behaviour == "random":
        return output
    if config.behaviour == "average":
        policy = jnp.mean(output.policy, axis=-2, keepdims=True)
    else:
        policy = output.policy[..., :1, :]
    values = output.values[..., :1] if output.outer_values is None else output.outer_values
    return NetworkOutput(policy, values)


def _of_head(policies: Float[Array, "B P A"], heads: Int[Array, " B"]) -> Float[Array, "B A"]:
    return jnp.take_along_axis(policies, heads[:, None, None], axis=1)[:, 0]

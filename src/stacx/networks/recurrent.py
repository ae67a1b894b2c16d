"""The recurrent core: an LSTM along time-major features, reset where an episode begins."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from stacx.networks.layers import truncated_normal

LSTMState = tuple[Float[Array, "B H"], Float[Array, "B H"]]
"""Hidden and cell state."""


class LSTM(eqx.Module):
    """An LSTM of H units, with 1 added to the forget gate (as in Haiku)."""

    input_weight: Float[Array, "F H4"]
    hidden_weight: Float[Array, "H H4"]
    bias: Float[Array, " H4"]

    def __init__(self, key: PRNGKeyArray, features: int, units: int):
        input_key, hidden_key = jax.random.split(key)
        self.input_weight = truncated_normal(input_key, (features, 4 * units), features + units)
        self.hidden_weight = truncated_normal(hidden_key, (units, 4 * units), features + units)
        self.bias = jnp.zeros((4 * units,))

    def __call__(
        self, features: Float[Array, "T B F"], starts: Bool[Array, "T B"], state: LSTMState
    ) -> tuple[Float[Array, "T B H"], LSTMState]:
        """Outputs along time, and the state after the last step.

        The input's part of the gates is one product over all time steps; only the recurrence is
        sequential.
        """

        def step(state: LSTMState, inputs: tuple[Array, Array]) -> tuple[LSTMState, Array]:
            gates, start = inputs
            hidden, cell = (jnp.where(start[:, None], 0.0, leaf) for leaf in state)
            i, g, f, o = jnp.split(gates + hidden @ self.hidden_weight, 4, axis=-1)
            cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        gates = features @ self.input_weight + self.bias
        state, hidden = jax.lax.scan(step, state, (gates, starts))
        return hidden, state

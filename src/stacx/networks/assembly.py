"""Torso, recurrent core and heads as one network: pure functions of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.imports import load_function, one_line
from stacx.networks.heads import Heads
from stacx.networks.normaliser import Normaliser
from stacx.networks.recurrent import LSTM
from stacx.networks.torsos import TORSOS
from stacx.types import ActionSpace, Box, NetworkOutput, Parameters, RecurrentState


class ActorCritic(eqx.Module):
    """The modules of a network; head 1 is the one that acts."""

    normaliser: Normaliser | None
    torso: Callable[[Array], Array]
    core: LSTM | None
    heads: Heads


class ActorCriticNetwork:
    """The `stacx.types.Network` of a config, for one shape of observations and one action space.

    Raises:
        ConfigError: if the torso is unknown or does not fit the observations.
    """

    def __init__(
        self,
        config: Config,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        action_space: ActionSpace,
    ):
        if not isinstance(action_space, Box):
            config.require_usual(["log_std_min", "log_std_max"], "for actions that are choices")
        self.action_space = action_space
        self._config = config
        # where the other heads act, too, the outer loss is about them
        self._max_aux_gradient = config.max_aux_gradient if config.heads_apart else None
        self._observation_shape = observation_shape
        self._observation_dtype = observation_dtype
        abstract = eqx.filter_eval_shape(self._build, jax.random.key(0))
        _, self._static = eqx.partition(abstract, _is_parameter)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(self._static)):
            raise ConfigError(f"torso {config.torso} has arrays that are not of a floating type")

    def init(self, key: PRNGKeyArray) -> Parameters:
        parameters, _ = eqx.partition(self._build(key), _is_parameter)
        return parameters

    def initial_state(self, batch: int) -> RecurrentState:
        units = self._config.lstm_size
        return (jnp.zeros((batch, units)), jnp.zeros((batch, units))) if units else ()

    def unroll(
        self,
        parameters: Parameters,
        observations: Array,
        starts: Bool[Array, "T B"],
        recurrent_state: RecurrentState,
        *,
        main_head_only: bool = False,
    ) -> tuple[NetworkOutput, RecurrentState]:
        network: ActorCritic = eqx.combine(parameters, self._static)
        heads = network.heads.main() if main_head_only else network.heads
        time, batch = observations.shape[:2]
        observations = observations.reshape(-1, *observations.shape[2:])
        with jax.default_matmul_precision(self._config.matmul_precision):  # gradients inherit it
            if network.normaliser is not None:
                observations = network.normaliser(observations.astype(jnp.float32))
            features = self._features(network.torso, observations).reshape(time, batch, -1)
            if network.core is not None:
                features, recurrent_state = network.core(features, starts, recurrent_state)
            output = heads(features, self._max_aux_gradient)
        return output, recurrent_state

    def per_head(self, parameters: Parameters) -> PyTree[bool]:
        shared = jax.tree.map(lambda leaf: False, parameters)
        return eqx.tree_at(lambda network: network.heads, shared, parameters.heads.per_head())

    def conditioned_on(self, parameters: Parameters, gamma: Float[Array, "P"]) -> Parameters:
        return eqx.tree_at(lambda network: network.heads.embedding.gamma, parameters, gamma)

    def having_seen(
        self, parameters: Parameters, observations: Array, valid: Float[Array, "T B"]
    ) -> Parameters:
        seen = parameters.normaliser.after(observations.astype(jnp.float32), valid)
        return eqx.tree_at(lambda network: network.normaliser, parameters, seen)

    def _features(self, torso: Callable[[Array], Array], observations: Array) -> Array:
        dtype = jnp.dtype(self._config.compute_dtype)
        inputs = observations.astype(dtype)
        if observations.dtype == jnp.uint8:
            inputs = inputs / 255
        return torso(inputs).astype(jnp.float32)

    def _build(self, key: PRNGKeyArray) -> ActorCritic:
        torso_key, core_key, heads_key = jax.random.split(key, 3)
        torso = self._build_torso(torso_key)
        features = self._num_features(torso)
        config = self._config
        core = LSTM(core_key, features, config.lstm_size) if config.lstm_size else None
        outputs = self.action_space.num_outputs
        heads = Heads(heads_key, config, config.lstm_size or features, outputs)
        normaliser = None
        if config.normalise_observations:
            pictures = self._observation_dtype == np.uint8 and len(self._observation_shape) > 1
            normaliser = Normaliser(self._observation_shape, pictures=pictures)
        return ActorCritic(normaliser, torso, core, heads)

    def _build_torso(self, key: PRNGKeyArray) -> Callable[[Array], Array]:
        name = self._config.torso
        if name in TORSOS:
            return TORSOS[name](key, self._observation_shape, self._config)
        if ":" not in name:
            raise ConfigError(
                f"unknown torso {name!r}: use {', '.join(TORSOS)} or package.module:function"
            )
        function = load_function(name)
        try:
            torso = function(self._observation_shape, key)
        except Exception as error:
            raise ConfigError(f"torso {name} raised {one_line(error)}") from error
        if not callable(torso) or inspect.isfunction(torso):  # a closure would hide its parameters
            raise ConfigError(
                f"torso {name} must return a callable pytree, such as an equinox.Module, "
                f"not a {type(torso).__name__}"
            )
        return torso

    def _num_features(self, torso: Callable[[Array], Array]) -> int:
        batch = 2
        shape = (batch, *self._observation_shape)
        observations = jax.ShapeDtypeStruct(shape, self._observation_dtype)
        try:
            features = eqx.filter_eval_shape(self._features, torso, observations)
        except Exception as error:
            raise ConfigError(
                f"torso {self._config.torso} fails on observations of shape {list(shape[1:])}: "
                f"{one_line(error)}"
            ) from error
        if features.ndim != 2 or features.shape[0] != batch:
            raise ConfigError(
                f"torso {self._config.torso} must map [N, ...] to [N, F], "
                f"not {list(shape)} to {list(features.shape)}"
            )
        return int(features.shape[1])


def _is_parameter(leaf: Any) -> bool:
    return eqx.is_inexact_array(leaf) or (
        isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )

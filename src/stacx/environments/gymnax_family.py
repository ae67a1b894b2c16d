"""gymnax: JAX-native classic control, bsuite, MinAtar and more, as `gymnax:NAME`."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num, PRNGKeyArray

from stacx.errors import ConfigError
from stacx.types import ActionSpace, Box, Discrete, EnvironmentState, Timestep

_NEEDS_DOWNLOAD = {"MNISTBandit-bsuite": "downloads MNIST when it is made, not supported"}


class GymnaxEnvironment:
    """A gymnax environment as an `OnDeviceEnvironment`.

    Discrete observations become one-hot, images of type uint8 stay so, and all others are float32.
    """

    def __init__(self, environment: Any, params: Any):
        self._environment = environment
        self._params = params
        self.action_space = _action_space(environment, params)
        space = environment.observation_space(params)
        self._one_hot = int(space.n) if hasattr(space, "n") else None
        _, observation = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_shape, self.observation_dtype = observation.shape, observation.dtype

    @property
    def gymnax(self) -> tuple[Any, Any]:
        """The gymnax environment and its parameters, for drawing."""
        return self._environment, self._params

    def reset(self, key: PRNGKeyArray) -> tuple[EnvironmentState, Array]:
        observation, state = self._environment.reset_env(key, self._params)
        return _strong(state), self._encode(observation)

    def step(
        self, key: PRNGKeyArray, state: EnvironmentState, action: Num[Array, " *action"]
    ) -> tuple[EnvironmentState, Timestep]:
        observation, state, reward, terminated, _ = self._environment.step_env(
            key, state, action, self._params
        )
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.asarray(self._environment.is_truncated(state, self._params), bool)
        return _strong(state), Timestep(
            observation=self._encode(observation),
            reward=jnp.asarray(reward, jnp.float32),
            terminated=terminated,
            truncated=truncated & ~terminated,
        )

    def _encode(self, observation: Any) -> Array:
        if self._one_hot is not None:
            return jax.nn.one_hot(observation, self._one_hot)
        observation = jnp.asarray(observation)
        return observation if observation.dtype == jnp.uint8 else observation.astype(jnp.float32)


def make(name: str, arguments: dict[str, Any]) -> GymnaxEnvironment:
    """`gymnax:NAME`; arguments are fields of its EnvParams, or go to its constructor."""
    import gymnax
    from gymnax import registration

    factory = registration._registry[name]
    constructor_names = set(inspect.signature(factory).parameters)
    constructor_arguments = {k: v for k, v in arguments.items() if k in constructor_names}
    environment, params = gymnax.make(name, **constructor_arguments)
    rest = {k: v for k, v in arguments.items() if k not in constructor_names}
    unknown = sorted(k for k in rest if not hasattr(params, k))
    if unknown:
        known = sorted([*vars(params), *constructor_names])
        raise ConfigError(
            f"gymnax:{name} has no parameter {', '.join(unknown)}: --env-args takes "
            f"{', '.join(known)}"
        )
    return GymnaxEnvironment(environment, params.replace(**rest))


def names() -> dict[str, str | None]:
    """Every environment's name, and why it cannot be trained on (None: it can)."""
    import gymnax

    return {name: _NEEDS_DOWNLOAD.get(name) for name in gymnax.registered_envs}


def _action_space(environment: Any, params: Any) -> ActionSpace:
    space = environment.action_space(params)
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def _strong(state: EnvironmentState) -> EnvironmentState:
    """Leaves as arrays of fixed types: gymnax states mix Python numbers with arrays."""
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), state
    )

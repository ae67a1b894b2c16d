"""An actor in a process of Ray's, perhaps on another machine; `ray_pool` is the other side."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import ray

from stacx import environments
from stacx.config import Config
from stacx.environments import HostEnvironment
from stacx.errors import ConfigError, StacxError
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.actor import Actor, Delivery
from stacx.runtimes.compilation import enable_compile_cache, run_cpu_programs_at_once
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.inference import Inference, Rollout
from stacx.runtimes.stopwatch import ACTOR, Stopwatch

_PATIENCE = 0.2
"""Seconds between two looks at the environments."""


class Made(NamedTuple):
    """A rollout."""

    rollout: Rollout
    """Of NumPy's arrays, which Ray keeps in its object store as they are."""
    seconds: dict[str, float]
    """Where the time went since the last one, by activity."""


class Failed(NamedTuple):
    """Why there is no rollout: the environments raised, or have not answered."""

    reason: str
    details: str
    hangs: bool
    """Whether a thread is still in them, so that the process is of no use any more."""


class _EnvironmentFailed(Exception):  # noqa: N818  (it is reported, not raised any further)
    """The environments raised: a reason and details."""


class _Supervisor:
    """Lets the driver decide, which counts the restarts of all actors."""

    def __init__(self, seed: int):
        self._seed = seed

    def next_seed(self, actor: int) -> int:
        del actor
        return self._seed

    def count_restart(self, reason: str, details: str) -> None:
        raise _EnvironmentFailed(reason, details)


class RemoteActor:
    """Makes rollouts, one whenever it is asked.

    All of them are made by one thread, the same `Actor` as in the learner's process: some
    simulators do not bear a change of threads, and a thread that hangs can be told from one that is
    at work.

    Args:
        config: of the run, but with the environments of one actor in `num_envs`.
        index: which of the actors it is.
        stride: from the number of one of its rollouts to that of the next.
    """

    def __init__(self, config: Config, index: int, stride: int):
        self._config = config
        self._index = index
        self._stride = stride
        self._environment: HostEnvironment
        self._inference: Inference
        self._actor: Actor | None = None
        self._exchange: Exchange[Delivery]
        self._read: dict[str, float] = {}

    def prepare(self) -> str:
        """Makes what it needs. Returns the address of its node.

        Raises:
            StacxError: if there is no such environment here, or it cannot be made.
        """
        node = str(ray.util.get_node_ip_address())
        enable_compile_cache()
        run_cpu_programs_at_once()
        config = self._config
        try:
            environment = environments.make(config.env, config.env_args, seconds=config.env_timeout)
        except StacxError as error:
            raise ConfigError(f"actor {self._index} on node {node}: {error}") from None
        assert isinstance(environment, HostEnvironment)
        self._environment = environment
        network = ActorCriticNetwork(
            config,
            environment.observation_shape,
            environment.observation_dtype,
            environment.action_space,
        )
        self._inference = Inference(config, network, environment)
        return node

    def answer(self) -> None:
        """Shows that the process is not stuck as a whole."""

    def roll_out(self, number: int, seed: int, parameters: Any) -> Made | Failed:
        """The rollout of that number, which goes on where the last one ended, if it was made here.

        Args:
            number: of the rollout; a function of it and the seed of the run is what decides among
                its actions.
            seed: for a new batch of environments, if there is none.
            parameters: of the policy, `Parameters` of NumPy's arrays.

        Raises:
            StacxError: if environments cannot be used, or a program failed.
        """
        device = jax.local_devices()[0]
        if self._actor is None:
            self._actor = self._start(number, seed, device)
        actor = self._actor
        self._exchange.publish(number, {device: jax.device_put(parameters, device)})
        try:
            while (delivery := self._exchange.get(number, _PATIENCE)) is None:
                stack = actor.give_up_if_busy(self._config.env_timeout)
                if stack is not None:
                    self._actor = None
                    return Failed(actor.silence, stack, hangs=True)
        except _EnvironmentFailed as failure:
            self._actor = None
            reason, details = failure.args
            return Failed(reason, details, hangs=False)
        return Made(delivery.rollout, self._seconds(actor.stopwatch))

    def _start(self, number: int, seed: int, device: jax.Device) -> Actor:
        # With a fixed lag of 0, rollout n waits for what is published as n.
        self._exchange = Exchange(1, lag=0)
        self._read = {}
        actor = Actor(
            self._config,
            self._inference,
            self._environment,
            self._exchange,
            _Supervisor(seed),
            _to_numpy,
            stopwatch=Stopwatch("actor", ACTOR),
            device=device,
            index=self._index,
            number=number,
            stride=self._stride,
        )
        actor.start()
        return actor

    def _seconds(self, stopwatch: Stopwatch) -> dict[str, float]:
        before, self._read = self._read, stopwatch.read()
        return {name: seconds - before.get(name, 0.0) for name, seconds in self._read.items()}


def as_one_actor(config: Config, environments_each: int) -> Config:
    """The config of a run as one of its remote actors needs it."""
    return dataclasses.replace(config, num_envs=environments_each, actor_envs=0)


def _to_numpy(rollout: Rollout) -> Any:
    return jax.tree.map(np.asarray, rollout)

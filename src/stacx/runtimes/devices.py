"""Which devices actors infer on, which the learner learns on, and how these share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.runtimes.hosts import own_part
from stacx.types import Network, NetworkOutput, Parameters, RecurrentState


def assigned_devices(config: Config) -> tuple[list[jax.Device], list[jax.Device]]:
    """Where this host's actors infer, and where its part of the learner learns.

    By default actors take the first device, and the learner the first too if it is the only one, or
    else as many of the others as divide the batch. Remote actors take none.

    Raises:
        ConfigError: if there is no such device, or the batch does not divide.
    """
    devices = jax.local_devices()
    batch = len(own_part(config.num_envs))
    elsewhere = config.actors == "ray"
    first = [] if elsewhere else devices[:1]
    actors = _chosen(config.actor_devices, devices, "--actor-devices") or first
    if len(actors) > config.num_actors:
        raise ConfigError(
            f"--actor-devices names {len(actors)} devices for {config.num_actors} actors: name "
            "fewer, or raise --num-actors"
        )
    learners = _chosen(config.learner_devices, devices, "--learner-devices")
    if not learners:
        rest = [device for device in devices if device not in actors] or actors
        count = max(n for n in range(1, len(rest) + 1) if batch % n == 0)
        learners = rest[:count]
    if batch % len(learners):
        of_hosts = "" if batch == config.num_envs else f"{config.num_envs // batch} times "
        raise ConfigError(
            f"--num-envs {config.num_envs} does not divide over {of_hosts}{len(learners)} learner "
            "devices: change it or --learner-devices"
        )
    return actors, learners


def across_hosts(own: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of all hosts that are, on each, where these are on this one.

    Raises:
        ConfigError: if hosts have different numbers of devices.
    """
    of_hosts = [jax.local_devices(process_index=host) for host in range(jax.process_count())]
    numbers = [len(devices) for devices in of_hosts]
    if len(set(numbers)) > 1:
        listed = ", ".join(map(str, numbers))
        raise ConfigError(f"hosts must have as many devices each, and have {listed}")
    places = [jax.local_devices().index(device) for device in own]
    return [devices[place] for devices in of_hosts for place in places]


class NetworkByDevice:
    """A network of which each device of a mesh computes what its own environments need.

    Left to itself, XLA would have every device compute the torso for the environments of all: a
    torso takes T and B as one axis, along which a split of B is none. The functions are those of
    `stacx.types.Network`, the same numbers within float tolerance.

    Args:
        network: whose functions these are.
        mesh: of one axis, along which B is split; parameters are whole on each of its devices.
    """

    def __init__(self, network: Network, mesh: Mesh):
        self._network = network
        self._mesh = mesh

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def unroll(
        self,
        parameters: Parameters,
        observations: Array,
        starts: Bool[Array, "T B"],
        recurrent_state: RecurrentState,
        *,
        main_head_only: bool = False,
    ) -> tuple[NetworkOutput, RecurrentState]:
        def own(*arguments: Any) -> tuple[NetworkOutput, RecurrentState]:
            return self._network.unroll(*arguments, main_head_only=main_head_only)

        batch = observations.shape[1]
        if batch % self._mesh.size:  # a fraction of the batch, for the outer loss
            return own(parameters, observations, starts, recurrent_state)
        whole, by_batch = PartitionSpec(), PartitionSpec(*self._mesh.axis_names)
        by_time = PartitionSpec(None, *self._mesh.axis_names)
        return jax.shard_map(
            own,
            mesh=self._mesh,
            in_specs=(whole, by_time, by_time, by_batch),
            out_specs=(by_time, by_batch),
            check_vma=False,
        )(parameters, observations, starts, recurrent_state)


def _chosen(indices: tuple[int, ...], devices: Sequence[jax.Device], flag: str) -> list[jax.Device]:
    if any(index >= len(devices) for index in indices) or len(set(indices)) < len(indices):
        known = "is only device 0"
        if len(devices) > 1:
            known = f"are only devices 0 to {len(devices) - 1}"
        chosen = " ".join(map(str, indices))
        raise ConfigError(f"{flag} {chosen}: there {known}, each to be named once")
    return [devices[index] for index in indices]

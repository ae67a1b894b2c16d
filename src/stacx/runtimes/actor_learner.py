"""The actor-learner runtime: environments step on CPU cores while a learner learns (section 8).

Actor threads, each with a batch of environments, infer on the actor devices and put trajectories
into a bounded queue; the learner takes one per update, data-parallel over the learner devices, and
publishes its parameters as soon as they exist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from stacx.config import Config
from stacx.core.learner import Learner, LearnerState
from stacx.environments import HostEnvironment
from stacx.errors import ConfigError, StacxError
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.actor import Delivery
from stacx.runtimes.actor_pool import ActorPool, ThreadPool
from stacx.runtimes.arrays import Arrays, flatten, unflatten
from stacx.runtimes.compilation import compiler_options
from stacx.runtimes.devices import NetworkByDevice, across_hosts, assigned_devices
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.hosts import own_part, together
from stacx.runtimes.inference import Inference, Rollout
from stacx.runtimes.randomness import start_key
from stacx.runtimes.running import running
from stacx.runtimes.statistics import IntervalStatistics
from stacx.runtimes.stopwatch import LEARNER, Shares, Stopwatch, bottleneck
from stacx.runtimes.supervision import Supervision
from stacx.types import Parameters, action_space_to_json

T = TypeVar("T")

_PATIENCE = 0.2
"""Seconds between two looks at the actors while the learner waits: little beside any time-out, and
much beside what a look costs."""
_TELLING = 10.0
"""Seconds within which a run's first and last moments weigh more than what is between them."""


class HostTrainState(eqx.Module):
    """A `TrainState` of one seed; the environments are no part of it, and start again.

    All leaves have a leading axis of one seed.
    """

    iteration: Int[Array, ""]
    learner: LearnerState
    interval: IntervalStatistics


class ActorLearnerRuntime:
    """Trains one seed on environments of the host.

    Raises:
        ConfigError: if the config cannot be run here.
    """

    def __init__(self, config: Config, environment: HostEnvironment):
        if config.num_seeds != 1:
            raise ConfigError(
                f"--num-seeds must be 1 for {config.env}, whose environments step on the CPU: "
                "train each seed with a run of its own, --seed 0, --seed 1, ..."
            )
        if environment.batches_itself:
            config.require_usual(
                ["vectorization"], f"for {config.env}, which makes batches of its own"
            )
        self.config = config
        self.num_environments = (config.actor_envs or config.num_envs) * config.num_actors
        self.environment = environment
        self.network = ActorCriticNetwork(
            config,
            environment.observation_shape,
            environment.observation_dtype,
            environment.action_space,
        )
        self.actor_devices, self.learner_devices = assigned_devices(config)
        mesh = Mesh(np.array(across_hosts(self.learner_devices)), ("devices",))
        by_device = NetworkByDevice(self.network, mesh) if mesh.size > 1 else self.network
        self.learner = Learner(config, by_device)
        own_mesh = Mesh(np.array(self.learner_devices), ("devices",))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._update = jax.jit(
            self._update_once,
            donate_argnums=0,
            out_shardings=self._replicated,
            compiler_options=compiler_options(),
        )
        self._part = own_part(config.num_envs)
        self._inference = Inference(config, self.network, environment, self._part)
        self._abstract_rollout = self._sharded(mesh, config.num_envs)
        self._own_shardings = jax.tree.map(
            lambda leaf: leaf.sharding, self._sharded(own_mesh, self._inference.batch)
        )
        self._stopwatch = Stopwatch("learner", LEARNER)
        self._supervision = Supervision(config, self._part.start)
        self._pool = self._make_pool()
        self._exchange: Exchange[Delivery] = Exchange(config.queue_size)
        self._lags: list[int] = []
        self._updates = 0
        self._under_way = False

    restarts_environments = True
    without_effect: Sequence[str] = ()

    def init(self) -> HostTrainState:
        return jax.jit(self._init, out_shardings=self._replicated)()

    def abstract_state(self) -> Any:
        """The shapes, types and shardings of a state."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated),
            jax.eval_shape(self._init),
        )

    def arrays_of(self, state: HostTrainState) -> Arrays:
        return flatten(state)

    def state_of(self, arrays: Arrays) -> HostTrainState:
        return unflatten(arrays, self.abstract_state())

    def counts(self) -> dict[str, int]:
        """What befell environments and actors, which is in none of the learner's arrays."""
        return {"environment_restarts": self._supervision.restarts, **self._pool.counts}

    def count_on_from(self, counts: dict[str, Any]) -> None:
        self._supervision.restarts = counts.get("environment_restarts", 0)
        self._pool.counts.update({name: counts.get(name, 0) for name in self._pool.counts})

    def prepare(self, state: HostTrainState) -> HostTrainState:
        """Starts the actors, and compiles the update while they compile their inference."""
        config = self.config
        first = self._updates = int(np.asarray(state.iteration)[0])
        self._supervision.first_update = first
        self._exchange = Exchange(
            config.queue_size,
            lag=config.num_actors if config.deterministic else None,
            first=first,
        )
        self._pool.start(self._exchange, first)
        self._publish(self._parameters_of(state))
        with running(config.env):
            self._compiled_update = self._update.lower(
                self.abstract_state(), self._abstract_rollout
            ).compile()
        watches = [self._stopwatch, *self._pool.watches]
        self._interval_shares, self._run_shares = Shares(watches), Shares(watches)
        return state

    def run(
        self, state: HostTrainState, iterations: int, should_stop: Callable[[], bool]
    ) -> HostTrainState:
        for _ in range(iterations):
            with self._stopwatch.on("waiting"):
                delivery = self._next_delivery(should_stop)
            if delivery is None:
                break
            if not self._under_way:  # until now, actors have compiled
                self._under_way = True
                self.restart_shares()
            others = 2 * self.config.env_timeout  # they may have to restart environments first
            if self.config.actors == "ray":
                others += self.config.actor_timeout  # and to wait for room
            with self._stopwatch.on("learning"), together(others), running(self.config.env):
                state, parameters = self._compiled_update(state, delivery.rollout)
                skipped = int(np.asarray(state.learner.skipped_in_a_row)[0])  # waits for the update
                self._lags.append(self._updates - delivery.version)
                self._updates += 1
                self._publish(parameters)  # now that they exist: no actor waits for the future
            if skipped >= self.config.max_skipped_updates:
                break
        return state

    def clear_interval(self, state: HostTrainState) -> HostTrainState:
        return eqx.tree_at(lambda s: s.interval, state, self._empty_interval())

    def complete(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Adds policy lag in updates, shares of time, the queue, restarts, frames, scores."""
        lags, self._lags = self._lags, []
        metrics: dict[str, float] = {
            "lag_mean": float(np.mean(lags)) if lags else 0.0,
            "lag_max": max(lags, default=0),
            "queue": self._exchange.size,
            **self.counts(),
            **self._pool.metrics(),
            **{name: round(share, 4) for name, share in self._interval_shares.read().items()},
        }
        self._interval_shares.restart()
        return [
            line | self.environment.reported(line["env_steps"], line["episode_return"]) | metrics
            for line in lines
        ]

    def saving(self) -> AbstractContextManager[None]:
        return self._stopwatch.on("saving")

    def policy_specification(self) -> dict[str, Any]:
        return {
            "observation_shape": list(self.environment.observation_shape),
            "observation_dtype": str(self.environment.observation_dtype),
            **action_space_to_json(self.network.action_space),
        }

    def farewell(self) -> list[str]:
        """Where the time went, and what held the run up."""
        shares = self._run_shares.read()
        listed = ", ".join(
            f"{name.removeprefix('time/').replace('_', ' ')} {100 * share:.0f} %"
            for name, share in shares.items()
        )
        if self._run_shares.seconds < _TELLING:
            return [f"time: {listed}", "the run was too short to tell what held it up"]
        return [f"time: {listed}", bottleneck(shares)]

    def restart_shares(self) -> None:
        """Counts shares of time from now on."""
        self._interval_shares.restart()
        self._run_shares.restart()

    def close(self) -> None:
        """Ends the actors."""
        self._exchange.close()
        self._pool.close()

    # --- actors ---

    def _make_pool(self) -> ActorPool:
        if self.config.actors == "ray":
            batch = self._inference.batch
            if batch % (self.config.actor_envs or batch):
                raise ConfigError(
                    f"--actor-envs {self.config.actor_envs} must divide the {batch} environments "
                    f"of each host (--num-envs {self.config.num_envs})"
                )
            from stacx.runtimes.ray_cluster import RayCluster

            cluster = RayCluster(self.config)  # which says how to install Ray
            from stacx.runtimes.ray_pool import RayPool

            return RayPool(self.config, cluster, self._supervision, self._place, batch)
        return ThreadPool(
            self.config,
            self.environment,
            self._inference,
            self._supervision,
            self._place,
            self.actor_devices,
        )

    def _next_delivery(self, should_stop: Callable[[], bool]) -> Delivery | None:
        """The next trajectory; None if asked to stop.

        Then errors and restarts are no fault any more: the signal may have ended environments, too.
        """
        delivery = None
        while delivery is None and not should_stop():
            failure = None
            try:
                self._pool.look_after()
                delivery = self._exchange.get(self._updates, _PATIENCE)
            except StacxError as error:
                failure = error
            if (self._supervision.has_warnings or failure) and not should_stop():
                self._supervision.give_warnings()
                if failure:
                    raise failure
        return delivery

    def _place(self, rollout: Rollout) -> Rollout:
        """A rollout where the learner wants it, as this host's part of all hosts' batch."""
        placed = jax.device_put(rollout, self._own_shardings)
        if jax.process_count() == 1:
            return placed

        def as_part(own: jax.Array, whole: jax.ShapeDtypeStruct) -> jax.Array:
            of_device = {shard.device: shard.data for shard in own.addressable_shards}
            parts = [of_device[device] for device in self.learner_devices]
            return jax.make_array_from_single_device_arrays(whole.shape, whole.sharding, parts)

        return jax.tree.map(as_part, placed, self._abstract_rollout)

    def _publish(self, parameters: Parameters) -> None:
        parameters = jax.tree.map(lambda leaf: leaf.addressable_data(0), parameters)
        self._pool.publish(self._updates, parameters)

    # --- programs ---

    def _sharded(self, mesh: Mesh, batch: int) -> Rollout:
        """The shapes, types and shardings of a rollout that a mesh's devices share."""
        by_time = NamedSharding(mesh, PartitionSpec(None, "devices"))
        by_batch = NamedSharding(mesh, PartitionSpec("devices"))
        abstract = self._inference.abstract_rollout(batch)
        shardings = jax.tree.map(lambda _: by_time, abstract)
        shardings = eqx.tree_at(
            lambda rollout: rollout.trajectory.recurrent_state,
            shardings,
            jax.tree.map(lambda _: by_batch, shardings.trajectory.recurrent_state),
        )
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract,
            shardings,
        )

    def _init(self) -> HostTrainState:
        return _with_axis(
            HostTrainState(
                iteration=jnp.zeros((), jnp.int32),
                learner=self.learner.init(start_key(jnp.int32(self.config.seed))),
                interval=IntervalStatistics.empty(self.config.heads, self.config.reported),
            )
        )

    def _update_once(
        self, state: HostTrainState, rollout: Rollout
    ) -> tuple[HostTrainState, Parameters]:
        """One update, and the new parameters by themselves: the state's memory is reused."""
        one = _without_axis(state)
        learner, metrics = self.learner.update(one.learner, rollout.trajectory)
        new = HostTrainState(
            iteration=one.iteration + 1,
            learner=learner,
            interval=one.interval.add(metrics, rollout.trajectory, rollout.ends),
        )
        return _with_axis(new), learner.parameters

    @functools.cached_property
    def _parameters_of(self) -> Callable[[HostTrainState], Parameters]:
        def parameters(state: HostTrainState) -> Parameters:
            return _without_axis(state.learner.parameters)

        return jax.jit(parameters)

    @functools.cached_property
    def _empty_interval(self) -> Callable[[], IntervalStatistics]:
        def empty() -> IntervalStatistics:
            return _with_axis(IntervalStatistics.empty(self.config.heads, self.config.reported))

        return jax.jit(empty, out_shardings=self._replicated)


def _with_axis(tree: T) -> T:
    """With a leading axis of one seed."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _without_axis(tree: T) -> T:
    """Without it."""
    return jax.tree.map(lambda leaf: leaf[0], tree)

"""The on-device runtime: environments, rollouts and updates in one compiled program.

Randomness is a function of the seed and of the number of the iteration, so a run does not depend on
how its iterations are cut into chunks, and continues exactly from a saved state.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Num

from stacx.config import OF_ACTORS, Config
from stacx.core.behaviour import acting_policy, draw_heads
from stacx.core.distributions import draw_noise, environment_actions
from stacx.core.learner import Learner, LearnerState
from stacx.environments import OnDeviceEnvironment, VectorEnvironment, VectorState
from stacx.errors import ConfigError
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.arrays import Arrays, flatten, unflatten
from stacx.runtimes.compilation import compiler_options
from stacx.runtimes.devices import NetworkByDevice
from stacx.runtimes.hosts import COMPILATION, together
from stacx.runtimes.randomness import iteration_key, start_key
from stacx.runtimes.running import running
from stacx.runtimes.statistics import EpisodeEnds, IntervalStatistics
from stacx.types import Parameters, RecurrentState, Trajectory, action_space_to_json


class Steps(eqx.Module):
    """S steps of B environments: what is kept of them for a trajectory. As in `Trajectory`."""

    observations: Array
    """Before each step, [S, B, *observation]."""
    starts: Bool[Array, "S B"]
    recurrent_states: RecurrentState
    """Before each step, [S, B, ...] a leaf."""
    actions: Num[Array, "S B *action"]
    behaviour_log_probs: Float[Array, "S B"]
    rewards: Float[Array, "S B"]
    discounts: Float[Array, "S B"]
    valid: Float[Array, "S B"]


class TrainState(eqx.Module):
    """Everything a run needs to go on: arrays only. All leaves have a leading axis of seeds [K]."""

    seed: Int[Array, ""]
    iteration: Int[Array, ""]
    learner: LearnerState
    environments: VectorState
    recurrent_state: RecurrentState
    overlap: Steps | None
    """What the next trajectory shares with the last; None if they do not overlap."""
    interval: IntervalStatistics


class OnDeviceRuntime:
    """A `Runtime` that trains K seeds side by side.

    Seeds, or else environments, are sharded over the devices of all hosts, if their number allows.

    Raises:
        ConfigError: if the config cannot be run on-device.
    """

    def __init__(self, config: Config, environment: OnDeviceEnvironment):
        config.require_usual(OF_ACTORS, f"for {config.env}, which steps on the device")
        self.config = config
        self.num_environments = config.num_envs
        self.network = make_network(config, environment)
        self.learner = Learner(config, self.network)
        self.vector = VectorEnvironment(environment)
        self._observation_shape = tuple(environment.observation_shape)
        self._observation_dtype = np.dtype(environment.observation_dtype)
        self.num_devices, self._shardings = self._plan_sharding()
        if self._splits_environments:
            self.learner = Learner(config, NetworkByDevice(self.network, self._mesh))
        self._chunk = jax.jit(
            self._run_chunk,
            donate_argnums=0,
            out_shardings=self._shardings,
            compiler_options=compiler_options(),
        )

    restarts_environments = False
    without_effect: Sequence[str] = OF_ACTORS

    def init(self) -> TrainState:
        with together(COMPILATION), running(self.config.env):
            return jax.jit(self._init_all, out_shardings=self._shardings)()

    def abstract_state(self) -> Any:
        """The shapes, types and shardings of a state."""
        abstract = jax.eval_shape(self._init_all)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract,
            self._shardings,
        )

    def arrays_of(self, state: TrainState) -> Arrays:
        if jax.process_count() > 1:
            state = self._gather(state)
        return flatten(state)

    def state_of(self, arrays: Arrays) -> TrainState:
        return unflatten(arrays, self.abstract_state())

    def counts(self) -> dict[str, int]:
        return {}

    def count_on_from(self, counts: dict[str, Any]) -> None:
        """All counts are in the state."""

    def prepare(self, state: TrainState) -> TrainState:
        with together(COMPILATION), running(self.config.env):
            return jax.block_until_ready(self._chunk(state, np.int32(0)))

    def run(
        self, state: TrainState, iterations: int, should_stop: Callable[[], bool] = lambda: False
    ) -> TrainState:
        """`iterations` rollouts and updates of every seed; it is never asked to stop between."""
        del should_stop
        with together(), running(self.config.env):
            return jax.block_until_ready(self._chunk(state, np.int32(iterations)))

    def clear_interval(self, state: TrainState) -> TrainState:
        return eqx.tree_at(lambda s: s.interval, state, self._empty_interval())

    def complete(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return lines

    def farewell(self) -> list[str]:
        return []

    def close(self) -> None:
        """There is nothing beside the updates."""

    def saving(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def policy_specification(self) -> dict[str, Any]:
        return {
            "observation_shape": list(self._observation_shape),
            "observation_dtype": str(self._observation_dtype),
            **action_space_to_json(self.network.action_space),
        }

    @functools.cached_property
    def _gather(self) -> Callable[[TrainState], TrainState]:
        """A copy of the whole state on every device."""
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(lambda state: state, out_shardings=everywhere)

    @functools.cached_property
    def _empty_interval(self) -> Any:
        def make() -> IntervalStatistics:
            empty = IntervalStatistics.empty(self.config.heads, self.config.reported)
            seeds = self.config.num_seeds
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), empty)

        return jax.jit(make, out_shardings=self._shardings.interval)

    def _init_all(self) -> TrainState:
        seeds = self.config.seed + jnp.arange(self.config.num_seeds)
        return jax.vmap(self._init_one)(seeds)

    def _init_one(self, seed: Int[Array, ""]) -> TrainState:
        network_key, environment_key = jax.random.split(start_key(seed))
        return TrainState(
            seed=seed,
            iteration=jnp.zeros((), jnp.int32),
            learner=self.learner.init(network_key),
            environments=self.vector.reset(jax.random.split(environment_key, self.config.num_envs)),
            recurrent_state=self.network.initial_state(self.config.num_envs),
            overlap=self._no_steps() if self.config.overlap else None,
            interval=IntervalStatistics.empty(self.config.heads, self.config.reported),
        )

    def _run_chunk(self, state: TrainState, iterations: Int[Array, ""]) -> TrainState:
        """Iterates, but stops early where a seed has skipped too many updates in a row."""

        def run(state: TrainState, iterate: Callable[[TrainState], TrainState]) -> TrainState:
            def goes_on(carry: tuple[Array, TrainState]) -> Array:
                done, state = carry
                skipped = jnp.max(state.learner.skipped_in_a_row)
                return (done < iterations) & (skipped < self.config.max_skipped_updates)

            start = (jnp.int32(0), state)
            return jax.lax.while_loop(goes_on, lambda c: (c[0] + 1, iterate(c[1])), start)[1]

        if self._one_by_one:
            return jax.lax.map(lambda one: run(one, self._iterate), state)
        return run(state, jax.vmap(self._iterate, axis_name=self._batch_axis))

    @property
    def _one_by_one(self) -> bool:
        """Whether seeds run one after the other: batched small products are slow on a CPU."""
        on_cpu = self.num_devices == 1 and jax.default_backend() == "cpu"
        return self.config.num_seeds == 1 or on_cpu

    @property
    def _batch_axis(self) -> str | None:
        """The name of the axis of seeds, where they are a batch of one device.

        Several devices would wait for each other at every step to reduce along it.
        """
        return None if self._one_by_one or self.num_devices > 1 else "seeds"

    def _no_steps(self) -> Steps:
        """What the first trajectory shares with the one before it: dummy transitions."""
        shape = (self.config.overlap, self.config.num_envs)
        space, state = self.network.action_space, self.network.initial_state(shape[1])
        return Steps(
            observations=jnp.zeros((*shape, *self._observation_shape), self._observation_dtype),
            starts=jnp.zeros(shape, bool),
            recurrent_states=jax.tree.map(lambda leaf: jnp.stack([leaf] * shape[0]), state),
            actions=jnp.zeros((*shape, *space.shape), space.dtype),
            behaviour_log_probs=jnp.zeros(shape),
            rewards=jnp.zeros(shape),
            discounts=jnp.ones(shape),
            valid=jnp.zeros(shape),
        )

    def _iterate(self, state: TrainState) -> TrainState:
        """Algorithm 2, lines 9 to 15: one rollout, one update."""
        environments, recurrent_state, overlap, trajectory, ends = self._rollout(state)
        learner, metrics = self.learner.update(state.learner, trajectory, self._batch_axis)
        return TrainState(
            seed=state.seed,
            iteration=state.iteration + 1,
            learner=learner,
            environments=environments,
            recurrent_state=recurrent_state,
            overlap=overlap,
            interval=state.interval.add(metrics, trajectory, ends),
        )

    def _rollout(
        self, state: TrainState
    ) -> tuple[VectorState, RecurrentState, Steps | None, Trajectory, EpisodeEnds]:
        """The next trajectory, where that leads, and what the one after it shares with it."""
        environments, recurrent_state, steps, ends = self._new_steps(state)
        overlap = None
        if state.overlap is not None:
            steps = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), state.overlap, steps)
            overlap = jax.tree.map(lambda leaf: leaf[self.config.new_steps :], steps)
        trajectory = Trajectory(
            actions=steps.actions,
            rewards=steps.rewards,
            discounts=steps.discounts,
            valid=steps.valid,
            behaviour_log_probs=steps.behaviour_log_probs,
            observations=jnp.concatenate([steps.observations, environments.observations[None]]),
            starts=jnp.concatenate([steps.starts, environments.starts[None]]),
            recurrent_state=jax.tree.map(lambda leaf: leaf[0], steps.recurrent_states),
        )
        return environments, recurrent_state, overlap, trajectory, ends

    def _new_steps(
        self, state: TrainState
    ) -> tuple[VectorState, RecurrentState, Steps, EpisodeEnds]:
        """Steps of the acting policy, head 1's, in every environment."""
        space = self.network.action_space
        shape = (self.config.new_steps, self.config.num_envs)
        environment_key, action_key = jax.random.split(iteration_key(state.seed, state.iteration))
        noise = draw_noise(space, action_key, shape)
        heads = draw_heads(action_key, self.config.num_envs, self.config)
        keys = jax.random.split(environment_key, shape)

        def rollout(
            parameters: Parameters, start: Any, heads: Int[Array, " B"], keys: Array, noise: Array
        ) -> Any:
            def step(carry: Any, inputs: Any) -> Any:
                environments, recurrent_state = carry
                keys, noise = inputs
                policy, next_recurrent_state = acting_policy(
                    self.network,
                    parameters,
                    environments.observations,
                    environments.starts,
                    recurrent_state,
                    heads,
                    self.config,
                )
                actions = policy.sample(noise)
                stepped, transition = self.vector.step(
                    keys, environments, environment_actions(space, actions), self._batch_axis
                )
                seen = (environments.observations, environments.starts, recurrent_state)
                return (stepped, next_recurrent_state), (*seen, actions, policy, transition)

            return jax.lax.scan(step, start, (keys, noise))

        (last, last_recurrent_state), outputs = self._by_device(rollout)(
            state.learner.parameters,
            (state.environments, state.recurrent_state),
            heads,
            keys,
            noise,
        )
        observations, starts, recurrent_states, actions, policies, transitions = outputs
        steps = Steps(
            observations=observations,
            starts=starts,
            recurrent_states=recurrent_states,
            actions=actions,
            behaviour_log_probs=policies.log_prob(actions),
            rewards=transitions.rewards,
            discounts=transitions.discounts,
            valid=transitions.valid,
        )
        ends = EpisodeEnds(
            transitions.ended, transitions.returns, transitions.lengths, transitions.physics_errors
        )
        return last, last_recurrent_state, steps, ends

    def _by_device(self, rollout: Callable[..., Any]) -> Callable[..., Any]:
        """A rollout of which each device makes that of its own environments.

        They share nothing but parameters, and so no device waits for another before the update.
        """
        if not self._splits_environments:
            return rollout
        whole, by_batch = PartitionSpec(), PartitionSpec("devices")
        by_time = PartitionSpec(None, "devices")
        return jax.shard_map(
            rollout,
            mesh=self._mesh,
            in_specs=(whole, by_batch, by_batch, by_time, by_time),
            out_specs=(by_batch, by_time),
            check_vma=False,
        )

    def _plan_sharding(self) -> tuple[int, Any]:
        """How many devices share the work, and the sharding of every leaf of the state."""
        devices = jax.devices()
        abstract = jax.eval_shape(self._init_all)
        count = len(devices)
        by_seed = self.config.num_seeds % count == 0
        if not by_seed and self.config.num_envs % count:
            if jax.process_count() > 1:
                raise ConfigError(
                    f"neither --num-seeds {self.config.num_seeds} nor --num-envs "
                    f"{self.config.num_envs} divides over the {count} devices of all hosts: change "
                    "one of them"
                )
            count = 1
        self._mesh = mesh = Mesh(np.array(devices[:count]), ("devices",))
        self._splits_environments = count > 1 and not by_seed
        replicated = NamedSharding(mesh, PartitionSpec())
        split = NamedSharding(
            mesh, PartitionSpec("devices") if by_seed else PartitionSpec(None, "devices")
        )
        split_in_time = NamedSharding(mesh, PartitionSpec(None, None, "devices"))
        if count == 1:
            split = split_in_time = replicated
        if by_seed:
            shardings = jax.tree.map(lambda _: split, abstract)
            # What every host looks at after a chunk.
            return count, eqx.tree_at(
                lambda s: (s.iteration, s.interval, s.learner.skipped_in_a_row),
                shardings,
                jax.tree.map(
                    lambda _: replicated,
                    (abstract.iteration, abstract.interval, abstract.learner.skipped_in_a_row),
                ),
            )
        shardings = jax.tree.map(lambda _: replicated, abstract)
        return count, eqx.tree_at(
            lambda s: (s.environments, s.recurrent_state, s.overlap),
            shardings,
            (
                *jax.tree.map(lambda _: split, (abstract.environments, abstract.recurrent_state)),
                jax.tree.map(lambda _: split_in_time, abstract.overlap),
            ),
            is_leaf=lambda leaf: leaf is None,
        )


def make_network(config: Config, environment: OnDeviceEnvironment) -> ActorCriticNetwork:
    """The network of a config for an environment's observations and actions."""
    return ActorCriticNetwork(
        config,
        environment.observation_shape,
        environment.observation_dtype,
        environment.action_space,
    )

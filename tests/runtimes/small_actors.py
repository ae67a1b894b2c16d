"""Actors of a tiny recurrent agent, outside of a runtime."""

import functools

import jax
import numpy as np
from host_games import Corridor, environment_of
from support import quick_jit

from stacx.config import Config
from stacx.core.distributions import Categorical, draw_noise
from stacx.environments import HostVector
from stacx.networks import ActorCriticNetwork
from stacx.runtimes.actor import Actor
from stacx.runtimes.exchange import Exchange
from stacx.runtimes.inference import Inference
from stacx.runtimes.stopwatch import ACTOR, Stopwatch

BATCH, STEPS, SEED = 3, 4, 11
PATIENCE = 60.0
"""Seconds until an actor must have got anywhere, its compilation included."""


class Supervision:
    """Gives the seeds 7, 1007, ..., and keeps the reasons for restarts, of which it allows some."""

    def __init__(self, most=9):
        self.seeds = 0
        self.reasons, self._most = [], most

    def next_seed(self, actor):
        self.seeds += 1
        return 7 + 1000 * (self.seeds - 1)

    def count_restart(self, reason, details):
        self.reasons.append((reason, details))
        if len(self.reasons) > self._most:
            raise RuntimeError("too many")


class Acting:
    """The programs of actors in an environment."""

    def __init__(
        self,
        function=Corridor,
        inference=None,
        *,
        overlap=0,
        agent="impala",
        behaviour="main",
        **arguments,
    ):
        self.environment = environment_of(function, **arguments)
        self.config = Config(
            env=self.environment.env,
            agent=agent,
            behaviour=behaviour,
            seed=SEED,
            num_envs=BATCH,
            trajectory_length=STEPS,
            overlap=overlap,
            mlp_widths=(4,),
            lstm_size=3,
            head_init=1.0,
        )
        self.network = ActorCriticNetwork(
            self.config,
            self.environment.observation_shape,
            self.environment.observation_dtype,
            self.environment.action_space,
        )
        self.inference = inference or Inference(self.config, self.network, self.environment)

    @functools.cached_property
    def _init(self):
        return quick_jit(lambda seed: self.network.init(jax.random.key(seed)))

    def parameters(self, version):
        """Others for every version."""
        return self._init(version)

    def vector(self) -> HostVector:
        """A batch of environments, at the start of their episodes."""
        vector = HostVector(self.environment, BATCH)
        vector.reset(seed=7)
        return vector

    def start(self, exchange: Exchange, supervisor: Supervision, *, number=0, stride=1) -> Actor:
        device = jax.devices()[0]
        actor = Actor(
            self.config,
            self.inference,
            self.environment,
            exchange,
            supervisor,
            lambda rollout: jax.device_put(rollout, device),
            stopwatch=Stopwatch("actor", ACTOR),
            device=device,
            index=0,
            number=number,
            stride=stride,
        )
        actor.start()
        return actor

    def publish(self, exchange: Exchange, version: int) -> None:
        exchange.publish(version, {jax.devices()[0]: self.parameters(version)})


def closed(exchange: Exchange, actor: Actor) -> bool:
    """Closes the exchange; whether the actor then ends."""
    exchange.close()
    actor.join(PATIENCE)
    return not actor.is_alive()


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def plain_loop(acting, versions, *, number=0, stride=1):
    """The same in one thread: acts, steps, and notes what happens, as lists of lists."""
    network, vector = acting.network, acting.vector()
    state = network.initial_state(BATCH)

    @quick_jit
    def act(parameters, observations, starts, state, key, step):
        output, state = network.unroll(parameters, observations[None], starts[None], state)
        policy = Categorical(output.policy[0, :, 0])
        shape = (acting.config.new_steps, BATCH)
        noise = draw_noise(network.action_space, jax.random.wrap_key_data(key), shape)
        actions = policy.sample(noise[step])
        return actions, policy.log_prob(actions), state

    trajectories = []
    for place, version in enumerate(versions):
        parameters, start = acting.parameters(version), state
        key = np.array([SEED, number + place * stride], np.uint32)
        steps = []
        for step in range(acting.config.new_steps):
            seen, before = (vector.observations.copy(), vector.starts), state
            actions, log_probs, state = act(parameters, *seen, state, key, step)
            transition = vector.step(np.asarray(actions))
            steps.append((*seen, actions, log_probs, before, transition))
        seen = vector.observations.copy(), vector.starts
        trajectories.append((start, steps, seen))
    return trajectories

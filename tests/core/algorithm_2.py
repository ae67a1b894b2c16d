"""Algorithm 2 of the paper in double precision, and its metagradient by finite differences.

The gradients of the loss and the optimiser are written out in numpy; only the network is
differentiated by JAX. Shares no code with `stacx.core`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from algorithm_1 import Softmax, Squashed, Targets, gradients, kl, loss, targets
from small_problem import (
    ONE_CHOICE,
    TinyNetwork,
    joint_policy,
    joint_trajectory,
    make_config,
)
from support import quick_jit

from stacx.core.learner import Learner
from stacx.types import Box, Trajectory

LOSS_WEIGHTS = ("g_v", "g_p", "g_e")


def make_learner(network=TinyNetwork, space=ONE_CHOICE, **settings) -> Learner:
    # With b1 = 0, Adam's first moment is the metagradient itself.
    config = make_config(**{"meta_b1": 0.0, "max_gradient_norm": 1e3} | settings)
    embedding = {"none": 0, "shared": 1, "per-head": config.heads}[config.gamma_embedding]
    options = {"outer_values": config.has_outer_values, "embedding": embedding}
    return Learner(config, network(config.heads, space, **options))


def mid_training(learner):
    """A state as after some updates: second moments, a count, metaparameters that moved."""
    state, rng = learner.init(jax.random.key(0)), np.random.default_rng(0)

    def aged(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf + 30
        return jnp.asarray(rng.uniform(0.0, 0.5, leaf.shape), leaf.dtype)

    def moved(leaf):
        return jnp.asarray(rng.normal(1.0, 0.7, leaf.shape), leaf.dtype)

    return dataclasses.replace(
        state,
        optimiser=jax.tree.map(aged, state.optimiser),
        logits=jax.tree.map(moved, state.logits),
    )


def metagradient_of(state):
    return optax.tree.get(state.meta_optimiser, "mu")


class Oracle:
    """One iteration from a state, on a trajectory. The paper's, or one of its variants.

    Several choices are one among all joint actions here.
    """

    def __init__(self, learner, state, trajectory):
        self.config = config = learner.config
        space = learner.network.action_space
        self.kind = Squashed if isinstance(space, Box) else Softmax
        self.sizes = sizes = getattr(space, "sizes", None)
        self.parameters, self.base = state.parameters, state.logits
        leaves = jax.tree.leaves(state.optimiser)
        self.moments = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        (self.count,) = (int(leaf) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.integer))

        split = config.trajectory_length - config.outer_steps
        environments = math.ceil(config.outer_fraction * config.num_envs)
        self.data = steps_of(trajectory, slice(0, split)) if config.outer_steps else trajectory
        outer = steps_of(trajectory, slice(split, None)) if config.outer_steps else trajectory
        self.outer_data = environments_of(outer, environments)
        self.outer_scale = config.num_envs / environments

        def unroll(parameters, observations):
            output, _ = learner.network.unroll(parameters, observations, None, ())
            policy = joint_policy(output.policy, sizes) if sizes else output.policy
            return policy, output.values, output.outer_values

        def pull_back(parameters, observations, by_output):
            return jax.vjp(lambda theta: unroll(theta, observations), parameters)[1](by_output)[0]

        self.unroll, self.pull_back = quick_jit(unroll), quick_jit(pull_back)

    def joint(self, trajectory):
        return joint_trajectory(trajectory, self.sizes) if self.sizes else trajectory

    def zeta(self, logits, p):
        """Algorithm 2, line 10, for one head."""
        values = self.config.outer_values()
        for name in values:
            given = getattr(self.config, f"aux_{name}")
            if p and given:
                values[name] = given[0] if len(given) == 1 else given[p - 1]
        for name, logit in logits.items():
            scale = values[name] if name in LOSS_WEIGHTS else 1.0
            scale = self.config.clip_rho if name == "clip" else scale
            values[name] = scale / (1.0 + math.exp(-logit[p]))
        return values

    def told(self, parameters, logits):
        """Section 9.5: parameters with the gammas that the heads are told."""
        if self.config.gamma_embedding == "none":
            return parameters
        gammas = [self.zeta(logits, p)["gamma"] for p in range(self.config.heads)]
        return parameters | {"gamma": jnp.array(gammas)}

    def outputs(self, parameters, trajectory):
        output = self.unroll(parameters, trajectory.observations)
        return [None if x is None else np.asarray(x) for x in output]

    def inner_gradient(self, logits):
        """Line 11.

        Targets are of values and importance weights that Algorithm 1 stops (lines 4, 7 and 14): to
        the metagradient these are constants, also where the heads are told gamma.
        """
        constants = self.outputs(self.told(self.parameters, self.base), self.data)
        parameters = self.told(self.parameters, logits)
        policy, values, outer_values = self.outputs(parameters, self.data)
        by_policy, by_values = np.zeros_like(policy), np.zeros_like(values)
        by_outer = None if outer_values is None else np.zeros_like(outer_values)
        heads, joint = self.config.heads, self.joint(self.data)
        for p in range(heads):
            zeta = self.zeta(logits, p)
            head = (policy[:, :, p], values[:, :, p])
            stopped = (x[:, :, p] for x in constants[:2])
            frozen = targets(*stopped, joint, zeta, self.config, self.kind)
            by_head = gradients(*head, frozen, joint, zeta, self.config, self.kind)
            averaged = 1 if self.config.heads_apart else heads
            by_policy[:, :, p], by_values[:, :, p] = (x / averaged for x in by_head)
        if outer_values is not None:
            ((acting, critic),) = self.judged(policy, values, outer_values)
            zeta, (stopped,) = self.config.outer_values(), self.judged(*constants)
            frozen = targets(*stopped, joint, zeta, self.config, self.kind)
            _, by_critic = gradients(acting, critic, frozen, joint, zeta, self.config, self.kind)
            by_outer[:, :, 0] = by_critic
        by_output = (by_policy, by_values, by_outer)
        gradient = self.pull_back(parameters, self.data.observations, by_output)
        if "gamma" in gradient:  # told, not learned
            gradient["gamma"] = np.zeros_like(gradient["gamma"])
        return gradient

    def moved(self, logits):
        """Line 12: clipping, RMSProp, and the learning rate of this update."""
        config = self.config
        gradient, structure = jax.tree.flatten(self.clipped(logits))
        varying = logits if config.through_second_moment else self.base
        of_moments = jax.tree.leaves(self.clipped(varying))
        done = min(self.count / config.total_updates, 1.0)
        rate = (1 - done) * config.learning_rate + done * config.end_learning_rate
        decay, new = config.rmsprop_decay, []
        old = jax.tree.leaves(self.parameters)
        for theta, g, of_nu, nu in zip(old, gradient, of_moments, self.moments, strict=True):
            moment = decay * nu + (1 - decay) * of_nu**2
            new.append(theta - rate * g / np.sqrt(moment + config.rmsprop_eps))
        return jax.tree.unflatten(structure, new)

    def clipped(self, logits):
        gradient = jax.tree.map(np.asarray, self.inner_gradient(logits))
        if not self.config.heads_apart:
            return self.short(gradient)
        first = {k: v if k in ("torso", "outer") else v[:1] for k, v in gradient.items()}
        clipped = {k: [v] for k, v in self.short(first).items()}
        for p in range(1, self.config.heads):
            own = {k: v[p : p + 1] for k, v in gradient.items() if k not in ("torso", "outer")}
            for name, leaf in self.short(own).items():
                clipped[name].append(leaf)
        return {name: np.concatenate(leaves) for name, leaves in clipped.items()}

    def short(self, gradient):
        """A gradient of no more than the greatest norm."""
        norm = math.sqrt(sum(np.sum(np.square(leaf)) for leaf in gradient.values()))
        scale = min(1.0, self.config.max_gradient_norm / norm)
        return {name: scale * leaf for name, leaf in gradient.items()}

    def judged(self, policy, values, outer_values):
        """Policies and values that the outer loss is the mean of: in the paper, head 1's."""
        critic = values[:, :, 0] if outer_values is None else outer_values[:, :, 0]
        match self.config.behaviour:
            case "main":
                return [(policy[:, :, 0], critic)]
            case "average":
                return [(policy.mean(axis=2), critic)]
            case "random":
                return [(policy[:, :, p], values[:, :, p]) for p in range(self.config.heads)]

    def judged_of(self, parameters):
        """The same of some parameters, told this iteration's gamma."""
        return self.judged(*self.outputs(self.told(parameters, self.base), self.outer_data))

    def frozen(self, logits) -> list[Targets]:
        """What the outer loss holds constant (Algorithm 1, lines 4, 7, 14 and 22)."""
        outer, joint = self.config.outer_values(), self.joint(self.outer_data)
        return [
            targets(*head, joint, outer, self.config, self.kind)
            for head in self.judged_of(self.moved(logits))
        ]

    def outer_loss(self, logits, frozen: list[Targets]):
        """Lines 13 and 14."""
        heads, joint = self.judged_of(self.moved(logits)), self.joint(self.outer_data)
        outer = self.config.outer_values()
        losses = [
            loss(*head, constants, joint, outer, self.config, self.kind)
            for head, constants in zip(heads, frozen, strict=True)
        ]
        return self.outer_scale * np.mean(losses) + self.config.g_kl * self.kl(logits)

    def kl(self, logits):
        """Line 14, but for its weight."""
        new, old = (self.judged_of(theta) for theta in (self.moved(logits), self.parameters))
        joint = self.joint(self.outer_data)
        divergences = [
            kl(policy, before, joint, self.config, self.kind)
            for (policy, _), (before, _) in zip(new, old, strict=True)
        ]
        return self.outer_scale * np.mean(divergences)

    def metagradient(self, logits, step=1e-4):
        """Central differences of the outer loss, for every metaparameter of every head."""
        logits = {name: np.asarray(values) for name, values in logits.items()}
        frozen = self.frozen(logits)

        def difference(name, p):
            change = step * np.eye(self.config.heads)[p]
            up, down = (logits | {name: logits[name] + c} for c in (change, -change))
            return (self.outer_loss(up, frozen) - self.outer_loss(down, frozen)) / (2 * step)

        heads = range(self.config.heads)
        return {name: np.array([difference(name, p) for p in heads]) for name in logits}


def steps_of(trajectory, steps) -> Trajectory:
    """Some of a trajectory's transitions, and the observation after them."""
    cut = {
        field.name: getattr(trajectory, field.name)[steps]
        for field in dataclasses.fields(trajectory)
        if field.name != "recurrent_state"
    }
    start, stop, _ = steps.indices(len(trajectory.rewards))
    around = slice(start, stop + 1)
    cut |= {name: getattr(trajectory, name)[around] for name in ("observations", "starts")}
    return Trajectory(**cut, recurrent_state=())


def environments_of(trajectory, number) -> Trajectory:
    """The first of a trajectory's environments."""
    return jax.tree.map(lambda leaf: leaf[:, :number], trajectory)

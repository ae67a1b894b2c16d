"""Algorithm 1 of the paper for one head, line by line in plain numpy, and its gradients by hand.

Shares no code with `stacx`. The one change is the entropy's sign, wrong in line 18.
"""

from typing import NamedTuple

import jax
import numpy as np


class Targets(NamedTuple):
    """What stands inside sg() or does not depend on theta: [T, B] each."""

    rhos: np.ndarray
    targets: np.ndarray
    advantages: np.ndarray


def in_numpy(*trees):
    return jax.tree.map(np.asarray, trees)


class Softmax:
    """A policy over one choice, from logits [A], and its derivatives by these."""

    def __init__(self, logits, config):
        shifted = logits - logits.max()
        self.log_probs = shifted - np.log(np.exp(shifted).sum())
        self.probs = np.exp(self.log_probs)

    def log_prob(self, action):
        return self.log_probs[action]

    def log_prob_gradient(self, action):
        return np.eye(self.probs.size)[action] - self.probs

    def regulariser(self):
        return self.probs @ self.log_probs

    def regulariser_gradient(self):
        return self.probs * (self.log_probs - self.probs @ self.log_probs)

    def kl(self, other):
        return self.probs @ (self.log_probs - other.log_probs)


class Squashed:
    """A squashed Gaussian (section 9.3), from outputs [2 D], and its derivatives by these.

    Its density is that of the tanh, an action between -1 and 1.
    """

    def __init__(self, outputs, config):
        mean, y = np.split(np.tanh(outputs), 2)
        half = (config.log_std_max - config.log_std_min) / 2
        self.mean, self.std = mean, np.exp(config.log_std_min + half * (y + 1))
        self.inner = np.concatenate([1 - mean**2, half * (1 - y**2)])

    def log_prob(self, action):
        log_density = -(((action - self.mean) / self.std) ** 2) / 2 - np.log(self.std)
        return np.sum(log_density - np.log(2 * np.pi) / 2 - np.log(1 - np.tanh(action) ** 2))

    def log_prob_gradient(self, action):
        standard = (action - self.mean) / self.std
        return self.inner * np.concatenate([standard / self.std, standard**2 - 1])

    def regulariser(self):
        return np.sum((self.std**2 + self.mean**2 - 1) / 2 - np.log(self.std))

    def regulariser_gradient(self):
        return self.inner * np.concatenate([self.mean, self.std**2 - 1])

    def kl(self, other):
        square = self.std**2 + (self.mean - other.mean) ** 2
        return np.sum(np.log(other.std / self.std) + square / (2 * other.std**2) - 0.5)


def targets(outputs, values, trajectory, zeta, config, kind=Softmax) -> Targets:
    """Lines 2 to 16, and the advantage of line 20; outputs [T+1, B, A], values [T+1, B]."""
    outputs, values, trajectory = in_numpy(outputs, values, trajectory)
    steps, batch = trajectory.rewards.shape
    rhos, returns, advantages = (np.zeros((steps, batch)) for _ in range(3))
    for i in range(batch):
        error, next_return = 0.0, values[steps, i]
        for s in reversed(range(steps)):
            log_prob = kind(outputs[s, i], config).log_prob(trajectory.actions[s, i])
            ratio = np.exp(log_prob - trajectory.behaviour_log_probs[s, i])
            ratio *= trajectory.valid[s, i]
            clip_rho, clip_c = (zeta.get("clip", c) for c in (config.clip_rho, config.clip_c))
            alpha_rho, alpha_c = (zeta.get(f"alpha_{x}", zeta["alpha"]) for x in ("rho", "c"))
            trace = zeta["lambda"] * ((1 - alpha_c) * ratio + alpha_c * min(clip_c, ratio))
            rhos[s, i] = (1 - alpha_rho) * ratio + alpha_rho * min(clip_rho, ratio)
            gamma = zeta["gamma"] * trajectory.discounts[s, i]
            reward = trajectory.rewards[s, i] * config.reward_scale
            delta = rhos[s, i] * (reward + gamma * values[s + 1, i] - values[s, i])
            error = delta + gamma * trace * error
            returns[s, i] = error + values[s, i]
            bootstrap = next_return
            if config.bootstrap == "mixed":  # rlax's, not the paper's
                bootstrap = zeta["lambda"] * next_return + (1 - zeta["lambda"]) * values[s + 1, i]
            advantages[s, i] = reward + gamma * bootstrap - values[s, i]
            next_return = returns[s, i]
    return Targets(rhos, returns, advantages)


def loss(outputs, values, frozen: Targets, trajectory, zeta, config, kind=Softmax) -> float:
    """Lines 17 to 24."""
    outputs, values, trajectory = in_numpy(outputs, values, trajectory)
    total = 0.0
    for s, i in np.argwhere(trajectory.valid):
        policy = kind(outputs[s, i], config)
        log_prob = policy.log_prob(trajectory.actions[s, i])
        total += zeta["g_v"] * (frozen.targets[s, i] - values[s, i]) ** 2
        total -= zeta["g_p"] * frozen.rhos[s, i] * log_prob * frozen.advantages[s, i]
        total += zeta["g_e"] * policy.regulariser()
    return float(total)


def gradients(outputs, values, frozen: Targets, trajectory, zeta, config, kind=Softmax):
    """The loss's gradients with respect to outputs and values, for constant targets."""
    outputs, values, trajectory = in_numpy(outputs, values, trajectory)
    by_outputs, by_values = np.zeros_like(outputs), np.zeros_like(values)
    for s, i in np.argwhere(trajectory.valid):
        policy = kind(outputs[s, i], config)
        weight = -zeta["g_p"] * frozen.rhos[s, i] * frozen.advantages[s, i]
        by_outputs[s, i] = weight * policy.log_prob_gradient(trajectory.actions[s, i])
        by_outputs[s, i] += zeta["g_e"] * policy.regulariser_gradient()
        by_values[s, i] = 2 * zeta["g_v"] * (values[s, i] - frozen.targets[s, i])
    return by_outputs, by_values


def kl(new_outputs, old_outputs, trajectory, config, kind=Softmax) -> float:
    """Algorithm 2, line 14: KL(new || old), summed over the states of the trajectories."""
    new, old = in_numpy(new_outputs, old_outputs)
    states = np.argwhere(np.asarray(trajectory.valid))
    return sum(kind(new[s, i], config).kl(kind(old[s, i], config)) for s, i in states)

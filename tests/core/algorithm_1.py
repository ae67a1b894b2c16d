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


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def targets(logits, values, trajectory, zeta, config) -> Targets:
    """Lines 2 to 16, and the advantage of line 20; logits [T+1, B, A], values [T+1, B]."""
    logits, values, trajectory = in_numpy(logits, values, trajectory)
    steps, batch = trajectory.actions.shape
    log_probs = log_softmax(logits)
    rhos, returns, advantages = (np.zeros((steps, batch)) for _ in range(3))
    for i in range(batch):
        error, next_return = 0.0, values[steps, i]
        for s in reversed(range(steps)):
            log_prob = log_probs[s, i, trajectory.actions[s, i]]
            ratio = np.exp(log_prob - trajectory.behaviour_log_probs[s, i])
            ratio *= trajectory.valid[s, i]
            alpha = zeta["alpha"]
            trace = zeta["lambda"] * ((1 - alpha) * ratio + alpha * min(config.clip_c, ratio))
            rhos[s, i] = (1 - alpha) * ratio + alpha * min(config.clip_rho, ratio)
            gamma = zeta["gamma"] * trajectory.discounts[s, i]
            reward = trajectory.rewards[s, i] * config.reward_scale
            delta = rhos[s, i] * (reward + gamma * values[s + 1, i] - values[s, i])
            error = delta + gamma * trace * error
            returns[s, i] = error + values[s, i]
            advantages[s, i] = reward + gamma * next_return - values[s, i]
            next_return = returns[s, i]
    return Targets(rhos, returns, advantages)


def loss(logits, values, frozen: Targets, trajectory, zeta) -> float:
    """Lines 17 to 24."""
    logits, values, trajectory = in_numpy(logits, values, trajectory)
    log_probs, total = log_softmax(logits), 0.0
    for s, i in np.ndindex(trajectory.actions.shape):
        if not trajectory.valid[s, i]:
            continue
        log_prob = log_probs[s, i, trajectory.actions[s, i]]
        total += zeta["g_v"] * (frozen.targets[s, i] - values[s, i]) ** 2
        total -= zeta["g_p"] * frozen.rhos[s, i] * log_prob * frozen.advantages[s, i]
        total += zeta["g_e"] * np.sum(np.exp(log_probs[s, i]) * log_probs[s, i])
    return float(total)


def gradients(logits, values, frozen: Targets, trajectory, zeta):
    """The loss's gradients with respect to logits and values, for constant targets."""
    logits, values, trajectory = in_numpy(logits, values, trajectory)
    log_probs = log_softmax(logits)
    by_logits, by_values = np.zeros_like(logits), np.zeros_like(values)
    for s, i in np.ndindex(trajectory.actions.shape):
        if not trajectory.valid[s, i]:
            continue
        probs = np.exp(log_probs[s, i])
        chosen = np.eye(probs.size)[trajectory.actions[s, i]]
        by_logits[s, i] = -zeta["g_p"] * frozen.rhos[s, i] * frozen.advantages[s, i] * (
            chosen - probs
        ) + zeta["g_e"] * probs * (log_probs[s, i] - probs @ log_probs[s, i])
        by_values[s, i] = 2 * zeta["g_v"] * (values[s, i] - frozen.targets[s, i])
    return by_logits, by_values


def kl(new_logits, old_logits, trajectory) -> float:
    """Algorithm 2, line 14: KL(new || old), summed over the states of the trajectories."""
    new, old = (log_softmax(logits) for logits in in_numpy(new_logits, old_logits))
    by_state = np.sum(np.exp(new) * (new - old), axis=-1)
    return float(np.sum(by_state[:-1] * np.asarray(trajectory.valid)))

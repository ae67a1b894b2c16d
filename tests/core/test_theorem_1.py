"""Theorem 1 on tabular problems, where the leaky V-trace operator (Eq. 6) is an affine map.

The theorem asks for alpha_rho >= alpha_c; it holds for alpha_rho <= alpha_c, and the counterexample
below breaks it in the order the paper allows (docs/paper_notes.md).
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from stacx.core.leaky_vtrace import leaky_vtrace


class Problem(NamedTuple):
    """A Markov decision process of X states and A actions, two policies and the truncation."""

    transitions: np.ndarray  # [X, A, X]
    rewards: np.ndarray  # [X, A]
    behaviour: np.ndarray  # mu, [X, A]
    target: np.ndarray  # pi, [X, A]
    gamma: float
    clip_rho: float = 1.0
    clip_c: float = 1.0

    def leaky(self, clip, alpha):
        """alpha min(clip, IS) + (1 - alpha) IS for every state and action."""
        ratio = self.target / self.behaviour
        return alpha * np.minimum(clip, ratio) + (1 - alpha) * ratio

    def beta(self):
        """The smallest E_mu rho_0 over states, rho_0 truncated and not leaky."""
        return (self.behaviour * self.leaky(self.clip_rho, 1.0)).sum(axis=1).min()

    def differences(self, alpha_rho):
        """E_mu rho (r + gamma V(x') - V(x)) as an affine map of V: its matrix and its constant."""
        rho = self.behaviour * self.leaky(self.clip_rho, alpha_rho)
        bootstrap = self.gamma * np.einsum("xa,xay->xy", rho, self.transitions)
        return bootstrap - np.diag(rho.sum(axis=1)), (rho * self.rewards).sum(axis=1)

    def trace(self, alpha_c):
        """E_mu gamma c, from state to next state."""
        c = self.behaviour * self.leaky(self.clip_c, alpha_c)
        return self.gamma * np.einsum("xa,xay->xy", c, self.transitions)

    def operator(self, alpha_rho, alpha_c):
        """Eq. 6, summed over all times at once: its matrix and its constant."""
        matrix, constant = self.differences(alpha_rho)
        identity = np.eye(len(constant))
        resolvent = np.linalg.inv(identity - self.trace(alpha_c))
        return identity + resolvent @ matrix, resolvent @ constant

    def fixed_point(self, alpha_rho):
        """The value of the policy pi_{rho_bar, alpha_rho}, from its Bellman equation."""
        policy = alpha_rho * np.minimum(self.clip_rho * self.behaviour, self.target)
        policy += (1 - alpha_rho) * self.target
        policy /= policy.sum(axis=1, keepdims=True)
        transitions = np.einsum("xa,xay->xy", policy, self.transitions)
        rewards = (policy * self.rewards).sum(axis=1)
        return np.linalg.solve(np.eye(len(rewards)) - self.gamma * transitions, rewards)

    def modulus(self, alpha_rho, alpha_c):
        """The operator's Lipschitz constant in the sup norm."""
        return np.linalg.norm(self.operator(alpha_rho, alpha_c)[0], np.inf)

    def bound(self, alpha_rho):
        """What Theorem 1 promises of the modulus."""
        return 1 - (1 - self.gamma) * (alpha_rho * self.beta() + 1 - alpha_rho)


def random_problem(rng, states=4, actions=3) -> Problem:
    """Transitions and policies from almost deterministic to almost uniform."""

    def distributions(*shape):
        return rng.dirichlet(np.full(shape[-1], rng.choice([0.2, 1.0, 5.0])), size=shape[:-1])

    clip_c, clip_rho = np.sort(rng.uniform(0.5, 2.0, size=2))
    return Problem(
        transitions=distributions(states, actions, states),
        rewards=rng.normal(size=(states, actions)),
        behaviour=0.95 * distributions(states, actions) + 0.05 / actions,
        target=distributions(states, actions),
        gamma=rng.uniform(0.5, 0.99),
        clip_rho=clip_rho,
        clip_c=clip_c,
    )


def random_problems(count, seed=0):
    """Problems, each with two alphas in ascending order."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield random_problem(rng), *np.sort(rng.uniform(size=2))


def test_the_fixed_point_is_the_value_of_the_mixed_policy_in_either_order():
    for problem, low, high in random_problems(200):
        for alpha_rho, alpha_c in ((low, high), (high, low)):
            value = problem.fixed_point(alpha_rho)
            matrix, constant = problem.operator(alpha_rho, alpha_c)
            np.testing.assert_allclose(matrix @ value + constant, value, rtol=0, atol=1e-8)


def test_contraction_with_the_stated_modulus_if_alpha_rho_is_at_most_alpha_c():
    for problem, low, high in random_problems(400):
        for alpha_rho, alpha_c in ((low, high), (low, low), (0.0, high), (low, 1.0), (1.0, 1.0)):
            bound = problem.bound(alpha_rho)
            assert bound < 1.0
            assert problem.modulus(alpha_rho, alpha_c) <= bound + 1e-12


def test_the_other_order_often_breaks_the_bound():
    problems = list(random_problems(400))
    broken = [p.modulus(high, low) > p.bound(high) + 1e-9 for p, low, high in problems]
    assert sum(broken) > len(broken) / 10


COUNTEREXAMPLE = Problem(
    # In the first state, action 0 stays and action 1 leads to the second, which is never left.
    transitions=np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]),
    rewards=np.zeros((2, 2)),
    behaviour=np.array([[0.9, 0.1], [0.5, 0.5]]),
    target=np.array([[0.1, 0.9], [0.5, 0.5]]),
    gamma=0.9,
)


def test_counterexample_in_the_paper_s_order():
    """alpha_rho = 1, alpha_c = 0: not a contraction, though the theorem promises 0.98."""
    assert COUNTEREXAMPLE.bound(1.0) == pytest.approx(0.98)
    assert COUNTEREXAMPLE.modulus(1.0, 0.0) == pytest.approx(152 / 91)  # 1.67
    assert COUNTEREXAMPLE.modulus(1.0, 1.0) == pytest.approx(80 / 91)  # 0.88
    matrix, _ = COUNTEREXAMPLE.operator(1.0, 0.0)
    np.testing.assert_allclose(matrix, np.array([[80, -72], [0, 0]]) / 91, atol=1e-12)


def test_the_counterexample_s_iterates_still_converge():
    matrix, _ = COUNTEREXAMPLE.operator(1.0, 0.0)
    assert max(abs(np.linalg.eigvals(matrix))) == pytest.approx(80 / 91)


def all_trajectories(problem, start, steps):
    """Every trajectory of `steps` transitions: states [T+1, N], actions [T, N], probability [N]."""
    states, actions = problem.rewards.shape
    moves = list(itertools.product(range(actions), range(states)))
    paths = np.array(list(itertools.product(moves, repeat=steps)))
    chosen, reached = paths[..., 0].T, paths[..., 1].T
    visited = np.concatenate([np.full((1, len(paths)), start), reached])
    before, after = visited[:-1], visited[1:]
    probability = problem.behaviour[before, chosen] * problem.transitions[before, chosen, after]
    return visited, chosen, probability.prod(axis=0)


def expected_target(problem, values, start, steps, **alphas):
    """E_mu of what `stacx.leaky_vtrace` says of `start`, over all its trajectories."""
    visited, chosen, probability = all_trajectories(problem, start, steps)
    before = visited[:-1]
    ratio = problem.target[before, chosen] / problem.behaviour[before, chosen]
    out = leaky_vtrace(
        jnp.asarray(values[visited]),
        jnp.asarray(problem.rewards[before, chosen]),
        jnp.full(before.shape, problem.gamma),
        jnp.asarray(ratio),
        clip_rho=problem.clip_rho,
        clip_c=problem.clip_c,
        **alphas,
    )
    return probability @ np.asarray(out.targets[0])


@pytest.mark.parametrize("alphas", [(0.3, 0.8), (0.8, 0.3)])
def test_our_targets_are_the_operator_s_in_expectation(x64, alphas):
    alpha_rho, alpha_c = alphas
    rng, steps = np.random.default_rng(3), 4
    problem, values = random_problem(rng, states=2, actions=2), rng.normal(size=2)
    matrix, constant = problem.differences(alpha_rho)
    trace = problem.trace(alpha_c)
    reach = sum(np.linalg.matrix_power(trace, t) for t in range(steps))
    expected = values + reach @ (matrix @ values + constant)
    for start in range(2):
        actual = expected_target(
            problem, values, start, steps, alpha_rho=alpha_rho, alpha_c=alpha_c
        )
        np.testing.assert_allclose(actual, expected[start], rtol=1e-10)

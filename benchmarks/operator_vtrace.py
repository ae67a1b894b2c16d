"""Leaky V-trace against rlax's, forward and gradient.

    python benchmarks/operator_vtrace.py [--rounds 15]

The gradient is that of the targets' and advantages' sum in lambda, alpha and gamma, which is what a
metagradient asks for. rlax's operator is vmapped over the batch, as its users do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import rlax
from timing import interleaved_medians, machine

import stacx

SHAPES = ((20, 32), (20, 1024), (1000, 32))
CALLS = {(20, 32): 500, (20, 1024): 60, (1000, 32): 20}
"""Calls of the operator in one timed call."""


def ours(zeta: Any, data: Any) -> Any:
    """Targets and advantages, time-major."""
    gamma, lambda_, alpha = zeta
    values, rewards, discounts, weights = data
    out = stacx.leaky_vtrace(
        values,
        rewards,
        gamma * discounts,
        weights,
        lambda_=lambda_,
        alpha_rho=alpha,
        alpha_c=alpha,
    )
    return out.targets, out.advantages


def theirs(zeta: Any, data: Any) -> Any:
    """Errors and advantages of `rlax.leaky_vtrace_td_error_and_advantage`."""
    gamma, lambda_, alpha = zeta
    values, rewards, discounts, weights = data

    def one(values: Any, rewards: Any, discounts: Any, weights: Any) -> Any:
        out = rlax.leaky_vtrace_td_error_and_advantage(
            values[:-1],
            values[1:],
            rewards,
            gamma * discounts,
            weights,
            alpha=alpha,
            lambda_=lambda_,
            stop_target_gradients=False,
        )
        return out.errors, out.pg_advantage

    return jax.vmap(one, in_axes=1, out_axes=1)(values, rewards, discounts, weights)


def total(operator: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The sum of all that an operator returns."""
    return lambda zeta, data: sum(jnp.sum(array) for array in operator(zeta, data))


def repeated(function: Callable[[Any, Any], Any], shape: tuple[int, int]) -> Callable[[], Any]:
    """A call that runs the compiled function as often as `CALLS` says."""
    keys = jax.random.split(jax.random.key(0), 3)
    time, batch = shape
    data = (
        jax.random.normal(keys[0], (time + 1, batch)),
        jax.random.normal(keys[1], shape),
        jnp.ones(shape),
        jnp.exp(jax.random.normal(keys[2], shape)),
    )
    zeta = (jnp.float32(0.99), jnp.float32(0.95), jnp.float32(0.9))
    compiled = jax.jit(function)

    def call() -> Any:
        for _ in range(CALLS[shape]):
            result = compiled(zeta, data)
        return result

    return call


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(machine())
    print("| (T, B) | forward, us | rlax, us | ratio | gradient, us | rlax, us | ratio |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        seconds = interleaved_medians(
            {
                "forward": repeated(ours, shape),
                "rlax forward": repeated(theirs, shape),
                "gradient": repeated(jax.grad(total(ours)), shape),
                "rlax gradient": repeated(jax.grad(total(theirs)), shape),
            },
            rounds=rounds,
        )
        cells = [str(shape)]
        for kind in ("forward", "gradient"):
            mine, other = seconds[kind], seconds[f"rlax {kind}"]
            cells += [f"{1e6 * s / CALLS[shape]:.0f}" for s in (mine, other)]
            cells.append(f"{other / mine:.2f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

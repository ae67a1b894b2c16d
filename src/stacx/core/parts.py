"""What the inner and the outer loss see of a trajectory: in the paper, both see all of it."""

from __future__ import annotations

import dataclasses
import math

import jax

from stacx.config import Config
from stacx.types import Network, Parameters, RecurrentState, Trajectory


def inner_and_outer(
    network: Network, parameters: Parameters, trajectory: Trajectory, config: Config
) -> tuple[Trajectory, Trajectory]:
    """The parts of a trajectory for the inner and for the outer loss, without the burn-in.

    Where a part begins within the trajectory, its recurrent state is the one that the parameters
    would be in there now.
    """
    inner = outer = _rest(network, parameters, trajectory, config.burn_in)
    if config.outer_steps:
        middle = len(inner.rewards) - config.outer_steps
        outer = _rest(network, parameters, inner, middle)
        inner = _window(inner, 0, middle, inner.recurrent_state)
    environments = math.ceil(round(config.outer_fraction * config.num_envs, 6))
    return inner, _of_environments(outer, environments)


def _rest(
    network: Network, parameters: Parameters, trajectory: Trajectory, steps: int
) -> Trajectory:
    """A trajectory without its first steps."""
    if not steps:
        return trajectory
    _, recurrent_state = network.unroll(
        parameters,
        trajectory.observations[:steps],
        trajectory.starts[:steps],
        trajectory.recurrent_state,
        main_head_only=True,
    )
    return _window(trajectory, steps, len(trajectory.rewards), recurrent_state)


def _window(
    trajectory: Trajectory, start: int, stop: int, recurrent_state: RecurrentState
) -> Trajectory:
    """Transitions `start` to `stop` of a trajectory, and the observation after them."""
    ends = {"observations": stop + 1, "starts": stop + 1}
    part = {
        field.name: getattr(trajectory, field.name)[start : ends.get(field.name, stop)]
        for field in dataclasses.fields(trajectory)
        if field.name != "recurrent_state"
    }
    return Trajectory(**part, recurrent_state=recurrent_state)


def _of_environments(trajectory: Trajectory, number: int) -> Trajectory:
    """The first environments of a trajectory's batch."""
    if number >= trajectory.rewards.shape[1]:
        return trajectory
    part = {
        field.name: getattr(trajectory, field.name)[:, :number]
        for field in dataclasses.fields(trajectory)
        if field.name != "recurrent_state"
    }
    state = jax.tree.map(lambda leaf: leaf[:number], trajectory.recurrent_state)
    return Trajectory(**part, recurrent_state=state)

"""The structures that cross a room's door, with their shapes.

T: transitions of a trajectory; B: environments; P: heads; A: outputs of a policy head; *action: the
axes of one action. Arrays are time-major.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, PyTree

Parameters: TypeAlias = PyTree[Array]
RecurrentState: TypeAlias = PyTree[Array]


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One choice: an action is a whole number below `n`."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a choice needs at least 1 action, not {self.n}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return ()

    @property
    def num_outputs(self) -> int:
        """What a policy head must output: a logit per action."""
        return self.n

    @property
    def dtype(self) -> Any:
        """The type of actions."""
        return np.int32


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """D choices at once: an action is D whole numbers, the i-th of them below `sizes[i]`."""

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes must be one or more numbers of at least 1, not {self.sizes}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return (len(self.sizes),)

    @property
    def num_outputs(self) -> int:
        """What a policy head must output: a logit per alternative, choice after choice."""
        return sum(self.sizes)

    @property
    def dtype(self) -> Any:
        """The type of actions."""
        return np.int32


@dataclasses.dataclass(frozen=True)
class Box:
    """D numbers: an environment's action is a point between `low` and `high`, bounds included.

    What agents choose, and trajectories keep, is a point of the whole space, which
    `stacx.core.distributions.environment_actions` squashes between the bounds.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        bounds = list(zip(self.low, self.high, strict=True))
        if not bounds or not all(-math.inf < low < high < math.inf for low, high in bounds):
            raise ValueError(f"bounds must be finite, the low ones below the high ones: {self}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return (len(self.low),)

    @property
    def num_outputs(self) -> int:
        """What a policy head must output: a mean and a deviation per number, means first."""
        return 2 * len(self.low)

    @property
    def dtype(self) -> Any:
        """The type of actions."""
        return np.float32


ActionSpace: TypeAlias = Discrete | MultiDiscrete | Box
"""What actions there are; `stacx.core.distributions` has a policy over each."""


def action_space_to_json(space: ActionSpace) -> dict[str, Any]:
    """The space as an entry of a dictionary for JSON."""
    match space:
        case Discrete(n):
            return {"num_actions": n}
        case MultiDiscrete(sizes):
            return {"action_sizes": list(sizes)}
        case Box(low, high):
            return {"action_low": list(low), "action_high": list(high)}


def action_space_from_json(entries: dict[str, Any]) -> ActionSpace:
    """The space of a dictionary with such an entry."""
    if "action_sizes" in entries:
        return MultiDiscrete(tuple(entries["action_sizes"]))
    if "action_low" in entries:
        return Box(tuple(entries["action_low"]), tuple(entries["action_high"]))
    return Discrete(entries["num_actions"])


class Trajectory(eqx.Module):
    """One learner batch: T transitions of B environments, and the observation after the last.

    A *dummy* transition carries an environment from an episode's last observation to the next
    episode's first; its action and reward mean nothing, and `valid` is 0 there.
    """

    actions: Num[Array, "T B *action"]
    """a_t; over a `Box`, before it is squashed."""
    rewards: Float[Array, "T B"]
    """The reward after a_t, raw."""
    discounts: Float[Array, "T B"]
    """0 where the episode terminated after a_t, else 1 (also where it was truncated)."""
    valid: Float[Array, "T B"]
    """0 on dummy transitions, else 1."""
    behaviour_log_probs: Float[Array, "T B"]
    """log mu(a_t | x_t)."""
    observations: Array
    """x_0 ... x_T: [T+1, B, *observation]."""
    starts: Bool[Array, "T_plus_1 B"]
    """True where x_t is an episode's first observation; the recurrent state is reset there."""
    recurrent_state: RecurrentState
    """The recurrent state before x_0, [B, ...] a leaf; an empty tuple for feed-forward networks."""


class NetworkOutput(NamedTuple):
    """What a network says of each observation, for each head."""

    policy: Float[Array, "T B P A"]
    """What the distribution over the action space is made of: unnormalised log-probabilities."""
    values: Float[Array, "T B P"]
    """State values."""
    outer_values: Float[Array, "T B 1"] | None = None
    """State values of the acting policy for the outer loss's discount, if a head learns them."""


@runtime_checkable
class Network(Protocol):
    """A network as pure functions of its parameters."""

    @property
    def action_space(self) -> ActionSpace:
        """The actions that its policies are distributions over."""
        ...

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters."""
        ...

    def initial_state(self, batch: int) -> RecurrentState:
        """The recurrent state at an episode's first observation, [batch, ...]."""
        ...

    def unroll(
        self,
        parameters: Parameters,
        observations: Array,
        starts: Bool[Array, "T B"],
        recurrent_state: RecurrentState,
        *,
        main_head_only: bool = False,
    ) -> tuple[NetworkOutput, RecurrentState]:
        """The outputs along time-major observations, and the recurrent state after the last.

        With `main_head_only` the head axis P has size 1 and no other head is computed.
        """
        ...

    def per_head(self, parameters: Parameters) -> PyTree[bool]:
        """Which of the parameters' arrays have a leading axis of heads; others are shared."""
        ...

    def conditioned_on(self, parameters: Parameters, gamma: Float[Array, "P"]) -> Parameters:
        """Parameters whose heads are told these discounts; differentiable in them.

        Only asked for with a `gamma_embedding`.
        """
        ...

    def having_seen(
        self, parameters: Parameters, observations: Array, valid: Float[Array, "T B"]
    ) -> Parameters:
        """Parameters that normalise by these observations, too, but for those not `valid`.

        Only asked for with `normalise_observations`.
        """
        ...


class UpdateMetrics(NamedTuple):
    """What one learner update reports; the arrays of size P are per head."""

    loss: Float[Array, ""]
    """The inner loss (Algorithm 1), averaged over heads as in Algorithm 2, line 11, or summed
    (`Config.heads_apart`)."""
    outer_loss: Float[Array, ""]
    """The outer loss with its KL term (Eq. 3) at theta_{t+1}."""
    kl: Float[Array, ""]
    """KL(new || old) of the acting policy, head 1's, summed over the batch."""
    metagradient_norm: Float[Array, ""]
    """Global norm of the metagradient."""
    meta_step: Bool[Array, ""]
    """Whether the metaparameters were updated, too; if not, the last three are 0."""
    gradient_norm: Float[Array, ""]
    """Global norm of the inner gradient before clipping; where heads are kept apart
    (`Config.heads_apart`), without auxiliary heads' own weights."""
    skipped: Bool[Array, ""]
    """Whether the update was skipped, because a gradient or metagradient was not finite."""
    skipped_in_a_row: Int[Array, ""]
    """How many updates in a row have been skipped, this one included."""
    entropy: Float[Array, "P"]
    """Mean entropy of the policy over valid steps, in nats."""
    value_min: Float[Array, "P"]
    """Smallest value estimate in the batch."""
    value_max: Float[Array, "P"]
    """Largest value estimate in the batch."""
    importance_max: Float[Array, "P"]
    """Largest importance weight pi/mu over valid steps, before truncation."""
    metaparameters: dict[str, Float[Array, "P"]]
    """zeta as used in the inner loss: outer values where not tuned."""


class Timestep(NamedTuple):
    """What an on-device environment returns for one step of one environment."""

    observation: Array
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    physics_error: Bool[Array, ""] | bool = False
    """Whether the episode is truncated because its simulation became unstable; only counted."""


EnvironmentState: TypeAlias = PyTree[Any]

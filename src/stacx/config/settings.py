"""Every setting of a run, in one frozen dataclass.

A setting that is not given takes its value from the suite preset of the environment's family and
from the agent's preset (`stacx.agents`), when the `Config` is made: a `Config` in hand is always
complete. (`dataclasses.replace` therefore keeps the values of the environment it was made for.)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import tyro

from stacx.agents import (
    AGENTS,
    ENVIRONMENTS,
    FAMILIES,
    METAPARAMETERS,
    SUITES,
    VARIANTS,
    Setting,
    suite_of,
)
from stacx.config.checks import OF_RAY, check_ranges, check_types
from stacx.config.names import canonical_tune, field_of, flag_of, listed
from stacx.errors import ConfigError

_PLACE = {
    *("actor_devices", "learner_devices", "vectorization", "env_timeout", "max_env_restarts"),
    *("actors", *OF_RAY),
}
"""Settings with which a run may be resumed differently."""
OF_ACTORS = (
    *("actors", "num_actors", "actor_devices", "learner_devices", "queue_size"),
    *("deterministic", "vectorization", "env_timeout", "max_env_restarts", *OF_RAY),
)
"""Settings that only environments on the CPU have a use for."""
_BEFORE_THERE_WAS = {"max_aux_gradient": None}
"""What configs stand for that were written before there was a setting whose preset differs."""
_PRESET: Any = object()
"""Stands for "as the presets say" until `Config.__post_init__` has run."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides how a run goes. Each setting is also a flag of `stacx train`."""

    # --- what to train ---
    env: str = "gymnax:CartPole-v1"
    """Environment id; `stacx envs` lists them."""
    env_args: str = "{}"
    """Parameters of the environment, as a JSON object (docs/guide.md; gymnax: fields of its
    EnvParams; gym: what gymnasium.make takes)."""
    agent: str = "stacx"
    """impala, stac, impala-aux or stacx: sets `tune` and `heads`."""
    suite: str = _PRESET
    """Preset of all other settings: classic, minatar, atari, control (the paper's, for DM Control)
    or continuous (for other environments whose actions are numbers). By environment family."""
    steps: int = _PRESET
    """Environment steps to train for, over all parallel environments."""
    seed: int = 0
    """Seed of the first training run; with `num_seeds` K, seeds S ... S+K-1."""
    num_seeds: int = 1
    """Independent runs trained side by side in one program."""

    # --- self-tuning ---
    tune: str = _PRESET
    """Metaparameters to tune: all, none, or names with commas (gamma,lambda,alpha,g_v,g_p,g_e; in
    the paper's variants, section 4.3, also alpha_rho,alpha_c for alpha, and clip: rho_bar and
    c_bar as one)."""
    heads: int = _PRESET
    """Number of actor-critic heads P; head 1 acts, the others are auxiliary tasks."""
    initial_logit: float = 4.6
    """Logit at which every tuned metaparameter starts; sigmoid(4.6) = 0.99 (Table 3)."""
    initial_gamma: float | None = None
    """Where gamma starts when tuned, in (0, 1); otherwise sigmoid(initial_logit)."""
    initial_lambda: float | None = None
    """Where lambda starts when tuned, in (0, 1)."""
    initial_alpha: float | None = None
    """Where alpha starts when tuned, in (0, 1)."""
    initial_g_v: float | None = None
    """Where g_v starts when tuned, in (0, 1), as a fraction of its outer value."""
    initial_g_p: float | None = None
    """Where g_p starts when tuned, in (0, 1), as a fraction of its outer value."""
    initial_g_e: float | None = None
    """Where g_e starts when tuned, in (0, 1), as a fraction of its outer value."""
    initial_alpha_rho: float | None = None
    """Where alpha_rho starts when tuned, in (0, 1)."""
    initial_alpha_c: float | None = None
    """Where alpha_c starts when tuned, in (0, 1)."""
    initial_clip: float | None = None
    """Where rho_bar = c_bar starts when tuned, in (0, 1), as a fraction of its outer value."""
    meta_learning_rate: float = _PRESET
    """Learning rate of Adam on the metaparameters' logits."""
    meta_b1: float = 0.9
    """Adam's first decay (Table 3)."""
    meta_b2: float = 0.999
    """Adam's second decay (Table 3)."""
    meta_eps: float = 1e-4
    """Adam's epsilon (Table 3)."""
    g_kl: float = _PRESET
    """Weight of KL(new policy || old policy) in the outer loss (Eq. 3)."""
    meta_interval: int = 1
    """Updates from one step of the metaparameters to the next; 1: at each, as in Algorithm 2."""
    outer_fraction: float = 1.0
    """Share of a batch's environments that the outer loss sees, rounded up; it is scaled to the
    whole batch. Less is cheaper."""
    outer_steps: int = 0
    """Transitions at a trajectory's end that are for the outer loss alone, and the others for the
    inner loss alone; 0: both see all (Algorithm 2). With as many in `overlap`, the outer loss is on
    the batch after the inner loss's (Xu et al. 2018)."""
    outer_value_head: bool = False
    """Whether the outer loss has a value head of its own, which learns with the outer loss's
    hyperparameters (Bonnet et al. 2022); not: it judges with head 1's, which learns with gamma."""
    through_second_moment: bool = True
    """Whether the metagradient passes through RMSProp's second moment of the new gradient, too."""
    gamma_embedding: Literal["none", "shared", "per-head"] = "none"
    """Whether heads are told their discount, embedded by weights that they share or by their own
    (section 9.5; Xu et al. 2018)."""
    gamma_embedding_size: int = 16
    """Size of that embedding; not in the paper."""

    # --- the loss (Eq. 1); with self-tuning, the outer loss ---
    gamma: float = _PRESET
    """Discount factor."""
    lambda_: Annotated[float, tyro.conf.arg(name="lambda")] = _PRESET
    """Trace decay."""
    alpha: float = _PRESET
    """Leaky V-trace mixture: 1 truncates importance weights (V-trace), 0 does not."""
    g_v: float = _PRESET
    """Weight of the value loss."""
    g_p: float = _PRESET
    """Weight of the policy loss."""
    g_e: float = _PRESET
    """Weight of the entropy loss."""
    max_aux_gradient: float | None = _PRESET
    """Head 1 learns as it would alone, but for the auxiliary heads' gradient in torso and LSTM,
    which is cut to this multiple of head 1's by their norms: heads' losses are summed, and each
    head's own weights are clipped apart. None: losses are averaged and all is clipped together, as
    in the paper, and always so where other heads act."""
    aux_gamma: tuple[float, ...] = ()
    """Discount factor of the auxiliary heads, one for all or one each, if it is not tuned; by
    default head 1's, as for the others that follow."""
    aux_lambda: tuple[float, ...] = ()
    """Trace decay of the auxiliary heads."""
    aux_alpha: tuple[float, ...] = ()
    """Leaky V-trace mixture of the auxiliary heads."""
    aux_g_v: tuple[float, ...] = ()
    """Weight of the value losses of the auxiliary heads."""
    aux_g_p: tuple[float, ...] = ()
    """Weight of the policy losses of the auxiliary heads."""
    aux_g_e: tuple[float, ...] = ()
    """Weight of the entropy losses of the auxiliary heads."""
    bootstrap: Literal["target", "mixed"] = "target"
    """What an advantage bootstraps from: the next target (Algorithm 1, line 20), or its mixture by
    lambda with the next value, as rlax's. The same where lambda is 1."""
    clip_rho: float = 1.0
    """Truncation level rho_bar (Algorithm 2, line 3)."""
    clip_c: float = 1.0
    """Truncation level c_bar (Algorithm 2, line 3)."""
    log_std_min: float = -4.0
    """s_min: the least logarithm of a continuous policy's deviation (section 9.3; rlax's value)."""
    log_std_max: float = 0.0
    """s_max: the greatest (section 9.3; rlax's value)."""
    reward_scale: float = _PRESET
    """The learner multiplies rewards by this; reports stay raw."""
    reward_clip: float | None = _PRESET
    """The learner clips scaled rewards to [-c, c]; none: not at all."""

    # --- the optimiser of the network ---
    learning_rate: float = _PRESET
    """RMSProp's learning rate at the start; it falls linearly over the run."""
    end_learning_rate: float = _PRESET
    """RMSProp's learning rate at the end."""
    rmsprop_decay: float = _PRESET
    """Decay of RMSProp's second moment."""
    rmsprop_eps: float = _PRESET
    """RMSProp's epsilon, inside the square root."""
    rmsprop_initial: float = _PRESET
    """RMSProp's second moment at the start. With 0 the first updates are up to ten times the size
    of later ones, unless `rmsprop_eps` outweighs the gradients; with 1 they are small."""
    max_gradient_norm: float = _PRESET
    """Gradients are clipped to this global norm."""

    # --- the data ---
    behaviour: Literal["main", "random", "average"] = "main"
    """Which policy acts: head 1's; in each environment and trajectory a head's drawn at random, and
    the outer loss is of all heads; or the policy of the heads' average outputs, which gets a value
    head of its own (the ensembles of section 9.3)."""
    num_envs: int = _PRESET
    """Parallel environments of one training run, or of each actor: the batch size m."""
    trajectory_length: int = _PRESET
    """Transitions of a trajectory, n."""
    overlap: int = _PRESET
    """Transitions that a trajectory shares with the one before."""
    burn_in: int = 0
    """Transitions at a trajectory's start that only warm up the LSTM: no loss is taken of them."""

    # --- actors, for environments that step on the CPU ---
    actors: Literal["threads", "ray"] = "threads"
    """What actors are: threads of this process, or processes on a Ray cluster (docs/scale.md)."""
    num_actors: int = _PRESET
    """Actors, each with a batch of `num_envs` environments."""
    actor_devices: tuple[int, ...] = ()
    """Numbers of the devices that actors infer on; by default the first."""
    learner_devices: tuple[int, ...] = ()
    """Numbers of the devices that share each update; by default of those that actors leave, as many
    as divide `num_envs`."""
    queue_size: int = 1
    """Trajectories that may wait for the learner, if not `deterministic`; then actors wait."""
    deterministic: bool = False
    """Fix the policy lag to `num_actors` updates: with deterministic environments, the same seed
    gives the same run."""
    vectorization: Literal["auto", "sync", "async"] = "auto"
    """How single environments become a batch: sync in the actor's thread, async in processes, auto
    by their own vector entry point if they have one, else sync."""
    env_timeout: float = 60.0  # loading a level may take half a minute, and is no fault
    """Seconds after which environments that do not answer are given up and restarted."""
    max_env_restarts: int = 3  # survives a rare crash; what always hangs ends within minutes
    """Batches of environments that a run may restart in all, having raised or not answered."""

    # --- remote actors ---
    ray_address: str = ""
    """HOST:PORT of the head of a Ray cluster, or auto for the one on this machine; by default what
    the variable RAY_ADDRESS says, or else a cluster is started here."""
    ray_env: str = "{}"
    """Ray's runtime environment of the actors, as a JSON object; by default the working directory,
    if a function of your own is named."""
    actor_cpus: float = 1.0
    """CPUs that each remote actor takes of its node."""
    actor_envs: int = 0
    """Environments of each remote actor, whose rollouts are joined to batches of `num_envs`; 0: all
    of a batch. Fewer make rollouts that are newer when they are learned from."""
    min_actors: int = 0
    """Remote actors that there must be room for at the start, and without which, for so long as
    `actor_timeout`, the run ends; 0: all at the start, and then one."""
    max_lag: int = 0
    """Updates that the policy of a rollout may be behind the learner's: actors wait, and what comes
    too late is dropped; 0: about twice what so many actors make inevitable."""
    actor_timeout: float = 120.0
    """Seconds to wait for remote actors to be placed."""

    # --- the network ---
    normalise_observations: bool = _PRESET
    """Bring each component of the observations to zero mean and unit variance, by running averages
    of what was seen, clipped to ten deviations; pictures by one deviation for all pixels."""
    torso: str = _PRESET
    """mlp, minatar, resnet, shallow, nature, or package.module:function of your own."""
    mlp_widths: tuple[int, ...] = _PRESET
    """Hidden layers of the mlp torso."""
    channels: tuple[int, ...] = _PRESET
    """Channels of each section of the resnet torso."""
    downsampling: Literal["pools", "strides"] = _PRESET
    """How sections of the resnet torso halve an image: by max-pools, or by their convolutions."""
    torso_output: int = _PRESET
    """Width of a dense layer after convolutions; 0: none, but shallow has 256 and nature 512."""
    lstm_size: int = _PRESET
    """Units of the LSTM between torso and heads; 0: none."""
    head_widths: tuple[int, ...] = _PRESET
    """Hidden layers of every policy and value head."""
    head_init: float = _PRESET
    """Scale of the initial weights of every head's last layer; 1: as all other layers."""
    compute_dtype: Literal["float32", "bfloat16"] = _PRESET
    """Type of the torso's arithmetic; parameters, core, heads and losses stay float32."""
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of float32 products on accelerators; exact by default."""

    # --- the run ---
    log_points: int = 100
    """Lines of metrics per seed, evenly spread over the run."""
    checkpoint_points: int = 10
    """Checkpoints evenly spread over the run; 0: only by minutes and at the end."""
    checkpoint_minutes: float = 2.0
    """Minutes after which there is another checkpoint in any case."""
    checkpoints_kept: int = 3
    """The newest checkpoints that stay on disk."""
    max_skipped_updates: int = 50
    """Stop after this many updates in a row that were skipped: a gradient was not finite."""

    def __post_init__(self) -> None:
        check_types(self, _PRESET)
        if self.agent not in AGENTS:
            raise ConfigError(f"unknown agent {self.agent!r}: use {listed(AGENTS)}")
        if self.suite is _PRESET:
            object.__setattr__(self, "suite", suite_of(self.env))
        if self.suite not in SUITES:
            raise ConfigError(f"unknown suite {self.suite!r}: use {listed(SUITES)}")
        for name, setting in self.presets().items():
            if getattr(self, name) is _PRESET:
                object.__setattr__(self, name, setting.value)
        object.__setattr__(self, "tune", canonical_tune(self.tune))
        check_ranges(self)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The metaparameters that are tuned, in the order of `METAPARAMETERS`."""
        return tuple(self.tune.split(",")) if self.tune != "none" else ()

    @property
    def new_steps(self) -> int:
        """Transitions of a trajectory that the one before did not have."""
        return self.trajectory_length - self.overlap

    @property
    def batch_steps(self) -> int:
        """Environment steps that one update adds: new transitions times environments."""
        return self.new_steps * self.num_envs

    @property
    def total_updates(self) -> int:
        """Updates of a whole run: enough for at least `steps` environment steps."""
        return -(-self.steps // self.batch_steps)

    def with_threads(self) -> Config:
        """The same with actors in this process, and what only remote ones have left out."""
        usual = {name: self.usual(name).value for name in OF_RAY}
        return dataclasses.replace(self, actors="threads", **usual)

    def outer_values(self) -> dict[str, float]:
        """The outer loss's hyperparameters by metaparameter name (Algorithm 2, line 5)."""
        return {name: getattr(self, field_of(name)) for name in METAPARAMETERS}

    def outer_value(self, name: str) -> float:
        """The outer loss's value for a metaparameter, also one of `VARIANTS`."""
        of_variants = {"alpha_rho": self.alpha, "alpha_c": self.alpha, "clip": self.clip_rho}
        return (self.outer_values() | of_variants)[name]

    def scale(self, name: str) -> float:
        """What the sigmoid of a tuned metaparameter's logit is multiplied by (line 10)."""
        return self.outer_value(name) if name in ("g_v", "g_p", "g_e", "clip") else 1.0

    def auxiliary_values(self, name: str) -> tuple[float, ...]:
        """What auxiliary heads have of one of `METAPARAMETERS`; empty where they have head 1's."""
        given: tuple[float, ...] = getattr(self, f"aux_{name}")
        return given * (self.heads - 1) if len(given) == 1 else given

    @property
    def reported(self) -> tuple[str, ...]:
        """The metaparameters in a line of metrics."""
        apart = {"alpha_rho", "alpha_c"} <= set(self.tuned)
        names = [name for name in METAPARAMETERS if not (apart and name == "alpha")]
        return (*names, *(name for name in VARIANTS if name in self.tuned))

    @property
    def heads_apart(self) -> bool:
        """Whether auxiliary heads are kept out of head 1's way (`max_aux_gradient`)."""
        return self.max_aux_gradient is not None and self.behaviour == "main" and self.heads > 1

    @property
    def has_outer_values(self) -> bool:
        """Whether there is a value head for the acting policy and the outer hyperparameters."""
        return self.outer_value_head or self.behaviour == "average"

    def initial_value(self, name: str) -> float | None:
        """Where the tuned metaparameter `name` starts, in (0, 1); None: at `initial_logit`."""
        return cast(float | None, getattr(self, f"initial_{name}"))

    def presets(self) -> dict[str, Setting]:
        """What the agent's and the suite's presets say, by field."""
        agent = AGENTS[self.agent]
        source = f"agent {self.agent}"
        tune = Setting(canonical_tune(agent.tune), source)
        switches = {"tune": tune, "heads": Setting(agent.heads, source)}
        family = FAMILIES.get(self.env.partition(":")[0], {})
        return SUITES[self.suite] | family | ENVIRONMENTS.get(self.env, {}) | switches

    def usual(self, name: str) -> Setting:
        """What a setting is where it is not given."""
        if name == "suite":
            return Setting(suite_of(self.env), "default")
        default = self.__dataclass_fields__[name].default
        return self.presets().get(name, Setting(default, "default"))

    def require_usual(self, names: Iterable[str], reason: str) -> None:
        """Refuses settings that would have no effect, if they were given.

        Raises:
            ConfigError: if one is not what it is where it is not given.
        """
        for name in names:
            if getattr(self, name) != self.usual(name).value:
                raise ConfigError(f"{flag_of(name)} has no effect {reason}: leave it out")

    def to_json(self) -> str:
        """All settings as a JSON object, readable by `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> Config:
        """The config that `to_json` wrote; raises `ConfigError` for anything else."""
        try:
            settings: dict[str, Any] = json.loads(text)
            names = {field.name for field in dataclasses.fields(Config)}
            unknown = sorted(set(settings) - names)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not a stacx config: {error}") from error
        if not isinstance(settings, dict):
            raise ConfigError("not a stacx config: no JSON object")
        if unknown:
            raise ConfigError(f"this version of stacx has no setting {', '.join(unknown)}")
        settings = _BEFORE_THERE_WAS | settings
        values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return Config(**values)

    def differences(self, other: Config) -> list[str]:
        """The names of the settings in which two configs differ, and that decide how a run goes.

        Where a run is computed, and how patient it is with environments, may change.
        """
        fields = (field.name for field in dataclasses.fields(self) if field.name not in _PLACE)
        return [name for name in fields if getattr(self, name) != getattr(other, name)]

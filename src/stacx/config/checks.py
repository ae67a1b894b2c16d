"""Refuses configs that cannot be meant, by clear messages with the names of flags."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stacx.agents import METAPARAMETERS, VARIANTS
from stacx.config.names import field_of, flag_of, listed
from stacx.errors import ConfigError

if TYPE_CHECKING:
    from stacx.config.settings import Config


OF_RAY = (
    *("ray_address", "ray_env", "actor_cpus", "actor_envs", "min_actors", "max_lag"),
    "actor_timeout",
)
"""Settings that only remote actors have a use for."""


def check_types(config: Config, preset: Any) -> None:
    """Python callers are not checked by the command line's parser; a wrong type fails here."""
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "str": (str,),
        "bool": (bool,),
    }
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is preset:
            continue
        kind = str(field.type).removeprefix("Annotated[").partition(", ")[0]
        allowed = kinds.get(kind)
        wrong_bool = isinstance(value, bool) and kind != "bool"
        if allowed and (not isinstance(value, allowed) or wrong_bool):
            raise ConfigError(f"{flag_of(field.name)} must be {kind}, not {value!r}")
        for members, types in (("int", (int,)), ("float", (int, float))):
            if kind == f"tuple[{members}" and not (
                isinstance(value, tuple) and all(isinstance(v, types) for v in value)
            ):
                wish = "whole numbers" if members == "int" else "numbers"
                raise ConfigError(f"{flag_of(field.name)} must be {wish}, not {value!r}")


_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "positive": (
        lambda value: value > 0,
        "steps num_seeds heads num_envs trajectory_length log_points num_actors queue_size "
        "env_timeout checkpoints_kept max_skipped_updates learning_rate rmsprop_eps actor_cpus "
        "actor_timeout max_gradient_norm meta_eps clip_rho meta_interval gamma_embedding_size",
    ),
    "zero or more": (
        lambda value: value >= 0,
        "end_learning_rate rmsprop_initial meta_learning_rate head_init g_v g_p g_e g_kl clip_c "
        "lstm_size torso_output seed overlap burn_in checkpoint_points checkpoint_minutes "
        "max_env_restarts outer_steps actor_envs min_actors max_lag",
    ),
    "above 0 and at most 1": (lambda value: 0.0 < value <= 1.0, "outer_fraction"),
    "numbers between 0 and 1": (
        lambda values: all(0.0 <= value <= 1.0 for value in values),
        "aux_gamma aux_lambda aux_alpha",
    ),
    "numbers of zero or more": (
        lambda values: all(value >= 0.0 for value in values),
        "aux_g_v aux_g_p aux_g_e",
    ),
    "between 0 and 1": (
        lambda value: 0.0 <= value <= 1.0,
        "gamma lambda_ alpha rmsprop_decay",
    ),
    "0 or more and below 1": (lambda value: 0.0 <= value < 1.0, "meta_b1 meta_b2"),
    "positive whole numbers": (
        lambda widths: all(width > 0 for width in widths),
        "mlp_widths channels head_widths",
    ),
    "numbers of devices, from 0 on": (
        lambda numbers: all(number >= 0 for number in numbers),
        "actor_devices learner_devices",
    ),
}
"""What must hold for the settings of a list, by how an error says it."""
_CHOICES = {
    "compute_dtype": ("float32", "bfloat16"),
    "matmul_precision": ("float32", "tensorfloat32", "bfloat16"),
    "actors": ("threads", "ray"),
    "vectorization": ("auto", "sync", "async"),
    "downsampling": ("pools", "strides"),
    "bootstrap": ("target", "mixed"),
    "behaviour": ("main", "random", "average"),
    "gamma_embedding": ("none", "shared", "per-head"),
}


_OF_TUNING = (
    *("meta_interval", "outer_fraction", "outer_steps", "outer_value_head"),
    "through_second_moment",
)
"""Variants of the metagradient, which only self-tuning has."""


def _check_variants(config: Config) -> None:
    """Refuses variants that contradict each other, or would have no effect."""
    if not config.tuned:
        config.require_usual(_OF_TUNING, "if nothing is tuned")
    of_many = ["behaviour", *(f"aux_{name}" for name in METAPARAMETERS)]
    if config.heads == 1:
        config.require_usual(of_many, "with one head")
    if config.max_aux_gradient is not None and not config.heads_apart:
        together = "with one head" if config.heads == 1 else f"with --behaviour {config.behaviour}"
        config.require_usual(["max_aux_gradient"], together)
    for name in METAPARAMETERS:
        given = getattr(config, f"aux_{name}")
        if given and name in config.tuned:
            raise ConfigError(
                f"{flag_of(f'aux_{name}')} has no effect, since {name} is tuned: leave it out"
            )
        if len(given) > 1 and len(given) != config.heads - 1:
            raise ConfigError(
                f"{flag_of(f'aux_{name}')} must have one number, or one for each of the "
                f"{config.heads - 1} auxiliary heads, not {len(given)}"
            )
    if config.aux_alpha and {"alpha_rho", "alpha_c"} <= set(config.tuned):
        raise ConfigError("--aux-alpha has no effect, since alpha_rho and alpha_c are tuned")
    if "clip" in config.tuned and config.clip_rho != config.clip_c:
        raise ConfigError(
            f"--tune clip tunes rho_bar and c_bar as one: set --clip-rho and --clip-c alike, "
            f"not {config.clip_rho:g} and {config.clip_c:g}"
        )
    if config.outer_value_head and config.behaviour != "main":
        raise ConfigError(
            f"--outer-value-head is for head 1's policy: leave it out with --behaviour "
            f"{config.behaviour}"
            + (", which has a value head of its own" if config.behaviour == "average" else "")
        )
    if config.outer_steps >= config.trajectory_length - config.burn_in:
        raise ConfigError(
            f"--outer-steps must leave transitions for the inner loss: below --trajectory-length "
            f"less --burn-in, {config.trajectory_length - config.burn_in}, not {config.outer_steps}"
        )
    if config.gamma_embedding == "none":
        config.require_usual(["gamma_embedding_size"], "without --gamma-embedding")


def _check_actors(config: Config) -> None:
    """Refuses settings of actors that they have no use for, or that contradict each other."""
    if config.actors == "threads":
        config.require_usual(OF_RAY, "without --actors ray")
        return
    reason = "with --actors ray"
    config.require_usual(["actor_devices"], f"{reason}, which infer on their CPUs")
    if config.deterministic:
        raise ConfigError(
            "--deterministic needs --actors threads: when remote actors deliver is up to the "
            "cluster"
        )
    if config.actor_envs and config.num_envs % config.actor_envs:
        raise ConfigError(
            f"--actor-envs {config.actor_envs} must divide --num-envs {config.num_envs}"
        )
    if config.min_actors > config.num_actors:
        raise ConfigError(
            f"--min-actors {config.min_actors} must be at most --num-actors {config.num_actors}"
        )
    least = config.queue_size + 2
    if config.max_lag and config.max_lag < least:
        raise ConfigError(
            f"--max-lag must be 0, or at least {least} (2 more than --queue-size), not "
            f"{config.max_lag}: what waits and what is being made is behind by as much"
        )
    if config.env.startswith("__main__:"):
        raise ConfigError(
            f"{config.env} cannot be found by remote actors: move it to a module of its own"
        )


def check_ranges(config: Config) -> None:
    """Refuses values that cannot be meant, alone or together, naming the flag.

    Raises:
        ConfigError: for the first that is found.
    """

    def require(holds: bool, names: str, wish: str) -> None:
        if not holds:
            values = ", ".join(f"{getattr(config, name)!r}" for name in names.split())
            flags = " and ".join(flag_of(name) for name in names.split())
            raise ConfigError(f"{flags} must be {wish}, not {values}")

    for wish, (holds, names) in _BOUNDS.items():
        for name in names.split():
            require(holds(getattr(config, name)), name, wish)
    for name, choices in _CHOICES.items():
        require(getattr(config, name) in choices, name, listed(choices))
    require(config.seed < 2**31, "seed", "below 2^31")
    require(config.overlap < config.trajectory_length, "overlap", "below --trajectory-length")
    require(config.burn_in < config.trajectory_length, "burn_in", "below --trajectory-length")
    if config.burn_in and not config.lstm_size:
        raise ConfigError("--burn-in has no effect without an LSTM: set --lstm-size, or remove it")
    ordered = config.log_std_min < config.log_std_max
    require(ordered, "log_std_min log_std_max", "the first below the second")
    require(config.total_updates < 2**31, "steps", "less than 2^31 updates")
    require(config.reward_clip is None or config.reward_clip > 0, "reward_clip", "positive")
    bound = config.max_aux_gradient
    require(bound is None or bound >= 0, "max_aux_gradient", "zero or more, or none")
    for name in METAPARAMETERS + VARIANTS:
        value = config.initial_value(name)
        if value is None:
            continue
        require(0.0 < value < 1.0, f"initial_{name}", "strictly between 0 and 1")
        if name not in config.tuned:
            fixed = f"set {flag_of(field_of(name))}, or " if name in METAPARAMETERS else ""
            raise ConfigError(
                f"--initial-{name.replace('_', '-')} has no effect, since {name} is not tuned: "
                f"{fixed}tune it with --tune"
            )
    _check_variants(config)
    if config.deterministic:
        config.require_usual(["queue_size"], "with --deterministic, which bounds the queue itself")
    for name in ("env_args", "ray_env"):
        try:
            arguments = json.loads(getattr(config, name))
        except ValueError:
            arguments = None
        require(isinstance(arguments, dict), name, "a JSON object")
    _check_actors(config)

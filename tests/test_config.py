"""Presets, what is given, and what is refused."""

import dataclasses
import importlib.util
import json
import math
import sys

import pytest
from support import message_of

import stacx.config.settings
from stacx.agents import AGENTS, METAPARAMETERS, SUITES
from stacx.config import OF_ACTORS, flag_of
from stacx.errors import ConfigError


def as_users_have_it(module):
    """A module again, without the types that are checked in tests, before its own checks."""
    spec = importlib.util.spec_from_file_location(f"plain_{module.__name__}", module.__file__)
    plain = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = plain  # where dataclasses look for it
    spec.loader.exec_module(plain)
    return plain


Config = as_users_have_it(stacx.config.settings).Config


def refusal(**settings) -> str:
    with pytest.raises(ConfigError) as caught:
        Config(**settings)
    return message_of(caught)


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_not_given_is_the_suites(suite):
    config = Config(env="a.b:c", suite=suite)
    for name, setting in SUITES[suite].items():
        assert getattr(config, name) == setting.value, name


@pytest.mark.parametrize("agent", AGENTS)
def test_the_agent_sets_the_two_switches(agent):
    config = Config(agent=agent)
    assert config.heads == AGENTS[agent].heads
    assert config.tuned == (METAPARAMETERS if AGENTS[agent].tune == "all" else ())


def test_an_environments_own_settings_come_before_its_suites():
    assert Config(env="gymnax:CartPole-v1").reward_scale == 0.01
    assert Config(env="gymnax:Catch-bsuite").reward_scale == 1.0
    memory = Config(env="gymnax:MemoryChain-bsuite")
    assert memory.lstm_size > 0
    assert memory.presets()["lstm_size"].value == memory.lstm_size


def test_what_is_given_wins():
    given = {
        "steps": 7,
        "reward_scale": 3.0,
        "reward_clip": None,
        "heads": 5,
        "tune": "none",
        "mlp_widths": (),
    }
    config = Config(suite="atari", **given)
    assert {name: getattr(config, name) for name in given} == given
    assert config.gamma == 0.995


@pytest.mark.parametrize(
    ("tune", "tuned"),
    [
        ("all", METAPARAMETERS),
        ("none", ()),
        ("", ()),
        ("gamma", ("gamma",)),
        ("g_e,gamma", ("gamma", "g_e")),
        (" lambda , alpha,", ("lambda", "alpha")),
        ("gamma,gamma", ("gamma",)),
        ("g_e,g_p,g_v,alpha,lambda,gamma", METAPARAMETERS),
    ],
)
def test_tune_takes_names_in_any_order(tune, tuned):
    config = Config(tune=tune)
    assert config.tuned == tuned
    assert config.tune == (",".join(tuned) or "none")


@pytest.mark.parametrize("tune", ["delta", "gamma,delta", "gamma none"])
def test_tune_refuses_what_is_no_metaparameter(tune):
    message = refusal(tune=tune)
    assert "--tune" in message
    assert "gamma, lambda, alpha, g_v, g_p, g_e, alpha_rho, alpha_c or clip" in message


def test_a_metaparameters_start_needs_it_to_be_tuned():
    assert Config(tune="gamma", initial_gamma=0.8).initial_value("gamma") == 0.8
    assert Config(tune="gamma").initial_value("gamma") is None
    message = refusal(tune="gamma", initial_lambda=0.5)
    assert "--initial-lambda has no effect" in message
    assert "--lambda" in message.partition(":")[2]


def test_burn_in_needs_memory():
    assert Config(burn_in=5, lstm_size=8).burn_in == 5
    assert refusal(burn_in=5).startswith("--burn-in has no effect without an LSTM")


def test_bounds_of_a_deviation_are_in_order():
    message = "--log-std-min and --log-std-max must be the first below the second, not 0.0, 0.0"
    assert refusal(log_std_min=0.0) == message


@pytest.mark.parametrize("name", ["alpha_rho", "alpha_c", "clip"])
def test_what_a_variant_tunes_may_be_started_elsewhere(name):
    assert Config(tune=name, **{f"initial_{name}": 0.5}).initial_value(name) == 0.5
    message = refusal(tune="gamma", **{f"initial_{name}": 0.5})
    assert message.endswith(f"since {name} is not tuned: tune it with --tune")


@pytest.mark.parametrize("both", ["alpha,alpha_rho", "alpha_c,alpha"])
def test_alpha_stands_for_two(both):
    assert "alpha" in refusal(tune=both)


@pytest.mark.parametrize("more", ["all,gamma", "all,alpha_rho", "clip,all"])
def test_all_is_named_alone(more):
    assert "name each" in refusal(tune=more)


def test_what_is_tuned_in_variants_is_reported():
    assert Config(tune="clip,alpha_c,gamma").tuned == ("gamma", "alpha_c", "clip")
    assert Config(tune="clip,alpha_c").reported == (*METAPARAMETERS, "alpha_c", "clip")
    assert Config(tune="all").reported == METAPARAMETERS
    assert "alpha" not in Config(tune="alpha_rho,alpha_c").reported
    config = Config(tune="clip,alpha_c", alpha=0.7, clip_rho=2.0, clip_c=2.0)
    assert (config.outer_value("alpha_c"), config.outer_value("clip")) == (0.7, 2.0)


CONTRADICTIONS = [
    ({"agent": "impala", "outer_value_head": True}, "--outer-value-head has no effect if nothing"),
    ({"agent": "impala", "meta_interval": 2}, "--meta-interval has no effect if nothing is tuned"),
    ({"agent": "impala", "outer_fraction": 0.5}, "--outer-fraction has no effect if nothing"),
    ({"agent": "impala", "outer_steps": 5}, "--outer-steps has no effect if nothing is tuned"),
    ({"agent": "impala", "through_second_moment": False}, "--through-second-moment has no effect"),
    ({"agent": "stac", "behaviour": "random"}, "--behaviour has no effect with one head"),
    ({"agent": "stac", "max_aux_gradient": 0.5}, "--max-aux-gradient has no effect with one head"),
    (
        {"behaviour": "average", "max_aux_gradient": 0.5},
        "--max-aux-gradient has no effect with --behaviour average",
    ),
    ({"agent": "stac", "tune": "g_e", "aux_gamma": (0.9,)}, "--aux-gamma has no effect with one"),
    ({"agent": "stacx", "aux_g_v": (0.9,)}, "--aux-g-v has no effect, since g_v is tuned"),
    (
        {"agent": "impala-aux", "aux_gamma": (0.9, 0.8, 0.7)},
        "--aux-gamma must have one number, or one for each of the 2 auxiliary heads, not 3",
    ),
    ({"tune": "alpha_rho,alpha_c", "aux_alpha": (0.9,)}, "--aux-alpha has no effect"),
    ({"tune": "clip", "clip_c": 2.0}, "--tune clip tunes rho_bar and c_bar as one: set --clip-rho"),
    (
        {"outer_value_head": True, "behaviour": "average"},
        "--outer-value-head is for head 1's policy: leave it out with --behaviour average, which",
    ),
    ({"outer_value_head": True, "behaviour": "random"}, "--outer-value-head is for head 1's"),
    ({"outer_steps": 20}, "--outer-steps must leave transitions for the inner loss: below"),
    ({"outer_steps": 15, "burn_in": 5, "lstm_size": 4}, "--outer-steps must leave transitions"),
    ({"gamma_embedding_size": 4}, "--gamma-embedding-size has no effect without"),
]


@pytest.mark.parametrize(("settings", "says"), CONTRADICTIONS, ids=str)
def test_variants_that_contradict_each_other(settings, says):
    assert refusal(**settings).startswith(says)


def test_auxiliary_values_are_one_for_all_or_one_each():
    config = Config(agent="impala-aux", heads=4, aux_gamma=(0.5,), aux_lambda=(0.1, 0.2, 0.3))
    assert config.auxiliary_values("gamma") == (0.5, 0.5, 0.5)
    assert config.auxiliary_values("lambda") == (0.1, 0.2, 0.3)
    assert config.auxiliary_values("g_e") == ()
    assert Config.from_json(config.to_json()) == config
    assert "--aux-gamma must be numbers, not ('0.5',)" in refusal(aux_gamma=("0.5",))


@pytest.mark.parametrize("name", METAPARAMETERS)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_metaparameter_starts_between_0_and_1(name, value):
    message = refusal(tune="all", **{f"initial_{name}": value})
    assert f"--initial-{name.replace('_', '-')} must be strictly between 0 and 1" in message


RANGES = {
    "positive": {
        "steps": (0, -1),
        "num_seeds": (0,),
        "heads": (0,),
        "num_envs": (0,),
        "trajectory_length": (0,),
        "log_points": (0,),
        "checkpoints_kept": (0,),
        "max_skipped_updates": (0,),
        "learning_rate": (0.0, -1.0, math.nan),
        "rmsprop_eps": (0.0,),
        "max_gradient_norm": (0.0,),
        "meta_eps": (0.0,),
        "clip_rho": (0.0, math.nan),
        "meta_interval": (0, -1),
        "gamma_embedding_size": (0,),
        "reward_clip": (0.0,),
        "mlp_widths": ((0,), (4, -4)),
        "channels": ((0,),),
        "head_widths": ((0,),),
    },
    "between 0 and 1": {
        "gamma": (-0.1, 1.1, math.nan),
        "lambda_": (1.1,),
        "alpha": (-1.0,),
        "rmsprop_decay": (1.1,),
    },
    "0 or more and below 1": {"meta_b1": (1.0, -0.1), "meta_b2": (1.0, math.nan)},
    "zero or more": {
        "end_learning_rate": (-1.0,),
        "rmsprop_initial": (-1.0, math.nan),
        "meta_learning_rate": (-1.0, math.nan),
        "head_init": (-1.0,),
        "g_v": (-1.0,),
        "g_p": (-1.0,),
        "g_e": (-1.0,),
        "g_kl": (-1.0,),
        "lstm_size": (-1,),
        "torso_output": (-1,),
        "seed": (-1,),
        "overlap": (-1,),
        "burn_in": (-1,),
        "clip_c": (-1.0,),
        "checkpoint_points": (-1,),
        "checkpoint_minutes": (-1.0,),
    },
    "less than 2^31 updates": {"steps": (10**15,)},
    "below": {"seed": (2**31,), "overlap": (20, 21), "burn_in": (20,)},
    "float32": {"compute_dtype": ("float16",), "matmul_precision": ("highest",)},
    "a JSON object": {"env_args": ("", "[1]", "3", "{a: 1}", "null")},
}
WRONG_TYPES = {
    "env": (3, None),
    "agent": (["x"], 3),
    "suite": (["x"], None),
    "tune": (3, ["gamma"]),
    "steps": ("many", 1.5, True, None),
    "seed": (0.0,),
    "heads": ("3",),
    "gamma": ("0.9", None, True),
    "lambda_": ("1",),
    "reward_clip": ("none",),
    "initial_alpha": ("0.5",),
    "mlp_widths": ([64, 64], 64, (64.0,), "64"),
    "env_args": ({},),
    "torso": (None,),
}


def cases(table) -> list[tuple[str, object]]:
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(
    ("wish", "name", "value"),
    [(wish, name, value) for wish, table in RANGES.items() for name, value in cases(table)],
)
def test_ranges(wish, name, value):
    message = refusal(**{name: value})
    assert message.startswith(flag_of(name) + " ")
    assert wish in message
    assert repr(value) in message


@pytest.mark.parametrize(("name", "value"), cases(WRONG_TYPES))
def test_types(name, value):
    message = refusal(**{name: value})
    assert message.startswith(flag_of(name) + " must be ")
    assert repr(value) in message


def test_the_edges_of_ranges_are_allowed():
    Config(gamma=1.0, lambda_=0, alpha=0.0, g_kl=0, meta_learning_rate=0.0, clip_c=0.0, steps=1)
    Config(overlap=19, seed=2**31 - 1, env_args="{}", rmsprop_decay=0)
    Config(checkpoint_points=0, checkpoint_minutes=0)


def test_an_unknown_agent_or_suite_names_those_there_are():
    assert "use impala, stac, impala-aux or stacx" in refusal(agent="dqn")
    assert "use classic, minatar, atari, control or continuous" in refusal(suite="mujoco")


@pytest.mark.parametrize(
    ("field", "flag"), [("lambda_", "--lambda"), ("initial_g_v", "--initial-g-v"), ("env", "--env")]
)
def test_flags(field, flag):
    assert flag_of(field) == flag


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("suite", SUITES)
def test_json_and_back(agent, suite):
    config = Config(env="a.b:c", agent=agent, suite=suite, env_args='{"size": 3}', seed=5)
    assert Config.from_json(config.to_json()) == config
    assert set(json.loads(config.to_json())) == {f.name for f in dataclasses.fields(Config)}


def test_json_keeps_what_was_given():
    config = Config(tune="g_e,gamma", initial_gamma=0.8, mlp_widths=(3,), reward_clip=2.0)
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not a stacx config"),
        ("", "not a stacx config"),
        ("3", "not a stacx config"),
        ('["env"]', "not a stacx config"),
        ('{"speed": 3, "colour": 4}', "no setting colour, speed"),
        ('{"heads": "three"}', "--heads must be int"),
        ('{"gamma": 2}', "--gamma must be between 0 and 1"),
    ],
)
def test_what_is_no_config_is_refused(text, complaint):
    with pytest.raises(ConfigError) as caught:
        Config.from_json(text)
    assert complaint in message_of(caught)


def test_differences():
    config = Config()
    assert config.differences(Config()) == []
    other = dataclasses.replace(config, seed=3, lambda_=0.5, tune="gamma")
    assert config.differences(other) == ["seed", "tune", "lambda_"]
    assert other.differences(config) == ["seed", "tune", "lambda_"]


def test_where_a_run_is_computed_is_no_difference():
    config = Config()
    elsewhere = dataclasses.replace(
        config, actor_devices=(1,), learner_devices=(2, 3), env_timeout=5.0, max_env_restarts=9
    )
    assert config.differences(elsewhere) == []
    assert config.differences(dataclasses.replace(config, num_actors=2)) == ["num_actors"]


def test_a_run_of_remote_actors_may_go_on_with_threads():
    config = Config(env="gym:CartPole-v1", actors="ray", ray_address="h:1", max_lag=9, actor_envs=4)
    threads = config.with_threads()
    assert threads == Config(env="gym:CartPole-v1")
    assert config.differences(threads) == []


@pytest.mark.parametrize(
    ("settings", "batch_steps", "total_updates"),
    [
        ({"steps": 100, "num_envs": 4, "trajectory_length": 5}, 20, 5),
        ({"steps": 101, "num_envs": 4, "trajectory_length": 5}, 20, 6),
        ({"steps": 1, "num_envs": 4, "trajectory_length": 5}, 20, 1),
        ({"steps": 100, "num_envs": 4, "trajectory_length": 5, "overlap": 3}, 8, 13),
    ],
)
def test_updates_of_a_run(settings, batch_steps, total_updates):
    config = Config(**settings)
    assert config.batch_steps == batch_steps
    assert config.total_updates == total_updates


def test_outer_values_go_by_metaparameter():
    values = Config(gamma=0.1, lambda_=0.2, alpha=0.3, g_v=0.4, g_p=0.5, g_e=0.6).outer_values()
    assert list(values.items()) == list(
        zip(METAPARAMETERS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True)
    )


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3


def test_what_a_setting_is_where_it_is_not_given():
    config = Config(env="gymnax:Catch-bsuite", suite="atari", agent="stac", gamma=0.5, seed=3)
    assert config.usual("num_actors") == config.presets()["num_actors"]
    assert config.usual("gamma").value == 0.995
    assert config.usual("heads") == (1, "agent stac")
    assert config.usual("suite") == ("classic", "default")
    assert config.usual("seed") == (0, "default")


def test_a_presets_own_value_is_no_wish():
    config = Config(env="gymnax:Catch-bsuite", suite="atari", queue_size=1)
    assert config.num_actors > 1
    config.require_usual(OF_ACTORS, "here")
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(config, queue_size=2).require_usual(OF_ACTORS, "here")
    assert message_of(caught) == "--queue-size has no effect here: leave it out"

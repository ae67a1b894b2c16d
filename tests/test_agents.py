"""The presets: the paper's numbers, and suites that say something about every setting."""

import dataclasses

import pytest

from stacx.agents import AGENTS, ENVIRONMENTS, METAPARAMETERS, SUITES, Agent, suite_of
from stacx.agents import FAMILIES as OF_FAMILIES
from stacx.config import Config
from stacx.environments import FAMILIES, make
from stacx.types import Box

SHARED = {  # Table 3, column "Value", and Table 2
    "rmsprop_decay": 0.99,
    "rmsprop_eps": 0.1,
    "lambda_": 1.0,
    "alpha": 1.0,
    "g_e": 0.01,
    "g_v": 0.25,
    "g_p": 1.0,
    "g_kl": 1.0,
    "meta_learning_rate": 1e-3,
    "head_widths": (256,),
}
PAPER = {
    "atari": SHARED
    | {
        "learning_rate": 6e-4,
        "end_learning_rate": 0.0,
        "num_envs": 32,
        "trajectory_length": 20,
        "overlap": 0,
        "gamma": 0.995,
        "torso": "resnet",
        "channels": (16, 32, 32),  # Table 2 prints 13
        "lstm_size": 0,
    },
    "control": SHARED
    | {
        "learning_rate": 1e-3,
        "end_learning_rate": 1e-4,
        "num_envs": 24,
        "trajectory_length": 40,
        "overlap": 30,
        "gamma": 0.99,
        "torso": "mlp",
        "mlp_widths": (256, 256),
        "channels": (32, 32, 32),
        "lstm_size": 256,
    },
}
EVERYWHERE = {"initial_logit": 4.6, "meta_b1": 0.9, "meta_b2": 0.999, "meta_eps": 1e-4}


@pytest.mark.parametrize("suite", PAPER)
def test_the_papers_suites_hold_its_tables(suite):
    config = Config(suite=suite)
    for name, value in (PAPER[suite] | EVERYWHERE).items():
        assert getattr(config, name) == value, name


def test_the_papers_suites_run_as_long_as_the_papers():
    assert Config(suite="atari").steps * 4 == 200e6  # frames; Table 3 counts these on Atari
    assert Config(suite="control").steps == 30e6
    assert Config(suite="atari").total_updates == 78_125
    assert Config(suite="control").total_updates == 125_000


def test_the_agents_are_two_switches():
    assert {
        "impala": Agent("none", 1),
        "stac": Agent("all", 1),
        "impala-aux": Agent("none", 3),
        "stacx": Agent("all", 3),
    } == AGENTS
    assert METAPARAMETERS == ("gamma", "lambda", "alpha", "g_v", "g_p", "g_e")


def test_every_suite_sets_every_setting_that_has_no_default():
    complete = set(dataclasses.asdict(Config()))
    probe = Config.__dataclass_fields__
    unset = {name for name in complete if probe[name].default is probe["steps"].default}
    for suite, settings in SUITES.items():
        assert set(settings) | {"suite", "tune", "heads"} == unset, suite


def test_every_number_has_a_source():
    for settings in (*SUITES.values(), *OF_FAMILIES.values(), *ENVIRONMENTS.values()):
        assert all(setting.source for setting in settings.values())


def test_pictures_of_control_have_the_papers_network():
    """Table 2: stride 2 and no pool, (32, 32, 32), an LSTM of 256."""
    config = Config(env="dmc-pixels:walker-walk")
    assert (config.torso, config.downsampling, config.channels) == ("resnet", "strides", (32,) * 3)
    assert config.lstm_size == 256
    assert config.num_actors == 1  # every environment is a process
    assert Config(env="dmc:walker-walk").torso == "mlp"
    assert Config(env="dmc:walker-walk").num_actors == 2


def test_special_environments_exist_and_their_settings_too():
    for env, settings in ENVIRONMENTS.items():
        family, _, name = env.partition(":")
        assert name in FAMILIES[family].names()
        assert set(settings) <= set(SUITES[suite_of(env)])


@pytest.mark.parametrize(
    ("env", "suite"),
    [
        ("gymnax:CartPole-v1", "classic"),
        ("gymnax:Breakout-MinAtar", "minatar"),
        ("atari:Breakout", "atari"),
        ("gym:LunarLander-v3", "classic"),
        ("playground:CartpoleBalance", "control"),
        ("gym:Pendulum-v1", "continuous"),
        ("gym:phys2d/Pendulum-v0", "continuous"),
        ("gymnax:Reacher-misc", "continuous"),
        ("gym:my_module:Reacher-v7", "classic"),
        ("my_module:Reacher", "classic"),
        ("dmc:walker-walk", "control"),
        ("dmc-pixels:walker-walk", "control"),
        ("rwrl:walker-walk-easy", "control"),
        ("my_package.games:chess", "classic"),
    ],
)
def test_the_suite_follows_from_the_environments_family(env, suite):
    assert suite_of(env) == suite
    assert Config(env=env).suite == suite


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_suite_knows_where_gymnasium_s_and_gymnax_s_actions_are_numbers():
    """All but CarRacing, whose observations are pictures."""
    continuous = set()
    for family in ("gym", "gymnax"):
        for name, obstacle in FAMILIES[family].names().items():
            if obstacle is None and not name.endswith("-MinAtar"):
                env = f"{family}:{name}"
                if isinstance(make(env).action_space, Box):
                    continuous.add(env)
                    assert suite_of(env) == "continuous" or env == "gym:CarRacing-v3"
                else:
                    assert suite_of(env) == "classic"
    assert len(continuous) > 25

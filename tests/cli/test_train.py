"""`stacx train`: what it prints and leaves, and what it refuses before anything is done."""

import json
import os
import subprocess
import sys

import jax
import pytest
from tiny_runs import assert_same_run, change_config, contents, tiny_config, tiny_flags

from stacx.cli.main import main
from stacx.config import Config
from stacx.runs import RunDirectory, training


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """`runs/` goes there, and the modules that `users_module` writes are found there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def refused(tmp_path, capsys):
    """The one line with which arguments are refused, when nothing has been done."""

    def refuse(*arguments):
        before = contents(tmp_path)
        assert main(["train", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("stacx: ")
        assert err.index("\n") == len(err) - 1
        assert contents(tmp_path) == before
        return err.removeprefix("stacx: ").rstrip("\n")

    return refuse


@pytest.mark.parametrize(
    "given",
    [["--reward-clip", "none"], ["--reward-clip=none"], ["--reward-clip", "None"]],
)
def test_none_is_given_as_it_is_printed(given, monkeypatch):
    seen = []
    monkeypatch.setattr("stacx.runs.train", lambda config, *_, **__: seen.append(config))
    env = ["--env", "atari:Pong", "--tune", "none", "--max-aux-gradient", "none"]
    assert main(["train", *env, *given]) == 0
    (config,) = seen
    assert (config.reward_clip, config.max_aux_gradient, config.tune) == (None, None, "none")


def test_a_run_says_where_it_is_and_what_to_do_next(tmp_path, capsys, tiny_run):
    assert main(["train", *tiny_flags(steps="2k"), "--run-dir", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "mlp-widths" in out
    assert "num-actors" not in out
    lines = out.splitlines()
    assert "run directory: run" in lines
    compiling = lines.index("compiling, unless a run of this kind was compiled before")
    assert compiling < len(lines) - 3
    assert lines[-3].startswith("2,000 steps  ")
    assert "gamma 0.99" in lines[-3]
    assert lines[-2:] == ["figure: run/figures/training.png", "evaluate with: stacx eval run"]
    assert_same_run(tmp_path / "run", tiny_run().directory)


def test_without_a_directory_there_is_a_new_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training._Training, "run", lambda self, resume: None)
    assert main(["train", *tiny_flags(), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("Catch-bsuite-stac-0-")
    assert RunDirectory(directory).config() == tiny_config()


@pytest.fixture
def trained(monkeypatch):
    """The config that would have been trained."""
    configs = []
    monkeypatch.setattr("stacx.runs.train", lambda config, *_, **__: configs.append(config))

    def train(*arguments):
        assert main(["train", *arguments]) == 0
        return configs.pop()

    return train


@pytest.mark.parametrize("steps", ["500000", "5e5", "500k", "0.5M"])
def test_steps_may_be_written_in_many_ways(trained, steps):
    assert trained("--steps", steps).steps == trained(f"--steps={steps}").steps == 500_000


def test_flags_are_relative_to_the_presets(trained):
    assert trained() == Config()
    minatar = trained("--env", "gymnax:Breakout-MinAtar", "--agent", "impala", "--gamma", "0.9")
    assert minatar == Config(env="gymnax:Breakout-MinAtar", agent="impala", gamma=0.9)
    tuned = trained("--tune", "lambda,gamma", "--initial-gamma", "0.8", "--lambda", "0.5")
    assert tuned == Config(tune="gamma,lambda", initial_gamma=0.8, lambda_=0.5)


def test_a_resumed_run_has_the_settings_it_had(tiny_run, trained):
    directory = str(tiny_run().directory)
    for flags in (["--run-dir", directory], [f"--run-dir={directory}"], ["--run_dir", directory]):
        assert trained("--resume", *flags) == tiny_config()


def test_a_resumed_run_of_remote_actors_may_have_threads(trained, tmp_path):
    """Without what only remote actors have a use for, which was never given here."""
    config = tiny_config(env="gym:CartPole-v1", actors="ray", ray_address="h:1", actor_envs=2)
    RunDirectory.create(tmp_path / "remote", config)
    flags = ("--resume", "--run-dir", str(tmp_path / "remote"))
    assert trained(*flags) == config
    assert trained(*flags, "--actors", "threads") == tiny_config(env="gym:CartPole-v1")


def test_a_resumed_run_cannot_have_a_command_executed(refused, tiny_run, tmp_path):
    run, command = tiny_run().directory, json.dumps({"cmd": f"touch {tmp_path / 'executed'}"})
    change_config(run, env="subprocess:getoutput", env_args=command)
    resume = ("--resume", "--run-dir", str(run))
    assert refused(*resume).endswith("if you trust it, add --env subprocess:getoutput")
    assert "is a run with env 'subprocess:getoutput', not" in refused(*resume, "--env", "o:f")
    change_config(run, env="gym:antigravity:Pole-v3", env_args="{}")
    assert refused(*resume).endswith("if you trust it, add --env gym:antigravity:Pole-v3")
    change_config(run, env="gymnax:Catch-bsuite", env_args="{}", torso="subprocess:getoutput")
    assert refused(*resume).endswith("if you trust it, add --torso subprocess:getoutput")


def test_a_resumed_run_may_call_what_is_named_on_the_command_line(tiny_run, trained):
    run = tiny_run().directory
    change_config(run, env="installed.games:Game", torso="installed:torso")
    named = ("--env", "installed.games:Game", "--torso=installed:torso")
    config = trained("--resume", "--run-dir", str(run), *named)
    assert config == tiny_config(env="installed.games:Game", torso="installed:torso")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "gymnax:CartPol-v1"], "; did you mean gymnax:CartPole-v1"),
        (["--env", "CartPole-v1"], "; did you mean gymnax:CartPole-v1"),
        (["--env", "jumanji:Snake-v1"], "unknown environment family 'jumanji'"),
        (["--env-args", "size 3"], "--env-args must be a JSON object, not 'size 3'"),
        (["--env-args", '{"size": 3}'], "has no parameter size: --env-args takes "),
        (["--agent", "impla"], "unknown agent 'impla': use impala, stac, impala-aux or stacx"),
        (["--tune", "gama"], "unknown metaparameter 'gama' in --tune"),
        (["--stepps", "5"], "Unrecognized options: --stepps, 5; did you mean --steps?"),
        (["--steps", "0"], "--steps must be positive, not 0"),
        (["--steps", "-5"], "--steps must be positive, not -5"),
        (["--steps", "abc"], "'abc' is not a whole number such as 500000, 5e5, 500k or 2M"),
        (["--steps", "1.5"], "'1.5' is not a whole number"),
        (["--steps"], "Missing value for argument '--steps'"),
        (["--steps", "1e30"], "--steps must be less than 2^31 updates, not 10"),
        (["--env", "gym:CartPole-v1", "--steps", "1e30"], "--steps must be less than 2^31 upd"),
        (["--seed", "-1"], "--seed must be zero or more, not -1"),
        (["--num-seeds", "0"], "--num-seeds must be positive, not 0"),
        (["--learning-rate", "nan"], "--learning-rate must be positive, not nan"),
        (["--mlp-widths", "8", "0"], "--mlp-widths must be positive whole numbers, not (8, 0)"),
        (
            ["--torso", "nope"],
            "unknown torso 'nope': use mlp, minatar, resnet, shallow, nature or package.m",
        ),
        (["--torso", "no.module:torso"], "cannot import 'no.module'"),
        (["--overlap", "20"], "--overlap must be below --trajectory-length, not 20"),
        (["--num-actors", "2"], "--num-actors has no effect for gymnax:CartPole-v1, which steps "),
        (["--actor-devices", "0"], "--actor-devices has no effect for gymnax:CartPole-v1, which"),
        (["--learner-devices", "0"], "--learner-devices has no effect for gymnax:CartPole-v1, "),
        (["--queue-size", "2"], "--queue-size has no effect for gymnax:CartPole-v1, which steps "),
        (["--deterministic"], "--deterministic has no effect for gymnax:CartPole-v1, which steps"),
        (["--vectorization", "async"], "--vectorization has no effect for gymnax:CartPole-v1, wh"),
        (["--env-timeout", "9"], "--env-timeout has no effect for gymnax:CartPole-v1, which step"),
        (["--max-env-restarts", "9"], "--max-env-restarts has no effect for gymnax:CartPole-v1,"),
        (
            ["--env", "gym:CartPole-v1", "--deterministic", "--queue-size", "2"],
            "--queue-size has no effect with --deterministic, which bounds the queue itself: leave",
        ),
        (
            ["--env", "atari:Pong", "--vectorization", "async"],
            "--vectorization has no effect for atari:Pong, which makes batches of its own: lea",
        ),
        (["--resume"], "--resume needs --run-dir"),
        (["--resume", "--run-dir", "none"], "none is not a run directory: there is no such dir"),
        (["surplus"], "Unrecognized options: surplus"),
    ],
)
def test_bad_arguments(refused, arguments, message):
    assert message in refused(*arguments)


def test_directories_that_cannot_be_used(refused, tmp_path, tiny_run):
    run = str(tiny_run().directory)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds a run already: continue it with --resume" in refused("--run-dir", run)
    assert "full exists and is not empty" in refused("--run-dir", "full")
    assert "file exists and is not a directory" in refused("--run-dir", "full/file")
    assert "cannot write to full/file/run: Not a dir" in refused("--run-dir", "full/file/run")
    assert "it has no config.json" in refused("--resume", "--run-dir", "full")
    refusal = refused("--resume", "--run-dir", run, "--gamma", "0.5", "--seed", "2")
    assert refusal.endswith(
        "different: seed (0 there, 2 here), gamma (0.99 there, 0.5 here): leave "
        "these flags as they were"
    )


USERS_FUNCTIONS = """
import gymnasium
import jax.numpy as jnp
from stacx import Discrete, Timestep

def raises():
    raise RuntimeError("not today\\nnor tomorrow")

def nothing():
    return None

class Game:
    observation_shape, observation_dtype = (2,), jnp.float32
    action_space = Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(2)

    def step(self, key, state, action):
        state = (state + 1) % 8
        reward = jnp.where(state == 6, jnp.nan, 1.0)
        return state, Timestep(jnp.zeros(2), reward, state == 7, jnp.bool_(False))

def leaves():
    raise SystemExit(0)

class StepRaises(Game):
    def step(self, key, state, action):
        return state.left

class WrongShape(Game):
    def reset(self, key):
        return jnp.int32(0), jnp.zeros(3)

def torso_raises(shape, key):
    raise RuntimeError("not today\\nnor tomorrow")

def torso_of_nothing(shape, key):
    return None

class Lever(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1.0, float("inf"), (2,))

class Speech(gymnasium.Env):
    observation_space = gymnasium.spaces.Text(5)
    action_space = gymnasium.spaces.Discrete(2)

def batches(num_envs):
    return gymnasium.make_vec("CartPole-v1", num_envs)

def of_levers():
    return Lever

number = 3
"""


@pytest.fixture
def users_module(tmp_path):
    (tmp_path / "users_game.py").write_text(USERS_FUNCTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "no.such.module:Game"], "cannot import 'no.such.module'"),
        (["--env", "users_game:Chess"], "module 'users_game' has no function 'Chess'"),
        (["--env", "users_game:number"], "module 'users_game' has no function 'number'"),
        (["--env", "users_game:raises"], "users_game:raises raised RuntimeError: not today"),
        (["--env", "users_game:leaves"], "users_game:leaves raised SystemExit: 0 ("),
        (["--env", "users_game:nothing"], "must return a Gymnasium environment"),
        (
            ["--env", "users_game:batches", "--vectorization", "sync"],
            "--vectorization has no effect for users_game:batches, which makes batches of its own",
        ),
        (["--env", "users_game:of_levers"], "must return a Gymnasium environment"),
        (["--env", "users_game:Lever"], "users_game:Lever has actions without finite bounds (Box("),
        (["--env", "users_game:Speech"], "users_game:Speech has observations of Text, which"),
        (["--env", "users_game:StepRaises"], "users_game:StepRaises raised AttributeError: "),
        (["--env", "users_game:WrongShape"], "the observation of reset is float32[3], not"),
        (["--torso", "users_game:torso_raises"], "raised RuntimeError: not today"),
        (["--torso", "users_game:torso_of_nothing"], "must return a callable"),
        (["--torso", "users_game:chess"], "module 'users_game' has no function 'chess'"),
    ],
)
def test_functions_of_the_user(users_module, refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("env", "absent", "command"),
    [
        ("atari:Pong", "ale_py", "pip install '.[atari]' in stacx's project directory"),
        ("gym:LunarLander-v3", "Box2D", "pip install '.[gym]' in stacx's project directory"),
        ("gym:CartPole-v1", "gymnasium", "pip install . in stacx's project directory"),
    ],
)
def test_a_package_that_is_missing(env, absent, command):
    """In a process of its own, where nothing has imported it."""
    program = f"import sys; sys.modules[{absent!r}] = None; from stacx.cli.main import main; "
    done = subprocess.run(
        [sys.executable, "-c", program + "sys.exit(main())", "train", "--env", env],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("stacx: ")
    assert absent in done.stderr
    assert done.stderr.endswith(f"{command}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--actor-devices", "0", "1", "2", "--num-actors", "3"],
            "--actor-devices 0 1 2: there are only devices 0 to 1, each to be named once",
        ),
        (["--learner-devices", "5"], "--learner-devices 5: there are only devices 0 to 1, each"),
        (
            ["--learner-devices", "0", "1", "--num-envs", "5"],
            "--num-envs 5 does not divide over 2 learner devices: change it or --learner-devices",
        ),
        (
            ["--actor-devices", "0", "1"],
            "--actor-devices names 2 devices for 1 actors: name fewer, or raise --num-actors",
        ),
    ],
)
def test_devices_that_there_are_not(refused, monkeypatch, arguments, message):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1] * 2)
    assert message in refused("--env", "gym:CartPole-v1", *arguments)


def test_an_environment_that_returns_nan_ends_the_run(users_module, tmp_path, capsys):
    flags = tiny_flags(env="users_game:Game", agent="impala", tune="none")
    assert main(["train", *flags, "--run-dir", "run", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stacx: users_game:Game returned rewards that are not finite (")
    assert err.count("\n") == 1
    assert RunDirectory(tmp_path / "run").metrics()[-1]["skipped_updates"] > 0

"""Plans: which runs, with which commands, how far, and for how long."""

import json
from pathlib import Path

import pytest
from support import message_of
from synthetic_runs import experiment_of, plan_of, tiny_suite, write_all, write_run

from stacx.agents import AGENTS
from stacx.cli.parsing import parse
from stacx.cli.train import Arguments, _default_config
from stacx.config import Config
from stacx.errors import ConfigError
from stacx.reproduction.estimates import START_SECONDS, duration, in_all, rough_rate
from stacx.reproduction.experiments import EXPERIMENTS
from stacx.reproduction.plan import State, flags, make_plan, seconds_left
from stacx.reproduction.suites import SUITES
from stacx.runs.directory import RunDirectory

OUT = Path("out")


def parsed_back(arguments):
    """What `stacx train` makes of the arguments that follow `stacx`."""
    assert arguments[0] == "train"
    rest = arguments[1:]
    return parse(Arguments, rest, command="train", default=Arguments(_default_config(rest)))


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_every_experiment_has_a_run_for_each_cell_or_seed(suite):
    for name, variants in (("adaptivity", 1), ("runtime", 4)):
        plan = make_plan(EXPERIMENTS[name], suite, "small", 3, OUT)
        tasks = 1 if name == "runtime" else len(suite.tasks["small"])
        each = 1 if suite.name in ("classic", "minatar") else 3
        assert len(plan.runs) == tasks * variants * each
        places = {run.directory for run in plan.runs}
        assert len(places) == len(plan.runs)
        assert all(place.is_relative_to(OUT / "runs") for place in places)


@pytest.mark.parametrize(
    ("name", "suite", "scale"),
    [
        ("ablation", "classic", "small"),
        ("started-wrong", "minatar", "paper"),
        ("robustness-init", "atari5", "small"),
        ("robustness-value-weight", "rwrl", "medium"),
        ("learning-curves", "dmc-pixels", "paper"),
    ],
)
def test_a_command_gives_its_config_and_its_directory(name, suite, scale):
    plan = make_plan(EXPERIMENTS[name], SUITES[suite], scale, 2, OUT)
    for run in plan.runs[:12]:
        parsed = parsed_back(run.arguments)
        assert parsed.config == run.config
        assert parsed.run_dir == run.directory
        assert not parsed.resume


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mlp_widths": (), "head_widths": (64, 32), "reward_clip": None},
        {"deterministic": True, "env": "gym:CartPole-v1", "num_actors": 2},
        {"lambda_": 0.95, "initial_g_v": 0.123456789, "learning_rate": 1e-7},
        {"env": "atari:Pong", "reward_clip": None, "env_args": '{"noop_max": 7}'},
        {"log_std_min": -6.5, "num_seeds": 3, "seed": 5, "normalise_observations": True},
    ],
)
def test_all_kinds_of_settings_go_through_the_command_line(settings):
    config = Config(**settings)
    assert parsed_back(["train", *flags(config)]).config == config


def test_a_command_has_no_flag_that_says_what_is_so_anyway():
    suite = tiny_suite(envs=["gymnax:Catch-bsuite"])
    (run,) = plan_of(experiment_of("stac"), suite, OUT).runs
    assert run.command == (
        "stacx train --env gymnax:Catch-bsuite --agent stac --steps 6400 --num-seeds 2 "
        "--run-dir out/runs/Catch-bsuite/stac"
    )


def test_seeds_share_a_run_or_have_one_each():
    (shared,) = plan_of(experiment_of("stac"), tiny_suite(envs=["gymnax:Catch-bsuite"]), OUT).runs
    assert (shared.config.seed, shared.config.num_seeds) == (0, 2)
    apart = plan_of(experiment_of("stac"), tiny_suite(envs=["gym:CartPole-v1"]), OUT).runs
    assert [(r.config.seed, r.config.num_seeds) for r in apart] == [(0, 1), (1, 1)]
    assert [r.directory.name for r in apart] == ["seed-0", "seed-1"]
    assert [r.label for r in apart] == ["CartPole-v1 stac seed 0", "CartPole-v1 stac seed 1"]


@pytest.fixture
def run(tmp_path):
    suite = tiny_suite(envs=["gymnax:Catch-bsuite"])
    return plan_of(experiment_of("stac"), suite, tmp_path).runs[0]


def test_states(run):
    assert run.state() is State.TO_DO
    assert run.arguments_to_go_on == run.arguments
    RunDirectory.create(run.directory, run.config)
    assert run.state() is State.INTERRUPTED
    assert run.arguments_to_go_on == [*run.arguments, "--resume"]


def test_a_run_is_complete_when_every_seed_has_its_last_line(run):
    write_run(run, lambda seed: 1.0)
    assert run.state() is State.COMPLETE
    file = RunDirectory(run.directory).metrics_file
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert run.state() is State.INTERRUPTED


def test_an_interrupted_run_knows_how_far_it_is(run):
    write_run(run, lambda seed: 1.0, share=0.4)
    assert run.state() is State.INTERRUPTED
    assert run.share_done() == pytest.approx(0.4, abs=0.1)


def test_a_run_with_other_settings_is_not_taken_for_this_one(run, tmp_path):
    other = plan_of(experiment_of("stac"), tiny_suite(envs=["gymnax:Catch-bsuite"], gamma=0.5), OUT)
    RunDirectory.create(run.directory, other.runs[0].config)
    with pytest.raises(ConfigError) as caught:
        run.state()
    assert "a run with other settings (--gamma): move it away" in message_of(caught)


def test_times_add_up_over_resumptions(run):
    run.directory.mkdir(parents=True)
    assert run.seconds() is None
    run.add_process(2.5, "here")
    run.add_process(4.0, "there")
    run.add_process(1.0, "here")
    assert run.seconds() == 7.5
    assert run.made_on() == ("here", "there")
    run.timing.write_text("{")
    assert run.seconds() is None


def test_results_have_the_cells_with_all_seeds(tmp_path):
    suite = tiny_suite(envs=["gym:CartPole-v1", "gym:Acrobot-v1"])
    plan = plan_of(experiment_of("impala", "stac"), suite, tmp_path)
    write_all(plan)
    last = plan.runs[-1]
    file = RunDirectory(last.directory).metrics_file
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    results = plan.results()
    assert set(results.cells) == {
        ("gym:CartPole-v1", "impala"),
        ("gym:CartPole-v1", "stac"),
        ("gym:Acrobot-v1", "impala"),
    }
    assert [task.env for task in results.shared_tasks()] == ["gym:CartPole-v1"]
    cell = results.cells["gym:CartPole-v1", "stac"]
    assert cell.data.seeds == [0, 1]
    assert cell.scores.shape == (2,)
    assert cell.seconds == pytest.approx(4.0)


def test_a_cell_without_any_episode_is_none(tmp_path):
    plan = plan_of(experiment_of("impala", "stac"), tiny_suite(), tmp_path)
    write_all(plan)
    file = RunDirectory(plan.runs[0].directory).metrics_file
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    never = {"episode_return": None, "episodes": 0}
    changed = [line | never if line["seed"] == 1 else line for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in changed))
    results = plan.results()
    assert (plan.runs[0].task.env, "impala") not in results.cells
    assert len(results.cells) == 3
    assert results.without_score == ["Catch-bsuite impala"]


def test_seconds_that_cannot_be_written_cost_no_run(run, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    run.add_process(3.0, "here")
    assert run.seconds() is None


def test_an_estimate_is_rough_until_a_run_of_the_task_is_complete(tmp_path):
    suite = tiny_suite(envs=["gymnax:Catch-bsuite", "gymnax:CartPole-v1"])
    plan = plan_of(experiment_of("impala", "stac"), suite, tmp_path)
    measured, other, elsewhere, _ = plan.runs
    seconds, rough = seconds_left(other, [])
    assert rough
    assert seconds == pytest.approx(START_SECONDS + 12_800 / rough_rate(other.config))
    write_run(measured, lambda seed: 1.0, rate=200.0)
    seconds, rough = seconds_left(other, [measured])
    assert not rough
    ratio = rough_rate(measured.config) / rough_rate(other.config)
    assert seconds == pytest.approx(START_SECONDS + 12_800 / 200 * ratio)
    assert seconds_left(elsewhere, [measured])[1]


def test_what_is_done_already_is_not_estimated_again(run):
    write_run(run, lambda seed: 1.0, share=0.5)
    rest = seconds_left(run, [])[0] - START_SECONDS
    assert rest == pytest.approx((1 - run.share_done()) * 12_800 / rough_rate(run.config))


def test_rough_rates_order_the_agents():
    """Auxiliary heads and, more so, self-tuning cost time."""
    for env in ("gymnax:Catch-bsuite", "atari:Pong", "dmc:walker-walk", "my_env:make"):
        rates = {agent: rough_rate(Config(env=env, agent=agent)) for agent in AGENTS}
        assert rates["impala"] > rates["stac"] > rates["stacx"]
    own = Config(env="my_env:make")
    assert rough_rate(own, on_device=True) > 50 * rough_rate(own)
    shallow = Config(env="atari:Pong", torso="shallow")
    assert rough_rate(shallow) > 5 * rough_rate(Config(env="atari:Pong"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40.0, "40 s"), (720.0, "12 min"), (12_600.0, "3.5 h"), (181_440.0, "2.1 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_runs_that_keep_two_cores_busy_gain_less_side_by_side():
    assert in_all([60.0] * 4, 2, 1) == 120.0
    assert in_all([60.0] * 4, 2, 2) == 240.0
    assert in_all([60.0] * 4, 1, 2) == 240.0

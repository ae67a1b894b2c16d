"""The registry: every experiment is valid on every suite at every scale."""

import dataclasses
import math

import pytest

from stacx.agents import METAPARAMETERS
from stacx.config import Config
from stacx.reproduction.experiments import EXPERIMENTS, Variant
from stacx.reproduction.suites import SCALES, SUITES

VARIANTS = {
    "learning-curves": 4,
    "per-domain": 4,
    "ablation": 10,
    "robustness-gamma": 10,
    "robustness-value-weight": 10,
    "robustness-init": 10,
    "adaptivity": 1,
    "two-alphas": 2,
    "runtime": 4,
    "started-wrong": 19,
}
CATCH = SUITES["classic"].tasks["small"][0]


def configs(experiment, suite, scale):
    """On at most three tasks, which differ in their domains."""
    tasks = suite.tasks[scale][: experiment.tasks]
    tasks = tasks[:: max(1, len(tasks) // 3)]
    return [v.config(task, 0, 1) for v in experiment.variants(suite) for task in tasks]


def of(name, suite="classic"):
    """The configs of an experiment's variants on Catch."""
    variants = EXPERIMENTS[name].variants(SUITES[suite])
    return {variant.name: variant.config(CATCH, 0, 1) for variant in variants}


def test_every_experiment_has_its_variants():
    counts = {n: len(e.variants(SUITES["classic"])) for n, e in EXPERIMENTS.items()}
    assert counts == VARIANTS


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_every_variant_is_a_config_everywhere_and_they_differ(name, suite):
    for scale in SCALES:
        made = configs(EXPERIMENTS[name], suite, scale)
        assert len(set(made)) == len(made)
        assert {config.steps for config in made} <= {t.steps for t in suite.tasks[scale]}
    names = [variant.name for variant in EXPERIMENTS[name].variants(suite)]
    assert len(set(names)) == len(names)


def test_two_alphas_tune_21_metaparameters():
    config = of("two-alphas")["stacx-two-alphas"]
    assert len(config.tuned) * config.heads == 21


def test_other_experiments_do_not_need_two_alphas():
    """The registry is made without making a single config."""
    assert all(callable(experiment.variants) for experiment in EXPERIMENTS.values())


def test_the_ablation_nests_subsets_for_one_head_and_for_three():
    rows = {name: (config.tuned, config.heads) for name, config in of("ablation").items()}
    everything = Config(agent="stac").tuned
    nested = [(), ("gamma",), ("gamma", "lambda"), ("gamma", "lambda", "g_v", "g_p", "g_e")]
    assert list(rows.values()) == [
        (subset, heads) for heads in (1, 3) for subset in (*nested, everything)
    ]


def test_outer_values_are_perturbed_for_both_agents():
    """On Atari around its own discount."""
    for suite, values in (
        ("classic", [0.9, 0.95, 0.98, 0.99, 0.995]),
        ("atari5", [0.99, 0.992, 0.995, 0.997, 0.999]),
    ):
        made = of("robustness-gamma", suite)
        for agent in ("impala", "stacx"):
            assert [c.gamma for c in made.values() if c.agent == agent] == values
    made = of("robustness-value-weight")
    weights = [c.g_v for c in made.values() if c.agent == "stacx"]
    assert weights == [0.025, 0.075, 0.25, 0.75, 2.5]
    assert {c.initial_value("g_v") for c in made.values()} == {None}


def test_starts_are_perturbed_alone_or_together():
    made = of("robustness-init")
    starts = (0.99, 0.992, 0.995, 0.997, 0.999)
    together = [made[f"stacx-all-start-{value}"].initial_logit for value in starts]
    assert [1 / (1 + math.exp(-x)) for x in together] == pytest.approx(starts)
    alone = [made[f"stacx-gamma-starts-{value}"] for value in starts]
    assert [config.initial_gamma for config in alone] == list(starts)
    assert {config.initial_logit for config in alone} == {4.6}


def test_what_starts_wrong_is_fixed_for_impala_and_a_start_for_the_others():
    made = of("started-wrong")
    right, wrong = made["impala"], made["impala-wrong-all"]
    assert (wrong.gamma, wrong.lambda_, wrong.alpha) == (0.8, 0.5, 0.3)
    assert wrong.g_v == pytest.approx(0.1 * right.g_v)
    assert wrong.g_p == pytest.approx(0.1 * right.g_p)
    assert wrong.tuned == ()
    for agent in ("stac", "stacx"):
        config = made[f"{agent}-wrong-all"]
        starts = [config.initial_value(n) for n in ("gamma", "lambda", "alpha", "g_p", "g_v")]
        assert starts == [0.8, 0.5, 0.3, 0.1, 0.1]
        assert config.outer_values() == right.outer_values()
        assert made[f"{agent}-wrong-lambda"].initial_gamma is None
    assert made["impala-wrong-gamma"].lambda_ == right.lambda_


@pytest.mark.parametrize(
    ("scale", "rate"), [("small", 100 / 3125), ("medium", 100 / 12500), ("paper", 100 / 31250)]
)
def test_metaparameters_that_start_wrong_have_a_rate_by_the_updates(scale, rate):
    experiment, suite = EXPERIMENTS["started-wrong"], SUITES["classic"]
    (task,) = (task for task in suite.tasks[scale] if task.name == "CartPole-v1")
    (variant,) = (v for v in experiment.variants(suite) if v.name == "stac-wrong-all")

    def of_steps(steps):
        return variant.config(dataclasses.replace(task, steps=steps), 0, 1).meta_learning_rate

    assert of_steps(task.steps) == pytest.approx(rate)
    assert of_steps(10_000) == 0.1  # the fastest that was tried
    assert of_steps(1_000_000_000) == 1e-3  # the preset's


def test_derived_fields_are_of_what_the_task_has():
    variant = Variant(
        "x",
        {"agent": "impala", "g_v": 4.0},
        lambda usual: {"g_v": 0.5 * usual.g_v, "gamma": 0.1 * usual.gamma},
    )
    config = variant.config(CATCH, 7, 3)
    assert (config.g_v, config.gamma) == (2.0, pytest.approx(0.099))
    assert (config.seed, config.num_seeds) == (7, 3)


def test_experiments_say_what_the_paper_has():
    for experiment in EXPERIMENTS.values():
        assert (
            "Fig" in experiment.paper
            or "Table" in experiment.paper
            or "Not in" in (experiment.paper)
        )
    assert "72 %" in EXPERIMENTS["robustness-gamma"].paper
    assert "80 %" in EXPERIMENTS["robustness-value-weight"].paper


def test_the_names_of_metaparameters_are_the_agents():
    assert {"gamma", "lambda", "g_v", "g_p", "g_e"} <= set(METAPARAMETERS)

"""What is made of results: numbers by hand, on made-up metrics."""

import numpy as np
import pytest
from synthetic_runs import plan_of, rows_of, said, tiny_suite, write_all, write_run

from stacx.reproduction import analyses, figures
from stacx.reproduction.experiments import EXPERIMENTS
from stacx.reproduction.results import Results

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_an_analysis_whose_figures_can_be_drawn(name, tmp_path):
    experiment = EXPERIMENTS[name]
    plan = plan_of(experiment, tiny_suite(), tmp_path)
    write_all(plan)
    analysis = experiment.analyse(plan.results())
    assert analysis.comparisons
    assert analysis.tables
    assert analysis.illustrations
    for parts in (analysis.tables, analysis.illustrations):
        assert len({part.name for part in parts}) == len(parts)
    for illustration in analysis.illustrations[:2]:
        illustration.figure.savefig(tmp_path / f"{illustration.name}.png", dpi=40)
    for table in analysis.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_analysis_takes_what_is_there(name, tmp_path):
    """With a cell missing, and with nothing but one cell."""
    experiment = EXPERIMENTS[name]
    plan = plan_of(experiment, tiny_suite(), tmp_path)
    write_all(plan)
    results = plan.results()
    for left in (list(results.cells)[1:], list(results.cells)[:1]):
        cells = {key: results.cells[key] for key in left}
        some = Results(results.suite, results.tasks, results.variants, cells)
        if cells:
            experiment.analyse(some)


def test_times_are_held_against_impalas(tmp_path):
    plan = plan_of(EXPERIMENTS["runtime"], tiny_suite(), tmp_path)
    rates = {"impala": 1000.0, "stac": 500.0, "impala-aux": 800.0, "stacx": 400.0}
    for run in plan.runs:
        write_run(run, lambda seed: 1.0, rate=rates[run.variant])
    rows = {row["agent"]: row for row in rows_of(analyses.runtime(plan.results()), "runtime")}
    assert rows["stac"]["ratio"] == 2.0
    assert rows["stacx"]["ratio"] == pytest.approx(2.5)
    assert rows["stacx"]["minutes"] == pytest.approx(5 / 60)
    assert rows["stacx"]["paper"] == pytest.approx(84 / 70)
    assert rows["impala"]["ratio"] == 1.0
    assert rows["stac"]["lower quartile"] == rows["stac"]["upper quartile"] == 500.0
    assert len(plan.tasks) == 1


@pytest.mark.parametrize(("others", "trusted"), [(0.3, True), (1.2, False)])
def test_a_machine_that_was_busy_is_named_beside_the_times(tmp_path, others, trusted):
    plan = plan_of(EXPERIMENTS["runtime"], tiny_suite(), tmp_path)
    for run in plan.runs:
        write_run(run, lambda seed: 1.0, others=others if run.variant == "stac" else 0.1)
    text = said(analyses.runtime(plan.results()))["what else kept the machine busy, at worst"]
    assert text.startswith(f"{others} cores on average")
    assert ("do not trust" in text) is not trusted


def test_the_four_agents_have_the_papers_colours():
    styles = figures.line_styles(["impala", "stac", "impala-aux", "stacx"])
    assert styles["impala"][0] == styles["stac"][0] != styles["stacx"][0]
    assert styles["impala"][1] == styles["impala-aux"][1] != styles["stac"][1]
    assert len(figures.line_styles([f"x{k}" for k in range(20)])) == 20


def test_the_papers_numbers_stand_beside_ours(tmp_path):
    suite = tiny_suite("dmc")
    plan = plan_of(EXPERIMENTS["learning-curves"], suite, tmp_path)
    write_all(plan, lambda task, variant: 4.0)
    comparisons = analyses.learning_curves(plan.results()).comparisons
    of_stac = next(c for c in comparisons if c.quantity.startswith("stac,"))
    assert "389" in of_stac.paper
    assert 300 < float(of_stac.ours.split()[1]) < 500


def test_only_what_is_drawn_is_named(tmp_path):
    plan = plan_of(EXPERIMENTS["learning-curves"], tiny_suite(), tmp_path)
    for run in plan.runs:
        if run.variant in ("impala", "stacx"):
            write_run(run, lambda seed: 4.0)
    figure = figures.task_curves(plan.results(), 0.5)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["impala", "stacx"]


def test_improvements_are_shares_of_impalas_score(tmp_path):
    """STAC has 6 where IMPALA has 4, of 10: half as much again; where IMPALA is random, none."""

    def level(seed, task, variant):
        if task == "gymnax:CartPole-v1" and variant == "impala":
            return 0.0
        return {"impala": 4.0, "stac": 6.0, "stacx": 3.0}[variant]

    plan = plan_of(EXPERIMENTS["per-domain"], tiny_suite(), tmp_path)
    for run in plan.runs:
        if run.variant != "impala-aux":
            env, name = run.task.env, run.variant
            write_run(run, lambda seed, env=env, name=name: level(seed, env, name))
    analysis = analyses.per_domain(plan.results())
    rows = {
        (row["task"], row["agent"]): row["improvement, %"]
        for row in rows_of(analysis, "improvement-over-impala")
    }
    assert rows == {
        ("Catch-bsuite", "stac"): pytest.approx(50.0),
        ("Catch-bsuite", "stacx"): pytest.approx(-25.0),
    }
    (bars,) = [i for i in analysis.illustrations if i.name == "improvement-over-impala"]
    assert [axes.get_title() for axes in bars.figure.axes] == ["stac", "stacx"]


@pytest.mark.parametrize(("suite", "paper"), [("dmc", "mean"), ("atari5", "median")])
def test_curves_are_drawn_with_the_papers_statistic_too(tmp_path, suite, paper):
    plan = plan_of(EXPERIMENTS["learning-curves"], tiny_suite(suite), tmp_path)
    write_all(plan)
    names = [i.name for i in analyses.learning_curves(plan.results()).illustrations]
    assert names[:2] == ["curves", f"curves-{paper}"]


def test_a_profile_of_many_variants_has_a_panel_for_each_number_of_heads(tmp_path):
    plan = plan_of(EXPERIMENTS["ablation"], tiny_suite(), tmp_path)
    write_all(plan)
    illustrations = analyses.ablation(plan.results()).illustrations
    (profile,) = [i for i in illustrations if i.name == "profile"]
    one, three = [
        [text.get_text() for text in axes.get_legend().get_texts()] for axes in profile.figure.axes
    ]
    scores = np.concatenate([cell.scores for cell in plan.results().cells.values()])
    normalised = plan.tasks[0].reference.normalised(scores)
    for axes in profile.figure.axes:  # they span the scores, and little else
        low, high = axes.get_xlim()
        assert low < normalised.min()
        assert high - low < 1.2 * np.ptp(normalised) + 0.03
    assert len(one) == len(three) == 5
    assert "impala" in one
    assert "impala-aux" in three

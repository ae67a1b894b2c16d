"""What is made of results: numbers by hand, on made-up metrics."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import plan_of, rows_of, tiny_suite, write_all, write_run

from stacx.config import Config
from stacx.reporting import RunData
from stacx.reproduction import analyses, figures
from stacx.reproduction.experiments import EXPERIMENTS, Experiment, Variant
from stacx.reproduction.results import Results

pytestmark = pytest.mark.usefixtures("few_draws")


def said(analysis):
    return {c.quantity: c.ours for c in analysis.comparisons}


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


def test_robustness_counts_tasks_times_values(tmp_path):
    """STACX is better at two of five values, on both tasks."""
    better = {"stacx-gamma-0.9", "stacx-gamma-0.995"}

    def level(task, variant):
        if variant in better:
            return 9.0
        return 5.0 if variant.startswith("impala") else 1.0

    plan = plan_of(EXPERIMENTS["robustness-gamma"], tiny_suite(), tmp_path)
    write_all(plan, level)
    cells, better, apart, _ = said(analyses.robustness_of_gamma(plan.results())).values()
    assert cells == "40% (4 of 10)"
    assert better == "40% (40% to 40%)"
    assert apart == "STACX 4, IMPALA 6"


def test_cells_that_are_equal_are_named():
    ones, twos = np.ones(2), np.array([2.0, 2.0])
    ours, theirs = {"a": twos, "b": ones, "c": ones}, {"a": ones, "b": ones, "d": ones}
    cells, better, apart, means = analyses._wins(ours, theirs, "72 %")
    assert cells.ours == "50% (1 of 2; 1 more are equal within 0.005)"
    assert better.ours.startswith("75%")
    assert apart.ours == "STACX 1, IMPALA 0"
    assert means.ours.startswith("STACX 150% (150% to 150%), IMPALA 100%")


def test_without_a_cell_nothing_is_counted():
    (nothing,) = analyses._wins({}, {"a": np.ones(2)}, "72 %")
    assert nothing.ours == "no cell is complete"


def test_what_differs_by_next_to_nothing_is_equal():
    ours, theirs = {"a": np.full(2, 1.004)}, {"a": np.ones(2)}
    cells, _, apart, _ = analyses._wins(ours, theirs, "72 %")
    assert cells.ours == "0% (0 of 1; 1 more are equal within 0.005)"
    assert apart.ours == "STACX 0, IMPALA 0"


def test_cells_that_overlap_are_not_apart():
    ours, theirs = {"a": np.array([1.0, 3.0])}, {"a": np.array([0.0, 2.0])}
    assert analyses._wins(ours, theirs, "")[2].ours == "STACX 0, IMPALA 0"


def metrics_of(heads, *points):
    """A run whose points are (alpha_rho, alpha_c) for each head."""
    lines = {}
    for index, point in enumerate(points):
        line = {}
        for head, (rho, c) in enumerate(point):
            line |= {f"meta/alpha_rho/{head}": rho, f"meta/alpha_c/{head}": c}
        lines[0, index + 1] = line
    steps = np.arange(1, len(points) + 1)
    return RunData(Path("run"), Config(agent="stac", heads=heads), steps, [0], lines)


def test_the_shares_of_two_alphas_by_hand():
    """Over time and heads: greater, equal, nearly as great, less."""
    run = metrics_of(2, [(0.9, 0.8), (0.8, 0.8)], [(0.795, 0.8), (0.5, 0.8)])
    assert analyses.alpha_shares([run]) == (0.5, 0.75)


def test_alphas_that_never_move_do_not_count():
    """As head 1's, where it acts and learns on-policy."""
    still, moving = [(0.99, 0.99)] * 2, [(0.4, 0.5), (0.3, 0.5)]
    one, both = ([[alpha] for alpha in still], zip(still, moving, strict=True))
    assert analyses.alpha_shares([metrics_of(2, *both), metrics_of(1, *one)]) == (0.0, 0.0)
    assert np.isnan(analyses.alpha_shares([metrics_of(1, *one)])).all()
    assert np.isnan(analyses.alpha_shares([])).all()


def test_a_missing_line_costs_one_point():
    run = metrics_of(1, [(0.9, 0.5)], [(0.8, 0.5)], [(0.3, 0.5)])
    del run._lines[0, 3]
    assert analyses.alpha_shares([run]) == (1.0, 1.0)


def test_tasks_weigh_the_same_however_long_they_are():
    short = metrics_of(1, [(1.0, 0.5)], [(0.9, 0.5)])
    long = metrics_of(1, *[[(0.1, 0.5)], [(0.2, 0.5)]] * 9)
    assert analyses.alpha_shares([short, long]) == (0.5, 0.5)


def test_two_alphas_are_compared(tmp_path):
    """With metrics as they are where two alphas are tuned."""
    variants = (
        Variant("stacx", {"agent": "stacx"}),
        Variant(analyses.TWO_ALPHAS, {"agent": "stacx", "tune": "gamma"}),
    )
    experiment = Experiment("two-alphas", "", "", lambda _: variants, analyses.two_alphas)
    plan = plan_of(experiment, tiny_suite(), tmp_path)
    alphas = {f"meta/alpha_rho/{h}": lambda progress, _: 1.0 - progress for h in range(3)}
    alphas |= {f"meta/alpha_c/{h}": 0.5 for h in range(3)}
    write_all(plan, extra=alphas)
    shares = said(experiment.analyse(plan.results()))
    assert shares["time with alpha_rho >= alpha_c"] == "50.0 %"


def test_times_are_held_against_impalas(tmp_path):
    plan = plan_of(EXPERIMENTS["runtime"], tiny_suite(), tmp_path)
    rates = {"impala": 1000.0, "stac": 500.0, "impala-aux": 800.0, "stacx": 400.0}
    for run in plan.runs:
        write_run(run, lambda seed: 1.0, rate=rates[run.variant])
    rows = {row["agent"]: row for row in rows_of(analyses.runtime(plan.results()), "runtime")}
    assert rows["stac"]["ratio by steps/s"] == 2.0
    assert rows["stacx"]["ratio"] == pytest.approx(2.5)
    assert rows["stacx"]["minutes"] == pytest.approx(5 / 60)
    assert rows["stacx"]["paper"] == pytest.approx(84 / 70)
    assert rows["impala"]["ratio"] == 1.0
    assert rows["stac"]["lower quartile"] == rows["stac"]["upper quartile"] == 500.0
    assert len(plan.tasks) == 1


def test_metaparameters_end_where_they_end(tmp_path):
    """Weights as fractions of their outer values, for each head."""
    plan = plan_of(EXPERIMENTS["adaptivity"], tiny_suite(), tmp_path, seeds=1)
    write_all(plan)
    rows = rows_of(analyses.adaptivity(plan.results()), "metaparameters")
    assert len(rows) == 2 * len(Config(agent="stacx").tuned) * 3
    for row in rows:
        assert row["end, median"] == pytest.approx(0.9)
        assert row["start"] == pytest.approx(0.99, abs=1e-4)


def test_what_never_moves_is_said(tmp_path):
    plan = plan_of(EXPERIMENTS["adaptivity"], tiny_suite(), tmp_path, seeds=1)
    start = 1 / (1 + np.exp(-4.6))
    write_all(plan, extra={"meta/alpha/0": float(np.float32(start))})
    texts = said(analyses.adaptivity(plan.results()))
    assert texts["gamma of head 1 at the end"].endswith("outer 0.99)")
    assert "in 2 of 2 tasks it never moves" in texts["alpha of head 1 at the end"]
    assert "moves" not in texts["alpha of head 2 at the end"]


def test_the_share_kept_is_of_well_set_impala(tmp_path):
    def level(task, variant):
        if variant == "impala":
            return 8.0
        return 2.0 if variant.startswith("impala") else 6.0

    plan = plan_of(EXPERIMENTS["started-wrong"], tiny_suite(), tmp_path, seeds=30)
    write_all(plan, level)
    analysis = analyses.started_wrong(plan.results())
    texts = said(analysis)
    shares = {name: float(text.partition("%")[0]) for name, text in texts.items() if "%" in text}
    assert [text for text in texts.values() if "%" not in text] == ["0 of 12", "0 of 12"]
    expected = {"impala": 25.0, "stac": 75.0, "stacx": 75.0}
    for agent, share in expected.items():
        found = next(v for k, v in shares.items() if k.startswith(f"{agent}-wrong-all:"))
        assert found == pytest.approx(share, abs=5)


def test_recoveries_are_counted_where_impala_is_lost():
    kept = {
        ("a", "impala-wrong-gamma"): 0.6,
        ("a", "stac-wrong-gamma"): 0.95,
        ("a", "impala-wrong-g_p"): 0.61,
        ("a", "stac-wrong-g_p"): 1.0,
        ("b", "impala-wrong-gamma"): -0.1,
        ("b", "stac-wrong-gamma"): 0.94,
        ("b", "impala-wrong-all"): 0.0,
    }
    assert analyses.recoveries(kept, "stac") == (1, 2)
    assert analyses.recoveries(kept, "stacx") == (0, 0)


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
    assert len(one) == len(three) == 5
    assert "impala" in one
    assert "impala-aux" in three

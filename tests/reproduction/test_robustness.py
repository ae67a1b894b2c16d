"""What is made of wrong values: numbers by hand, on made-up metrics."""

import numpy as np
import pytest
from synthetic_runs import plan_of, said, tiny_suite, write_all

from stacx.reproduction import robustness
from stacx.reproduction.experiments import EXPERIMENTS

pytestmark = pytest.mark.usefixtures("few_draws")


def test_robustness_counts_tasks_times_values(tmp_path):
    """STACX is better at two of five values, on both tasks."""
    better = {"stacx-gamma-0.9", "stacx-gamma-0.995"}

    def level(task, variant):
        if variant in better:
            return 9.0
        return 5.0 if variant.startswith("impala") else 1.0

    plan = plan_of(EXPERIMENTS["robustness-gamma"], tiny_suite(), tmp_path)
    write_all(plan, level)
    cells, better, apart, _ = said(robustness.robustness_of_gamma(plan.results())).values()
    assert cells == "40% (4 of 10; 0 are equal within 0.005, and in 6 IMPALA's is above)"
    assert better == "40% (40% to 40%)"
    assert apart == "STACX 4, IMPALA 6"


def test_cells_that_are_equal_are_named():
    ones, twos = np.ones(2), np.array([2.0, 2.0])
    ours, theirs = {"a": twos, "b": ones, "c": ones}, {"a": ones, "b": ones, "d": ones}
    cells, better, apart, means = robustness._wins(ours, theirs, "72 %")
    assert cells.ours == "50% (1 of 2; 1 are equal within 0.005, and in 0 IMPALA's is above)"
    assert better.ours.startswith("75%")
    assert apart.ours == "STACX 1, IMPALA 0"
    assert means.ours.startswith("STACX 150% (150% to 150%), IMPALA 100%")


def test_without_a_cell_nothing_is_counted():
    (nothing,) = robustness._wins({}, {"a": np.ones(2)}, "72 %")
    assert nothing.ours == "no cell is complete"


def test_what_differs_by_next_to_nothing_is_equal():
    ours, theirs = {"a": np.full(2, 1.004)}, {"a": np.ones(2)}
    cells, _, apart, _ = robustness._wins(ours, theirs, "72 %")
    assert cells.ours == "0% (0 of 1; 1 are equal within 0.005, and in 0 IMPALA's is above)"
    assert apart.ours == "STACX 0, IMPALA 0"


def test_cells_that_overlap_are_not_apart():
    ours, theirs = {"a": np.array([1.0, 3.0])}, {"a": np.array([0.0, 2.0])}
    assert robustness._wins(ours, theirs, "")[2].ours == "STACX 0, IMPALA 0"


def test_the_share_kept_is_of_well_set_impala(tmp_path):
    def level(task, variant):
        if variant == "impala":
            return 8.0
        return 2.0 if variant.startswith("impala") else 6.0

    plan = plan_of(EXPERIMENTS["started-wrong"], tiny_suite(), tmp_path, seeds=30)
    write_all(plan, level)
    analysis = robustness.started_wrong(plan.results())
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
    assert robustness.recoveries(kept, "stac") == (1, 2)
    assert robustness.recoveries(kept, "stacx") == (0, 0)

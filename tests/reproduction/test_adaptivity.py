"""What is made of metaparameters: numbers by hand, on made-up metrics."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import plan_of, rows_of, said, tiny_suite, write_all

from stacx.config import Config
from stacx.reporting import RunData
from stacx.reproduction import adaptivity
from stacx.reproduction.experiments import EXPERIMENTS, Experiment, Variant

pytestmark = pytest.mark.usefixtures("few_draws")


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
    assert adaptivity.alpha_shares([run]) == (0.5, 0.75)


def test_alphas_that_never_move_do_not_count():
    """As head 1's, where it acts and learns on-policy."""
    still, moving = [(0.99, 0.99)] * 2, [(0.4, 0.5), (0.3, 0.5)]
    one, both = ([[alpha] for alpha in still], zip(still, moving, strict=True))
    assert adaptivity.alpha_shares([metrics_of(2, *both), metrics_of(1, *one)]) == (0.0, 0.0)
    assert np.isnan(adaptivity.alpha_shares([metrics_of(1, *one)])).all()
    assert np.isnan(adaptivity.alpha_shares([])).all()


def test_a_missing_line_costs_one_point():
    run = metrics_of(1, [(0.9, 0.5)], [(0.8, 0.5)], [(0.3, 0.5)])
    del run._lines[0, 3]
    assert adaptivity.alpha_shares([run]) == (1.0, 1.0)


def test_tasks_weigh_the_same_however_long_they_are():
    short = metrics_of(1, [(1.0, 0.5)], [(0.9, 0.5)])
    long = metrics_of(1, *[[(0.1, 0.5)], [(0.2, 0.5)]] * 9)
    assert adaptivity.alpha_shares([short, long]) == (0.5, 0.5)


def test_two_alphas_are_compared(tmp_path):
    """With metrics as they are where two alphas are tuned."""
    variants = (
        Variant("stacx", {"agent": "stacx"}),
        Variant(adaptivity.TWO_ALPHAS, {"agent": "stacx", "tune": "gamma"}),
    )
    experiment = Experiment("two-alphas", "", "", lambda _: variants, adaptivity.two_alphas)
    plan = plan_of(experiment, tiny_suite(), tmp_path)
    alphas = {f"meta/alpha_rho/{h}": lambda progress, _: 1.0 - progress for h in range(3)}
    alphas |= {f"meta/alpha_c/{h}": 0.5 for h in range(3)}
    write_all(plan, extra=alphas)
    shares = said(experiment.analyse(plan.results()))
    assert shares["time with alpha_rho >= alpha_c"] == "50.0 %"


def test_metaparameters_end_where_they_end(tmp_path):
    """Weights as fractions of their outer values, for each head."""
    plan = plan_of(EXPERIMENTS["adaptivity"], tiny_suite(), tmp_path, seeds=1)
    write_all(plan)
    rows = rows_of(adaptivity.adaptivity(plan.results()), "metaparameters")
    assert len(rows) == 2 * len(Config(agent="stacx").tuned) * 3
    for row in rows:
        assert row["end, median"] == pytest.approx(0.9)
        assert row["start"] == pytest.approx(0.99, abs=1e-4)


def test_what_never_moves_is_said(tmp_path):
    plan = plan_of(EXPERIMENTS["adaptivity"], tiny_suite(), tmp_path, seeds=1)
    start = 1 / (1 + np.exp(-4.6))
    write_all(plan, extra={"meta/alpha/0": float(np.float32(start))})
    texts = said(adaptivity.adaptivity(plan.results()))
    assert texts["gamma of head 1 at the end"].endswith("outer 0.99)")
    assert "in 2 of 2 tasks it never moves" in texts["alpha of head 1 at the end"]
    assert "moves" not in texts["alpha of head 2 at the end"]

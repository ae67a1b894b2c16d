"""What is said of any scores: numbers by hand, and published ones."""

import pytest
from synthetic_runs import experiment_of, plan_of, rows_of, tiny_suite, write_all, write_run

from stacx.reproduction import comparing
from stacx.reproduction.results import Results
from stacx.reproduction.suites import SUITES, Reference, Suite, Task

pytestmark = pytest.mark.usefixtures("few_draws")


def test_averages_have_only_tasks_that_all_variants_have(tmp_path):
    plan = plan_of(experiment_of("impala", "stac"), tiny_suite(), tmp_path)
    write_all(plan, lambda task, _: 2.0 if "Catch" in task.env else 8.0)
    results = plan.results()
    cells = dict(results.cells)
    del cells["gymnax:CartPole-v1", "stac"]
    some = Results(results.suite, results.tasks, results.variants, cells)
    analysis = comparing.compare(some)
    means = {row["variant"]: row["mean"] for row in rows_of(analysis, "aggregates")}
    assert all(mean < 0.5 for mean in means.values())  # CartPole's are 0.8
    assert len(rows_of(analysis, "scores")) == 3


def test_scores_are_listed_raw_and_normalised(tmp_path):
    plan = plan_of(experiment_of("impala"), tiny_suite(envs=["gymnax:Catch-bsuite"]), tmp_path)
    write_run(plan.runs[0], lambda seed: [4.0, 8.0][seed])
    (row,) = rows_of(comparing.compare(plan.results()), "scores")
    assert row["each seed"] == "4 8"
    found = [row[name] for name in ("seeds", "mean", "std", "normalised")]
    assert found == pytest.approx([2, 6.0, 2.0, 0.6])


PUBLISHED = {
    "impala": (20885.0, -0.33, 21537.2, 210996.45, 351200.12),
    "stacx": (78359.0, 24.0, 24616.0, 370270.0, 27264.0),
}
"""Scores after 200M frames: IMPALA (deep) of Espeholt et al. 2018, Table C.1, and STACX of Oh et
al. 2025 (Nature), Extended Data Table 1."""


def published(agent):
    """In % of a person, by game."""
    references = {task.env: task.reference for task in SUITES["atari5"].tasks["paper"]}
    return {
        game: 100 * references[game].normalised(score)
        for game, score in zip(comparing.ATARI5_WEIGHTS, PUBLISHED[agent], strict=True)
    }


@pytest.mark.parametrize(("agent", "estimate"), [("stacx", 374), ("impala", 226)])
def test_the_estimated_median_of_published_scores(agent, estimate):
    assert comparing.atari5_median(published(agent)) == pytest.approx(estimate, abs=1)


def test_scores_below_random_count_as_random():
    low = dict.fromkeys(comparing.ATARI5_WEIGHTS, -50.0)
    assert comparing.atari5_median(low) == 0.0


def test_the_estimate_is_in_the_table_of_atari5_only(tmp_path):
    tasks = tuple(
        Task(env, 2000, Reference(0.0, 10.0, ""), {"torso": "shallow"})
        for env in comparing.ATARI5_WEIGHTS
    )
    suite = Suite("atari5", {"small": tasks}, {"small": 2}, "a person")
    plan = plan_of(experiment_of("impala", "stac"), suite, tmp_path)
    write_all(plan)
    (row, _) = rows_of(comparing.compare(plan.results()), "aggregates")
    assert row["median of 57 games, estimated from 5"] == pytest.approx(0.5, abs=0.15)
    low, high = map(float, row["57 games 95 %"].split(" to "))
    assert 0.2 < low < row["median of 57 games, estimated from 5"] < high < 0.8

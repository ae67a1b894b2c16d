"""Run directories with made-up metrics: what analyses see, without any training."""

import numpy as np

from stacx.reproduction.comparing import compare
from stacx.reproduction.experiments import Experiment, Variant
from stacx.reproduction.plan import make_plan
from stacx.reproduction.suites import Reference, Suite, Task
from stacx.runs.directory import RunDirectory

SCALE = "small"
POINTS = 20


def tiny_suite(name="classic", envs=("gymnax:Catch-bsuite", "gymnax:CartPole-v1"), **settings):
    """Two tasks of 6,400 steps (20 updates) whose scores are 0 at 0 and 1 at 10."""
    reference = Reference(0.0, 10.0, "made up")
    tasks = tuple(Task(env, 6400, reference, settings) for env in envs)
    return Suite(name, {SCALE: tasks}, {SCALE: 2}, "ten")


def plan_of(experiment, suite, output, seeds=2):
    return make_plan(experiment, suite, SCALE, seeds, output)


def experiment_of(*names, analyse=compare, **options):
    """An experiment whose variants are agents."""
    variants = tuple(Variant(name, {"agent": name}) for name in names)
    return Experiment("made-up", "Made <up>", "Nothing.", lambda _: variants, analyse, **options)


def write_run(run, final, *, share=1.0, extra=None, rate=1000.0, others=None):
    """Metrics of a run that climbs to `final` (by seed) at its end, or as far as `share` of it.

    `extra` has more metrics: numbers, or functions of the share of training and the seed.
    """
    directory = RunDirectory.create(run.directory, run.config)
    total = run.config.total_updates
    lines = []
    for point in range(1, round(POINTS * share) + 1):
        updates = -(-point * total // POINTS)
        for seed in range(run.config.seed, run.config.seed + run.config.num_seeds):
            progress = point / POINTS
            lines.append(
                {
                    "env_steps": updates * run.config.batch_steps,
                    "updates": updates,
                    "seed": seed,
                    "episode_return": final(seed) * np.sqrt(progress) if point > 1 else None,
                    "episodes": int(point > 1),
                    "steps_per_second": rate,
                    **_metaparameters(run.config, progress),
                    **{
                        k: v(progress, seed) if callable(v) else v for k, v in (extra or {}).items()
                    },
                }
            )
    directory.append_metrics(lines)
    if share == 1.0:
        (directory.checkpoints / str(total)).mkdir(parents=True)
    run.add_process(2000 / rate, "a made-up machine", others)


def _metaparameters(config, progress):
    """What is tuned moves from 0.99 to 0.9; loss weights as fractions of their outer values."""
    values = {}
    for name in config.reported:
        outer = config.outer_value(name)
        inner = 0.99 - 0.09 * progress
        used = inner * (outer if name.startswith("g_") else 1.0) if name in config.tuned else outer
        values |= {f"meta/{name}/{head}": used for head in range(config.heads)}
    return values


def write_all(plan, level=None, **options):
    """Every run of a plan; `level(task, variant)` is about the final return."""
    random = np.random.default_rng(0)
    for run in plan.runs:
        middle = level(run.task, run.variant) if level else 5.0
        draws = middle + random.normal(size=100)
        write_run(run, lambda seed, draws=draws: draws[seed], **options)


def rows_of(analysis, name):
    """A table of an analysis, each row by its columns' names."""
    table = next(table for table in analysis.tables if table.name == name)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def said(analysis):
    """What was measured, by quantity."""
    return {c.quantity: c.ours for c in analysis.comparisons}

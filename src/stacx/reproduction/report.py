"""One HTML file that says everything about an experiment, with its figures inside.

It needs nothing from elsewhere: no script, no font, no network.
"""

from __future__ import annotations

import base64
import html
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stacx.reproduction.devices import Machine, circumstances
from stacx.reproduction.estimates import duration
from stacx.reproduction.execution import Failure
from stacx.reproduction.plan import Plan, PlannedRun, State
from stacx.reproduction.results import Analysis, Comparison, Table

_WIDE = 8.0
"""Inches: a wider figure is scrolled on a narrow screen instead of being shrunk to it."""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.scroll { overflow-x: auto; margin: .6rem 0 1.4rem; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #eee; }
td, th { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.paper th, .paper td { min-width: 8rem; white-space: normal; }
figure { margin: 1.2rem 0; }
figcaption, .note { color: #555; font-size: .9rem; }
img { max-width: 100%; height: auto; }
img.wide { min-width: 44rem; }
.warning { border-left: 4px solid #D55E00; background: #fff4ec; padding: .4rem 1rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; background: #f6f6f6; padding: .7rem; font-size: .8rem; }
"""


def write_report(
    file: Path,
    plan: Plan,
    analysis: Analysis,
    pictures: Sequence[Path],
    *,
    machine: Machine,
    command: str,
    failures: Sequence[Failure] = (),
    without_score: Sequence[str] = (),
) -> None:
    """Writes the report of what is there.

    Args:
        file: the HTML file.
        plan: the experiment's runs, whose states are read from the disk.
        analysis: what the complete ones say.
        pictures: the PNG of each of its illustrations.
        machine: what the runs were made on.
        command: the `stacx reproduce` command.
        failures: of this call.
        without_score: what is complete, but left out, since some seed has ended no episode.
    """
    parts = [
        _head(plan),
        _incomplete(plan, failures),
        _without_score(without_score),
        _comparisons(analysis.comparisons),
        _figures(analysis, pictures),
        *(["<h2>Tables</h2>"] if analysis.tables else []),
        *map(_table, analysis.tables),
        _time(plan),
        _commands(plan, command),
        _circumstances(plan, machine),
    ]
    title = _text(f"{plan.experiment.title}: {plan.suite.name}, {plan.scale}")
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(file)


def _text(value: object) -> str:
    return html.escape(str(value))


def _head(plan: Plan) -> str:
    experiment, suite = plan.experiment, plan.suite
    steps = sorted({task.steps for task in plan.tasks})
    span = f"{steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")
    now = time.strftime("%Y-%m-%d %H:%M")
    note = f'<p class="note">{_text(suite.note)}</p>' if suite.note else ""
    return (
        f"<h1>{_text(experiment.title)}</h1>\n"
        f"<p>{_text(experiment.name)} on suite {_text(suite.name)}, scale "
        f"{_text(plan.scale)}: {_plural(len(plan.tasks), 'task')}, "
        f"{_plural(len(plan.variants), 'variant')}, {_plural(plan.num_seeds, 'seed')} "
        f"({_seeds(plan)}), {span} environment steps. Written {now}.</p>"
        f"\n<p><strong>The paper.</strong> {_text(experiment.paper)}</p>\n{note}"
    )


def _seeds(plan: Plan) -> str:
    return f"0 to {plan.num_seeds - 1}" if plan.num_seeds > 1 else "0"


def _incomplete(plan: Plan, failures: Sequence[Failure]) -> str:
    failed = {failure.run.directory: failure for failure in failures}
    states = [(run, run.state()) for run in plan.runs]
    listed = [(r, s) for r, s in states if s is not State.COMPLETE or r.directory in failed]
    if not listed:
        return ""
    missing = sum(state is not State.COMPLETE for _, state in listed)
    items = []
    for run, state in listed:
        text = f"{_text(run.label)}: {state.value}"
        if state is State.INTERRUPTED:
            text += f" at {run.share_done():.0%}"
        if run.directory in failed:
            failure = failed[run.directory]
            text += f"; failed: {_text(failure.last_line)} ({_text(run.log)})"
        items.append(f"<li>{text}</li>")
    return (
        f'<div class="warning"><h2>Not complete: {missing} of '
        f"{_plural(len(plan.runs), 'run')}</h2>\n<p>What follows has only the variants and tasks "
        "of which all seeds are complete, and averages only the tasks of which all variants are. "
        "The same command goes on.</p>\n"
        f"<details{' open' if len(items) <= 12 else ''}><summary>which</summary><ul>"
        f"{''.join(items)}</ul></details></div>"
    )


def _without_score(cells: Sequence[str]) -> str:
    if not cells:
        return ""
    return (
        '<div class="warning"><p>Complete, but left out, since some seed has ended no episode: '
        f"{_text(', '.join(cells))}.</p></div>"
    )


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    in_paper = any(c.paper for c in comparisons)
    rows = "".join(
        f"<tr><td>{_text(c.quantity)}</td>{f'<td>{_text(c.paper)}</td>' * in_paper}"
        f"<td><strong>{_text(c.ours)}</strong></td></tr>"
        for c in comparisons
    )
    head = "<th>quantity</th>" + "<th>paper</th>" * in_paper + "<th>here</th>"
    return (
        f"<h2>{'The paper and here' if in_paper else 'In short'}</h2>\n"
        f'<div class="scroll"><table class="paper"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _figures(analysis: Analysis, pictures: Sequence[Path]) -> str:
    if not analysis.illustrations:
        return ""
    parts = ["<h2>Figures</h2>"]
    for illustration, picture in zip(analysis.illustrations, pictures, strict=True):
        wide = ' class="wide"' if illustration.figure.get_figwidth() > _WIDE else ""
        encoded = base64.b64encode(picture.read_bytes()).decode("ascii")
        parts.append(
            f'<figure><div class="scroll"><img{wide} alt="{_text(illustration.caption)}" '
            f'src="data:image/png;base64,{encoded}"></div>'
            f"<figcaption>{_text(illustration.caption)}</figcaption></figure>"
        )
    return "\n".join(parts)


def _table(table: Table) -> str:
    numeric = [
        any(isinstance(row[index], (int, float)) for row in table.rows)
        for index in range(len(table.columns))
    ]

    def cell(tag: str, value: Any, index: int) -> str:
        kind = ' class="number"' if numeric[index] else ""
        return f"<{tag}{kind}>{_text(shown(value))}</{tag}>"

    head = "".join(cell("th", name, index) for index, name in enumerate(table.columns))
    rows = "".join(
        f"<tr>{''.join(cell('td', value, index) for index, value in enumerate(row))}</tr>"
        for row in table.rows
    )
    return (
        f'<p class="note">{_text(table.caption)}</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def shown(value: Any) -> str:
    """A field of a table, for people."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _time(plan: Plan) -> str:
    known = [seconds for run in plan.runs if (seconds := run.seconds()) is not None]
    if not known:
        return ""
    by_variant = []
    for variant in plan.variants:
        runs = [run for run in plan.runs if run.variant == variant.name]
        seconds = sum(run.seconds() or 0.0 for run in runs)
        by_variant.append(f"{_text(variant.name)} {duration(seconds)}")
    shared = "" if plan.experiment.one_at_a_time else "; several may have shared the machine"
    return (
        f"<h2>Time</h2>\n<p>The runs took {duration(sum(known))} of wall-clock, one after the "
        f"other ({_plural(len(known), 'run')}{shared}): {', '.join(by_variant)}.</p>"
    )


def _commands(plan: Plan, command: str) -> str:
    lines = "\n".join(_text(run.command) for run in plan.runs)
    return (
        "<h2>Commands</h2>\n"
        f"<p>Everything, and again after an interruption:</p><pre>{_text(command)}</pre>"
        f"<details><summary>The {_plural(len(plan.runs), 'run')} by themselves</summary>"
        f"<pre>{lines}</pre></details>"
    )


def _circumstances(plan: Plan, machine: Machine) -> str:
    references = {
        (t.env, t.reference.random, t.reference.reference, t.reference.source) for t in plan.tasks
    }
    scale = Table(
        "references",
        "What normalised scores of 0 and 1 are.",
        ("task", "0: random", "1: reference", "source"),
        sorted(references),
    )
    made = Counter(place for run in plan.runs for place in run.made_on())
    places = [f"{_plural(number, 'run')}: {_text(place)}" for place, number in made.items()]
    if unknown := sum(not run.made_on() for run in plan.runs):
        places.append(f"{_plural(unknown, 'run')}: not made yet, or not recorded")
    items = "".join(f"<li>{place}</li>" for place in places)
    return (
        f"<h2>Circumstances</h2>\n<p>Seeds {_seeds(plan)} of every variant and task. The runs "
        f"were made on:</p><ul>{items}</ul>\n<p>This page: {_text(circumstances(machine))}.</p>"
        f"\n{_table(scale)}"
    )


def describe_run(run: PlannedRun, state: State, seconds: float, rough: bool) -> str:
    """A run's line in the list that is printed before anything starts."""
    if state is State.COMPLETE:
        return f"  complete     {run.label}"
    share = f" at {run.share_done():.0%}" if state is State.INTERRUPTED else ""
    estimate = f"{'rough, ' * rough}about {duration(seconds)}"
    return f"  {state.value:<12} {run.label}{share} ({estimate})"


def _plural(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"

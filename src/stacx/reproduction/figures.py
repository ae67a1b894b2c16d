"""The figures of experiments, with matplotlib's objects alone.

Colours and line styles of the four agents are those of the paper's Fig. 2(a): blue with auxiliary
heads, green without; solid where metaparameters are tuned, dashed where not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from stacx.reporting import RUN_COLOURS, run_colours, style_axes
from stacx.reproduction.results import Cell, Results
from stacx.reproduction.statistics import Estimate
from stacx.reproduction.suites import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREEN = RUN_COLOURS[0], RUN_COLOURS[2]
_DASHED = (0, (4, 2))
_AGENTS: dict[str, tuple[Any, Any]] = {
    "impala": (_GREEN, _DASHED),
    "stac": (_GREEN, "-"),
    "impala-aux": (_BLUE, _DASHED),
    "stacx": (_BLUE, "-"),
}
"""Colour and line style."""
_GREY = "0.45"
_MOST_COLUMNS = 4


def line_styles(variants: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """A colour and a line style for each variant; the four agents have theirs.

    Where there are too many variants for colours of their own, each has that of its heads.
    """
    agents = [_agent_of(name) for name in variants]
    if all(name in _AGENTS for name in variants) or (
        None not in agents and len(variants) > len(RUN_COLOURS)
    ):
        return {name: _AGENTS[agent or name] for name, agent in zip(variants, agents, strict=True)}
    colours = run_colours(len(variants))
    return {name: (colour, "-") for name, colour in zip(variants, colours, strict=True)}


def _agent_of(variant: str) -> str | None:
    """The agent with which a variant's name begins: `stacx` of `stacx-gamma`."""
    longest_first = sorted(_AGENTS, key=len, reverse=True)
    return next((agent for agent in longest_first if variant.startswith(agent)), None)


def task_curves(results: Results, deviations: float) -> Figure:
    """A panel for each task: the mean return over seeds, within so many standard deviations."""
    tasks = [task for task in results.tasks if results.of_task(task)]
    figure, panels = _grid(len(tasks), width=3.4, height=2.5, columns=3)
    drawn = {name for task in tasks for name in results.of_task(task)}
    styles = {n: style for n, style in line_styles(results.variants).items() if n in drawn}
    for index, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
        for name, cell in results.of_task(task).items():
            _draw_returns(axes, cell, styles[name], deviations)
        axes.set_title(task.name, fontsize=10)
        if index % 3 == 0:
            axes.set_ylabel("episode return", fontsize=9)
        last = max(int(cell.data.env_steps[-1]) for cell in results.of_task(task).values())
        style_axes(axes, last, step_ticks=4)
    _name_lines(figure, styles)
    return figure


def _draw_returns(axes: Axes, cell: Cell, style: tuple[Any, Any], deviations: float) -> None:
    returns, steps = cell.data.series("episode_return"), cell.data.env_steps
    seen = np.isfinite(returns).all(axis=0)
    if not seen.any():
        return
    mean, band = returns[:, seen].mean(axis=0), returns[:, seen].std(axis=0) * deviations
    colour, dashes = style
    axes.plot(steps[seen], mean, color=colour, linestyle=dashes, linewidth=1.5)
    axes.fill_between(steps[seen], mean - band, mean + band, color=colour, alpha=0.18, linewidth=0)


def aggregate_curves(
    curves: Mapping[str, Estimate], progress: Float[np.ndarray, " N"], statistic: str, unit: str
) -> Figure:
    """A statistic over seeds and tasks during training, with its 95 % intervals.

    Args:
        curves: an estimate for each point of training, by variant.
        progress: the share of training at each point.
        statistic: its name.
        unit: what a score of 1 is.
    """
    figure, (axes,) = _grid(1, width=7.0, height=3.8)
    styles = line_styles(list(curves))
    for name, (value, low, high) in curves.items():
        colour, dashes = styles[name]
        axes.plot(100 * progress, value, color=colour, linestyle=dashes, linewidth=1.8)
        axes.fill_between(100 * progress, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the environment steps, %")
    axes.set_ylabel(f"normalised score, {statistic}\n(1: {unit})")
    _plain(axes)
    _name_lines(figure, styles)
    return figure


def estimates(
    panels: Mapping[str, Mapping[str, Estimate]],
    xlabel: str,
    *,
    colours: Mapping[str, Any] | None = None,
) -> Figure:
    """Bars with 95 % intervals, with a line at 1.

    Args:
        panels: the rows of each panel.
        xlabel: what is estimated.
        colours: of panels; by default each row has a colour.
    """
    names = list(next(iter(panels.values())))
    height = 1.1 + 0.32 * len(names)
    figure, axes_of = _grid(len(panels), width=3.0, height=height, share_rows=True)
    of_rows = {name: style[0] for name, style in line_styles(names).items()}
    rows = list(range(len(names)))[::-1]
    for axes, (title, of_row) in zip(axes_of, panels.items(), strict=True):
        for row, name in zip(rows, names, strict=True):
            colour = colours[title] if colours else of_rows[name]
            _draw_bar(axes, row, of_row[name], colour)
        axes.set_yticks(rows, names)
        axes.set_title(title, fontsize=10)
        axes.axvline(0, color=_GREY, linewidth=0.8)
        axes.axvline(1, color=_GREY, linewidth=1.0, linestyle=_DASHED)
        _plain(axes)
        axes.grid(visible=False, axis="y")
    _share_limits(axes_of)
    figure.supxlabel(xlabel, fontsize=9)
    return figure


def _share_limits(panels: Sequence[Axes]) -> None:
    """All panels of a row have the same scale."""
    limits = np.array([axes.get_xlim() for axes in panels])
    for axes in panels:
        axes.set_xlim(limits[:, 0].min(), limits[:, 1].max())


def _draw_bar(axes: Axes, row: int, estimate: Estimate, colour: Any) -> None:
    value, low, high = estimate
    axes.barh(row, value, height=0.65, color=colour, alpha=0.75)
    axes.plot([low, high], [row, row], color="black", linewidth=1.4)
    axes.plot([value], [row], color="black", marker="|", markersize=7)


def probabilities(improvements: Mapping[str, Estimate], baseline: str) -> Figure:
    """The probability of each variant's improvement over a baseline, with 95 % intervals."""
    figure, (axes,) = _grid(1, width=6.0, height=1.2 + 0.35 * len(improvements))
    styles = line_styles(list(improvements))
    rows = np.arange(len(improvements))[::-1]
    for row, (name, (value, low, high)) in zip(rows, improvements.items(), strict=True):
        axes.plot([low, high], [row, row], color=styles[name][0], linewidth=7, alpha=0.35)
        axes.plot([value], [row], color=styles[name][0], marker="o", markersize=6)
    axes.axvline(0.5, color=_GREY, linewidth=1.0, linestyle=_DASHED)
    axes.set_yticks(rows, list(improvements))
    axes.set_ylim(-0.6, len(improvements) - 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"probability that a run is better than one of {baseline}")
    _plain(axes)
    return figure


def profiles(
    panels: Sequence[Mapping[str, Estimate]], thresholds: Float[np.ndarray, " T"], unit: str
) -> Figure:
    """The share of runs above each normalised score, with 95 % intervals; some lines a panel."""
    width = 7.0 if len(panels) == 1 else 5.0
    figure, axes_of = _grid(len(panels), width=width, height=3.6)
    styles = line_styles([name for panel in panels for name in panel])
    alone = len(panels) == 1
    for axes, panel in zip(axes_of, panels, strict=True):
        own = styles if alone else line_styles(list(panel))
        for name, (value, low, high) in panel.items():
            colour, dashes = own[name]
            axes.plot(thresholds, value, color=colour, linestyle=dashes, linewidth=1.8, label=name)
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlim(thresholds[0], thresholds[-1])
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(f"normalised score (1: {unit})")
        axes.set_ylabel("share of runs above it")
        _plain(axes)
        if not alone:
            axes.legend(fontsize=8, frameon=False, loc="lower left")
    if alone:
        _name_lines(figure, styles)
    return figure


def relative_bars(rows: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """Figs. 8 and 9: a panel for each agent, with a bar for each task, the greatest on top.

    Args:
        rows: percentages by task, by agent.
        xlabel: what they are of.
    """
    most = max(map(len, rows.values()))
    figure, panels = _grid(len(rows), width=4.2, height=1.2 + 0.22 * most)
    for axes, (agent, values) in zip(panels, rows.items(), strict=True):
        ordered = sorted(values.items(), key=lambda item: item[1])
        colours = [_BLUE if value > 0 else RUN_COLOURS[1] for _, value in ordered]
        axes.barh(range(len(ordered)), [v for _, v in ordered], color=colours, alpha=0.8)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=7)
        axes.axvline(0, color=_GREY, linewidth=0.8)
        axes.set_title(agent, fontsize=10)
        axes.set_xlabel(xlabel, fontsize=9)
        _plain(axes)
        axes.grid(visible=False, axis="y")
    return figure


def grouped_bars(
    tasks: Sequence[Task],
    groups: Sequence[str],
    bars: Mapping[str, Mapping[tuple[str, str], Float[np.ndarray, " K"]]],
    xlabel: str,
) -> Figure:
    """A panel for each task, as in Fig. 4: groups of bars, with standard deviations over seeds.

    Args:
        tasks: the panels.
        groups: what stands below each group, such as the values of a hyperparameter.
        bars: the scores of the seeds by task's id and group, for each kind of bar; some may be
            missing.
        xlabel: what the groups are.
    """
    figure, panels = _grid(len(tasks), width=3.5, height=2.4, columns=3)
    colours = {name: style[0] for name, style in _bar_styles(list(bars)).items()}
    width = 0.8 / len(bars)
    for index, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
        for position, (kind, scores) in enumerate(bars.items()):
            places = [i for i, group in enumerate(groups) if (task.env, group) in scores]
            found = [scores[task.env, groups[i]] for i in places]
            axes.bar(
                [i + (position - (len(bars) - 1) / 2) * width for i in places],
                [values.mean() for values in found],
                width,
                yerr=[values.std() for values in found],
                color=colours[kind],
                alpha=0.8,
                error_kw={"linewidth": 1.1},
            )
        axes.axhline(0, color=_GREY, linewidth=0.8)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_title(task.name, fontsize=10)
        if index % 3 == 0:
            axes.set_ylabel("normalised score", fontsize=9)
        _plain(axes)
        axes.grid(visible=False, axis="x")
    figure.supxlabel(xlabel, fontsize=9)
    _name_bars(figure, colours)
    return figure


def _bar_styles(kinds: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """As Fig. 4: STACX is blue and IMPALA, here, vermilion, since bars have no dashes."""
    if set(kinds) == {"impala", "stacx"}:
        return {"impala": (RUN_COLOURS[1], "-"), "stacx": (_BLUE, "-")}
    return line_styles(kinds)


def differences(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Float[np.ndarray, "rows columns"],
    xlabel: str,
) -> Figure:
    """A map of differences between two agents; blue where the first is better, orange if not.

    Args:
        rows: the tasks' names.
        columns: the values of what is varied.
        values: the differences; NaN where a cell is missing.
        xlabel: what is varied.
    """
    from matplotlib.colors import LinearSegmentedColormap

    figure, (axes,) = _grid(1, width=2.8 + 0.9 * len(columns), height=1.4 + 0.4 * len(rows))
    colours = LinearSegmentedColormap.from_list("better", [RUN_COLOURS[1], "white", _BLUE])
    seen = np.abs(values[np.isfinite(values)])
    most = max(float(seen.max()) if seen.size else 0.0, 1e-9)
    axes.imshow(values, cmap=colours, vmin=-most, vmax=most, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        dark = abs(value) > 0.6 * most
        colour = "white" if dark else "black"
        text = f"{round(value, 2) + 0.0:+.2f}"  # no negative zero
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(xlabel)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    return figure


def _grid(
    count: int,
    *,
    width: float,
    height: float,
    columns: int = _MOST_COLUMNS,
    share_rows: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, of a size in inches, in rows of at most `columns`."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_rows else False)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name_lines(figure: Figure, styles: Mapping[str, tuple[Any, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.8, label=name)
        for name, (colour, dashes) in styles.items()
    ]
    _legend(figure, handles)


def _name_bars(figure: Figure, colours: Mapping[str, Any]) -> None:
    from matplotlib.patches import Patch

    _legend(figure, [Patch(color=c, alpha=0.8, label=name) for name, c in colours.items()])


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Above the panels, in as many columns as fit."""
    longest = max(len(handle.get_label()) for handle in handles)
    fitting = int(figure.get_figwidth() * 14 / (longest + 7))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=max(1, min(len(handles), fitting)),
        handlelength=2.6,
        frameon=False,
        fontsize=9,
    )

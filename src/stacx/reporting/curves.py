"""One figure of one or several runs: returns and metaparameters over environment steps.

The figure is drawn with matplotlib's objects alone: no window, no global state, any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from stacx.agents import AGENTS, METAPARAMETERS
from stacx.config import Config
from stacx.errors import ConfigError
from stacx.reporting.run_data import RunData, read_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; the first three stand for the heads
# of a single run as in the paper's Fig. 5(a): blue, orange, magenta.
_BLUE, _ORANGE, _MAGENTA = "#0072B2", "#E69F00", "#CC79A7"
_HEAD_COLOURS = (_BLUE, _ORANGE, _MAGENTA, "#009E73", "#56B4E9", "#D55E00")
RUN_COLOURS = (_BLUE, "#D55E00", "#009E73", _MAGENTA, _ORANGE, "#56B4E9", "#000000")
_HEAD_STYLES: tuple[Any, ...] = ("-", (0, (5, 5)), (4, (3, 7)), "-.")
"""Of lines that coincide each can be seen: one head's dashes lie in the gaps of another's."""
_GREY = "0.45"
_OUTER_STYLE: dict[str, Any] = {"color": _GREY, "linewidth": 1.0, "linestyle": (0, (1, 2))}

_NAMES = {
    "gamma": "discount $\\gamma$",
    "lambda": "trace decay $\\lambda$",
    "alpha": "leaky V-trace $\\alpha$",
    "alpha_rho": "leaky V-trace $\\alpha_\\rho$",
    "alpha_c": "leaky V-trace $\\alpha_c$",
    "clip": "truncation $\\bar\\rho = \\bar c$",
    "g_v": "value loss weight $g_v$",
    "g_p": "policy loss weight $g_p$",
    "g_e": "entropy loss weight $g_e$",
}
_GAMMA_TICKS = {
    1.6: (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999),
    3.2: (0.0, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999, 0.9997, 0.9999),
    np.inf: (0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999),
}
"""Ticks, for axes that span at most so many decades of 1 - gamma."""
_GAMMA_LIMIT = 1 - 1e-6
"""The largest discount drawn: float32's sigmoid rounds to 1, which is infinitely far away."""


def plot_runs(directories: Sequence[Path], output: Path) -> Path:
    """Draws the runs of some run directories into one image file, and returns its path.

    The file's ending decides its format (png, pdf, svg, ...).

    Raises:
        ConfigError: if a directory holds no run with metrics, or the file cannot be written.
    """
    figure = build_figure([read_run(directory) for directory in directories])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=160, format=output.suffix.lstrip(".") or "png")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot write the figure {output}: {reason}") from error
    return output


def build_figure(runs: Sequence[RunData]) -> Figure:
    """The figure: episode returns on top, below a panel for each metaparameter that a run tunes.

    Lines are means over seeds and bands go from the smallest to the largest seed; metaparameters of
    several runs have no bands. A single run has a colour for each head; several runs have one each,
    and a line style for each head.

    Raises:
        ConfigError: if there are no runs.
    """
    from matplotlib.figure import Figure

    if not runs:
        raise ConfigError("no runs to plot")
    tuned = [name for name in _NAMES if any(name in run.config.tuned for run in runs)]
    columns = min(3, len(tuned)) or 1
    rows = -(-len(tuned) // columns)
    labels = _run_labels(runs)
    per_line = max(1, min(4, 110 // (max(map(len, labels)) + 8)))
    height = 3.2 + 0.2 * -(-len(runs) // per_line) + 2.0 * rows
    figure = Figure(figsize=(9.0, height), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.6] + [1.0] * rows)
    colours = run_colours(len(runs))
    axes = figure.add_subplot(grid[0, :])
    _draw_returns(axes, runs, colours)
    for index, name in enumerate(tuned):
        panel = figure.add_subplot(grid[1 + index // columns, index % columns])
        _draw_metaparameter(panel, name, runs, colours)
    figure.suptitle(" and ".join(dict.fromkeys(run.config.env for run in runs)), fontsize=12)
    _name_runs(axes, labels, colours, per_line)
    if tuned:
        _name_heads(figure, runs)
    return figure


def _draw_returns(axes: Axes, runs: Sequence[RunData], colours: Sequence[Any]) -> None:
    drawn = [
        _draw_series(axes, run, run.series("episode_return"), color=colour, linewidth=1.8)
        for run, colour in zip(runs, colours, strict=True)
    ]
    if not any(drawn):
        axes.text(0.5, 0.5, "no episode has ended yet", transform=axes.transAxes, ha="center")
    several = any(len(run.seeds) > 1 for run in runs)
    seeds = _seeds_of_all(runs) or "seeds"
    axes.set_ylabel("episode return" + several * f"\n(mean, min to max of {seeds})")
    axes.set_xlabel("environment steps")
    _style(axes, runs, step_ticks=10)


def _draw_metaparameter(
    axes: Axes, name: str, runs: Sequence[RunData], colours: Sequence[Any]
) -> None:
    """One metaparameter of every head of every run that tunes it, and those runs' outer values."""
    is_weight = name.startswith("g_")
    tuning = [pair for pair in zip(runs, colours, strict=True) if name in pair[0].config.tuned]
    for outer in sorted({run.config.outer_value(name) for run, _ in tuning}):
        shown = 1.0 if is_weight else outer
        axes.axhline(min(shown, _GAMMA_LIMIT) if name == "gamma" else shown, **_OUTER_STYLE)
    for run, colour in tuning:
        for head in range(run.config.heads):
            values = run.series(f"meta/{name}/{head}")
            if is_weight:
                outer = run.config.outer_value(name)
                values = values / (outer or np.nan)
            elif name == "gamma":
                values = np.minimum(values, _GAMMA_LIMIT)
            style = _head_style(head, colour, single=len(runs) == 1)
            _draw_series(axes, run, values, band=len(runs) == 1, **style)
    axes.set_title(_NAMES[name], fontsize=10)
    if is_weight:
        axes.set_ylabel("inner / outer value", fontsize=9)
    _style(axes, runs, step_ticks=5)
    if name == "gamma":
        _use_horizon_scale(axes)
    else:
        _widen(axes, 0.02)


def _draw_series(
    axes: Axes,
    run: RunData,
    values: Float[np.ndarray, "seeds N"],
    *,
    band: bool = True,
    **style: Any,
) -> bool:
    """The mean over seeds, and the band of all seeds; False if there is not one number."""
    seen = np.isfinite(values).any(axis=0)
    if not seen.any():
        return False
    steps, values = run.env_steps[seen], values[:, seen]
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, np.nanmean(values, axis=0), marker=marker, markersize=4, **style)
    if band and len(run.seeds) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    return True


def _head_style(head: int, run_colour: Any, *, single: bool) -> dict[str, Any]:
    return {
        "color": _HEAD_COLOURS[head % len(_HEAD_COLOURS)] if single else run_colour,
        "linestyle": _HEAD_STYLES[min(head, len(_HEAD_STYLES) - 1)],
        "linewidth": 1.8 if head == 0 else 1.4,
    }


def run_colours(count: int) -> list[Any]:
    """So many colours, told apart as well as can be."""
    from matplotlib import colormaps

    if count <= len(RUN_COLOURS):
        return list(RUN_COLOURS[:count])
    return list(colormaps["viridis"](np.linspace(0.0, 0.92, count)))


def _use_horizon_scale(axes: Axes) -> None:
    """Spaces discounts by the logarithm of their horizon 1/(1-gamma), with ticks at round values.

    0.8 and 0.99 are as visible as 0.990 and 0.995 are apart.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def forward(gamma: Any) -> Any:
        return -np.log10(1 - np.minimum(gamma, _GAMMA_LIMIT))

    def backward(horizon: Any) -> Any:
        return 1 - 10.0 ** -np.asarray(horizon)

    low, high = forward(np.array(axes.dataLim.intervaly))
    middle, half = (low + high) / 2, max(0.55 * (high - low), 0.35)
    axes.set_yscale("function", functions=(forward, backward))
    axes.set_ylim(backward(middle - half), backward(middle + half))
    ticks = next(ticks for span, ticks in _GAMMA_TICKS.items() if 2 * half <= span)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda gamma, _: f"{gamma:g}"))
    axes.set_ylabel("log scale of $1-\\gamma$", fontsize=9)


def _widen(axes: Axes, smallest: float) -> None:
    """Keeps the noise of a nearly constant value from filling the panel."""
    low, high = axes.get_ylim()
    missing = smallest - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _style(axes: Axes, runs: Sequence[RunData], *, step_ticks: int) -> None:
    style_axes(axes, max(int(run.env_steps[-1]) for run in runs), step_ticks=step_ticks)


def style_axes(axes: Axes, last_step: int, *, step_ticks: int) -> None:
    """The look of all curves over environment steps, of which there are `last_step`."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, suffix = next(
        (size, name)
        for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))
        if last_step >= size / 2 or size == 1.0
    )
    axes.xaxis.set_major_locator(MaxNLocator(step_ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda steps, _: f"{steps / unit:g}{suffix}" if steps else "0")
    )
    axes.set_xlim(0, max(1.0, last_step * 1.02))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name_runs(axes: Axes, labels: Sequence[str], colours: Sequence[Any], per_line: int) -> None:
    """The legend of runs, above the panel of returns."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=1.8, label=label)
        for colour, label in zip(colours, labels, strict=True)
    ]
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=per_line,
        frameon=False,
        fontsize=9,
    )


def _name_heads(figure: Figure, runs: Sequence[RunData]) -> None:
    """The legend of heads, below the panels of metaparameters."""
    from matplotlib.lines import Line2D

    single = len(runs) == 1
    handles = []
    heads = max(run.config.heads for run in runs if run.config.tuned)
    for head in range(heads):
        name = "head 1 (acts)" if head == 0 else f"head {head + 1} (auxiliary)"
        handles.append(Line2D([], [], label=name, **_head_style(head, "black", single=single)))
    handles.append(Line2D([], [], label="value in the outer loss", **_OUTER_STYLE))
    some_missing = len({run.config.tuned for run in runs}) > 1
    figure.legend(
        handles=handles,
        title="a run without a line does not tune that metaparameter" if some_missing else None,
        loc="outside lower center",
        ncols=4,
        handlelength=3.0,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )


def _run_labels(runs: Sequence[RunData]) -> list[str]:
    """The agents; where they repeat, as much of the directories' paths as tells all runs apart."""
    paths = [run.directory.resolve().parts for run in runs]
    agents = [_agent_label(run.config) for run in runs]
    names, *longer = (
        ["/".join(path[-length:]) for path in paths]
        for length in range(1, 1 + max(len(path) for path in paths))
    )
    unique = (each for each in (agents, names, *longer) if len(set(each)) == len(each))
    labels = next(unique, names)
    if _seeds_of_all(runs) is None:
        labels = [f"{label}, {_seeds(run)}" for label, run in zip(labels, runs, strict=True)]
    return [label.replace("$", r"\$") for label in labels]


def _seeds_of_all(runs: Sequence[RunData]) -> str | None:
    """How many seeds each of the runs has, if all have as many."""
    counts = {_seeds(run) for run in runs}
    return counts.pop() if len(counts) == 1 else None


def _seeds(run: RunData) -> str:
    return f"{len(run.seeds)} seeds" if len(run.seeds) > 1 else "1 seed"


def _agent_label(config: Config) -> str:
    """The agent, and the switches that differ from its preset."""
    preset = AGENTS[config.agent]
    text = config.agent
    if config.heads != preset.heads:
        text += f" with {config.heads} heads"
    if config.tuned != (METAPARAMETERS if preset.tune == "all" else ()):
        text += f" tuning {config.tune}"
    return text

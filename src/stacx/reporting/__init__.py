"""From run directories to figures."""

from stacx.reporting.curves import RUN_COLOURS, build_figure, plot_runs, run_colours, style_axes
from stacx.reporting.run_data import RunData, merge_seeds, read_run

__all__ = [
    "RUN_COLOURS",
    "RunData",
    "build_figure",
    "merge_seeds",
    "plot_runs",
    "read_run",
    "run_colours",
    "style_axes",
]

"""From run directories to figures."""

from stacx.reporting.curves import build_figure, plot_runs
from stacx.reporting.run_data import RunData, read_run

__all__ = ["RunData", "build_figure", "plot_runs", "read_run"]

"""The paper's experiments, from their plan to a report: one `stacx train` for each run.

`EXPERIMENTS` are data, and so are `SUITES`; `reproduce` carries out either, and one's own.
"""

from stacx.reproduction.experiments import EXPERIMENTS, Experiment, Variant
from stacx.reproduction.reproducing import reproduce
from stacx.reproduction.results import Analysis, Comparison, Illustration, Results, Table
from stacx.reproduction.suites import SCALES, SUITES, Reference, Suite, Task

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "SUITES",
    "Analysis",
    "Comparison",
    "Experiment",
    "Illustration",
    "Reference",
    "Results",
    "Suite",
    "Table",
    "Task",
    "Variant",
    "reproduce",
]

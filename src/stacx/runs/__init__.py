"""The run directory: config, metrics, checkpoints, resume; and what is done with a finished run."""

from stacx.runs.checkpoints import CheckpointWarning
from stacx.runs.directory import RunDirectory
from stacx.runs.evaluation import Evaluation, evaluate, record_episode
from stacx.runs.policy import Policy, load
from stacx.runs.training import Run, train

__all__ = [
    "CheckpointWarning",
    "Evaluation",
    "Policy",
    "Run",
    "RunDirectory",
    "evaluate",
    "load",
    "record_episode",
    "train",
]

"""The suites of tasks that experiments run on: how long, with how many seeds, and how scores count.

A score is normalised to 0 for a random policy and 1 for a reference: a person on Atari, 1000 on DM
Control, and on small problems the optimum or what is known to be reached (`scores.csv`, which has a
source for every number).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stacx import environments
from stacx.environments.atari_family import reference_scores
from stacx.errors import ConfigError

SCALES = ("small", "medium", "paper")
ON_DEVICE = ("gymnax", "playground")
"""Families whose environments step on the device: there, all seeds of a run share one program."""


class Reference(NamedTuple):
    """Which scores are 0 and 1."""

    random: float
    """The mean return of a random policy."""
    reference: float
    source: str
    """Where the two come from."""

    def normalised(self, score: Any) -> Any:
        """0 at the random policy's score, 1 at the reference; numbers or arrays."""
        return (score - self.random) / (self.reference - self.random)


@dataclass(frozen=True)
class Task:
    """One environment of a suite, at one scale."""

    env: str
    """Environment id."""
    steps: int
    """Environment steps (agent steps) of a run."""
    reference: Reference
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the `Config` that all variants share."""
    on_device: bool | None = None
    """Whether seeds can share a program; by default as the environment's family says."""

    @property
    def name(self) -> str:
        """The id without its family, as the name of a directory."""
        return self.env.partition(":")[2].replace(":", "-").replace("/", "-")

    @property
    def seeds_share_a_run(self) -> bool:
        """Whether one run trains all seeds side by side."""
        if self.on_device is not None:
            return self.on_device
        return self.env.partition(":")[0] in ON_DEVICE


@dataclass(frozen=True)
class Suite:
    """A set of tasks, by scale."""

    name: str
    tasks: Mapping[str, tuple[Task, ...]]
    """The tasks of each scale; their steps differ, and sometimes their number."""
    seeds: Mapping[str, int]
    """How many seeds each scale has by default."""
    unit: str
    """What a normalised score of 1 is."""
    note: str = ""
    """What differs from the paper, or is not in it."""


def check_installed(tasks: Iterable[Task]) -> None:
    """Whether every task can be trained on here.

    Raises:
        ConfigError: if an engine is missing, naming the extra, or an environment cannot be used.
    """
    for task in tasks:
        family_name, _, name = task.env.partition(":")
        family = environments.FAMILIES.get(family_name)
        if family is None:
            continue  # a function of the user's own
        try:
            names = family.names()
        except ImportError as error:
            raise ConfigError(
                f"{task.env} needs a package that is missing ({error}): {family.installation}"
            ) from error
        if name not in names:
            raise ConfigError(f"unknown environment {task.env!r}; see stacx envs {family_name}")
        if names[name] is not None:
            raise ConfigError(f"{task.env} cannot be trained on: {names[name]}")


@functools.cache
def _small_problems() -> dict[str, Reference]:
    """Scores of the small problems, by environment id, from `scores.csv`."""
    text = importlib.resources.files("stacx.reproduction").joinpath("scores.csv").read_text()
    return {
        row["env"]: Reference(float(row["random"]), float(row["reference"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    }


def _reference_of(env: str) -> Reference:
    family, _, name = env.partition(":")
    if family == "atari":
        scores = reference_scores()[name]
        return Reference(scores.random, scores.human, "random and human scores of DQN Zoo")
    if family in ("dmc", "dmc-pixels", "rwrl"):
        return Reference(0.0, 1000.0, "the suite's own scale")
    return _small_problems()[env]


def _tasks(envs: Iterable[str], steps: int, **settings: Any) -> tuple[Task, ...]:
    return tuple(Task(env, steps, _reference_of(env), settings) for env in envs)


def _prefixed(family: str, names: str) -> tuple[str, ...]:
    return tuple(f"{family}:{name}" for name in names.split())


_CLASSIC_STEPS = {
    "gymnax:Catch-bsuite": 300_000,
    "gymnax:CartPole-v1": 1_000_000,
    "gymnax:DiscountingChain-bsuite": 1_000_000,
    "gymnax:Acrobot-v1": 1_000_000,
    "gymnax:MemoryChain-bsuite": 500_000,
    "gymnax:DeepSea-bsuite": 1_000_000,
    "gymnax:FourRooms-misc": 1_000_000,
    "gymnax:Breakout-MinAtar": 1_000_000,
}
"""At scale small; medium has four times as many, paper ten times."""


def _classic(times: int) -> tuple[Task, ...]:
    return tuple(
        Task(env, times * steps, _reference_of(env)) for env, steps in _CLASSIC_STEPS.items()
    )


_MINATAR = _prefixed(
    "gymnax",
    "Asterix-MinAtar Breakout-MinAtar Freeway-MinAtar Seaquest-MinAtar SpaceInvaders-MinAtar",
)
_ATARI5 = _prefixed("atari", "BattleZone DoubleDunk NameThisGame Phoenix Qbert")
"""Aitchison et al. 2023: five games whose scores nearly tell the median of 57."""
_ATARI57 = tuple(f"atari:{name}" for name in reference_scores())
_CONTROL_CORE = (
    "cartpole-balance cartpole-swingup ball_in_cup-catch reacher-easy finger-spin cheetah-run "
    "walker-walk hopper-stand"
)
"""Eight tasks of few dimensions and fast physics, from easy to hard."""
_CONTROL_ALL = (
    "acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance "
    "cartpole-balance_sparse cartpole-swingup cartpole-swingup_sparse cheetah-run finger-spin "
    "finger-turn_easy finger-turn_hard fish-upright fish-swim hopper-stand hopper-hop "
    "humanoid-stand humanoid-walk humanoid-run manipulator-bring_ball pendulum-swingup "
    "point_mass-easy reacher-easy reacher-hard swimmer-swimmer6 swimmer-swimmer15 walker-stand "
    "walker-walk walker-run"
)
"""dm_control's 28 benchmarking tasks (Tassa et al. 2018). The paper does not list its own."""
_REAL_WORLD = tuple(
    f"rwrl:{task}-{difficulty}"
    for task in ("cartpole-swingup", "walker-walk", "quadruped-walk", "humanoid-walk")
    for difficulty in ("easy", "medium", "hard")
)
_CONTROL_STEPS = {"small": 500_000, "medium": 5_000_000, "paper": 30_000_000}
"""Environment steps; the paper's are those of its Table 3."""


def _atari(games: tuple[str, ...]) -> dict[str, tuple[Task, ...]]:
    """200M frames are the paper's 50M agent steps (Table 3)."""
    return {
        "small": _tasks(games, 250_000, torso="shallow"),
        "medium": _tasks(games, 2_500_000),
        "paper": _tasks(games, 50_000_000),
    }


def _control(family: str) -> dict[str, tuple[Task, ...]]:
    names = {"small": _CONTROL_CORE, "medium": _CONTROL_CORE, "paper": _CONTROL_ALL}
    return {
        scale: _tasks(_prefixed(family, names[scale]), _CONTROL_STEPS[scale]) for scale in SCALES
    }


_THREE = dict.fromkeys(SCALES, 3)
"""The paper's number of seeds."""
_ATARI_NOTE = (
    "At scale small (1M frames) the network is the shallow one, which a CPU can train; medium (10M "
    "frames) and paper (200M) have the paper's."
)
_CONTROL_NOTE = (
    "The paper does not list its tasks: at scale paper these are the 28 benchmarking tasks of the "
    "suite, at small and medium eight of them."
)

_HEADS_APART = (
    "The presets keep auxiliary heads apart (--max-aux-gradient 0.03), unlike the paper's update, "
    "and agents without such heads learn as in the paper: docs/results/runaway.md."
)

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "classic",
            {"small": _classic(1), "medium": _classic(4), "paper": _classic(10)},
            dict.fromkeys(SCALES, 10),
            "the optimum, or about what the best agents reach",
            "Small problems that are not in the paper: scale paper only means more steps. "
            + _HEADS_APART,
        ),
        Suite(
            "minatar",
            {
                "small": _tasks(_MINATAR, 1_000_000),
                "medium": _tasks(_MINATAR, 10_000_000),
                "paper": _tasks(_MINATAR, 10_000_000),
            },
            {"small": 5, "medium": 10, "paper": 10},
            "what a published agent reaches; on Seaquest IMPALA",
            "Not in the paper; 10M steps are what MinAtar papers report. " + _HEADS_APART,
        ),
        Suite("atari5", _atari(_ATARI5), _THREE, "a person", _ATARI_NOTE),
        Suite("atari57", _atari(_ATARI57), _THREE, "a person", _ATARI_NOTE),
        Suite("dmc", _control("dmc"), _THREE, "a return of 1000", _CONTROL_NOTE),
        Suite("dmc-pixels", _control("dmc-pixels"), _THREE, "a return of 1000", _CONTROL_NOTE),
        Suite(
            "rwrl",
            {
                scale: _tasks(_REAL_WORLD[:count], _CONTROL_STEPS[scale])
                for scale, count in (("small", 3), ("medium", 6), ("paper", 12))
            },
            _THREE,
            "a return of 1000",
            "Scale small has cartpole's three difficulties, medium also walker's, paper all twelve "
            "tasks.",
        ),
    )
}

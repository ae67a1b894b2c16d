"""Atari 2600 games through ale-py's vector environment, as `atari:Breakout`.

The preprocessing is IMPALA's (Espeholt et al. 2018, appendix G): every fourth frame, the maximum
of the last two, grey, 84x84, a stack of four; up to 30 no-ops at the start; a lost life ends an
episode for the learner; the game's own minimal set of actions; no sticky actions. IMPALA's table
gives no frame cap: 108,000 frames (30 minutes) are those of SEED RL and DQN Zoo. Rewards stay raw
here; the learner clips them (`reward_clip`).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from stacx.environments.arguments import TRUTH, check, number, whole
from stacx.environments.host import HostEnvironment, ReferenceScores

SETTINGS: dict[str, Any] = {
    "episodic_life": True,  # IMPALA, Table G.1
    "repeat_action_probability": 0.0,  # sticky actions: none in IMPALA
    "full_action_space": False,  # IMPALA's experts use the game's own actions
    "noop_max": 30,  # IMPALA, Table G.1
    "max_num_frames_per_episode": 108_000,
    "frameskip": 4,  # IMPALA, Table G.1
    "stack_num": 4,  # IMPALA, Table G.1
    "img_height": 84,  # IMPALA, Table G.1
    "img_width": 84,  # IMPALA, Table G.1
    "grayscale": True,  # IMPALA, Table G.1
    "maxpool": True,  # of the last two frames; IMPALA, Table G.1
    "use_fire_reset": False,  # not in IMPALA: the agent has to learn to press fire
    "num_threads": 0,  # of the engine, for each batch; 0: one per core
}
"""What `--env-args` may change, under ale-py's names, and the defaults."""
_RANGES = {
    name: TRUTH if isinstance(default, bool) else whole(1) for name, default in SETTINGS.items()
} | {"repeat_action_probability": number(0.0, 1.0), "noop_max": whole(0), "num_threads": whole(0)}
_PICTURE = {"img_height": 210, "img_width": 160, "grayscale": False, "stack_num": 1}
"""The console's own picture."""


def make(name: str, arguments: dict[str, Any]) -> HostEnvironment:
    """`atari:NAME`; arguments are among `SETTINGS`."""
    check(f"atari:{name}", arguments, _RANGES)  # the engine takes some others, and hangs
    settings = SETTINGS | arguments
    factory = functools.partial(_make_vector, rom_ids()[name], settings)
    one = factory(1)
    spaces = one.single_observation_space, one.single_action_space
    one.close()
    return HostEnvironment(
        f"atari:{name}",
        *spaces,
        factory,
        batches_itself=True,
        frames_per_step=settings["frameskip"],
        scores=reference_scores().get(name),
        steps_per_second=60 / settings["frameskip"],
    )


def names() -> dict[str, str | None]:
    """Every game of ale-py. Raises `ImportError` if that is not installed."""
    return dict.fromkeys(rom_ids())


@functools.cache
def rom_ids() -> dict[str, str]:
    """From `UpNDown` to `up_n_down`, sorted."""
    from ale_py.roms import get_all_rom_ids

    return {rom.title().replace("_", ""): rom for rom in sorted(get_all_rom_ids())}


@functools.cache
def reference_scores() -> dict[str, ReferenceScores]:
    """Random and human scores of the 57 games, as in DQN Zoo (docs/results/atari.md).

    Others, such as Atari-5, take 0 instead of 16256.9 for a random policy in Video Pinball, which
    changes that game's normalised score twelvefold.
    """
    text = importlib.resources.files("stacx.environments").joinpath("atari57_scores.csv")
    rows = csv.DictReader(text.read_text().splitlines())
    return {
        row["ale_id"]: ReferenceScores(float(row["random"]), float(row["human"])) for row in rows
    }


def _make_vector(
    rom: str,
    settings: dict[str, Any],
    num_envs: int,
    *,
    vectorization: str = "auto",
    film: bool = False,
) -> VectorEnv:
    """ale-py steps in threads of its own, whatever `vectorization` says."""
    del vectorization
    from ale_py.vector_env import AtariVectorEnv

    options = {k: v for k, v in settings.items() if k != "episodic_life"}
    options["noop_max"] += 1  # ale-py draws a number below it
    make_games = functools.partial(AtariVectorEnv, rom, num_envs, reward_clipping=False)
    games = make_games(**options)
    twin = make_games(**options | _PICTURE) if film else None
    return _Lives(games, twin, episodic=settings["episodic_life"])


class _Lives(VectorWrapper):
    """Says when a life is lost; and shows the games.

    A twin for the pictures plays the same games, which the seeds and the actions decide.
    """

    def __init__(self, games: VectorEnv, twin: VectorEnv | None, *, episodic: bool):
        super().__init__(games)
        self._twin = twin
        self._episodic = episodic
        self._lives = np.zeros(games.num_envs, np.int32)
        self._pictures: Any = None

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if self._twin is not None:
            self._pictures, _ = self._twin.reset(seed=seed, options=options)
        observations, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observations, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self._twin is not None:
            self._pictures, *_ = self._twin.step(actions)
        observations, rewards, terminations, truncations, info = self.env.step(actions)
        lost = (info["lives"] < self._lives) & ~(terminations | truncations)
        self._lives = info["lives"]
        if self._episodic:
            info["life_lost"] = lost
        return observations, rewards, terminations, truncations, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        return None if self._pictures is None else tuple(self._pictures[:, -1])

    def close(self, **arguments: Any) -> None:
        if self._twin is not None:
            self._twin.close()
        self.env.close(**arguments)

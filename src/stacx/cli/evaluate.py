"""`stacx eval`: plays episodes with a run's policy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from stacx.cli.parsing import check_output, parse, plain_counts


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Evaluate a run's newest checkpoint; the last line printed is a JSON object."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory."""
    episodes: int = 100
    """Episodes of each of the run's seeds, in parallel."""
    seed: int = 0
    """Seed of the evaluation."""
    greedy: bool = False
    """Take the most probable action instead of sampling; of numbers, the median."""
    gif: Path | None = None
    """Also draw one episode of the first seed, at most 1,000 pictures, into this file, a .gif."""
    env_timeout: float | None = None
    """Seconds after which environments on the CPU that do not answer are given up; by default as in
    the run."""
    env: str | None = None
    """The run's environment, where it is a function in an installed package that you trust."""
    torso: str | None = None
    """The run's torso, likewise."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parsed = parse(Arguments, plain_counts(arguments, "--episodes"), command="eval")
    if parsed.gif is not None:
        check_output(parsed.gif, "--gif", ".gif")
    import numpy as np

    from stacx import environments
    from stacx.environments.drawing import frames_per_second, write_gif
    from stacx.runs import RunDirectory, evaluate, load, record_episode
    from stacx.runs.evaluation import MOST_FRAMES
    from stacx.runtimes.compilation import enable_compile_cache

    enable_compile_cache()
    directory = RunDirectory.open(parsed.run_dir)
    directory.check_function("env", parsed.env)
    directory.check_function("torso", parsed.torso)
    patience: Any = {} if parsed.env_timeout is None else {"env_timeout": parsed.env_timeout}
    config = dataclasses.replace(directory.config(), **patience)
    seeds = range(config.seed, config.seed + config.num_seeds)
    policies = {seed: load(parsed.run_dir, seed, torso=config.torso) for seed in seeds}
    environment = environments.make(config.env, config.env_args, seconds=config.env_timeout)
    if not isinstance(environment, environments.HostEnvironment):
        config.require_usual(["env_timeout"], f"for {config.env}, which steps on the device")
    options: Any = {"seed": parsed.seed, "greedy": parsed.greedy, "env_timeout": config.env_timeout}
    if parsed.gif is not None:
        frames = record_episode(policies[config.seed], environment, **options)
        cut = f" (the first {len(frames)} pictures)" if len(frames) == MOST_FRAMES else ""
        print(f"gif: {write_gif(frames, parsed.gif, frames_per_second(environment))}{cut}")
    returns, steps = [], 0
    for seed, policy in policies.items():
        result = evaluate(policy, environment, episodes=parsed.episodes, **options)
        returns.append(result.returns.astype(np.float64))
        steps += int(result.lengths.sum())
        print(
            f"seed {seed}, trained for {policy.steps:,} steps: "
            f"return {result.returns.mean():.4g} +- {result.returns.std():.3g}, "
            f"length {result.lengths.mean():.4g}, over {parsed.episodes} episodes"
        )
    everything = np.concatenate(returns)
    outcome = {
        "mean_return": _rounded(everything.mean()),
        "std_return": _rounded(everything.std()),
        "episodes": int(everything.size),
        "mean_return_by_seed": [_rounded(r.mean()) for r in returns],
        "greedy": parsed.greedy,
    }
    if isinstance(environment, environments.HostEnvironment):
        reported = environment.reported(steps, float(everything.mean()))
        outcome |= {k: _rounded(v) if isinstance(v, float) else v for k, v in reported.items()}
    print(json.dumps(outcome, allow_nan=False))
    return 0


def _rounded(value: float) -> float:
    """Without the digits that single precision makes up."""
    return float(f"{value:.7g}")

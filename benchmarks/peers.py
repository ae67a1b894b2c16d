"""Training steps per second of another library, for `benchmarks/host_training.py --peers`.

    python benchmarks/peers.py sb3 ENV SECONDS
    python benchmarks/peers.py sample-factory ENV SECONDS

Runs in an interpreter of its own, with stable-baselines3 or sample-factory (and for Atari ale-py
and opencv), on the CPU. Prints agent steps per second, without the first 20 seconds.

- Stable-Baselines3's A2C has its defaults: 5 steps, one epoch; 16 environments for Atari as its
  authors use, 8 otherwise; Nature CNN.
- sample-factory's APPO has two workers of 16 environments, 20 steps, and one batch and one epoch
  per sample; for Atari IMPALA's deep ResNet, with ReLU; else its defaults.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any

WARM_UP = 20.0
"""Seconds that do not count."""


def main() -> None:
    """Trains for a while."""
    peer, env, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    clock = Clock(seconds)
    {"sb3": stable_baselines, "sample-factory": sample_factory}[peer](env, clock)
    assert clock.rate is not None, "it stopped too early"
    print(clock.rate)


class Clock:
    """Steps per second after the warm-up, between two readings."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._born: float | None = None
        self._start: tuple[float, int] | None = None
        self.rate: float | None = None

    def is_over(self, steps: int) -> bool:
        """Takes a reading of the steps so far."""
        now = time.perf_counter()
        self._born = self._born or now
        if self._start is None:
            if now - self._born >= WARM_UP:
                self._start = now, steps
            return False
        start, first = self._start
        if self.rate is None and now - start >= self._seconds:
            self.rate = (steps - first) / (now - start)
        return self.rate is not None


def stable_baselines(env: str, clock: Clock) -> None:
    """A2C."""
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    family, _, name = env.partition(":")
    if family == "atari":
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        vector = VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", n_envs=16), n_stack=4)
        policy = "CnnPolicy"
    else:
        vector, policy = make_vec_env(name, n_envs=8), "MlpPolicy"

    def goes_on(variables: dict[str, Any], _: Any) -> bool:
        return not clock.is_over(variables["self"].num_timesteps)

    A2C(policy, vector, device="cpu").learn(10**9, callback=goes_on)


def sample_factory(env: str, clock: Clock) -> None:
    """APPO. It counts agent steps as long as its `env_frameskip`, which skips nothing, is 1."""
    from sample_factory.algo.utils.misc import LEARNER_ENV_STEPS
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import make_runner

    settings: dict[str, Any] = {
        "env": env,
        "device": "cpu",
        "default_niceness": os.nice(0),
        "use_rnn": False,
        "batched_sampling": True,  # without, it needs NumPy below 2.4
        "num_workers": 2,
        "num_envs_per_worker": 16,
        "rollout": 20,
        "batch_size": 640,
        "num_batches_per_epoch": 1,
        "num_epochs": 1,
    }
    if env.startswith("atari:"):
        settings |= {
            "encoder_conv_architecture": "resnet_impala",
            "nonlinearity": "relu",
            "obs_scale": 255.0,
            "reward_clip": 1.0,
        }

    def read(runner: Any, message: dict[str, int], _: int) -> None:
        if clock.is_over(message[LEARNER_ENV_STEPS]):
            runner.cfg.train_for_env_steps = 0

    make_environment(env).close()  # sample-factory waits for ever for one that fails
    register_env(env, make_environment)
    with tempfile.TemporaryDirectory() as directory:
        flags = [f"--{name}={value}" for name, value in settings.items()]
        flags.append(f"--train_dir={directory}")
        _, runner = make_runner(parse_full_cfg(parse_sf_args(flags)[0], flags))
        runner.policy_msg_handlers[LEARNER_ENV_STEPS].append(read)
        try:
            runner.init()
            runner.run()
        finally:
            for process in multiprocessing.active_children():  # it would wait for them for ever
                process.terminate()


def make_environment(env: str, *_unused: Any) -> Any:
    """For sample-factory's processes; its own Atari environments need a Gymnasium below 1.0."""
    import gymnasium

    family, _, name = env.partition(":")
    if family != "atari":
        return gymnasium.make(name)
    import ale_py
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    gymnasium.register_envs(ale_py)
    game = gymnasium.make(f"ALE/{name}-v5", frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(game, terminal_on_life_loss=True), 4)


if __name__ == "__main__":
    main()

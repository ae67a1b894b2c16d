"""Training steps per second of Stable-Baselines3's A2C, for `benchmarks/host_training.py --peers`.

    python benchmarks/peers.py ENV SECONDS

Runs in an environment of its own, with stable-baselines3 (and for Atari ale-py and opencv). A2C's
defaults: 5 steps, one epoch; 16 environments for Atari as its authors use, 8 otherwise; Nature CNN.
Prints agent steps per second, without the first seconds.
"""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Trains for a while."""
    from stable_baselines3 import A2C
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    env, seconds = sys.argv[1], float(sys.argv[2])
    family, _, name = env.partition(":")
    if family == "atari":
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        vector = VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", n_envs=16), n_stack=4)
        policy = "CnnPolicy"
    else:
        vector, policy = make_vec_env(name, n_envs=8), "MlpPolicy"

    class Clock(BaseCallback):
        """Stops after some seconds, and knows how many steps they held."""

        start: float | None = None

        def _on_step(self) -> bool:
            now = time.perf_counter()
            if self.start is None and self.num_timesteps >= 20 * vector.num_envs:
                self.start, self.first = now, self.num_timesteps
            if self.start is not None and now - self.start > seconds:
                print((self.num_timesteps - self.first) / (now - self.start))
                return False
            return True

    A2C(policy, vector, device="cpu").learn(10**9, callback=Clock())


if __name__ == "__main__":
    main()

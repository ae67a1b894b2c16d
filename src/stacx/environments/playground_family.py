"""MuJoCo Playground's DM Control tasks, simulated in JAX: `playground:TASK`.

Observations are Playground's, which differ in part from dm_control's. Playground resets nothing and
has no time limit of its own; here an episode is truncated after `episode_length` steps.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from stacx.environments import rendering
from stacx.environments.arguments import Range, check, number, whole
from stacx.environments.mujoco_warnings import leave_out_deprecations
from stacx.errors import ConfigError
from stacx.types import Box, EnvironmentState, Timestep

TASKS = """
    AcrobotSwingup AcrobotSwingupSparse BallInCup CartpoleBalance CartpoleBalanceSparse
    CartpoleSwingup CartpoleSwingupSparse CheetahRun FingerSpin FingerTurnEasy FingerTurnHard
    FishSwim HopperHop HopperStand HumanoidRun HumanoidStand HumanoidWalk PendulumSwingup PointMass
    ReacherEasy ReacherHard SwimmerSwimmer6 WalkerRun WalkerStand WalkerWalk
"""
"""Listed here, as it takes seconds to import Playground. Its robots' tasks are not among them: they
clone a repository when they are first made."""
_RANGES: dict[str, Range] = {
    "episode_length": whole(1),
    "action_repeat": whole(1),
    "ctrl_dt": number(1e-6),
    "sim_dt": number(1e-6),
}


class PlaygroundState(NamedTuple):
    """A simulation and its age."""

    playground: Any
    """Playground's own state."""
    steps: Int[Array, ""]
    """Of Playground's, since the episode began: `action_repeat` as many as of the agent's."""


class PlaygroundEnvironment:
    """One of Playground's environments as an `OnDeviceEnvironment`.

    Where the simulation becomes unstable (a NaN), the episode is truncated at the observation
    before, with a reward of 0.
    """

    def __init__(self, env: str, environment: Any, episode_length: int, action_repeat: int):
        self._env = env
        self._environment = environment
        self._episode_length = episode_length
        self._action_repeat = action_repeat
        self.steps_per_second = 1 / (environment.dt * action_repeat)
        observation = jax.eval_shape(self.reset, jax.random.key(0))[1]
        self.observation_shape, self.observation_dtype = observation.shape, observation.dtype
        low, high = environment.mj_model.actuator_ctrlrange.T
        self.action_space = Box(tuple(low.tolist()), tuple(high.tolist()))

    def reset(self, key: PRNGKeyArray) -> tuple[EnvironmentState, Array]:
        state = self._environment.reset(key)
        return PlaygroundState(state, jnp.zeros((), jnp.int32)), state.obs

    def step(
        self, key: PRNGKeyArray, state: EnvironmentState, action: Float[Array, " A"]
    ) -> tuple[EnvironmentState, Timestep]:
        del key  # Playground's state has its own
        before, steps = state.playground, state.steps + self._action_repeat

        def once(playground: Any, _: None) -> tuple[Any, Array]:
            stepped = self._environment.step(playground, action)
            return stepped, stepped.reward

        after, rewards = jax.lax.scan(once, before, length=self._action_repeat)
        reward = jnp.sum(rewards)
        unstable = (after.done != 0) | ~jnp.isfinite(reward) | ~jnp.all(jnp.isfinite(after.obs))
        return PlaygroundState(after, steps), Timestep(
            observation=jnp.where(unstable, before.obs, after.obs),
            reward=jnp.where(unstable, 0.0, reward),
            terminated=jnp.zeros((), bool),
            truncated=unstable | (steps >= self._episode_length),
            physics_error=unstable,
        )

    def render(self, state: EnvironmentState) -> np.ndarray:
        """What the first camera sees, [240, 320, 3].

        Raises:
            ConfigError: if there is no renderer.
        """
        import mujoco

        model, shown, (data, renderer) = self._environment.mj_model, state.playground, self._stage
        data.qpos, data.qvel = shown.data.qpos, shown.data.qvel
        data.mocap_pos, data.mocap_quat = shown.data.mocap_pos, shown.data.mocap_quat
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera=0)
        return renderer.render()

    @functools.cached_property
    def _stage(self) -> tuple[Any, Any]:
        """A simulation of MuJoCo's to draw, and its renderer, which takes long to make."""
        import mujoco

        _take_renderer(rendering.renderer(self._env, rendering.MUJOCO))
        model = self._environment.mj_model
        renderer = mujoco.Renderer(model, 240, 320)
        atexit.register(renderer.close)  # before OpenGL goes
        return mujoco.MjData(model), renderer


def make(name: str, arguments: dict[str, Any]) -> PlaygroundEnvironment:
    """`playground:TASK`.

    Its arguments are numbers of Playground's configuration of the task: `episode_length` and
    `action_repeat`; `ctrl_dt` and `sim_dt`, the seconds that a step and a step of the simulation
    take. It is simulated by MJX: Playground's default, Warp, does not run inside JAX's batches of
    seeds and loops of updates.

    Raises:
        ConfigError: if an argument is unknown or out of range.
    """
    check(f"playground:{name}", arguments, _RANGES)
    suite = _suite()
    config = suite.get_default_config(name)
    config.update({"impl": "jax"} | arguments)
    ratio = config.ctrl_dt / config.sim_dt
    if ratio < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ConfigError(
            f"playground:{name}: ctrl_dt ({config.ctrl_dt:g} s) must be a multiple of sim_dt "
            f"({config.sim_dt:g} s)"
        )
    leave_out_deprecations()
    environment = suite.load(name, config=config)
    length, repeat = config.episode_length, config.action_repeat
    return PlaygroundEnvironment(f"playground:{name}", environment, length, repeat)


def names() -> dict[str, str | None]:
    """Every DM Control task. Raises `ImportError` if Playground is not installed."""
    if importlib.util.find_spec("mujoco_playground") is None:
        raise ImportError("No module named 'mujoco_playground'")
    return dict.fromkeys(TASKS.split())


@functools.cache
def _take_renderer(name: str) -> None:
    """Makes MuJoCo draw with it, though it has chosen another, by MUJOCO_GL, as it was imported."""
    from mujoco.rendering.classic import gl_context

    gl_context.GLContext = importlib.import_module(f"mujoco.{name}").GLContext


@functools.cache
def _suite() -> Any:
    import mujoco

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package of Playground's that is no longer maintained
        from mujoco_playground import dm_control_suite

    if not hasattr(mujoco.MjSpec, "find_body"):
        # Playground 0.2.0 compares versions as text, holds 3.17 for older than 3.3, and asks its
        # reacher for a body by the name that method had then.
        mujoco.MjSpec.find_body = mujoco.MjSpec.body
    return dm_control_suite

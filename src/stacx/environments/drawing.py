"""Pictures of on-device environments, and films of them; drawn here, without an engine's viewer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from stacx.environments.base import OnDeviceEnvironment
from stacx.environments.gymnax_family import GymnaxEnvironment
from stacx.environments.host import HostEnvironment
from stacx.errors import ConfigError
from stacx.types import EnvironmentState

_LONG_SIDE = 320
"""About how many pixels the longer side of a grid's picture has."""
_BACKGROUND = (247, 247, 245)
_INK = (51, 51, 51)
_PALE = (190, 190, 190)
_BLUE, _ORANGE, _GREEN = (0, 114, 178), (230, 159, 0), (0, 158, 115)
_GRID_BACKGROUND, _GRID_LINES = (27, 30, 38), (45, 49, 60)
_CHANNEL_COLOURS = np.array(
    [  # the actor's channel comes first in MinAtar, and its trails last
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (240, 228, 66),
        (213, 94, 0),
        (204, 121, 167),
        (150, 150, 255),
        (160, 220, 160),
        (170, 110, 60),
        (235, 235, 235),
    ],
    dtype=np.float64,
)


def draw(environment: OnDeviceEnvironment, state: EnvironmentState) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of a state of one environment (not of a batch), in RGB.

    An environment of one's own is drawn by its method `render(state)`, if it has one, which returns
    the picture as an array [H, W, 3] of type uint8. Of gymnax's environments, those whose
    observation is a grid are drawn (MinAtar, Catch, DeepSea, Pong), and CartPole, Acrobot and
    MountainCar.

    Raises:
        ConfigError: if the environment cannot be drawn, or its `render` returns something else.
    """
    artist = _artist(environment)
    if artist is None:
        raise ConfigError(
            f"{_name(environment)} cannot be drawn: stacx draws gymnax's MinAtar games and other "
            f"grids, {', '.join(_ARTISTS)}, and environments with a method render(state) that "
            "returns a uint8 array [H, W, 3]"
        )
    return artist(state)


def frames_per_second(environment: OnDeviceEnvironment | HostEnvironment) -> float:
    """How fast a film is best watched: in a grid, a step moves things by a whole cell."""
    if isinstance(environment, HostEnvironment):
        return environment.steps_per_second
    usual = 10.0 if _is_grid(environment.observation_shape) else 30.0
    return getattr(environment, "steps_per_second", usual)


def write_gif(frames: Sequence[UInt8[np.ndarray, "H W 3"]], path: Path, rate: float) -> Path:
    """Writes an endless film of `rate` frames per second, and returns its path.

    The format counts in hundredths of a second, so 30 frames per second play as 33. Equal frames in
    a row become one that is shown for longer.

    Raises:
        ConfigError: if there are no frames, or the file cannot be written.
    """
    if not frames:
        raise ConfigError(f"no frames to write to {path}")
    first, *rest = (Image.fromarray(frame) for frame in frames)
    milliseconds = max(20, 10 * round(100 / rate))  # browsers slow down below 20
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        first.save(
            path, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0
        )
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _artist(environment: OnDeviceEnvironment) -> Callable[[Any], np.ndarray] | None:
    """What draws this environment's states."""
    if callable(getattr(environment, "render", None)):
        return lambda state: _checked_render(environment, state)
    if not isinstance(environment, GymnaxEnvironment):
        return None
    engine, params = environment.gymnax
    if engine.name in _ARTISTS:
        return lambda state: _ARTISTS[engine.name](state, params)
    if _is_grid(environment.observation_shape):
        return lambda state: _draw_grid(np.asarray(_observe(engine, state, params), np.float64))
    return None


def _checked_render(environment: Any, state: EnvironmentState) -> np.ndarray:
    picture = np.asarray(environment.render(state))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ConfigError(
            f"{_name(environment)}.render must return a uint8 array [H, W, 3], "
            f"not {picture.dtype} {list(picture.shape)}"
        )
    return picture


def _name(environment: Any) -> str:
    if isinstance(environment, GymnaxEnvironment):
        return str(environment.gymnax[0].name)
    return type(environment).__name__


@functools.partial(jax.jit, static_argnums=0)
def _observe(engine: Any, state: Any, params: Any) -> Any:
    return engine.get_obs(state, params)


def _is_grid(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and min(shape[:2]) > 1


def _draw_grid(observation: Float[np.ndarray, "*grid"]) -> np.ndarray:
    """Cells [H, W] or [H, W, C] in the colour of the first channel that is not 0 there."""
    channels = observation.reshape(*observation.shape[:2], -1)
    first = np.argmax(channels != 0, axis=2)  # 0 also where all are 0
    strength = np.take_along_axis(channels, first[..., None], axis=2).clip(0, 1)
    colours = _CHANNEL_COLOURS[first % len(_CHANNEL_COLOURS)]
    background = np.array(_GRID_BACKGROUND)
    cells = background + strength * (colours - background)
    scale = max(2, _LONG_SIDE // max(cells.shape[:2]))
    picture = cells.round().astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    if scale >= 16:  # lines between the cells
        picture[::scale] = picture[:, ::scale] = _GRID_LINES
    return picture


class _Canvas:
    """A drawing in the units of the world, y up; drawn larger than wanted for smooth edges."""

    def __init__(self, left: float, right: float, bottom: float, top: float, width: int = 400):
        self._oversize = 3
        self._left, self._top = left, top
        self._scale = width / (right - left) * self._oversize
        self._size = width, round(width * (top - bottom) / (right - left))
        large_width, large_height = (side * self._oversize for side in self._size)
        self._image = Image.new("RGB", (large_width, large_height), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)

    def _pixel(self, x: float | int, y: float | int) -> tuple[float, float]:
        return (x - self._left) * self._scale, (self._top - y) * self._scale

    def line(self, points: Sequence[Any], colour: Any, width: float) -> None:
        pixels = [self._pixel(*point) for point in points]
        self._draw.line(pixels, colour, round(width * self._scale), joint="curve")

    def polygon(self, points: Sequence[Any], colour: Any) -> None:
        self._draw.polygon([self._pixel(*point) for point in points], colour)

    def circle(self, centre: tuple[float, float], radius: float, colour: Any) -> None:
        self._draw.circle(self._pixel(*centre), radius * self._scale, colour)

    def picture(self) -> np.ndarray:
        return np.array(self._image.resize(self._size, Image.Resampling.BOX))


def _draw_cartpole(state: Any, params: Any) -> np.ndarray:
    """The pole stands upright at angle 0 and leans right at positive angles."""
    x, theta, edge = float(state.x), float(state.theta), float(params.x_threshold)
    pole = 2 * float(params.length)  # `length` is half of the pole
    canvas = _Canvas(-edge - 0.2, edge + 0.2, -0.4, pole + 0.5)
    canvas.line([(-edge - 0.2, 0), (edge + 0.2, 0)], _PALE, 0.02)
    for side in (-edge, edge):
        canvas.line([(side, -0.12), (side, 0.12)], _PALE, 0.03)
    left, right, low, high = x - 0.3, x + 0.3, -0.13, 0.13
    canvas.polygon([(left, low), (right, low), (right, high), (left, high)], _INK)
    tip = (x + pole * np.sin(theta), high + pole * np.cos(theta))
    canvas.line([(x, high), tip], _ORANGE, 0.09)
    canvas.circle(tip, 0.045, _ORANGE)
    canvas.circle((x, high), 0.06, _BLUE)
    return canvas.picture()


def _draw_acrobot(state: Any, params: Any) -> np.ndarray:
    """Both links hang down at angles 0; the second angle is relative to the first link."""
    first, second = float(params.link_length_1), float(params.link_length_2)
    angle = float(state.joint_angle1)
    elbow = (first * np.sin(angle), -first * np.cos(angle))
    angle += float(state.joint_angle2)
    tip = (elbow[0] + second * np.sin(angle), elbow[1] - second * np.cos(angle))
    reach = first + second + 0.2
    canvas = _Canvas(-reach, reach, -reach, reach, width=320)
    canvas.line([(-reach, 1.0), (reach, 1.0)], _GREEN, 0.03)  # the tip is to get above 1
    canvas.line([(0.0, 0.0), elbow], _BLUE, 0.16)
    canvas.line([elbow, tip], _ORANGE, 0.16)
    canvas.circle(tip, 0.08, _ORANGE)
    for joint in ((0.0, 0.0), elbow):
        canvas.circle(joint, 0.11, _INK)
    return canvas.picture()


def _draw_mountain_car(state: Any, params: Any) -> np.ndarray:
    """The slope is sin(3x), whose gradient is the gravity of the dynamics."""

    def road(x: Any) -> Any:
        return 0.45 * np.sin(3 * x) + 0.55

    left, right = float(params.min_position) - 0.1, float(params.max_position) + 0.1
    canvas = _Canvas(left, right, 0.0, 1.3)
    xs = np.linspace(left, right, 200)
    surface = list(zip(xs.tolist(), road(xs).tolist(), strict=True))
    canvas.polygon([(left, 0.0), *surface, (right, 0.0)], (225, 225, 222))
    canvas.line(surface, _INK, 0.012)
    goal = float(params.goal_position)
    pole_top = road(goal) + 0.2
    canvas.line([(goal, road(goal)), (goal, pole_top)], _INK, 0.012)
    flag = [(goal, pole_top), (goal, pole_top - 0.08), (goal - 0.1, pole_top - 0.04)]
    canvas.polygon(flag, _GREEN)

    x = float(state.position)
    slope = np.arctan(1.35 * np.cos(3 * x))
    along = np.array([np.cos(slope), np.sin(slope)])
    up = np.array([-along[1], along[0]])
    ground = np.array([x, road(x)])
    body = [
        (-0.08, 0.025),
        (0.08, 0.025),
        (0.08, 0.06),
        (0.04, 0.095),
        (-0.05, 0.095),
        (-0.08, 0.06),
    ]
    canvas.polygon([tuple(ground + a * along + b * up) for a, b in body], _BLUE)
    for a in (-0.045, 0.045):
        wheel = ground + a * along + 0.025 * up
        canvas.circle((float(wheel[0]), float(wheel[1])), 0.025, _INK)
    return canvas.picture()


_ARTISTS: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "CartPole-v1": _draw_cartpole,
    "Acrobot-v1": _draw_acrobot,
    "MountainCar-v0": _draw_mountain_car,
}

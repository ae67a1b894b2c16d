"""Pictures show the state: colours of cells, and where poles, links and cars are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from stacx.environments import make
from stacx.environments.drawing import draw, frames_per_second, write_gif
from stacx.errors import ConfigError
from stacx.types import Discrete

BLUE, ORANGE, GREEN = (0, 114, 178), (230, 159, 0), (0, 158, 115)
FIRST_CHANNEL, SECOND_CHANNEL = (86, 180, 233), (230, 159, 0)


def picture(name, **fields):
    """The first state of an environment with some fields changed, drawn."""
    environment = make(f"gymnax:{name}")
    state, _ = environment.reset(jax.random.key(0))
    return draw(environment, state.replace(**{k: jnp.asarray(v) for k, v in fields.items()}))


def where(image, colour):
    """(column, row) of every pixel of exactly this colour."""
    rows, columns = np.nonzero((image == np.array(colour)).all(axis=-1))
    return np.stack([columns, rows])


def cells(image, rows, columns):
    """The colour in the middle of every cell, [rows, columns, 3]."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    return image[height // 2 :: height, width // 2 :: width]


def test_cartpole_is_upright_at_angle_0():
    image = picture("CartPole-v1", x=0.0, theta=0.0)
    columns, rows = where(image, ORANGE)
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    assert columns.mean() == pytest.approx(image.shape[1] / 2, abs=1)
    assert np.ptp(columns) < 0.2 * np.ptp(rows)
    assert rows.min() > 0
    cart_rows = where(image, (51, 51, 51))[1]
    assert rows.mean() < cart_rows.mean()  # the pole is above the cart


def test_cartpole_leans_to_the_side_of_its_angle_and_moves_with_x():
    def tip(x, theta):
        columns, rows = where(picture("CartPole-v1", x=x, theta=theta), ORANGE)
        return columns[rows.argmin()]

    assert tip(0.0, 0.2) > tip(0.0, 0.0) + 10
    assert tip(0.0, -0.2) < tip(0.0, 0.0) - 10
    assert tip(1.0, 0.0) - tip(0.0, 0.0) == pytest.approx(400 / 5.2, abs=2)


def test_acrobot_hangs_down_at_angles_0_and_reaches_its_goal_when_raised():
    hanging = picture("Acrobot-v1", joint_angle1=0.0, joint_angle2=0.0)
    middle = hanging.shape[0] / 2
    assert where(hanging, BLUE)[1].min() > middle
    assert where(hanging, ORANGE)[1].min() > where(hanging, BLUE)[1].max()
    raised = picture("Acrobot-v1", joint_angle1=np.pi, joint_angle2=0.0)
    assert where(raised, ORANGE)[1].min() < where(raised, GREEN)[1].min()


def test_acrobot_turns_right_and_its_second_angle_adds_to_the_first():
    image = picture("Acrobot-v1", joint_angle1=np.pi / 2, joint_angle2=np.pi / 2)
    middle = image.shape[1] / 2
    columns, rows = where(image, BLUE)
    assert columns.min() > middle
    assert rows.mean() == pytest.approx(middle, abs=2)  # the first link points right
    columns, rows = where(image, ORANGE)
    assert np.ptp(columns) < 0.4 * np.ptp(rows)
    assert rows.mean() < middle - 20  # the second one points up


def test_mountain_car_moves_with_its_position_and_is_lowest_in_the_valley():
    def car(position):
        columns, rows = where(picture("MountainCar-v0", position=position), BLUE)
        return columns.mean(), rows.mean()

    left, valley, right = car(-1.0), car(-np.pi / 6), car(0.4)
    assert left[0] < valley[0] < right[0]
    assert valley[1] > left[1]
    assert valley[1] > right[1]


def test_catch_shows_ball_and_paddle():
    image = picture("Catch-bsuite", ball_x=1, ball_y=3, paddle_x=4)
    grid = cells(image, 10, 5)
    occupied = (grid == np.array(FIRST_CHANNEL)).all(axis=-1)
    assert set(zip(*map(list, np.nonzero(occupied)), strict=True)) == {(3, 1), (9, 4)}
    assert len(np.unique(grid[~occupied], axis=0)) == 1


def test_the_channels_of_minatar_have_colours_of_their_own():
    grid = cells(picture("Breakout-MinAtar", pos=2, ball_y=5, ball_x=7, last_y=5, last_x=6), 10, 10)
    assert tuple(grid[9, 2]) == FIRST_CHANNEL
    assert tuple(grid[5, 7]) == SECOND_CHANNEL
    bricks, empty = grid[1:4].reshape(-1, 3), grid[4]
    assert len(np.unique(bricks, axis=0)) == 1
    assert len({tuple(bricks[0]), FIRST_CHANNEL, SECOND_CHANNEL, tuple(empty[0])}) == 4


@pytest.mark.parametrize(
    "name",
    [
        "Asterix-MinAtar",
        "Freeway-MinAtar",
        "Seaquest-MinAtar",
        "SpaceInvaders-MinAtar",
        "DeepSea-bsuite",
        "Pong-misc",
    ],
)
def test_other_grids_are_drawn_at_a_size_to_look_at(name):
    image = picture(name)
    assert max(image.shape[:2]) >= 240
    assert len(np.unique(image.reshape(-1, 3), axis=0)) >= 2


@pytest.mark.parametrize("name", ["UmbrellaChain-bsuite", "SimpleBandit-bsuite", "FourRooms-misc"])
def test_what_cannot_be_drawn_says_what_can(name):
    environment = make(f"gymnax:{name}")
    with pytest.raises(ConfigError, match=rf"{name} cannot be drawn.*CartPole-v1.*render\(state\)"):
        draw(environment, None)


class Own:
    """An environment of a user that draws itself."""

    observation_shape = (2,)
    observation_dtype = np.float32
    action_space = Discrete(2)

    def reset(self, key):
        raise NotImplementedError

    def step(self, key, state, action):
        raise NotImplementedError

    def render(self, state):
        return state


def test_an_environment_may_draw_itself():
    frame = np.full((4, 5, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw(Own(), frame), frame)
    with pytest.raises(ConfigError, match=r"Own\.render must return .*, not float64 \[4, 5\]"):
        draw(Own(), np.zeros((4, 5)))


def test_a_gif_holds_every_frame_in_order(tmp_path):
    angles = np.linspace(-0.2, 0.2, 5)
    frames = [picture("CartPole-v1", x=0.0, theta=angle) for angle in angles]
    path = write_gif(frames, tmp_path / "films" / "episode.gif", 20.0)
    with Image.open(path) as film:
        assert film.n_frames == 5
        assert film.info["loop"] == 0
        assert film.info["duration"] == 50
        for index, frame in enumerate(frames):
            film.seek(index)
            shown = np.asarray(film.convert("RGB"), np.int32)
            assert np.abs(shown - frame).mean() < 3


@pytest.mark.parametrize(("env", "rate"), [("gymnax:Catch-bsuite", 10), ("gymnax:CartPole-v1", 30)])
def test_films_of_grids_are_slow_enough_to_watch(env, rate):
    assert frames_per_second(make(env)) == rate


def test_a_gif_needs_frames_and_a_place(tmp_path):
    frame = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match="no frames"):
        write_gif([], tmp_path / "episode.gif", 10.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        write_gif([frame], tmp_path / "file" / "episode.gif", 10.0)

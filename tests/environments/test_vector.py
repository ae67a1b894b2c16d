"""Episodes that end in every way, side by side, against episodes played by hand."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import Walk

from stacx.environments import VectorEnvironment
from stacx.types import Discrete, Timestep

NEVER = 1000
LONG = [NEVER, NEVER]
SCRIPT = np.array(
    [
        [[2, NEVER], [3, NEVER], [1, NEVER], [NEVER, 2], LONG],  # terminates
        [[NEVER, 3], [NEVER, 1], [NEVER, 2], [4, NEVER], LONG],  # is truncated
        [[2, 2], [2, 3], [3, 2], [1, 1], LONG],  # both, at once or one before the other
        [[7, NEVER], LONG, LONG, LONG, LONG],
    ],
    dtype=np.uint32,
)
"""[environment, episode]: the time at which it terminates, and at which it is truncated."""
FIRST_KEYS = jax.random.wrap_key_data(SCRIPT[:, 0])
BATCH, STEPS = len(SCRIPT), 12
ACTIONS = np.random.default_rng(0).integers(1, 9, (STEPS, BATCH)).astype(np.int32)


class Scripted:
    """A deterministic environment: the key of `reset` is an entry of the script."""

    observation_shape = (3,)
    observation_dtype = jnp.float32
    action_space = Discrete(9)

    def reset(self, key):
        terminates, truncated = jax.random.key_data(key).astype(jnp.int32)
        state = (terminates, truncated, jnp.int32(0))
        return state, jnp.stack(state).astype(jnp.float32)

    def step(self, key, state, action):
        terminates, truncated, time = state
        state = (terminates, truncated, time + 1)
        timestep = Timestep(
            observation=jnp.stack(state).astype(jnp.float32),
            reward=(10 * state[2] + action).astype(jnp.float32),
            terminated=state[2] == terminates,
            truncated=state[2] == truncated,
        )
        return state, timestep


class Row(NamedTuple):
    """What one environment shows at one step."""

    reward: float
    discount: float
    valid: float
    ended: bool
    returns: float
    length: int
    observation: tuple[int, int, int]
    start: bool


def play(script, actions) -> list[Row]:
    """One environment by hand, episode after episode."""
    rows, episodes, actions = [], iter(script.tolist()), iter(actions.tolist())
    terminates, truncated = next(episodes)
    while True:
        returns, time, ended = 0, 0, False
        while not ended:
            action = next(actions, None)
            if action is None:
                return rows
            time += 1
            reward = 10 * time + action
            returns += reward
            ended = time in (terminates, truncated)
            discount = 0.0 if time == terminates else 1.0
            seen = (terminates, truncated, time)
            rows.append(Row(reward, discount, 1.0, ended, returns, time, seen, False))
        terminates, truncated = next(episodes)
        if next(actions, None) is None:
            return rows
        rows.append(Row(0.0, 1.0, 0.0, False, 0.0, 0, (terminates, truncated, 0), True))


def reset_keys(expected) -> jax.Array:
    """The keys of every step [STEPS, BATCH], such that each reset reads the script's next entry."""
    episodes = [[row.observation[:2] for row in rows] for rows in expected]
    return jax.random.wrap_key_data(np.array(episodes, np.uint32).swapaxes(0, 1))


def unroll(vector, state, keys, actions, batch_axis=None):
    """All steps as one program: the states after each, and the transitions."""

    def step(state, inputs):
        state, transition = vector.step(inputs[0], state, inputs[1], batch_axis)
        return state, (state, transition)

    return jax.lax.scan(step, state, (keys, actions))[1]


@pytest.fixture(scope="module")
def expected() -> list[list[Row]]:
    return [play(script, ACTIONS[:, index]) for index, script in enumerate(SCRIPT)]


@pytest.fixture(scope="module")
def roll(expected):
    """From actions to states and transitions."""
    vector, keys = VectorEnvironment(Scripted()), reset_keys(expected)
    return jax.jit(lambda actions: unroll(vector, vector.reset(FIRST_KEYS), keys, actions))


@pytest.fixture(scope="module")
def played(roll):
    return roll(ACTIONS)


def column(expected, name) -> np.ndarray:
    """One field of all rows, time-major."""
    return np.array([[getattr(row, name) for row in rows] for rows in expected]).swapaxes(0, 1)


def test_the_script_has_every_kind_of_end(expected):
    rows = [row for environment in expected for row in environment]
    assert sum(row.valid == 0.0 for row in rows) >= 8
    assert sum(row.ended and row.discount == 1.0 for row in rows) >= 4
    assert sum(row.discount == 0.0 for row in rows) >= 4


@pytest.mark.parametrize(
    ("field", "row_field"),
    [
        ("rewards", "reward"),
        ("discounts", "discount"),
        ("valid", "valid"),
        ("ended", "ended"),
        ("returns", "returns"),
        ("lengths", "length"),
    ],
)
def test_transitions_are_those_of_episodes_played_by_hand(played, expected, field, row_field):
    _, transitions = played
    np.testing.assert_array_equal(getattr(transitions, field), column(expected, row_field))


def test_states_show_the_last_observation_and_then_the_next_episodes_first(played, expected):
    states, transitions = played
    np.testing.assert_array_equal(states.observations, column(expected, "observation"))
    np.testing.assert_array_equal(states.starts, column(expected, "start"))
    np.testing.assert_array_equal(states.ended, transitions.ended)
    np.testing.assert_array_equal(states.returns, transitions.returns)


def test_one_episode_number_by_number(played):
    """Environment 0 terminates after 2 steps: 2 rewards, a dummy, and the next episode."""
    _, transitions = played
    first = jax.tree.map(lambda leaf: leaf[:4, 0].tolist(), transitions)
    a, b, _, d = ACTIONS[:4, 0].tolist()
    assert first.rewards == [10 + a, 20 + b, 0, 10 + d]
    assert first.discounts == [1, 0, 1, 1]
    assert first.valid == [1, 1, 0, 1]
    assert first.ended == [False, True, False, False]
    assert first.returns == [10 + a, 30 + a + b, 0, 10 + d]
    assert first.lengths == [1, 2, 0, 1]


def test_the_first_state():
    state = VectorEnvironment(Scripted()).reset(FIRST_KEYS)
    np.testing.assert_array_equal(state.observations[:, :2], SCRIPT[:, 0])
    np.testing.assert_array_equal(state.starts, np.ones(BATCH, bool))
    for leaf in (state.ended, state.returns, state.lengths):
        np.testing.assert_array_equal(leaf, np.zeros(BATCH))


def test_the_dummy_step_ignores_the_action(roll, played, expected):
    dummies = column(expected, "valid") == 0.0
    assert dummies.any()
    assert eqx.tree_equal(roll(np.where(dummies, 8 - ACTIONS, ACTIONS)), played)


def walk(lane, batch_axis=None):
    """Some steps of a few random walks, other ones for every lane."""
    vector, shape = VectorEnvironment(Walk()), (40, 5)
    key = jax.random.fold_in(jax.random.key(3), lane)
    keys = jax.random.split(key, shape)
    actions = jax.random.randint(key, shape, 0, 3)
    return unroll(vector, vector.reset(keys[0]), keys, actions, batch_axis)


@pytest.fixture(scope="module")
def walks():
    """Three lanes, one after the other."""
    run = jax.jit(walk)
    return [run(lane) for lane in range(3)]


@pytest.mark.parametrize("batch_axis", [None, "lanes"])
def test_under_vmap_the_same_happens(walks, batch_axis):
    """Without the axis a `lax.cond` is a selection there: it always resets."""
    lanes = jax.vmap(partial(walk, batch_axis=batch_axis), axis_name="lanes")
    together = jax.jit(lanes)(jnp.arange(3))
    one_by_one = jax.tree.map(lambda *leaves: jnp.stack(leaves), *walks)
    assert eqx.tree_equal(together, one_by_one)
    ended = walks[0][1].ended.any(axis=1)
    assert ended.any()
    assert not ended.all()  # so both branches were taken


def test_resets_draw_new_first_states(walks):
    states, _ = walks[0]
    firsts = states.observations[states.starts][:, :-1].argmax(axis=-1)
    assert set(firsts.tolist()) == {2, 3, 4}


@pytest.mark.parametrize("batches", [None, 3])
def test_steps_that_reset_nothing_do_not_compute_resets(batches):
    """One branch of the condition has no operation: what was stepped is taken as it is."""
    vector = VectorEnvironment(Walk())
    step, keys = vector.step, jax.random.split(jax.random.key(0), 2)
    inputs = (keys, jax.eval_shape(vector.reset, keys), jnp.zeros(2, jnp.int32))
    if batches:
        step = jax.vmap(partial(vector.step, batch_axis="batches"), axis_name="batches")
        inputs = jax.eval_shape(lambda *i: jax.vmap(lambda _: i)(jnp.arange(batches)), *inputs)
    jaxpr = jax.make_jaxpr(step)(*inputs)
    (condition,) = [e for e in jaxpr.eqns if e.primitive.name == "cond"]
    goes_on, resets = condition.params["branches"]
    assert not goes_on.eqns
    assert resets.eqns


class Literal:
    """As short as a user's environment can be: Python numbers, no state."""

    observation_shape = ()
    observation_dtype = jnp.float32
    action_space = Discrete(1)

    def reset(self, key):
        return (), jnp.float32(0.0)

    def step(self, key, state, action):
        return (), Timestep(jnp.float32(1.0), 2.0, True, False)


def test_python_numbers_will_do():
    vector = VectorEnvironment(Literal())
    keys = jax.random.split(jax.random.key(0), (4, 2))
    state = vector.reset(keys[0])
    _, transitions = unroll(vector, state, keys, jnp.zeros((4, 2), jnp.int32))
    np.testing.assert_array_equal(transitions.rewards[:, 0], [2, 0, 2, 0])
    np.testing.assert_array_equal(transitions.discounts[:, 0], [0, 1, 0, 1])

"""Episodes that end in every way, in every autoreset mode, as the learner is to see them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_games import NEVER, OwnBatch, Scripted
from support import message_of

from stacx import leaky_vtrace
from stacx.environments import HostEnvironment, HostTransition, HostVector, VectorEnvironment, make
from stacx.environments.host import ReferenceScores
from stacx.errors import BrokenEnvironmentError, ConfigError
from stacx.types import Discrete, Timestep

TERMINATES, TRUNCATED, BOTH, LONG = (2, NEVER), (NEVER, 3), (1, 1), (NEVER, NEVER)
SCRIPT = (TERMINATES, TRUNCATED, BOTH, LONG)
NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


def environment_of(make_vector):
    """A host environment with the spaces of `Scripted` and this factory."""
    return HostEnvironment("o:f", Scripted.observation_space, Scripted.action_space, make_vector)


def scripted(*games, mode=NEXT, engine=SyncVectorEnv, **options) -> HostVector:
    """A batch with a script, or a script and lost lives, for each environment; reset."""

    def make_vector(num_envs, *, vectorization="auto", film=False):
        functions = [functools.partial(Scripted, *game) for game in games]
        return engine(functions, autoreset_mode=mode, **options)

    vector = HostVector(environment_of(make_vector), len(games))
    vector.reset(0)
    return vector


def roll(vector, steps):
    """Transitions [T, B], observations [T+1, B, 2] and starts [T+1, B]."""
    seen, transitions = [(vector.observations.copy(), vector.starts)], []
    for _ in range(steps):
        transitions.append(vector.step(np.zeros(vector.num_envs, np.int32)))
        seen.append((vector.observations.copy(), vector.starts))
    observations, starts = map(np.stack, zip(*seen, strict=True))
    return HostTransition(*map(np.stack, zip(*transitions, strict=True))), observations, starts


def assert_rolled(vector, **wanted):
    """What one environment shows, step after step."""
    steps = len(wanted["rewards"])
    transitions, observations, starts = roll(vector, steps)
    shown = transitions._asdict() | {
        "episodes": observations[..., 0],
        "times": observations[..., 1],
        "starts": starts,
    }
    assert not shown.pop("physics_errors").any()
    assert shown.keys() == wanted.keys()
    for name, row in wanted.items():
        np.testing.assert_array_equal(shown[name][:, 0], row, err_msg=name)


def test_unstable_physics_count_only_where_a_transition_is_one():
    vector = scripted([SCRIPT])
    step = vector.vector.step

    def unstable(actions):
        *seen, info = step(actions)
        return *seen, info | {"physics_error": np.ones(1, bool)}

    vector.vector.step = unstable
    transitions, *_ = roll(vector, 10)
    np.testing.assert_array_equal(transitions.physics_errors, transitions.valid)
    assert not transitions.valid.all()


def test_next_step_autoreset():
    """Each end is followed by one dummy transition."""
    assert_rolled(
        scripted([SCRIPT]),
        rewards=[1, 2, 0, 1, 2, 3, 0, 1, 0, 1],
        discounts=[1, 0, 1, 1, 1, 1, 1, 0, 1, 1],
        valid=[1, 1, 0, 1, 1, 1, 0, 1, 0, 1],
        ended=[0, 1, 0, 0, 0, 1, 0, 1, 0, 0],
        returns=[1, 3, 0, 1, 3, 6, 0, 1, 0, 1],
        lengths=[1, 2, 0, 1, 2, 3, 0, 1, 0, 1],
        episodes=[0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3],
        times=[0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1],
        starts=[1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0],
    )


def test_same_step_autoreset():
    """A truncated episode's last transition is the dummy one, but its reward counts in returns."""
    assert_rolled(
        scripted([SCRIPT], mode=SAME),
        rewards=[1, 2, 1, 2, 3, 1, 1, 2],
        discounts=[1, 0, 1, 1, 1, 0, 1, 1],
        valid=[1, 1, 1, 1, 0, 1, 1, 1],
        ended=[0, 1, 0, 0, 1, 1, 0, 0],
        returns=[1, 3, 1, 3, 6, 1, 1, 3],
        lengths=[1, 2, 1, 2, 3, 1, 1, 2],
        episodes=[0, 0, 1, 1, 1, 2, 3, 3, 3],
        times=[0, 1, 0, 1, 2, 0, 0, 1, 2],
        starts=[1, 0, 1, 0, 0, 1, 1, 0, 0],
    )


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_a_lost_life_ends_an_episode_for_the_learner_only(mode):
    assert_rolled(
        scripted(([LONG], [(0, 1), (0, 3)]), mode=mode),
        rewards=[1, 2, 3, 4],
        discounts=[0, 1, 0, 1],
        valid=[1, 1, 1, 1],
        ended=[0, 0, 0, 0],
        returns=[1, 3, 6, 10],
        lengths=[1, 2, 3, 4],
        episodes=[0] * 5,
        times=[0, 1, 2, 3, 4],
        starts=[1, 1, 0, 1, 0],
    )


def test_the_last_life_is_lost_where_the_episode_ends():
    """It starts once, not twice, also if it is truncated at that moment."""
    assert_rolled(
        scripted(([(1, NEVER), (NEVER, 1), LONG], [(0, 1), (1, 1)])),
        rewards=[1, 0, 1, 0, 1],
        discounts=[0, 1, 0, 1, 1],
        valid=[1, 0, 1, 0, 1],
        ended=[1, 0, 1, 0, 0],
        returns=[1, 0, 1, 0, 1],
        lengths=[1, 0, 1, 0, 1],
        episodes=[0, 0, 1, 1, 2, 2],
        times=[0, 1, 0, 1, 0, 1],
        starts=[1, 0, 1, 0, 1, 0],
    )


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_processes_show_the_same(mode):
    games = [([SCRIPT[1], LONG],), ([SCRIPT[0], SCRIPT[2], LONG], [(2, 2)])]
    wanted = roll(scripted(*games, mode=mode), 9)
    vector = scripted(*games, mode=mode, engine=AsyncVectorEnv, context="forkserver")
    rolled = roll(vector, 9)
    processes = vector.vector.processes
    vector.close()
    assert not any(process.is_alive() for process in processes)
    for one, other in zip(jax.tree.leaves(rolled), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


class OnDevice:
    """`Scripted` in JAX: a key says when the episode terminates and when it is truncated."""

    observation_shape = (2,)
    observation_dtype = jnp.float32
    action_space = Discrete(3)

    def reset(self, key):
        state = (*jax.random.key_data(key).astype(jnp.int32), jnp.int32(0))
        return state, jnp.array([0.0, 0.0])

    def step(self, key, state, action):
        terminates, truncated, time = state
        time += 1
        seen = jnp.array([0.0, time])
        ends = terminates == time, truncated == time
        return (terminates, truncated, time), Timestep(seen, time.astype(jnp.float32), *ends)


def test_as_the_batches_on_the_device():
    ends = np.array([(2, NEVER), (NEVER, 3), (3, 3), (1, 2), (3, 1), LONG])
    keys = jax.random.wrap_key_data(jnp.asarray(ends, jnp.uint32))
    vector = VectorEnvironment(OnDevice())
    state = vector.reset(keys)
    host = scripted(*([[tuple(row)] * 20] for row in ends.tolist()))
    step = jax.jit(vector.step)
    for _ in range(12):
        np.testing.assert_array_equal(host.observations[:, 1], state.observations[:, 1])
        np.testing.assert_array_equal(host.starts, state.starts)
        state, wanted = step(keys, state, jnp.zeros(len(ends), jnp.int32))
        transition = host.step(np.zeros(len(ends), np.int32))
        for name, array in transition._asdict().items():
            np.testing.assert_array_equal(array, getattr(wanted, name), err_msg=name)


def targets(mode, lambda_):
    """V-trace's targets of valid transitions in `SCRIPT`, by episode and time."""
    transitions, observations, _ = roll(scripted([SCRIPT], mode=mode), 12)
    observations = observations[:, 0]
    output = leaky_vtrace(
        jnp.sin(observations @ jnp.array([10.0, 1.0])),
        jnp.asarray(transitions.rewards[:, 0]),
        jnp.asarray(0.9 * transitions.discounts[:, 0]),
        jnp.ones(12),
        lambda_=lambda_,
        valid=jnp.asarray(transitions.valid[:, 0]),
    )
    places = [tuple(map(int, row)) for row in observations]
    shown = zip(places, output.targets.tolist(), transitions.valid[:, 0], strict=False)
    return {place: target for place, target, valid in shown if valid}


def test_both_modes_lead_to_the_same_targets():
    """Where an episode terminates; and everywhere if nothing is looked at but the next value."""
    following, same = targets(NEXT, 1.0), targets(SAME, 1.0)
    terminating = [(0, 0), (0, 1), (2, 0)]
    assert [same[place] for place in terminating] == pytest.approx([1 + 0.9 * 2, 2, 1])
    assert [following[place] for place in terminating] == pytest.approx([1 + 0.9 * 2, 2, 1])
    following, same = targets(NEXT, 0.0), targets(SAME, 0.0)
    assert set(following) - set(same) == {(1, 2)}  # its next observation is lost
    common = {place: target for place, target in following.items() if place in same}
    assert {place: same[place] for place in common} == pytest.approx(common)


def test_a_truncated_episode_bootstraps():
    """From its last observation, or from the one before where the last one is lost."""
    value = {time: np.sin(10.0 + time) for time in (2, 3)}
    assert targets(NEXT, 1.0)[1, 2] == pytest.approx(3 + 0.9 * value[3])
    assert targets(NEXT, 1.0)[1, 1] == pytest.approx(2 + 0.9 * (3 + 0.9 * value[3]))
    assert targets(SAME, 1.0)[1, 1] == pytest.approx(2 + 0.9 * value[2])
    assert targets(SAME, 1.0)[1, 0] == pytest.approx(1 + 0.9 * (2 + 0.9 * value[2]))


ENDS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=30, max_size=30)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(scripts=st.lists(ENDS, min_size=1, max_size=3), mode=st.sampled_from([NEXT, SAME]))
def test_every_episode_is_counted_once(scripts, mode):
    transitions, _, starts = roll(scripted(*([script] for script in scripts), mode=mode), 25)
    for index, script in enumerate(scripts):
        rewards, _, valid, ended, returns, lengths, _ = (row[:, index] for row in transitions)
        ends = np.flatnonzero(ended)
        wanted = [min(episode) for episode in script[: len(ends)]]
        assert lengths[ends].tolist() == wanted
        np.testing.assert_array_equal(starts[1:, index], ended if mode is SAME else valid == 0)
        if mode is NEXT:
            np.testing.assert_array_equal(valid[1:], 1 - ended[:-1])
        whole = rewards * valid if mode is NEXT else rewards
        sums = [part.sum() for part in np.split(whole, ends + 1)][: len(ends)]
        assert returns[ends].tolist() == sums == [n * (n + 1) / 2 for n in wanted]


def test_a_batch_with_its_own_autoreset():
    """CartPole's, in which episodes terminate and are truncated."""
    vector = HostVector(make("gym:CartPole-v1", '{"max_episode_steps": 20}'), 8)
    vector.reset(1)
    dice, ended, kinds = np.random.default_rng(0), np.zeros(8, bool), set()
    lengths = np.zeros(8)
    for _ in range(80):
        transition = vector.step(dice.integers(0, 2, 8))
        np.testing.assert_array_equal(transition.valid, ~ended)
        np.testing.assert_array_equal(vector.starts, ended)
        lengths = np.where(ended, 0, lengths + 1)
        np.testing.assert_array_equal(transition.lengths, lengths)
        np.testing.assert_array_equal(transition.returns, lengths)
        ended = transition.ended
        kinds |= set(zip(transition.discounts[ended], lengths[ended] == 20, strict=True))
        assert (transition.discounts[~ended] == 1).all()
    assert {(0, False), (1, True)} <= kinds


def test_a_reset_begins_anew_and_leaves_what_was_returned():
    vector = scripted([SCRIPT], [[LONG]])
    vector.step(np.zeros(2, np.int32))
    last = vector.step(np.zeros(2, np.int32))
    kept = [array.copy() for array in last]
    vector.reset(0)
    for array, copy in zip(last, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert vector.starts.all()
    np.testing.assert_array_equal(vector.observations, np.zeros((2, 2)))
    after = vector.step(np.zeros(2, np.int32))
    np.testing.assert_array_equal(after.valid, [1, 1])
    np.testing.assert_array_equal(after.returns, [1, 1])


def test_the_dummy_transition():
    transition = scripted([[LONG]], [[LONG]]).dummy_transition()
    for name, value in {"rewards": 0, "discounts": 1, "valid": 0, "ended": 0}.items():
        np.testing.assert_array_equal(getattr(transition, name), [value] * 2)


def test_what_does_not_reset_is_refused():
    with pytest.raises(ConfigError) as caught:
        scripted([[LONG]], mode=AutoresetMode.DISABLED)
    assert message_of(caught) == (
        "o:f does not reset its episodes (autoreset_mode is Disabled): make it with "
        "AutoresetMode.NEXT_STEP or SAME_STEP"
    )


@pytest.mark.parametrize(
    ("complaint", "changes"),
    [
        ("observations of shape [3, 1], not [3, 2]", {"observations": np.zeros((3, 1))}),
        ("observations of shape [2], not [3, 2]", {"observations": np.zeros(2)}),
        (
            "observations that are not finite: environment 1 of 3 returned [nan  2.]",
            {"observations": np.array([[0.0, 1.0], [np.nan, 2.0], [np.inf, 0.0]])},
        ),
        ("rewards of shape [3, 1], not [3]", {"rewards": np.zeros((3, 1))}),
        (
            "rewards that are not finite: environment 2 of 3 returned -inf",
            {"rewards": np.array([0.0, 1.0, -np.inf])},
        ),
        ("terminations of shape [3, 1], not [3]", {"terminations": np.zeros((3, 1), bool)}),
        ("truncations of shape [], not [3]", {"truncations": np.bool_(False)}),
        ("truncations of type int64, not bool", {"truncations": np.zeros(3, int)}),
        ("terminations of type object, not bool", {"terminations": [True, None, False]}),
        (
            'info["life_lost"] of shape [2], not [3]',
            {"info": {"life_lost": np.zeros(2, bool)}},
        ),
        ('info["life_lost"] of type int64, not bool', {"info": {"life_lost": np.zeros(3, int)}}),
    ],
)
def test_what_a_batch_of_ones_own_returns_is_checked(complaint, changes):
    vector = HostVector(environment_of(lambda num_envs, **_: OwnBatch(num_envs, **changes)), 3)
    vector.reset(0)
    with pytest.raises(BrokenEnvironmentError) as caught:
        vector.step(np.zeros(3, np.int32))
    assert message_of(caught) == f"o:f returned {complaint}: mend the environment"


def test_bytes_must_be_bytes():
    batch = OwnBatch(2, np.uint8, observations=np.full((2, 2), 0.5))
    space = spaces.Box(0, 200, (2,), np.uint8)
    environment = HostEnvironment("o:f", space, Scripted.action_space, lambda *_, **__: batch)
    vector = HostVector(environment, 2)
    vector.reset(0)
    with pytest.raises(BrokenEnvironmentError) as caught:
        vector.step(np.zeros(2, np.int32))
    assert message_of(caught) == (
        "o:f returned observations of type float64, not uint8 as its space says: mend the "
        "environment"
    )


def test_scores_are_normalised_by_a_random_policy_and_a_person():
    scores = ReferenceScores(random=-20.0, human=10.0)
    assert scores.normalised(-20.0) == 0
    assert scores.normalised(10.0) == 1
    assert scores.normalised(25.0) == 1.5


def test_what_is_usual_to_report():
    plain = environment_of(lambda *_, **__: None)
    assert plain.reported(10, 5.0) == {}
    game = dataclasses.replace(plain, frames_per_step=4, scores=ReferenceScores(-20.0, 10.0))
    assert game.reported(10, 10.0) == {"frames": 40, "human_normalised_score": 1.0}
    assert game.reported(10, None) == {"frames": 40, "human_normalised_score": None}

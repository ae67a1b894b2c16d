"""Episodes are counted once each, whole, and raw."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import message_of
from tiny_runs import tiny_config

import stacx
from stacx.networks import ActorCriticNetwork
from stacx.runs import record_episode
from stacx.types import Discrete, Timestep


class Countdown:
    """Lasts as long as its first observation says, and pays 1 for action 0 and 100 for action 1.

    An even length ends by truncation, an odd one by termination. A second episode, which nobody
    should count, pays a thousand times as much: `returns` would show it.
    """

    observation_shape = (1,)
    observation_dtype = jnp.float32
    action_space = Discrete(2)

    def reset(self, key):
        length = jax.random.randint(key, (), 1, 150)
        return (length, length), length[None].astype(jnp.float32)

    def step(self, key, state, action):
        left, length = state[0] - 1, state[1]
        over = left <= 0
        return (left, length), Timestep(
            observation=left[None].astype(jnp.float32),
            reward=jnp.where(action == 1, 100.0, 1.0),
            terminated=over & (length % 2 == 1),
            truncated=over & (length % 2 == 0),
        )

    def render(self, state):
        return np.full((4, 4, 3), int(state[0]), np.uint8)


class Endless(Countdown):
    def step(self, key, state, action):
        state, timestep = super().step(key, state, action)
        return state, timestep._replace(terminated=jnp.bool_(False), truncated=jnp.bool_(False))


def make_policy(preference):
    """Prefers action 1 to action 0 by so many nats, whatever it sees."""
    config = tiny_config(agent="impala", tune="none", mlp_widths=())
    network = ActorCriticNetwork(config, (1,), np.float32, Discrete(2))
    parameters = eqx.tree_at(
        lambda tree: tree.heads.policy.biases[0],
        jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0))),
        jnp.array([[0.0, preference]]),
    )
    return stacx.Policy(config, network, parameters, (1,), np.dtype(np.float32))


def test_every_environment_counts_its_first_episode():
    policy = make_policy(1.0)
    greedy = stacx.evaluate(policy, Countdown(), episodes=40, seed=2, greedy=True)
    assert greedy.returns.shape == greedy.lengths.shape == (40,)
    np.testing.assert_array_equal(greedy.returns, 100 * greedy.lengths)  # only action 1
    assert greedy.lengths.max() > 100  # more than one chunk
    assert {0, 1} == set(greedy.lengths % 2)  # truncated and terminated ones
    starts = jax.random.split(jax.random.split(jax.random.key(2))[0], 40)
    lengths = jax.vmap(lambda key: Countdown().reset(key)[0][0])(starts)
    np.testing.assert_array_equal(greedy.lengths, lengths)


def test_sampling_takes_every_action_as_often_as_the_policy_says():
    sampled = stacx.evaluate(make_policy(1.0), Countdown(), episodes=40, seed=2)
    better = (sampled.returns - sampled.lengths).sum() / (99 * sampled.lengths.sum())
    assert better == pytest.approx(np.e / (1 + np.e), abs=0.03)


@pytest.mark.parametrize("episodes", [0, -3])
def test_there_must_be_episodes(episodes):
    with pytest.raises(stacx.ConfigError, match=f"--episodes must be positive, not {episodes}"):
        stacx.evaluate(make_policy(0.0), Countdown(), episodes=episodes)


def test_episodes_that_do_not_end():
    with pytest.raises(stacx.StacxError) as caught:
        stacx.evaluate(make_policy(0.0), Endless(), episodes=40, most_steps=200)
    assert message_of(caught) == "40 of 40 episodes had not ended after 200 steps"


def goes_wrong(name, value):
    """A countdown from 4 that returns something at 2."""

    class Wrong(Countdown):
        def reset(self, key):
            return (jnp.int32(4), jnp.int32(4)), jnp.full(1, 4.0)

        def step(self, key, state, action):
            new_state, timestep = super().step(key, state, action)
            wrong = jnp.full_like(getattr(timestep, name), value)
            bad = jnp.where(state[0] == 2, wrong, getattr(timestep, name))
            return new_state, timestep._replace(**{name: bad})

    return Wrong()


@pytest.mark.parametrize(
    ("name", "value"), [("reward", np.nan), ("reward", -np.inf), ("observation", np.nan)]
)
def test_what_is_not_finite_is_the_environments_fault(name, value):
    with pytest.raises(stacx.BrokenEnvironmentError) as caught:
        stacx.evaluate(make_policy(0.0), goes_wrong(name, value), episodes=6)
    assert message_of(caught) == (
        f"gymnax:Catch-bsuite returned {name}s that are not finite, in 6 of 6 episodes: "
        "mend the environment"
    )


def test_a_film_has_the_first_and_the_last_state():
    frames = record_episode(make_policy(0.0), Countdown(), seed=0)
    shown = [int(frame[0, 0, 0]) for frame in frames]
    assert shown == list(range(shown[0], -1, -1))
    assert len(record_episode(make_policy(0.0), Endless(), most_frames=7)) == 7

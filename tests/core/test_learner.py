"""The whole update: its metagradient, IMPALA inside it, what it survives and what it costs."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from algorithm_2 import Oracle, make_learner, metagradient_of, mid_training
from small_problem import (
    BATCH,
    ONE_CHOICE,
    STEPS,
    TWO_CHOICES,
    TWO_NUMBERS,
    TinyNetwork,
    make_config,
    make_trajectory,
)
from support import quick_jit

from stacx.agents import METAPARAMETERS
from stacx.config import Config
from stacx.core.learner import Learner
from stacx.core.losses import actor_critic_loss
from stacx.core.metaparameters import outer_hyperparameters
from stacx.networks import ActorCriticNetwork
from stacx.types import Discrete, Trajectory

LOSS_WEIGHTS = ("g_v", "g_p", "g_e")


class FrozenTorso(TinyNetwork):
    """No gradient reaches what the heads share."""

    def features(self, parameters, observations):
        return jax.lax.stop_gradient(super().features(parameters, observations))


class Dead(TinyNetwork):
    """Every gradient is computed, and is zero: as behind units that never fire."""

    def unroll(self, parameters, *arguments, **options):
        dead = jax.tree.map(lambda leaf: 0.0 * leaf, parameters)
        return super().unroll(dead, *arguments, **options)


# --- the metagradient ---------------------------------------------------------------------------


class Updated(NamedTuple):
    """An update mid-training, and the oracle for it."""

    config: Config
    before: eqx.Module
    after: eqx.Module
    metrics: NamedTuple
    oracle: Oracle


@functools.cache
def update_of(heads, max_gradient_norm, space) -> Updated:
    with jax.enable_x64(True):
        learner = make_learner(
            agent="stac",
            space=space,
            heads=heads,
            max_gradient_norm=max_gradient_norm,
            steps=100 * STEPS * BATCH,
            learning_rate=0.05,
            end_learning_rate=0.01,
            g_kl=2.0,
            lambda_=0.9,
            log_std_min=-1.0,  # wide enough that no weight is 0
        )
        state, trajectory = mid_training(learner), make_trajectory(space=space)
        after, metrics = quick_jit(learner.update)(state, trajectory)
        oracle = Oracle(learner, state, trajectory)
        assert 1.0 < metrics.gradient_norm < 100.0  # between the two values of the clip
        return Updated(learner.config, state, after, metrics, oracle)


UPDATES = [
    *[(1, 0.5, ONE_CHOICE), (3, 0.5, ONE_CHOICE), (3, 1e3, ONE_CHOICE)],
    *[(3, 0.5, TWO_CHOICES), (3, 0.5, TWO_NUMBERS)],
]


@pytest.fixture(params=UPDATES, ids=str)
def updated(x64, request):
    """P = 1 and 3, with the clip active and not; an action of one choice, two, or numbers."""
    return update_of(*request.param)


def test_the_metagradient_equals_finite_differences_of_the_whole_update(updated):
    actual = metagradient_of(updated.after)
    expected = updated.oracle.metagradient(updated.before.logits)
    for name in METAPARAMETERS:
        assert np.all(np.abs(expected[name]) > 1e-7)
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-9)


def test_parameters_and_outer_loss_equal_the_oracle_s(updated):
    oracle, logits = updated.oracle, updated.before.logits
    parameters = oracle.moved(logits)
    # The schedule counts in single precision.
    for name, expected in parameters.items():
        np.testing.assert_allclose(updated.after.parameters[name], expected, rtol=1e-6, atol=1e-8)
    outer = oracle.outer_loss(logits, oracle.frozen(logits))
    np.testing.assert_allclose(updated.metrics.outer_loss, outer, rtol=1e-6)
    np.testing.assert_allclose(updated.metrics.kl, oracle.kl(logits), rtol=1e-6)


def test_adam_moves_the_metaparameters(updated):
    """The first step of Adam, with b1 = 0."""
    config = updated.config
    for name, gradient in metagradient_of(updated.after).items():
        expected = -config.meta_learning_rate * gradient / (np.abs(gradient) + config.meta_eps)
        moved = updated.after.logits[name] - updated.before.logits[name]
        np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_adam_remembers_the_metagradients(x64):
    """Three steps with the paper's settings, against Adam written out."""
    learner, recorder = (make_learner(agent="stac", **b1) for b1 in ({"meta_b1": 0.9}, {}))
    config = learner.config
    b1, b2, eps = (0.9, 0.999, 1e-4)  # Table 3
    update, record = quick_jit(learner.update), quick_jit(recorder.update)
    state = learner.init(jax.random.key(0))
    expected = dict(state.logits)
    mu, nu = dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)
    for t in (1, 2, 3):
        trajectory = make_trajectory(seed=t)
        gradients = metagradient_of(record(state, trajectory)[0])
        state, _ = update(state, trajectory)
        for name, gradient in gradients.items():
            mu[name] = b1 * mu[name] + (1 - b1) * gradient
            nu[name] = b2 * nu[name] + (1 - b2) * gradient**2
            root = np.sqrt(nu[name] / (1 - b2**t))
            step = mu[name] / (1 - b1**t) / (root + eps)
            expected[name] = expected[name] - config.meta_learning_rate * step
            np.testing.assert_allclose(state.logits[name], expected[name], rtol=1e-9)


def test_metrics_report_zeta_as_used(updated):
    for p in range(updated.config.heads):
        zeta = updated.oracle.zeta(updated.before.logits, p)
        for name, values in updated.metrics.metaparameters.items():
            np.testing.assert_allclose(values[p], zeta[name], rtol=1e-10)


def metagradient(network, **settings):
    learner = make_learner(network, agent="stacx", **settings)
    update = quick_jit(learner.update)
    after, metrics = update(learner.init(jax.random.key(0)), make_trajectory())
    assert not metrics.skipped
    return metagradient_of(after)


def test_auxiliary_metaparameters_act_through_the_torso_alone():
    for gradient in metagradient(FrozenTorso).values():
        assert gradient[0] != 0.0
        np.testing.assert_array_equal(gradient[1:], 0.0)


def test_a_dead_network_has_a_finite_metagradient():
    """No gradient, no second moment: neither the clip nor RMSProp may divide by zero."""
    for gradient in metagradient(Dead).values():
        np.testing.assert_array_equal(gradient, 0.0)


# --- IMPALA -------------------------------------------------------------------------------------


def impala(learner):
    """IMPALA's update, written out: clipped RMSProp with a linear schedule."""
    config, network = learner.config, learner.network

    def update(parameters, moments, count, trajectory):
        def loss(parameters):
            output, _ = network.unroll(
                parameters, trajectory.observations, trajectory.starts, trajectory.recurrent_state
            )
            zeta = outer_hyperparameters(config, heads=config.heads)
            return actor_critic_loss(ONE_CHOICE, output, trajectory, zeta, config)[0]

        gradient = jax.grad(loss)(parameters)
        square = sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient))
        over = square > config.max_gradient_norm**2
        scale = jnp.where(over, config.max_gradient_norm / jnp.sqrt(square), 1.0)
        left = 1 - jnp.minimum(count, config.total_updates) / config.total_updates
        rate = (config.learning_rate - config.end_learning_rate) * left + config.end_learning_rate
        decay = config.rmsprop_decay
        clipped = jax.tree.map(lambda g: g * scale, gradient)
        moments = jax.tree.map(lambda n, g: (1 - decay) * g**2 + decay * n, moments, clipped)
        moved = jax.tree.map(
            lambda theta, g, n: theta - rate * (jax.lax.rsqrt(n + config.rmsprop_eps) * g),
            parameters,
            clipped,
            moments,
        )
        return moved, moments

    return jax.jit(update)


@pytest.mark.parametrize(
    ("agent", "max_gradient_norm", "rmsprop_initial"),
    [("impala", 0.5, 0.0), ("impala-aux", 1e3, 0.0), ("impala", 0.5, 1.0)],
)
def test_with_nothing_tuned_the_update_is_impala_bit_for_bit(
    agent, max_gradient_norm, rmsprop_initial
):
    """For a whole run, and two updates beyond the schedule's end."""
    updates = 4
    learner = make_learner(
        agent=agent,
        steps=updates * STEPS * BATCH,
        max_gradient_norm=max_gradient_norm,
        rmsprop_initial=rmsprop_initial,
        learning_rate=0.01,
        end_learning_rate=0.001,
    )
    update, by_hand = jax.jit(learner.update), impala(learner)
    state = learner.init(jax.random.key(0))
    parameters = state.parameters
    moments = jax.tree.map(lambda leaf: jnp.full_like(leaf, rmsprop_initial), parameters)
    for count in range(updates + 2):
        trajectory = make_trajectory(seed=count)
        state, _ = update(state, trajectory)
        parameters, moments = by_hand(parameters, moments, count, trajectory)
        jax.tree.map(np.testing.assert_array_equal, state.parameters, parameters)


def test_the_learning_rate_reaches_its_end():
    learner = make_learner(agent="impala", steps=2 * STEPS * BATCH, end_learning_rate=0.0)
    update, state = quick_jit(learner.update), learner.init(jax.random.key(0))
    moves = []
    for _ in range(4):
        before = state.parameters
        state, _ = update(state, make_trajectory())
        moves.append(not eqx.tree_equal(before, state.parameters))
    assert moves == [True, True, False, False]


def test_the_heads_gradients_are_averaged():
    """Three equal heads move the torso as one does, and get a third of its gradient each."""
    one, three = (make_learner(agent="impala", heads=heads) for heads in (1, 3))
    alone = one.init(jax.random.key(0))
    tiled = {
        name: leaf if name == "torso" else jnp.tile(leaf, (3, *[1] * (leaf.ndim - 1)))
        for name, leaf in alone.parameters.items()
    }
    together = dataclasses.replace(three.init(jax.random.key(0)), parameters=tiled)
    alone, _ = quick_jit(one.update)(alone, make_trajectory())
    together, _ = quick_jit(three.update)(together, make_trajectory())
    torso, head = (optax.tree.get(alone.optimiser, "nu")[name] for name in ("torso", "policy"))
    moments = optax.tree.get(together.optimiser, "nu")
    np.testing.assert_allclose(moments["torso"], torso, rtol=1e-4)
    np.testing.assert_allclose(moments["policy"], jnp.tile(head, (3, 1, 1)) / 9, rtol=1e-4)


# --- what it survives ---------------------------------------------------------------------------


@functools.cache
def fresh(agent):
    """A state and its update, compiled once for all the tests of bad data."""
    learner = make_learner(agent=agent)
    return learner.init(jax.random.key(0)), quick_jit(learner.update)


def assert_only_the_count_differs(new, old, skipped):
    assert new.skipped_in_a_row == skipped
    same_count = dataclasses.replace(new, skipped_in_a_row=old.skipped_in_a_row)
    jax.tree.map(np.testing.assert_array_equal, same_count, old)


def poisoned(name, value) -> Trajectory:
    trajectory = make_trajectory()
    broken = getattr(trajectory, name).at[3].set(value)
    return dataclasses.replace(trajectory, **{name: broken})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["rewards", "observations"])
@pytest.mark.parametrize("agent", ["impala", "stac"])
def test_an_update_that_is_not_finite_is_skipped(agent, name, value):
    state, update = fresh(agent)
    after, metrics = update(state, poisoned(name, value))
    assert metrics.skipped
    assert metrics.skipped_in_a_row == 1
    assert_only_the_count_differs(after, state, skipped=1)


def test_skipped_updates_are_counted_in_a_row():
    state, update = fresh("stac")
    for expected in (1, 2):
        state, _ = update(state, poisoned("rewards", np.nan))
        assert state.skipped_in_a_row == expected
    state, metrics = update(state, make_trajectory())
    assert state.skipped_in_a_row == 0
    assert not metrics.skipped


def test_a_poisoned_metaparameter_changes_nothing():
    state, update = fresh("stac")
    broken = dataclasses.replace(state, logits=state.logits | {"gamma": jnp.array([np.nan])})
    after, _ = update(broken, make_trajectory())
    assert_only_the_count_differs(after, broken, skipped=1)


def test_a_metagradient_that_is_not_finite_is_enough_to_skip():
    """Here the inner gradient is fine, but the step along it is not."""
    state, update = fresh("stac")
    moments = jax.tree.map(lambda leaf: leaf * jnp.nan, optax.tree.get(state.optimiser, "nu"))
    broken = dataclasses.replace(state, optimiser=optax.tree.set(state.optimiser, nu=moments))
    after, metrics = update(broken, make_trajectory())
    assert np.isfinite(metrics.gradient_norm)
    assert not np.isfinite(metrics.metagradient_norm)
    assert_only_the_count_differs(after, broken, skipped=1)


def test_a_new_logit_that_is_not_finite_is_enough_to_skip():
    """Here both gradients are fine, but what Adam remembered is not."""
    state, update = fresh("stac")
    broken = optax.tree.get(state.meta_optimiser, "mu") | {"alpha": jnp.array([np.nan])}
    state = dataclasses.replace(
        state, meta_optimiser=optax.tree.set(state.meta_optimiser, mu=broken)
    )
    after, metrics = update(state, make_trajectory())
    assert np.isfinite(metrics.metagradient_norm)
    assert metrics.skipped
    assert_only_the_count_differs(after, state, skipped=1)


# --- burn-in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["impala", "stac"])
def test_burn_in_is_an_update_on_the_rest_from_where_the_first_steps_lead(agent):
    settings = {"agent": agent, "lstm_size": 3, "mlp_widths": (4,), "head_init": 1.0}
    config, plain = (make_config(**settings, burn_in=steps) for steps in (3, 0))
    network = ActorCriticNetwork(config, (4,), jnp.float32, ONE_CHOICE)
    trajectory = dataclasses.replace(
        make_trajectory(), recurrent_state=jax.tree.map(lambda x: x + 0.3, network.initial_state(3))
    )
    learner = Learner(config, network)
    state = learner.init(jax.random.key(0))
    actual, metrics = quick_jit(learner.update)(state, trajectory)

    first = trajectory.observations[:3], trajectory.starts[:3], trajectory.recurrent_state
    _, memory = network.unroll(state.parameters, *first)
    cut = {
        field.name: getattr(trajectory, field.name)[3:]
        for field in dataclasses.fields(trajectory)[:-1]
    }
    rest = Trajectory(**cut, recurrent_state=memory)
    expected, expected_metrics = quick_jit(Learner(plain, network).update)(state, rest)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        (actual, metrics),
        (expected, expected_metrics),
    )
    whole, _ = quick_jit(Learner(plain, network).update)(state, trajectory)
    assert any(
        np.abs(a - b).max() > 1e-6
        for a, b in zip(
            jax.tree.leaves(whole.parameters), jax.tree.leaves(actual.parameters), strict=True
        )
    )


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["impala", "stacx"])
def test_one_compilation_serves_a_whole_run(agent):
    """The state that goes in has exactly the types of the one that comes out."""
    learner = make_learner(agent=agent)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    after, _ = jax.eval_shape(learner.update, state, make_trajectory())

    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert types(after) == types(state)


def some_trajectory(network, observation_shape, steps=20, batch=8) -> Trajectory:
    zeros = jnp.zeros((steps, batch))
    return Trajectory(
        actions=zeros.astype(jnp.int32),
        rewards=zeros,
        discounts=zeros,
        valid=zeros,
        behaviour_log_probs=zeros,
        observations=jnp.zeros((steps + 1, batch, *observation_shape)),
        starts=jnp.zeros((steps + 1, batch), bool),
        recurrent_state=network.initial_state(batch),
    )


def lowered_update(agent, observation_shape, settings):
    config = make_config(agent=agent, num_envs=8, trajectory_length=20, **settings)
    network = ActorCriticNetwork(config, observation_shape, jnp.float32, Discrete(6))
    learner = Learner(config, network)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    trajectory = jax.eval_shape(lambda: some_trajectory(network, observation_shape))
    return quick_jit(learner.update).lower(state, trajectory)


MLP = {"torso": "mlp", "mlp_widths": (64, 64)}
NETWORKS = {
    "mlp": ((8,), MLP),
    "minatar": ((10, 10, 4), {"torso": "minatar", "torso_output": 128}),
    "lstm": ((8,), MLP | {"lstm_size": 64}),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("tuned", "fixed"), [("stac", "impala"), ("stacx", "impala-aux")])
def test_self_tuning_needs_at_most_2_7_times_the_flops(tuned, fixed, network):
    """By XLA's count before it optimises, and after for one pair, as compiling takes seconds.

    XLA counts the body of a loop once, in both agents.
    """
    with_tuning, without = (lowered_update(agent, *NETWORKS[network]) for agent in (tuned, fixed))
    assert with_tuning.cost_analysis()["flops"] <= 2.7 * without.cost_analysis()["flops"]
    if (tuned, network) == ("stac", "mlp"):
        with_tuning, without = with_tuning.compile(), without.compile()
        assert with_tuning.cost_analysis()["flops"] <= 2.7 * without.cost_analysis()["flops"]

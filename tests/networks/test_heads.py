"""P heads at once are P heads one by one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import (
    ACTIONS,
    TRUNCATED_STD,
    assert_close,
    build,
    count,
    filled,
    observe,
    outputs,
    started,
)

from stacx.config import Config
from stacx.networks.heads import Heads, StackedMLP, bounded_fork


@pytest.mark.parametrize("widths", [(7, 4), (7, 6, 4), (7, 6, 5, 4)])
def test_stacked_heads_are_separate_networks(widths):
    stacked = filled(StackedMLP, 3, widths)
    features = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    together = jax.jit(stacked.__call__)(jnp.asarray(features))
    assert together.shape == (2, 5, 3, 4)
    for head in range(3):
        x = features
        for layer, (weight, bias) in enumerate(zip(stacked.weights, stacked.biases, strict=True)):
            x = (np.maximum(x, 0) if layer else x) @ np.asarray(weight)[head] + np.asarray(bias)[
                head
            ]
        assert_close(together[:, :, head], x)


def test_heads_start_differently():
    stacked = started(StackedMLP, 2, (7, 6, 4))
    for weight in stacked.weights:
        assert not np.array_equal(weight[0], weight[1])
    config = Config(agent="impala", head_widths=(6,))
    heads = started(Heads, config, features=7, policy_outputs=4)
    assert not np.array_equal(heads.policy.weights[0], heads.value.weights[0])


@pytest.mark.parametrize("scale", [1.0, 0.01, 0.0])
def test_the_last_layer_starts_scaled(scale):
    stacked = started(StackedMLP, 3, (100, 400, 200), last_scale=scale)
    hidden, last = (weight.std() for weight in stacked.weights)
    assert hidden == pytest.approx(TRUNCATED_STD / np.sqrt(100), rel=0.02)
    assert last == pytest.approx(scale * TRUNCATED_STD / np.sqrt(400), rel=0.02)
    assert not any(bias.any() for bias in stacked.biases)


def test_head_init_reaches_policies_and_values():
    one, half = (
        started(build(head_init=scale, mlp_widths=(), heads=1).init).heads for scale in (1.0, 0.5)
    )
    for a, b in ((one.policy, half.policy), (one.value, half.value)):
        assert_close(a.weights[-1] / 2, b.weights[-1])


@pytest.mark.parametrize("settings", [{}, {"head_widths": (6,)}, {"lstm_size": 4}])
def test_the_main_head_alone_is_the_first(settings):
    network = build(**settings)
    parameters, observations = filled(network.init), observe()
    everything = outputs(network, parameters, observations)
    main = outputs(network, parameters, observations, main_head_only=True)
    assert everything.policy.shape == (*observations.shape[:2], 3, ACTIONS)
    assert main.policy.shape == (*observations.shape[:2], 1, ACTIONS)
    assert_close(main.policy, everything.policy[:, :, :1])
    assert_close(main.values, everything.values[..., :1])


def test_the_main_head_alone_has_no_gradient_of_the_others():
    network, observations = build(head_widths=(6,)), observe()

    def total(parameters):
        output = outputs(network, parameters, observations, main_head_only=True)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(output))

    gradient = jax.jit(jax.grad(total))(filled(network.init))
    for leaf in jax.tree.leaves(gradient.heads):
        assert leaf[0].any()
        assert not leaf[1:].any()


def test_the_main_head_alone_costs_as_much_as_a_network_of_one_head():
    def flops(heads):
        network = build(heads=heads, head_widths=(6,))
        parameters, observations = filled(network.init), observe()
        run = jax.jit(lambda p, o: outputs(network, p, o, main_head_only=True))
        return run.lower(parameters, observations).compile().cost_analysis()["flops"]

    assert flops(8) == flops(1) > 0


def test_the_papers_heads_have_one_hidden_layer():
    """Section 9.3: two layers, 256 hidden units; policies and values do not share it."""
    sizes = {
        heads: count(jax.eval_shape(build(heads=heads, head_widths=(256,)).init, jax.random.key(0)))
        for heads in (1, 3)
    }
    hidden = 8 * 256 + 256
    one_head = 2 * hidden + (256 * ACTIONS + ACTIONS) + (256 + 1)
    assert sizes[3] - sizes[1] == 2 * one_head


# --- variants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", ["shared", "per-head"])
@pytest.mark.parametrize("widths", [(), (6,)])
def test_every_head_is_told_its_discount(embedding, widths):
    """Features with a vector times gamma behind them, written out for every head."""
    settings = {"head_widths": widths, "gamma_embedding_size": 2}
    network, observations = build(gamma_embedding=embedding, **settings), observe()
    parameters = filled(network.init)
    rows = {"shared": 1, "per-head": 3}[embedding]
    assert parameters.heads.embedding.weights.shape == (rows, 2)
    gamma = jnp.array([0.9, 0.5, 0.99])
    told = network.conditioned_on(parameters, gamma)
    everything = outputs(network, told, observations)
    main = outputs(network, told, observations, main_head_only=True)
    assert_close(main.policy, everything.policy[:, :, :1])
    for head in range(3):
        own = gamma[head] * parameters.heads.embedding.weights[head % rows]
        plain = jax.tree.map(lambda leaf, head=head: leaf[head : head + 1], parameters.heads)
        for mlp, actual in (
            (plain.policy, everything.policy[:, :, head]),
            (plain.value, everything.values[:, :, head, None]),
        ):
            first = mlp.weights[0][0]
            expected = _shorter(mlp, own, first)(_features(network, parameters))
            assert_close(actual, expected[:, :, 0])


@pytest.mark.parametrize("embedding", ["shared", "per-head"])
def test_what_heads_say_depends_on_their_own_discount(embedding):
    """By finite differences: what the metagradient goes through, in the network that is trained."""
    with jax.enable_x64(True):
        network, observations = build(gamma_embedding=embedding, head_widths=(6,)), observe()
        parameters = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), filled(network.init))

        def said(gamma):
            output = outputs(network, network.conditioned_on(parameters, gamma), observations)
            return jnp.concatenate([output.policy, output.values[..., None]], -1).sum((0, 1, 3))

        gamma, step = jnp.array([0.9, 0.5, 0.99]), 1e-6 * jnp.eye(3)
        slopes = jax.jacobian(said)(gamma)
        differences = [(said(gamma + e) - said(gamma - e)) / 2e-6 for e in step]
        np.testing.assert_allclose(slopes, np.stack(differences, -1), rtol=1e-6, atol=1e-8)
        assert np.all(np.abs(np.diag(slopes)) > 0.1)
        assert np.all(slopes == np.diag(np.diag(slopes)))


def _shorter(mlp, own, first):
    """The MLP for features alone: what it is told is part of its bias."""
    size = len(first) - len(own)
    firsts = mlp.weights[0][:, :size], mlp.biases[0] + own @ first[size:]
    return eqx.tree_at(lambda m: (m.weights[0], m.biases[0]), mlp, firsts)


def _features(network, parameters):
    """What heads see, found with heads that pass it on."""
    observations = observe()
    whole = eqx.combine(parameters, network._static)
    flat = observations.reshape(-1, *observations.shape[2:])
    return whole.torso(flat).reshape(*observations.shape[:2], -1)


def test_the_outer_value_head_is_one_beside_the_others():
    network, observations = build(agent="stacx", outer_value_head=True), observe()
    parameters = filled(network.init)
    for main_head_only in (False, True):
        output = outputs(network, parameters, observations, main_head_only=main_head_only)
        assert output.outer_values.shape == (*observations.shape[:2], 1)
        expected = parameters.heads.outer_value(_features(network, parameters))[..., 0]
        assert_close(output.outer_values, expected)
    assert outputs(build(), filled(build().init), observations).outer_values is None


SETTINGS = [
    {},
    {"lstm_size": 4},
    {"gamma_embedding": "per-head"},
    {"gamma_embedding": "shared"},
    {"outer_value_head": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("weight", "cut"), [(1e3, True), (1e-4, False)])
def test_auxiliary_heads_gradient_is_cut_where_it_enters_what_is_shared(settings, weight, cut):
    """Nothing else changes: what heads say, and what they learn themselves."""
    bound = 0.3
    cutting, whole = (build(max_aux_gradient=value, **settings) for value in (bound, None))
    parameters, observations = filled(whole.init), observe()

    def gradient(network, *weights):
        def said(parameters):
            output = outputs(network, parameters, observations)
            by_head = jnp.sum(output.policy**2, axis=(0, 1, 3)) + jnp.sum(output.values, (0, 1))
            outer = 0.0 if output.outer_values is None else jnp.sum(output.outer_values)
            return jnp.sum(by_head * jnp.array(weights)) + weights[0] * outer

        return jax.grad(said)(parameters)

    actual = gradient(cutting, 1.0, weight, -weight)
    mine, others = gradient(whole, 1.0, 0.0, 0.0), gradient(whole, 0.0, weight, -weight)
    together = jax.tree.map(jnp.add, mine.heads, others.heads)
    assert_close(actual.heads.policy, together.policy)
    assert_close(actual.heads.value, together.value)
    assert_close(actual.heads.outer_value, together.outer_value)
    if settings.get("gamma_embedding") == "shared":
        embedding = (tree.heads.embedding.weights for tree in (actual, mine, others))
        _assert_joined(*embedding, bound if cut else None)
    below, own, of_others = (_below_heads(tree) for tree in (actual, mine, others))
    share = (below - own) @ of_others / (of_others @ of_others)
    assert 0 < share < 0.01 if cut else share == pytest.approx(1.0, rel=0.1)
    np.testing.assert_allclose(
        below - own, share * of_others, atol=1e-2 * np.abs(share * of_others).max()
    )
    assert_close(
        outputs(cutting, parameters, observations), outputs(whole, parameters, observations)
    )


def _assert_joined(actual, mine, others, bound):
    """The sum, but of the second only so much, if there is a bound."""
    scale = 1.0 if bound is None else bound * np.linalg.norm(mine) / np.linalg.norm(others)
    assert_close(actual, mine + scale * others)


@pytest.mark.parametrize("settings", [{}, {"outer_value_head": True}], ids=str)
def test_the_bound_is_a_multiple_of_head_1_s_gradient_at_the_features(settings):
    """With an outer value head's, which is head 1's critic for the outer loss."""
    heads = started(build(**settings).init).heads
    features = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 8)), jnp.float32)
    weights = jnp.array([1.0, 1e3, -1e3])

    def said(features, bound, weights):
        output = heads(features, bound)
        outer = 0.0 if output.outer_values is None else jnp.sum(output.outer_values)
        return jnp.sum(output.policy**2 * weights[:, None]) + weights[0] * outer

    gradient = jax.grad(said)
    mine = gradient(features, None, weights * jnp.array([1, 0, 0]))
    rest = gradient(features, 0.3, weights) - mine
    assert jnp.linalg.norm(rest) == pytest.approx(0.3 * float(jnp.linalg.norm(mine)), rel=1e-3)


def test_a_bound_of_0_leaves_what_is_shared_to_head_1():
    network, alone = build(max_aux_gradient=0.0), build()
    parameters, observations = filled(network.init), observe()
    actual, expected = (
        jax.grad(lambda p, n=n, h=h: jnp.sum(outputs(n, p, observations).policy[:, :, h] ** 2))(
            parameters
        )
        for n, h in ((network, slice(None)), (alone, slice(1)))
    )
    for below in ("torso", "core"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(actual, below), getattr(expected, below)
        )


def test_which_arrays_have_a_row_for_each_head():
    for embedding, own in (("shared", False), ("per-head", True)):
        network = build(lstm_size=4, gamma_embedding=embedding, outer_value_head=True)
        parameters = started(network.init)
        of_heads = network.per_head(parameters)
        assert not any(jax.tree.leaves((of_heads.torso, of_heads.core)))
        assert all(jax.tree.leaves((of_heads.heads.policy, of_heads.heads.value)))
        assert not any(jax.tree.leaves(of_heads.heads.outer_value))
        assert of_heads.heads.embedding.weights is own
        assert len(jax.tree.leaves(of_heads)) == len(jax.tree.leaves(parameters))


@pytest.mark.parametrize("behaviour", ["random", "average"])
def test_heads_that_act_reach_the_features_in_whole(behaviour):
    """Else the outer loss, which is about them, would have another gradient than its own."""
    part, whole = (build(behaviour=behaviour), build(max_aux_gradient=None, behaviour=behaviour))
    parameters, observations = filled(whole.init), observe()
    gradients = [
        jax.grad(lambda p, n=network: jnp.sum(outputs(n, p, observations).policy ** 2))(parameters)
        for network in (part, whole)
    ]
    assert_close(*gradients)


def _below_heads(gradient):
    """What torso and LSTM get, as one vector."""
    leaves = jax.tree.leaves((gradient.torso, gradient.core))
    return np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64)


def _joined(first, second, bound=0.5):
    """What comes back through the fork for two cotangents."""
    _, back = jax.vjp(lambda features: bounded_fork(features, bound), jnp.ones_like(first))
    return back((first, second))[0]


def test_the_second_gradient_of_a_fork_is_cut_to_a_multiple_of_the_first_s():
    first, second = jnp.array([[3.0, 0.0], [0.0, 4.0]]), jnp.array([[0.0, 6.0], [8.0, 0.0]])
    assert_close(_joined(first, second), first + 0.25 * second)  # norms 5 and 10: 2.5 is allowed
    assert_close(_joined(first, 0.2 * second), first + 0.2 * second)
    assert_close(_joined(first, second, bound=0.0), first)
    assert_close(_joined(0 * first, second), 0 * first)
    assert_close(_joined(first, 0 * second), first)
    assert_close(_joined(0 * first, 0 * second), 0 * first)


@pytest.mark.parametrize("size", [10.0, 0.1], ids=["cut", "not cut"])
def test_a_fork_s_gradient_is_differentiated_as_it_is(size):
    """As the metagradient needs it: against finite differences, in what weighs the two."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        probe, *cotangents = (jnp.array(rng.normal(size=(4, 3))) for _ in range(4))

        def through(weights):
            first = weights[0] * cotangents[0]
            second = size * (weights[1] * cotangents[1] + weights[2] ** 2 * cotangents[2])
            return jnp.sum(probe * _joined(first, second))

        at, step = jnp.array([0.7, 1.1, -0.4]), 1e-6
        expected = [
            (through(at.at[i].add(step)) - through(at.at[i].add(-step))) / (2 * step)
            for i in range(3)
        ]
        np.testing.assert_allclose(jax.grad(through)(at), expected, rtol=1e-6)


def test_a_fork_in_a_deeper_graph_has_the_right_second_derivative():
    """Where the features depend on what is differentiated for."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        matrix, x = jnp.array(rng.normal(size=(3, 4))), jnp.array(rng.normal(size=4))
        probe = jnp.array(rng.normal(size=4))

        def gradient(x):
            def value(x):
                first, second = bounded_fork(jnp.tanh(matrix @ x), 0.5)
                return jnp.sum(first**2) + 3 * jnp.sum(jnp.sin(second))

            return jax.grad(value)(x)

        step = 1e-6 * probe
        expected = (gradient(x + step) - gradient(x - step)) / 2e-6
        actual = jax.vjp(gradient, x)[1]
        rows = jnp.stack([actual(row)[0] for row in jnp.eye(4)])
        np.testing.assert_allclose(rows @ probe, expected, rtol=1e-6)


def test_a_fork_bears_with_extreme_ratios():
    ones = jnp.ones(2)
    derivative = jax.grad(lambda w: jnp.sum(_joined(w[0] * 1e-9 * ones, w[1] * 1e15 * ones)))
    assert jnp.isfinite(derivative(jnp.array([1.0, 1.0]))).all()


@pytest.mark.parametrize("zero", ["first", "second", "both"])
def test_the_derivative_of_a_fork_s_gradient_is_finite_where_one_is_zero(zero):
    ones = jnp.ones((2, 2))

    def through(weights):
        first = (zero not in ("first", "both")) * weights[0] * ones
        second = (zero not in ("second", "both")) * weights[1] * ones
        return jnp.sum(_joined(first, second))

    assert jnp.isfinite(jax.grad(through)(jnp.array([1.0, 2.0]))).all()

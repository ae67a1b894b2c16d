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
from stacx.networks.heads import Heads, StackedMLP


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


@pytest.mark.parametrize("settings", [{}, {"lstm_size": 4}, {"gamma_embedding": "per-head"}])
def test_auxiliary_heads_reach_the_features_in_part(settings):
    """Nothing else changes: what the heads say, and what they learn themselves."""
    part, whole = (build(aux_gradient=share, **settings) for share in (0.3, 1.0))
    parameters, observations = filled(whole.init), observe()

    def gradient(network, of_head):
        def said(parameters):
            output = outputs(network, parameters, observations)
            return jnp.sum(output.policy[:, :, of_head] ** 2) + jnp.sum(output.values[..., of_head])

        return jax.grad(said)(parameters)

    for head, share in ((0, 1.0), (1, 0.3), (2, 0.3)):
        actual, expected = (gradient(network, head) for network in (part, whole))
        assert_close(actual.heads, expected.heads)
        for below in ("torso", "core"):
            scaled = jax.tree.map(lambda leaf, share=share: share * leaf, getattr(expected, below))
            assert_close(getattr(actual, below), scaled)
    assert_close(outputs(part, parameters, observations), outputs(whole, parameters, observations))


@pytest.mark.parametrize("behaviour", ["random", "average"])
def test_heads_that_act_reach_the_features_in_whole(behaviour):
    """Else the outer loss, which is about them, would have another gradient than its own."""
    part, whole = (build(aux_gradient=share, behaviour=behaviour) for share in (0.3, 1.0))
    parameters, observations = filled(whole.init), observe()
    gradients = [
        jax.grad(lambda p, n=network: jnp.sum(outputs(n, p, observations).policy ** 2))(parameters)
        for network in (part, whole)
    ]
    assert_close(*gradients)

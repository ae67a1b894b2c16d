"""P heads at once are P heads one by one."""

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
    heads = started(Heads, heads=1, features=7, widths=(6,), policy_outputs=4)
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
        return sum(jnp.sum(leaf**2) for leaf in output)

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

"""The torsos: sizes from the paper and from IMPALA's, and a network written as loops."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from building import BATCH, STEPS, assert_close, build, count, filled, observe, outputs, started
from loops import convolve, max_pool
from support import as_module, message_of

from stacx.config import Config
from stacx.errors import ConfigError
from stacx.networks.torsos import TORSOS

FRAMES = (84, 84, 4)


def torso_sizes(shape, dtype=jnp.float32, **settings) -> tuple[int, int]:
    """Number of parameters, and number of features, of a torso; nothing is computed."""
    config = Config(**settings)
    make = TORSOS[config.torso]
    torso = eqx.filter_eval_shape(lambda key: make(key, shape, config), jax.random.key(0))
    batch = jax.ShapeDtypeStruct((2, *shape), dtype)
    features = eqx.filter_eval_shape(lambda torso, x: torso(x), torso, batch)
    assert features.shape[0] == 2
    return count(torso), features.shape[1]


@pytest.mark.parametrize(
    ("shape", "widths", "parameters", "features"),
    [
        ((4,), (256, 256), 4 * 256 + 256 + 256 * 256 + 256, 256),
        ((10, 5), (7,), 50 * 7 + 7, 7),
        ((3,), (), 0, 3),
        ((), (2,), 2 + 2, 2),
    ],
)
def test_mlp_sizes(shape, widths, parameters, features):
    assert torso_sizes(shape, torso="mlp", mlp_widths=widths) == (parameters, features)


@pytest.mark.parametrize("output", [0, 128])
def test_minatar_sizes(output):
    parameters, features = 3 * 3 * 4 * 16 + 16, 8 * 8 * 16
    if output:
        parameters, features = parameters + features * output + output, output
    sizes = torso_sizes((10, 10, 4), torso="minatar", torso_output=output)
    assert sizes == (parameters, features)


def section(inputs: int, channels: int) -> int:
    """Parameters of a section: its convolution, and two blocks of two convolutions."""
    return (9 * inputs + 1) * channels + 4 * (9 * channels + 1) * channels


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [
        ((16, 32, 32), section(4, 16) + section(16, 32) + section(32, 32)),
        ((32, 32, 32), section(4, 32) + 2 * section(32, 32)),
    ],
)
def test_resnet_sizes(channels, parameters):
    """Three sections, each halving the image: 84, 42, 21, 11."""
    sizes = torso_sizes(FRAMES, torso="resnet", channels=channels)
    assert sizes == (parameters, 11 * 11 * 32)


def test_impalas_deep_network_as_published():
    """97,744 parameters in 15 convolutions, and 3872 features to a layer of 256 units."""
    config = {"torso": "resnet", "channels": (16, 32, 32)}
    assert torso_sizes(FRAMES, **config) == (97_744, 3872)
    assert torso_sizes(FRAMES, torso_output=256, **config) == (97_744 + 3872 * 256 + 256, 256)


def test_the_atari_network_has_the_papers_size():
    """Section 9.3 and Table 2: torso, and per head two networks with 256 hidden units."""
    settings = {"suite": "atari", "head_widths": (256,), "mlp_widths": (256, 256)}
    network = build(FRAMES, jnp.uint8, heads=3, **settings)
    actions = 5
    head = 2 * (3872 * 256 + 256) + (256 + 1) * (actions + 1)
    assert count(jax.eval_shape(network.init, jax.random.key(0))) == 97_744 + 3 * head


def test_mlp_is_dense_layers_with_relu_after_each():
    network = build(mlp_widths=(8, 6), heads=1)
    parameters, observations = filled(network.init), observe()
    x = np.asarray(observations)
    for layer in parameters.torso.layers:
        x = np.maximum(x @ np.asarray(layer.weight) + np.asarray(layer.bias), 0)
    policy = parameters.heads.policy
    expected = x @ np.asarray(policy.weights[0][0]) + np.asarray(policy.biases[0][0])
    assert_close(outputs(network, parameters, observations).policy[:, :, 0], expected)


def through(torso, x, shape, **settings):
    """Images through a torso with random parameters; the torso and what it returns."""
    config = Config(torso=torso, **settings)
    module = filled(TORSOS[torso], shape, config)
    return module, jax.jit(lambda module, x: module(x))(module, jnp.asarray(x, jnp.float32))


PLAIN = {
    "shallow": ((8 * 8 * 4 + 1) * 16 + (4 * 4 * 16 + 1) * 32, 9 * 9 * 32, 256),
    "nature": (
        (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64,
        7 * 7 * 64,
        512,
    ),
}


@pytest.mark.parametrize("output", [0, 100])
@pytest.mark.parametrize("torso", PLAIN)
def test_networks_of_plain_convolutions_as_published(torso, output):
    """On 84x84: 20, 9, and 7 on a side; a last layer of the published width unless another."""
    convolutions, features, width = PLAIN[torso]
    width = output or width
    sizes = torso_sizes(FRAMES, torso=torso, torso_output=output)
    assert sizes == (convolutions + (features + 1) * width, width)


@pytest.mark.parametrize(("torso", "side"), [("shallow", 20), ("nature", 36)])
def test_plain_convolutions_are_the_network_written_as_loops(torso, side):
    strides = {"shallow": (4, 2), "nature": (4, 2, 1)}[torso]
    x = np.random.default_rng(0).normal(size=(2, side + 3, side, 3))
    module, features = through(torso, x, x.shape[1:], torso_output=6)
    assert len(module.convs) == len(strides)
    for conv, stride in zip(module.convs, strides, strict=True):
        y = convolve(x, conv.weight, conv.bias, stride=stride, padding="VALID")
        x = np.maximum(y, 0)
    x = x.reshape(2, -1) @ np.asarray(module.output.weight) + np.asarray(module.output.bias)
    np.testing.assert_allclose(features, np.maximum(x, 0), rtol=1e-4, atol=1e-4 * np.abs(x).max())
    assert np.count_nonzero(features) > 0


@pytest.mark.parametrize("downsampling", ["pools", "strides"])
@pytest.mark.parametrize("size", [(5, 6), (4, 7)])
def test_resnet_is_the_network_written_as_loops(size, downsampling):
    """The odd and the even sizes differ in where SAME padding fills."""
    shape = (*size, 2)
    x = np.random.default_rng(0).normal(size=(2, *shape))
    settings = {"channels": (2, 3), "torso_output": 4, "downsampling": downsampling}
    torso, features = through("resnet", x, shape, **settings)
    for conv, blocks in zip(torso.convs, torso.blocks, strict=True):
        if downsampling == "pools":
            x = max_pool(convolve(x, conv.weight, conv.bias))
        else:
            x = convolve(x, conv.weight, conv.bias, stride=2)
        for block in blocks:
            y = convolve(np.maximum(x, 0), block.first.weight, block.first.bias)
            x = x + convolve(np.maximum(y, 0), block.second.weight, block.second.bias)
    x = np.maximum(x, 0).reshape(2, -1)
    x = np.maximum(x @ np.asarray(torso.output.weight) + np.asarray(torso.output.bias), 0)
    np.testing.assert_allclose(features, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())


@pytest.mark.parametrize("shape", [(5, 4, 3), (4, 5, 4)])
def test_minatar_is_the_network_written_as_loops(shape):
    """With as many channels as columns, the channels are last."""
    x = np.random.default_rng(0).normal(size=(2, *shape))
    torso, features = through("minatar", x, x.shape[1:], torso_output=6)
    kernel = torso.conv.weight.reshape(3, 3, shape[-1], 16)
    x = np.maximum(convolve(x, kernel, torso.conv.bias, padding="VALID"), 0)
    x = x.reshape(2, -1) @ np.asarray(torso.output.weight) + np.asarray(torso.output.bias)
    assert_close(features, np.maximum(x, 0))


@pytest.mark.parametrize("torso", ["minatar", "resnet", "shallow", "nature"])
def test_channels_may_come_first(torso):
    """As in a stack of frames; rows and columns stay apart, and parameters the same."""
    images = np.random.default_rng(0).integers(0, 256, (1, BATCH, 40, 37, 4), np.uint8)
    last, first = (
        build(shape, jnp.uint8, torso=torso, channels=(2,)) for shape in ((40, 37, 4), (4, 40, 37))
    )
    parameters = filled(last.init)
    assert jax.tree.map(jnp.shape, filled(first.init)) == jax.tree.map(jnp.shape, parameters)
    seen = outputs(last, parameters, jnp.asarray(images))
    turned = outputs(first, parameters, jnp.asarray(np.moveaxis(images, -1, 2)))
    for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(turned), strict=True):
        assert np.any(a)
        np.testing.assert_array_equal(a, b)


def refusal(shape=(4,), **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        build(shape, **settings)
    return message_of(caught)


@pytest.mark.parametrize(
    ("torso", "shape"),
    [
        ("resnet", (4,)),
        ("resnet", (84, 84)),
        ("resnet", (0, 84, 4)),
        ("minatar", (10, 10)),
        ("minatar", (10, 2, 2)),
        ("minatar", (1, 2, 10)),
        ("shallow", (84, 19, 4)),
        ("nature", (4, 35, 84)),
        ("minatar", ()),
    ],
)
def test_convolutions_need_images(torso, shape):
    message = refusal(shape, torso=torso)
    assert message.startswith(f"--torso {torso} needs observations [height, width, channels]")
    assert str(list(shape)) in message


def test_an_unknown_torso_names_those_there_are():
    message = refusal(torso="transformer")
    assert (
        "unknown torso 'transformer': use mlp, minatar, resnet, shallow, nature or package.module"
        in message
    )


class Own(eqx.Module):
    """A user's torso with leaves that are no arrays: Equinox's MLP holds functions."""

    mlp: eqx.nn.MLP

    def __init__(self, shape, key):
        self.mlp = eqx.nn.MLP(math.prod(shape), 6, 9, depth=1, key=key)

    def __call__(self, x):
        return jax.vmap(self.mlp)(x)


def test_a_torso_of_a_users_own(monkeypatch):
    network = build(torso=as_module(monkeypatch, torso=Own) + ":torso")
    parameters = started(network.init)
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(parameters))

    def loss(parameters):
        return jnp.sum(outputs(network, parameters, observe()).policy ** 2)

    gradient = jax.jit(jax.grad(loss))(parameters)
    assert outputs(network, parameters, observe()).policy.shape[0] == STEPS
    assert len(jax.tree.leaves(gradient.torso)) == 4
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient.torso))


class Returns(eqx.Module):
    """A torso that does what it is told."""

    function: object = eqx.field(static=True)

    def __call__(self, x):
        return self.function(x)


class Whole(eqx.Module):
    """A torso with whole numbers, which cannot be learned."""

    order: jax.Array

    def __call__(self, x):
        return x[:, self.order]


def raises(*arguments):
    raise RuntimeError("no weights today\nand a second line")


TORSO = "torso users_own_module:torso "


@pytest.mark.parametrize(
    ("torso", "complaint"),
    [
        (raises, "raised RuntimeError: no weights today"),
        (lambda shape: Returns(jnp.sin), "raised TypeError: "),
        (
            lambda shape, key: None,
            "must return a callable pytree, such as an equinox.Module, not a N",
        ),
        (
            lambda shape, key: lambda x: x,
            "must return a callable pytree, such as an equinox.Module,",
        ),
        (
            lambda shape, key: Returns(raises),
            "fails on observations of shape [4]: RuntimeError: no",
        ),
        (
            lambda shape, key: Returns(lambda x: x @ jnp.ones((3, 2))),
            "fails on observations of sha",
        ),
        (
            lambda shape, key: Returns(lambda x: (x, x)),
            "fails on observations of shape [4]: Attrib",
        ),
        (
            lambda shape, key: Returns(lambda x: x[:, 0]),
            "must map [N, ...] to [N, F], not [2, 4] to [2]",
        ),
        (
            lambda shape, key: Returns(lambda x: x.reshape(1, -1)),
            "must map [N, ...] to [N, F], not [2, 4] to [1, 8]",
        ),
        (lambda shape, key: Whole(jnp.arange(2)), "has arrays that are not of a floating type"),
    ],
)
def test_what_is_wrong_with_a_torso_is_said_in_one_line(monkeypatch, torso, complaint):
    message = refusal(torso=as_module(monkeypatch, torso=torso) + ":torso")
    assert message.startswith(TORSO + complaint)


def test_a_torso_that_does_not_exist(monkeypatch):
    assert "cannot import 'no_such_module'" in refusal(torso="no_such_module:torso")
    module = as_module(monkeypatch)
    assert "has no function 'torso'" in refusal(torso=f"{module}:torso")

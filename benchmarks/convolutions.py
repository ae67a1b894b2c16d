"""CPU time of the torsos' convolutions and their gradients, by XLA and by PyTorch's oneDNN.

    python benchmarks/convolutions.py [--images 168] [--peers PYTHON]

Milliseconds of CPU time, all threads together, so that other work disturbs little; medians of 7
calls. PYTHON is an interpreter that has PyTorch, which gets channels last and one thread. With
--torch, this script measures PyTorch itself, and needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A square convolution."""

    side: int
    inputs: int
    size: int
    stride: int
    outputs: int
    same: bool


LAYERS = (
    Layer(84, 4, 8, 4, 16, same=False),  # shallow
    Layer(84, 4, 8, 4, 32, same=False),  # nature, as the next two
    Layer(20, 32, 4, 2, 64, same=False),
    Layer(9, 64, 3, 1, 64, same=False),
    Layer(42, 16, 3, 1, 16, same=True),  # deep ResNet, as the next
    Layer(21, 32, 3, 1, 32, same=True),
)
NAMES = ("forward", "weights", "inputs")


def main() -> None:
    """Prints a table, or with --torch the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=168, help="8 environments, T + 1 = 21")
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    if arguments.torch:
        print(json.dumps([of_torch(layer, arguments.images) for layer in LAYERS]))
        return
    rows = {"XLA": [of_xla(layer, arguments.images) for layer in LAYERS]}
    if arguments.peers:
        command = [arguments.peers, __file__, "--torch", "--images", str(arguments.images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows["PyTorch"] = json.loads(done.stdout)
    print(
        "| input, kernel, outputs | " + " | ".join(f"{peer}: {', '.join(NAMES)}" for peer in rows)
    )
    print("|---" * (1 + len(rows)) + "|")
    for index, layer in enumerate(LAYERS):
        kernel = f"{layer.size}x{layer.size} stride {layer.stride}"
        name = f"{layer.side}x{layer.side}x{layer.inputs}, {kernel}, {layer.outputs}"
        figures = (", ".join(f"{ms:.0f}" for ms in times[index]) for times in rows.values())
        print(f"| {name} | " + " | ".join(figures) + " |")


def of_xla(layer: Layer, images: int) -> list[float]:
    """Milliseconds of the forward pass and of the two gradients."""
    import jax
    import jax.numpy as jnp

    from stacx.runtimes.compilation import compiler_options

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            weight,
            (layer.stride, layer.stride),
            "SAME" if layer.same else "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def of_weights(x: Any, weight: Any, y: Any) -> Any:
        return jax.vjp(lambda weight: convolve(x, weight), weight)[1](y)

    def of_inputs(x: Any, weight: Any, y: Any) -> Any:
        return jax.vjp(lambda x: convolve(x, weight), x)[1](y)

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function, compiler_options=compiler_options())

    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (images, layer.side, layer.side, layer.inputs))
    weight = jax.random.normal(keys[1], (layer.size, layer.size, layer.inputs, layer.outputs))
    forward, weights, inputs = compiled(convolve), compiled(of_weights), compiled(of_inputs)
    y = jnp.asarray(forward(x, weight))
    return [
        cpu_ms(lambda: jax.block_until_ready(forward(x, weight))),
        cpu_ms(lambda: jax.block_until_ready(weights(x, weight, y))),
        cpu_ms(lambda: jax.block_until_ready(inputs(x, weight, y))),
    ]


def of_torch(layer: Layer, images: int) -> list[float]:
    """Milliseconds of the forward pass and of the two gradients."""
    import torch

    torch.set_num_threads(1)
    last, pad = torch.channels_last, (layer.size - 1) // 2 if layer.same else 0
    x = torch.randn(images, layer.inputs, layer.side, layer.side).to(memory_format=last)
    weight = torch.randn(layer.outputs, layer.inputs, layer.size, layer.size)
    weight = weight.to(memory_format=last)

    def forward() -> Any:
        return torch.nn.functional.conv2d(x, weight, None, layer.stride, pad)

    y = torch.randn_like(forward())

    def backward(inputs: bool, weights: bool) -> Any:
        strides, pads, mask = (layer.stride,) * 2, (pad,) * 2, (inputs, weights, False)
        return torch.ops.aten.convolution_backward(
            y, x, weight, None, strides, pads, (1, 1), False, (0, 0), 1, mask
        )

    calls = (forward, lambda: backward(False, True), lambda: backward(True, False))
    return [cpu_ms(call) for call in calls]


def cpu_ms(call: Callable[[], Any], calls: int = 7) -> float:
    """Median CPU time of all threads, in milliseconds, after a call that may compile."""
    call()
    times = []
    for _ in range(calls):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()

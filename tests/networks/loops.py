"""Convolution and pooling as loops over the output, in NumPy."""

import itertools

import numpy as np


def _windows(x, size, stride, padding, filler):
    """Every output position [i, j], and its window of the input [N, size, size, C]."""
    sizes, pads = [], []
    for length in x.shape[1:3]:
        if padding == "VALID":
            sizes.append((length - size) // stride + 1)
            pads.append((0, 0))
        else:  # as many outputs as strides begin; the odd one of the filling comes last
            sizes.append(-(-length // stride))
            total = max((sizes[-1] - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2))
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=filler)
    positions = itertools.product(*map(range, sizes))
    windows = {
        (i, j): padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
        for i, j in positions
    }
    return sizes, windows


def convolve(x, weight, bias, *, stride=1, padding="SAME"):
    """[N, H, W, C] with a kernel [size, size, C, D]."""
    sizes, windows = _windows(np.asarray(x), len(weight), stride, padding, 0.0)
    y = np.empty((len(x), *sizes, weight.shape[-1]))
    for (i, j), window in windows.items():
        y[:, i, j] = np.einsum("nabc,abcd->nd", window, np.asarray(weight)) + np.asarray(bias)
    return y


def max_pool(x):
    """3x3 windows with stride 2 and SAME padding."""
    sizes, windows = _windows(np.asarray(x), 3, 2, "SAME", -np.inf)
    y = np.empty((len(x), *sizes, x.shape[-1]))
    for (i, j), window in windows.items():
        y[:, i, j] = window.max(axis=(1, 2))
    return y

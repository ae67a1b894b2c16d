"""How alike the heads of trained agents are: cosines between their last layers' weights.

    python experiments/heads.py RUN_DIR...

Prints a line per run and kind of head: the smallest cosine over seeds between head 1 and an
auxiliary one, and between auxiliary heads. 1 means that one is a multiple of the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import stacx
from stacx.runs import RunDirectory


def main() -> None:
    """Prints the table."""
    print("| run | heads | head 1 and others | others |\n|---|---|---|---|")
    for path in map(Path, sys.argv[1:]):
        config = RunDirectory.open(path).config()
        seeds = range(config.seed, config.seed + config.num_seeds)
        parameters = [stacx.load(path, seed).parameters.heads for seed in seeds]
        for kind in ("policy", "value"):
            cosines = np.array(
                [cosines_of(getattr(heads, kind).weights[-1]) for heads in parameters]
            )
            print(
                f"| {path.name} | {kind} | {cosines[:, 0, 1:].min():.4f} "
                f"| {cosines[:, 1, 2:].min():.4f} |"
            )


def cosines_of(weights: np.ndarray) -> np.ndarray:
    """Cosines between heads, [P, P], of weights [P, inputs, outputs]."""
    flat = np.asarray(weights, np.float64).reshape(len(weights), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat @ flat.T


if __name__ == "__main__":
    main()

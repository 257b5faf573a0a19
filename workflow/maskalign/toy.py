"""Two weights with the symmetry of a network: why a mask must be permuted (paper, Figures 1, 12).

The model is f(x; w) = sin(w1 x) + sin(w2 x), a hidden layer of two units with sine activations.
Swapping the units changes nothing, so the loss of fitting sin(2x) has two equal basins, at (2, 0)
and at (0, 2). Every path is gradient descent on that loss; none of its points is set by hand.
"""

import numpy as np
import pandas as pd

INPUTS = np.linspace(0, np.pi, 65)
TARGETS = np.sin(2 * INPUTS)
RATE = 0.05
STEPS = 400
# Untrained weights of A and B. They lie in the domains of different basins.
A = (1.5, 0.5)
B = (0.5, 2.6)


def loss(w: np.ndarray) -> np.ndarray:
    """Return the mean squared error of weights [..., 2], shape [...]."""
    return np.square(_residual(w)).mean(-1)


def gradient(w: np.ndarray) -> np.ndarray:
    """Return the gradient of the loss with respect to weights [2]."""
    slopes = INPUTS * np.cos(w[:, None] * INPUTS)
    return 2 * (_residual(w) * slopes).mean(-1)


def descend(start: tuple[float, float], mask: np.ndarray | None = None) -> np.ndarray:
    """Return the path of gradient descent from ``start`` under ``mask``, [STEPS + 1, 2]."""
    mask = np.ones(2) if mask is None else mask
    path = [np.asarray(start) * mask]
    for _ in range(STEPS):
        path.append(path[-1] - RATE * gradient(path[-1]) * mask)
    return np.array(path)


def prune(w: np.ndarray) -> np.ndarray:
    """Return the mask [2] that keeps the larger weight by magnitude."""
    return (np.abs(w) == np.abs(w).max()).astype(float)


def match(a: np.ndarray, b: np.ndarray) -> list[int]:
    """Return the order of A's units whose outputs correlate best with B's."""

    def score(order: list[int]) -> float:
        units_a, units_b = np.outer(a[order], INPUTS), np.outer(b, INPUTS)
        return float((np.sin(units_a) * np.sin(units_b)).sum())

    return max([0, 1], [1, 0], key=score)


def run() -> pd.DataFrame:
    """Run the toy.

    Returns:
        One row a step, with columns ``model``, ``step``, ``w1``, ``w2`` and ``loss``. Models are
        ``dense_a``, ``dense_b``, ``pruned_a`` (dense A with its mask, no training), and the sparse
        trainings ``lth``, ``naive`` and ``permuted``.
    """
    dense_a, dense_b = descend(A), descend(B)
    mask = prune(dense_a[-1])
    paths = {
        "dense_a": dense_a,
        "dense_b": dense_b,
        "pruned_a": dense_a[-1:] * mask,
        "lth": descend(A, mask),
        "naive": descend(B, mask),
        "permuted": descend(B, mask[match(dense_a[-1], dense_b[-1])]),
    }
    return pd.concat(
        pd.DataFrame({"model": m, "step": range(len(p)), "w1": p[:, 0], "w2": p[:, 1]}).assign(
            loss=loss(p)
        )
        for m, p in paths.items()
    )


def _residual(w: np.ndarray) -> np.ndarray:
    return np.sin(w[..., None] * INPUTS).sum(-2) - TARGETS

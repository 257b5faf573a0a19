"""Masks of control methods: random masks that share a property with a given one.

Each function takes a mask and a ``Start`` and returns a mask of the same names and shapes that
keeps as many weights in total. A user's own function, named by a dotted path, does the same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from maskalign import dotted, margins, symmetry
from maskalign.entries import check_alike, shapes
from maskalign.pruning import Mask
from maskalign.symmetry import Symmetry


@dataclass(frozen=True)
class Start:
    """The arguments of a mask function apart from the mask.

    Attributes:
        network: with the weights at which sparse training starts.
        symmetry: returns the symmetry of the network; every call traces it.
        generator: on the CPU; all random draws come from it.
    """

    network: nn.Module
    symmetry: Callable[[], Symmetry]
    generator: torch.Generator


def shuffled(mask: Mask, start: Start) -> Mask:
    """Return a mask with the entries of every layer in random order."""
    drawn = {}
    for name, m in mask.items():
        order = torch.randperm(m.numel(), generator=start.generator).to(m.device)
        drawn[name] = m.flatten()[order].view(m.shape)
    return drawn


def fan(mask: Mask, start: Start) -> Mask:
    """Return a random mask with the margins of ``mask`` in every layer; see ``margins.redraw``."""
    return {name: margins.redraw(m, start.generator) for name, m in mask.items()}


def uniform(mask: Mask, start: Start) -> Mask:
    """Return a random mask of the same density in every layer."""
    sizes, kept = _sizes(mask), _kept(mask)
    density = Fraction(kept, sum(sizes))
    return _scattered(mask, _rounded([density * size for size in sizes], kept), start)


def erk(mask: Mask, start: Start) -> Mask:
    """Return a random mask with the layer densities "Erdos-Renyi-kernel" of Evci et al. (2020).

    A layer's density is proportional to the sum of its shape over the product of its shape. Layers
    whose density would exceed 1 are dense, and the scale of the rest is computed again, until none
    exceeds 1.
    """
    return _scattered(mask, _rounded(_erk_shares(mask), _kept(mask)), start)


def random_permutation(mask: Mask, start: Start) -> Mask:
    """Return the mask under a random permutation of the network's symmetry."""
    groups = start.symmetry()
    return dict(symmetry.permute(groups, symmetry.shuffled(groups, start.generator), mask))


def drawn(function_path: str, mask: Mask, start: Start) -> Mask:
    """Return the mask that a function makes of ``mask``.

    Args:
        function_path: dotted path such as ``mypackage.masks:mine``; the function is called with
            ``mask`` and ``start``.
        mask: bool, by name of the weight.
        start: passed to the function.

    Raises:
        ValueError: one line that begins with the path, if there is no such function, or it returns
            anything but bool tensors of the names, shapes and total number of kept weights of
            ``mask``.
    """
    kept, known = _kept(mask), shapes(mask)  # before a function may change them in place
    found = dotted.load(function_path)(mask, start)
    if not isinstance(found, dict):
        raise ValueError(f"{function_path}: returns a {type(found).__name__}, must return a mask")
    for name, m in found.items():
        kind = m.dtype if isinstance(m, Tensor) else f"a {type(m).__name__}"
        if kind != torch.bool:
            raise ValueError(f"{function_path}: {name!r} is {kind}, must be a tensor of torch.bool")
    check_alike(found, known, f"{function_path}: the mask", "the mask it was given")
    if _kept(found) != kept:
        raise ValueError(
            f"{function_path}: keeps {_kept(found)} weights, must keep as many as the mask it was "
            f"given, {kept}"
        )
    return found


def _sizes(mask: Mask) -> list[int]:
    return [m.numel() for m in mask.values()]


def _kept(mask: Mask) -> int:
    return sum(int(m.sum()) for m in mask.values())


def _erk_shares(mask: Mask) -> list[Fraction]:
    """Return the expected number of kept weights per layer."""
    # Density times size: a layer's number of kept weights is proportional to the sum of its shape.
    sums = [sum(m.shape) for m in mask.values()]
    shares = [Fraction(size) for size in _sizes(mask)]
    sparse = range(len(shares))
    while True:
        left = _kept(mask) - sum(s for i, s in enumerate(shares) if i not in sparse)
        scale = Fraction(left) / sum(sums[i] for i in sparse)
        fitting = [i for i in sparse if scale * sums[i] <= shares[i]]
        if len(fitting) == len(sparse):
            return [scale * sums[i] if i in sparse else s for i, s in enumerate(shares)]
        sparse = fitting


def _rounded(shares: list[Fraction], total: int) -> list[int]:
    """Return whole numbers that sum to ``total``, by largest remainder; ties by order.

    The shares are exact and sum to ``total``, so that no whole share is rounded up: no layer gets
    more than its size.
    """
    counts = [math.floor(share) for share in shares]
    remainders = [share - count for share, count in zip(shares, counts, strict=True)]
    largest = sorted(range(len(shares)), key=lambda i: -remainders[i])
    for i in largest[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _scattered(mask: Mask, counts: list[int], start: Start) -> Mask:
    """Return a mask that keeps these numbers of weights per layer, at random places."""
    drawn = {}
    for (name, m), count in zip(mask.items(), counts, strict=True):
        layer = torch.zeros(m.numel(), dtype=torch.bool)
        layer[torch.randperm(m.numel(), generator=start.generator)[:count]] = True
        drawn[name] = layer.view(m.shape).to(m.device)
    return drawn

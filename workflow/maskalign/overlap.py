"""Overlap of a mask with the mask that a network's own IMP gives."""

from maskalign.entries import check_alike, shapes
from maskalign.pruning import Mask


def overlap(mask: Mask, own: Mask) -> float:
    """Return the share of the weights kept by ``own`` that ``mask`` keeps too, over all layers.

    Args:
        mask, own: bool, of the same names and shapes.

    Raises:
        ValueError: one line, if names or shapes differ, or ``own`` keeps no weight.

    >>> import torch
    >>> own = {"a.weight": torch.tensor([True, True, False, False])}
    >>> overlap({"a.weight": torch.tensor([True, False, True, True])}, own)
    0.5
    """
    total = _checked(mask, own)
    return sum(int((mask[k].to(m.device) & m).sum()) for k, m in own.items()) / total


def expected_overlap(mask: Mask, own: Mask) -> float:
    """Return the overlap expected of random masks with as many kept weights per layer.

    A layer of n weights, of which the masks keep k and k' at independent random places, shares
    k k' / n of them on average. For arguments and errors see ``overlap``.

    >>> import torch
    >>> own = {"a.weight": torch.tensor([True, True, False, False])}
    >>> expected_overlap({"a.weight": torch.tensor([True, False, True, True])}, own)
    0.75
    """
    total = _checked(mask, own)
    return sum(int(mask[k].sum()) * int(m.sum()) / m.numel() for k, m in own.items()) / total


def _checked(mask: Mask, own: Mask) -> int:
    """Return the number of weights that ``own`` keeps, if the masks fit."""
    check_alike(mask, shapes(own), "the mask", "the network's own mask")
    total = sum(int(m.sum()) for m in own.values())
    if not total:
        raise ValueError("the network's own mask keeps no weight, so none can overlap")
    return total

"""Global magnitude pruning with an exact number of remaining weights (SPEC, method 2)."""

from collections.abc import Mapping

import torch

from maskalign.entries import check_entries, nearest, shapes

Mask = dict[str, torch.Tensor]


def full_mask(weights: dict[str, torch.Tensor], names: list[str]) -> Mask:
    """Return the mask that keeps every weight of ``names``; bool, shaped like the weights.

    Raises:
        ValueError: one line, if there is no weight of a name.
    """
    for name in names:
        if name not in weights:
            raise ValueError(f"there is no weight {name!r}{nearest(name, weights)}")
    return {name: torch.ones_like(weights[name], dtype=torch.bool) for name in names}


def prune(weights: dict[str, torch.Tensor], mask: Mask, sparsity: float) -> Mask:
    """Return ``mask`` with the smallest remaining weights masked, so that ``sparsity`` is reached.

    Magnitudes are compared over all layers of the mask at once. Exactly
    ``round((1 - sparsity) * n)`` of the n weights remain, whatever the ties.

    Args:
        weights: a state_dict.
        mask: bool, for some of the weights.
        sparsity: share of the mask's weights to be masked, from 0 to below 1.

    Raises:
        ValueError: one line, if the mask is already sparser than ``sparsity``, or an entry of it is
            not bool or of no weight of this name and shape; or if ``sparsity`` is no such share.

    >>> weights = {"a.weight": torch.tensor([[0.5, -2.0]]), "b.weight": torch.tensor([1.0, 0.1])}
    >>> prune(weights, full_mask(weights, ["a.weight", "b.weight"]), 0.5)
    {'a.weight': tensor([[False,  True]]), 'b.weight': tensor([ True, False])}
    """
    if not 0 <= sparsity < 1:
        hint = f", so {sparsity:g} % is {sparsity / 100:g}" if 1 < sparsity < 100 else ""
        raise ValueError(f"sparsity {sparsity:g} is not allowed: 0 <= sparsity < 1{hint}")
    if not mask:
        raise ValueError("the mask has no entry, so there is nothing to prune")
    check_mask(mask, weights)
    for name, m in mask.items():
        if m.dtype != torch.bool:
            raise ValueError(f"mask entry {name!r} is {m.dtype}, must be torch.bool")
    kept = torch.cat([m.flatten() for m in mask.values()])
    remain = round((1 - sparsity) * kept.numel())
    if remain > int(kept.sum()):
        raise ValueError(f"cannot reach sparsity {sparsity:g} from {sparsity_of(mask):.4f}")
    magnitude = torch.cat([weights[name].detach().abs().flatten() for name in mask])
    magnitude = magnitude.nan_to_num(0.0).masked_fill(~kept, -1.0)
    order = torch.argsort(magnitude, descending=True, stable=True)
    pruned = torch.zeros_like(kept)
    pruned[order[:remain]] = True
    parts = pruned.split([m.numel() for m in mask.values()])
    return {name: part.view_as(mask[name]) for name, part in zip(mask, parts, strict=True)}


def sparsity_of(mask: Mask) -> float:
    """Return the share of masked weights, counted in the mask; ValueError if it is no mask.

    >>> sparsity_of({"a.weight": torch.tensor([True, False, False, False])})
    0.75
    """
    _check_values(mask)
    total = sum(m.numel() for m in mask.values())
    return 1 - sum(int(m.sum()) for m in mask.values()) / total


def apply(mask: Mask, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return ``weights`` with masked entries exactly zero; for errors see ``check_mask``."""
    check_mask(mask, weights)
    return {
        k: v.where(mask[k].to(v.device).bool(), 0) if k in mask else v for k, v in weights.items()
    }


def check_mask(mask: Mask, weights: Mapping[str, torch.Tensor]) -> None:
    """Check that a mask is one of these weights.

    Args:
        mask: bool, or of another type with the values 0 and 1 alone.
        weights: by name; those that the mask leaves out are not masked.

    Raises:
        ValueError: one line that names the first entry that is of no weight, has another shape, or
            other values.
    """
    check_entries(mask, shapes(weights), "mask entry")
    _check_values(mask)


def _check_values(mask: Mask) -> None:
    for name, m in mask.items():
        if m.dtype != torch.bool and not ((m == 0) | (m == 1)).all():
            raise ValueError(f"mask entry {name!r} has other values than 0 and 1")

"""Global magnitude pruning with an exact number of remaining weights (SPEC, method 2)."""

import torch

Mask = dict[str, torch.Tensor]


def full_mask(weights: dict[str, torch.Tensor], names: list[str]) -> Mask:
    """Return the mask that keeps every weight of ``names``; bool, shaped like the weights."""
    return {name: torch.ones_like(weights[name], dtype=torch.bool) for name in names}


def prune(weights: dict[str, torch.Tensor], mask: Mask, sparsity: float) -> Mask:
    """Return ``mask`` with the smallest remaining weights masked, so that ``sparsity`` is reached.

    Magnitudes are compared over all layers of the mask at once. Exactly
    ``round((1 - sparsity) * n)`` of the n weights remain, whatever the ties.

    Raises:
        ValueError: if the mask is already sparser than ``sparsity``.
    """
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
    """Return the share of masked weights, counted in the mask."""
    total = sum(m.numel() for m in mask.values())
    return 1 - sum(int(m.sum()) for m in mask.values()) / total


def apply(mask: Mask, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return ``weights`` with masked entries exactly zero."""
    return {k: v * mask[k].to(v) if k in mask else v for k, v in weights.items()}

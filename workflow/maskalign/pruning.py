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

    >>> weights = {"a.weight": torch.tensor([[0.5, -2.0]]), "b.weight": torch.tensor([1.0, 0.1])}
    >>> prune(weights, full_mask(weights, ["a.weight", "b.weight"]), 0.5)
    {'a.weight': tensor([[False,  True]]), 'b.weight': tensor([ True, False])}
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
    """Return the share of masked weights, counted in the mask.

    >>> sparsity_of({"a.weight": torch.tensor([True, False, False, False])})
    0.75
    """
    total = sum(m.numel() for m in mask.values())
    return 1 - sum(int(m.sum()) for m in mask.values()) / total


def apply(mask: Mask, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return ``weights`` with masked entries exactly zero."""
    return {k: v * mask[k].to(v) if k in mask else v for k, v in weights.items()}

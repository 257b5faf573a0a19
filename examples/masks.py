"""A method of your own, named in a study as ``examples.masks:magnitude``."""

import torch
from maskalign.controls import Start


def magnitude(mask: dict[str, torch.Tensor], start: Start) -> dict[str, torch.Tensor]:
    """Return a mask of the weights of ``start.network`` that are largest now, over all layers.

    ``mask`` is A's IMP mask, bool, by name of the weight. What a method returns has the same names
    and shapes, and keeps as many weights.
    """
    weights = dict(start.network.named_parameters())
    sizes = torch.cat([weights[name].detach().abs().flatten() for name in mask])
    kept = torch.zeros(len(sizes), dtype=torch.bool, device=sizes.device)
    kept[sizes.argsort(descending=True)[: sum(int(m.sum()) for m in mask.values())]] = True
    parts = kept.split([m.numel() for m in mask.values()])
    return {name: part.view_as(m) for (name, m), part in zip(mask.items(), parts, strict=True)}

"""Loss and accuracy of a network over batches."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def evaluate(model: torch.nn.Module, batches: Batches) -> dict[str, float]:
    """Return mean cross-entropy ``loss`` in nats, ``accuracy`` and ``top5_accuracy`` in percent.

    The network is evaluated, and left, in eval mode. Sums stay on the device until the end.
    """
    model.eval()
    loss = top1 = top5 = None
    count = 0
    for x, y in batches:
        logits = model(x).float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
        sums = (F.cross_entropy(logits, y, reduction="sum").double(), best[:, 0].sum(), best.sum())
        loss, top1, top5 = (
            sums if loss is None else (loss + sums[0], top1 + sums[1], top5 + sums[2])
        )
        count += len(y)
    if not count:
        raise ValueError("nothing to evaluate: the data set gave no batch")
    return {
        "loss": float(loss) / count,
        "accuracy": 100 * float(top1) / count,
        "top5_accuracy": 100 * float(top5) / count,
    }


@torch.no_grad()
def predict(model: torch.nn.Module, batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [samples, classes] and labels [samples] over ``batches``, in eval mode."""
    model.eval()
    outputs = [(model(x).float(), y) for x, y in batches]
    return torch.cat([x for x, _ in outputs]), torch.cat([y for _, y in outputs])

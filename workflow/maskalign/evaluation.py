"""Loss and accuracy of networks over batches; several share one pass over the batches."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def evaluate(model: torch.nn.Module, batches: Batches) -> dict[str, float]:
    """Return mean cross-entropy ``loss`` in nats, ``accuracy`` and ``top5_accuracy`` in percent.

    The network is evaluated, and left, in eval mode. Sums stay on the device until the end.

    Raises:
        ValueError: one line, if there is no batch, or labels are not one class number per image.
    """
    return evaluate_each([model], batches)[0]


@torch.no_grad()
def evaluate_each(models: Sequence[torch.nn.Module], batches: Batches) -> list[dict[str, float]]:
    """Return for each network what ``evaluate`` does; the batches are passed once."""
    sums = [[0.0, 0, 0] for _ in models]
    count = 0
    for model in models:
        model.eval()
    for x, y in batches:
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"labels of {len(x)} images have shape {list(y.shape)}: not [{len(x)}]"
            )
        count += len(y)
        for totals, model in zip(sums, models, strict=True):
            logits = model(x).float()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            totals[0] = totals[0] + F.cross_entropy(logits, y, reduction="sum").double()
            totals[1] = totals[1] + best[:, 0].sum()
            totals[2] = totals[2] + best.sum()
    if not count:
        raise ValueError("nothing to evaluate: the data set gave no batch")
    return [
        {
            "loss": float(loss) / count,
            "accuracy": 100 * float(top1) / count,
            "top5_accuracy": 100 * float(top5) / count,
        }
        for loss, top1, top5 in sums
    ]


@torch.no_grad()
def predict(
    models: Sequence[torch.nn.Module], batches: Batches
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [models, samples, classes] and labels [samples], both on the CPU."""
    for model in models:
        model.eval()
    outputs, labels = [], []
    for x, y in batches:
        outputs.append(torch.stack([model(x).float().cpu() for model in models]))
        labels.append(y.cpu())
    return torch.cat(outputs, 1), torch.cat(labels)

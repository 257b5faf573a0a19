"""Diversity of an ensemble's members (paper, Table 1; definitions in SPEC, Diversity)."""

import itertools
import math

import torch


def diversity(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Compare the members of an ensemble.

    Args:
        logits: [members, samples, classes], at least two members.
        labels: [samples].

    Returns:
        ``ensemble_accuracy`` of the mean softmax output, in percent; ``disagreement``, the share of
        samples on which two members differ, mean over pairs; ``kl`` (mean over ordered pairs) and
        ``js`` (mean over pairs) of the softmax outputs, in nats.

    >>> logits = torch.tensor([[[9.0, 0.0], [9.0, 0.0]], [[9.0, 0.0], [0.0, 8.0]]])
    >>> scores = diversity(logits, torch.tensor([0, 0]))
    >>> scores["ensemble_accuracy"], scores["disagreement"]
    (100.0, 0.5)
    """
    log_p = logits.double().log_softmax(-1)
    p = log_p.exp()
    votes = logits.argmax(-1)
    pairs = list(itertools.combinations(range(len(logits)), 2))

    def kl(a: torch.Tensor, log_a: torch.Tensor, log_b: torch.Tensor) -> float:
        return float((a * (log_a - log_b)).sum(-1).mean())

    def js(i: int, j: int) -> float:
        log_m = torch.logaddexp(log_p[i], log_p[j]) - math.log(2)
        return (kl(p[i], log_p[i], log_m) + kl(p[j], log_p[j], log_m)) / 2

    def mean(values) -> float:
        values = list(values)
        return sum(values) / len(values)

    return {
        "ensemble_accuracy": 100 * float((p.mean(0).argmax(-1) == labels).double().mean()),
        "disagreement": mean(float((votes[i] != votes[j]).double().mean()) for i, j in pairs),
        "kl": mean(
            kl(p[i], log_p[i], log_p[j]) for i, j in itertools.permutations(range(len(p)), 2)
        ),
        "js": mean(js(i, j) for i, j in pairs),
    }

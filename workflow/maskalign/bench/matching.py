"""Seconds of matching two networks: one pass for all groups, and a pass for every group."""

import time
from pathlib import Path
from typing import Any

import torch

from maskalign import graph, matching
from maskalign.bench import baseline, work


def compare(job: dict[str, Any], folder: Path, device: str) -> dict[str, float]:
    """Return seconds of both on ``job["images"]`` images, and how many permutations agree.

    Returns:
        ``textbook`` and ``ours`` in seconds; ``groups``; ``alike``, the share of channels that both
        assign alike; ``assignment``, the seconds of solving for the permutations in ``ours``.
    """
    data = work.data(folder, job["images"], device)
    a, b = (work.build(job["network"], seed).to(device) for seed in (0, 1))
    symmetry = graph.derive(a, torch.zeros(2, 3, 32, 32, device=device))
    batches = [x for x, _ in data.train_subset(None, ("bench",), augment=True)]
    for model in (a, b):  # batch-norm statistics that fit the images
        model.train()
        model(batches[0])
    began = time.perf_counter()
    theirs = baseline.match(symmetry, a, b, lambda: iter(batches))
    middle = time.perf_counter()
    for model in (a, b):
        model.to(memory_format=torch.channels_last)
    start = time.perf_counter()
    correlations = matching.correlate(symmetry, a, b, iter(batches))
    gathered = time.perf_counter()
    found = matching.match_activations(correlations)
    end = time.perf_counter()
    same = sum(int((theirs[name] == perm).sum()) for name, perm in found.items())
    return {
        "textbook": middle - began,
        "ours": end - start,
        "assignment": end - gathered,
        "groups": len(symmetry.groups),
        "alike": same / sum(len(perm) for perm in found.values()),
    }


def assign(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the seconds of one assignment of ``job["channels"]`` channels.

    The scores are correlations of random activations, three times as many as channels, with those
    of a shuffled and noisy copy.
    """
    draws = torch.Generator().manual_seed(0)
    channels = job["channels"]
    a = torch.randn(3 * channels, channels, generator=draws)
    b = a[:, torch.randperm(channels, generator=draws)] + torch.randn(a.shape, generator=draws)
    correlation = matching.Correlation()
    correlation.update(b, a)
    score = correlation.matrix()
    matching.solve(torch.eye(2))  # imports scipy
    began = time.perf_counter()
    matching.solve(score)
    return time.perf_counter() - began

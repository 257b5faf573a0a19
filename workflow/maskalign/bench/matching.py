"""Seconds of matching two networks: one pass for all groups, and a pass for every group."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from maskalign import graph, matching
from maskalign.bench import baseline, work
from maskalign.symmetry import Permutations

BATCH = 256  # of the published procedure
TRIED = 32  # images from which follows how many those are; a job may ask for others


def compare(job: dict[str, Any], folder: Path, device: str) -> dict[str, float]:
    """Time both on as many images as the textbook procedure matches in ``job["seconds"]``.

    Returns:
        ``textbook`` and ``ours`` in seconds; ``images``; ``groups``; ``alike``, the share of
        channels that both assign alike; ``assignment``, the seconds of solving for the
        permutations, which both do alike.
    """
    size = work.NETWORKS[job["network"]][2]
    a, b = (work.build(job["network"], seed).to(device) for seed in (0, 1))
    symmetry = graph.derive(a, torch.zeros(2, 3, size, size, device=device))
    data = work.job_data(job, folder, device)
    images = torch.cat([x for x, _ in data.train_subset(None, ("bench",), augment=True)])
    for model in (a, b):  # batch-norm statistics that fit the images
        model.train()
        with torch.no_grad():
            model(images[:TRIED])
    tried = job.get("tried", TRIED)

    def batches(pixels: torch.Tensor, count: int, size: int) -> Iterator[torch.Tensor]:
        order = torch.arange(count, device=device) % len(pixels)
        return (pixels[chosen] for chosen in order.split(size))

    first = images.contiguous()

    def match(count: int) -> Permutations:
        return baseline.match(symmetry, a, b, lambda: batches(first, count, BATCH))

    match(min(tried, BATCH))  # warms up
    count = max(1, round(tried * job["seconds"] / _timed(lambda: match(tried))[0]))
    if count > BATCH:  # of whole batches: cuDNN plans each shape when it first meets it
        count -= count % BATCH
    textbook, theirs = _timed(lambda: match(count))
    for model in (a, b):
        model.to(memory_format=torch.channels_last)
    last = images.permute(0, 2, 3, 1).contiguous()

    def correlate(count: int) -> matching.Correlations:
        inputs = batches(last, count, data.evaluation_batch)
        return matching.correlate(symmetry, a, b, (x.permute(0, 3, 1, 2) for x in inputs))

    correlate(count)  # warms up
    passing, correlations = _timed(lambda: correlate(count), device)
    assignment, found = _timed(lambda: matching.match_activations(correlations))
    same = sum(int((theirs[name] == perm).sum()) for name, perm in found.items())
    return {
        "textbook": textbook,
        "ours": passing + assignment,
        "assignment": assignment,
        "images": count,
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
    return _timed(lambda: matching.solve(score))[0]


def _timed(call: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Return the seconds of a call, and what it returns; ``device`` is where that is."""
    began = time.perf_counter()
    found = call()
    work.synchronize(device)
    return time.perf_counter() - began, found

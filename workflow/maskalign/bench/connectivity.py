"""Seconds of the analyses of finished networks beside the forward passes that they must do."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from maskalign import connectivity, graph
from maskalign.bench import work
from maskalign.evaluation import evaluate_each, predict

MEMBERS = 6  # of an ensemble


def compare(job: dict[str, Any], folder: Path, device: str) -> dict[str, dict[str, float]]:
    """Return for each analysis ``ours`` and ``forward``, both in seconds.

    ``forward`` are the network's calls alone, on batches that are ready on the device: as many in
    eval mode as are evaluated, and as many with batch statistics as are gathered. The line has
    ``job["points"]`` points, the landscape ``job["grid"]`` a side. A job may name its ``analyses``.
    """
    points, grid = job["points"], job["grid"]
    data = work.job_data(job, folder, device)
    models = [work.build(job["network"], seed) for seed in (0, 1)]
    model, other = (m.to(device, memory_format=torch.channels_last) for m in models)
    symmetry = graph.derive(
        model, torch.zeros(2, 3, data.image_size, data.image_size, device=device)
    )
    a, b = ({k: v.clone() for k, v in m.state_dict().items()} for m in (model, other))

    def inputs():
        return (x for x, _ in data.train_subset(None, ("reset",), True, data.reset_batch))

    def errors(nets: list[torch.nn.Module]) -> list[list[dict[str, Any]]]:
        return [[{"error": 100 - s["accuracy"]}] for s in evaluate_each(nets, data.test_batches())]

    def line() -> None:
        alphas = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
        connectivity.path(model, a, b, alphas, inputs, errors, symmetry.hidden_layers)

    def landscape() -> None:
        xs, ys, _, at = connectivity.plane(a, b, _middle(a, b), grid)
        states = [functools.partial(at, x, y) for y in ys for x in xs]
        connectivity.surface(model, states, inputs, errors)

    def ensemble() -> None:
        predict([model] * MEMBERS, data.test_batches())

    train, test = list(inputs()), [x for x, _ in data.test_batches()]
    norms = connectivity.has_batch_norm(model)
    # REPAIR also measures both ends, and its corrected networks have batch norms.
    gathered = points if norms else points + 2
    passes = {
        "line": (line, gathered, 2 * points),
        "landscape": (landscape, grid**2 * norms, grid**2),
        "ensemble": (ensemble, 0, MEMBERS),
    }
    found = {}
    for name in job.get("analyses", passes):
        analysis, resets, tests = passes[name]
        reset = _seconds(lambda: _forward(model, train, norms), device)
        scored = _seconds(lambda: _forward(model, test, False), device)
        ours = _seconds(analysis, device)
        found[name] = {"ours": ours, "forward": resets * reset + tests * scored}
    return found


@torch.no_grad()
def _forward(model: torch.nn.Module, batches: list[torch.Tensor], statistics: bool) -> None:
    model.train(statistics)
    for x in batches:
        model(x)


def _middle(a: connectivity.State, b: connectivity.State) -> connectivity.State:
    """Return a third place, off the line between the two."""
    torch.manual_seed(2)
    noise = {k: v + 0.1 * torch.randn_like(v) for k, v in a.items() if v.is_floating_point()}
    return connectivity.interpolate(a | noise, b, 0.5)


def _seconds(work_of: Callable[[], None], device: str) -> float:
    """Return the seconds of a call, the second of two."""
    for _ in range(2):
        work.synchronize(device)
        began = time.perf_counter()
        work_of()
        work.synchronize(device)
        spent = time.perf_counter() - began
    return spent

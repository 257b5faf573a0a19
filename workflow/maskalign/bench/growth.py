"""How cost grows with width, images and runs, beside what the arithmetic says."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from maskalign import graph, matching
from maskalign.bench import work
from maskalign.figures import style
from maskalign.study import Study

NETWORK = "ResNet20 x1"
STEPS = 3
# What grows, its unit, where it is measured, and the exponent that the arithmetic gives.
SERIES: dict[str, tuple[str, str, tuple[float, ...], float]] = {
    "training": ("width", "s a step of 128 images", (1, 2, 4, 8), 2.0),
    "matching": ("images", "s", (512, 1024, 2048, 3072), 1.0),
    "planning": ("pairs of the paper's study", "s", (1, 2, 4, 8), 1.0),
}


def measure(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the seconds of ``job["series"]`` at ``job["at"]``."""
    return {"training": _step, "matching": _match, "planning": _plan}[job["series"]](
        job["at"], folder, device
    )


def _step(width: float, folder: Path, device: str) -> float:
    """Return the seconds of a forward and backward pass of 128 images."""
    model = work.build(NETWORK, width=width).to(device, memory_format=torch.channels_last).train()
    x, y = next(work.data(folder, 512, device).train_batches(work.BATCH, ("growth",), 0))
    for step in range(STEPS + 1):
        if step == 1:  # the first warms up
            work.synchronize(device)
            began = time.perf_counter()
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
    work.synchronize(device)
    return (time.perf_counter() - began) / STEPS


def _match(images: float, folder: Path, device: str) -> float:
    """Return the seconds of matching on so many images."""
    data = work.data(folder, int(images), device)
    a, b = (work.build(NETWORK, seed).to(device).eval() for seed in (0, 1))
    symmetry = graph.derive(a, torch.zeros(2, 3, 32, 32, device=device))
    began = time.perf_counter()
    inputs = (x for x, _ in data.train_subset(None, ("growth",), augment=True))
    matching.match_activations(matching.correlate(symmetry, a, b, inputs))
    return time.perf_counter() - began


def _plan(pairs: float, folder: Path, device: str) -> float:
    """Return the seconds in which the runs of the paper's study follow from its file."""
    config = yaml.safe_load(Path("config/paper.yaml").read_text(encoding="utf-8"))
    for experiment in config["experiments"].values():
        experiment["pairs"] = int(pairs)
    began = time.perf_counter()
    Study(config)
    return time.perf_counter() - began


def exponent(points: dict[float, float]) -> float:
    """Return the slope of a straight line through the logarithms.

    >>> round(exponent({1: 3.0, 2: 12.0, 4: 48.0}), 6)
    2.0
    """
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def draw(found: dict[str, dict[float, float]], where: str, file: Path) -> None:
    """Draw each series with its fitted exponent beside the exponent of the arithmetic."""
    with style.styled():
        figure, axes = style.canvas(1, len(found), height=1.9)
        for ax, (name, points) in zip(axes.flat, found.items(), strict=True):
            what, unit, _, expected = SERIES[name]
            x, y = (np.array(list(v)) for v in (points, points.values()))
            ax.loglog(x, y[-1] * (x / x[-1]) ** expected, color=style.GREY, linestyle="--")
            ax.loglog(x, y, color="black", marker="o")
            ax.set_xticks(x, [f"{v:g}" for v in x])
            ax.minorticks_off()
            ax.set_title(f"{name}: exponent {exponent(points):.2f} ({expected:g})")
            ax.set(xlabel=what[0].upper() + what[1:], ylabel=unit)
        note = "Dashed: the exponent in parentheses, which the arithmetic gives."
        style.frame(figure, f"Growth of cost, {where}", note=note)
        style.save(figure, file.with_suffix(".pdf"), file)

"""Measurements, each in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from maskalign import process

REPEATS = 3


def start(kind: str, job: dict[str, Any], threads: int) -> subprocess.Popen:
    """Start one measurement of ``KINDS``."""
    return subprocess.Popen(
        [sys.executable, "-m", "maskalign.bench", "--measure", kind, json.dumps(job)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
    )


def result(started: subprocess.Popen) -> Any:
    """Return what a measurement found; RuntimeError if it failed."""
    text, _ = started.communicate()
    if started.returncode:
        raise RuntimeError(f"a measurement ended with exit code {started.returncode}")
    return json.loads(text.splitlines()[-1])


def measure(kind: str, job: dict[str, Any]) -> Any:
    """Do one measurement, in this process."""
    if kind != "textbook":
        process.settle()
    import torch

    from maskalign.bench import bounds, connectivity, growth, matching, starting, training

    kinds = {
        "textbook": training.textbook,
        "ours": training.ours,
        "accuracy": training.accuracy,
        "bounds": bounds.measure,
        "matching": matching.compare,
        "assignment": matching.assign,
        "connectivity": connectivity.compare,
        "growth": growth.measure,
        "starting": starting.measure,
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        return kinds[kind](job, Path(folder), device)


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median, the least and the largest of repeated measurements."""
    numbers = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {k: f"{v:.4g}" for k, v in numbers.items()} | {"repeats": len(values)}

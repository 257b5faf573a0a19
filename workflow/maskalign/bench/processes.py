"""Measurements, each in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from maskalign import dotted, process

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


def results(started: list[subprocess.Popen]) -> list[Any]:
    """Return what measurements found that run at once; if one fails, the others are ended."""
    try:
        while running := [run for run in started if run.poll() is None]:
            if any(run.returncode for run in started if run not in running):
                break
            time.sleep(0.05)
        return [result(run) for run in sorted(started, key=lambda run: run.returncode is None)]
    finally:
        for run in started:
            run.kill()
            run.wait()


def measure(kind: str, job: dict[str, Any]) -> Any:
    """Do one measurement, in this process."""
    if kind != "textbook":
        process.settle()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        return dotted.load(KINDS[kind])(job, Path(folder), device)


# Each is imported alone: some need packages that others do without.
KINDS = {
    "textbook": "maskalign.bench.training:textbook",
    "ours": "maskalign.bench.training:ours",
    "accuracy": "maskalign.bench.training:accuracy",
    "bounds": "maskalign.bench.bounds:measure",
    "matching": "maskalign.bench.matching:compare",
    "assignment": "maskalign.bench.matching:assign",
    "connectivity": "maskalign.bench.connectivity:compare",
    "growth": "maskalign.bench.growth:measure",
    "starting": "maskalign.bench.starting:measure",
}


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median, the least and the largest of repeated measurements."""
    numbers = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {k: f"{v:.4g}" for k, v in numbers.items()} | {"repeats": len(values)}

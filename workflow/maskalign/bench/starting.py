"""Seconds that pass before work begins: in every job, in Snakemake, and in every cluster job."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EMPTY = """
from types import SimpleNamespace
from maskalign.job import job
what = SimpleNamespace(threads=1, log=["/dev/null"], rule="dense", wildcards={}, resources={})
with job(what):
    from maskalign import stages
"""
DENSE = "results/paper/runs/paper/cifar10/resnet20-x1/dense/init-0/model.safetensors"


def measure(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the seconds of ``job["what"]``; the current folder is that of the Snakefile."""
    return _timed(COMMANDS[job["what"]])


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.splitlines()[-1:]}")
    return time.perf_counter() - began


def _plan(target: str) -> list[str]:
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    return [snakemake, "-n", target, "--configfile", "config/paper.yaml", "--quiet"]


COMMANDS = {
    "a training job without its training": [sys.executable, "-c", EMPTY],
    "import of torch alone": [sys.executable, "-c", "import torch"],
    "planning all of the paper's study": _plan("all"),
    "planning one dense run of it": _plan(DENSE),
}

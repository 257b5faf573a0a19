"""make bench: every figure is a ratio, taken side by side in one run on the same work."""

import argparse
import csv
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskalign.files import write_text

FOLDER = Path("results/benchmarks")
COLUMNS = [
    *("stage", "network", "setting", "unit", "value", "low", "high"),
    *("baseline", "baseline_setting", "ratio", "repeats", "device", "torch", "commit"),
]
REPEATS = 3
WORKERS = (0, 1, 2)


def process(kind: str, job: dict[str, Any], threads: int) -> subprocess.Popen:
    """Start one measurement in a process of its own."""
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
    import torch

    from maskalign.bench import matching, training

    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = {"textbook": training.textbook, "ours": training.ours, "matching": matching.compare}
    with tempfile.TemporaryDirectory() as folder:
        return work[kind](job, Path(folder), device)


def training_rows(name: str, cores: int) -> Iterable[dict[str, Any]]:
    """Measure the training of one network in every setting, the settings taking turns."""
    from maskalign.bench import work

    found: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for workers in WORKERS:
            run = process("textbook", work.job(name, workers=workers), cores)
            found.setdefault(f"textbook, {workers} workers", []).append(result(run))
        for precision in ("float32", "bfloat16"):
            job = work.job(name, precision=precision)
            together = [process("ours", job, 1) for _ in range(cores)]
            speeds = [result(run) for run in together]
            found.setdefault(f"{precision}, {cores} jobs of 1 thread", []).append(sum(speeds))
            run = process("ours", job, cores)
            found.setdefault(f"{precision}, 1 job of {cores} threads", []).append(result(run))
    textbook = {k: statistics.median(v) for k, v in found.items() if k.startswith("textbook")}
    best = max(textbook, key=textbook.get)
    for setting, values in found.items():
        yield {
            "stage": "training",
            "network": name,
            "setting": setting,
            "unit": "images/s",
            **spread(values),
            "baseline": f"{textbook[best]:.4g}",
            "baseline_setting": best,
            "ratio": f"{statistics.median(values) / textbook[best]:.3g}",
        }


def matching_rows(name: str, cores: int) -> Iterable[dict[str, Any]]:
    """Measure the matching of two networks; the ratio is taken within each repetition."""
    from maskalign.bench import work

    found = [result(process("matching", work.job(name), cores)) for _ in range(REPEATS)]
    groups, alike = found[0]["groups"], min(f["alike"] for f in found)
    ratios = [f["textbook"] / f["ours"] for f in found]
    yield {
        "stage": "matching",
        "network": name,
        "setting": f"{groups} groups in one pass; {100 * alike:.4g} % of channels as the baseline",
        "unit": "s",
        **spread([f["ours"] for f in found]),
        "baseline": f"{statistics.median(f['textbook'] for f in found):.4g}",
        "baseline_setting": "textbook, a pass a group",
        "ratio": f"{statistics.median(ratios):.3g}",
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median, the least and the largest of repeated measurements."""
    numbers = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {k: f"{v:.4g}" for k, v in numbers.items()} | {"repeats": len(values)}


def main() -> None:
    """Measure everything, or what is named, and write a row as soon as it is measured."""
    from maskalign.bench import work
    from maskalign.results import provenance
    from maskalign.throughput import device_name

    parser = argparse.ArgumentParser(prog="python -m maskalign.bench", description=__doc__)
    parser.add_argument("stages", nargs="*", default=["training", "matching"])
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "JOB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, job = options.measure
        print(json.dumps(measure(kind, json.loads(job))))
        return
    stages = {"training": training_rows, "matching": matching_rows}
    if unknown := [s for s in options.stages if s not in stages]:
        parser.error(f"unknown stage '{unknown[0]}', must be one of {', '.join(stages)}")
    about = provenance()
    where = {"device": device_name(), "torch": about["torch"], "commit": (about["commit"] or "")}
    where["commit"] = where["commit"][:12]
    file = FOLDER / (re.sub(r"\W+", "-", where["device"]).strip("-").lower() + ".csv")
    rows = list(csv.DictReader(file.open(newline=""))) if file.exists() else []
    for stage in options.stages:
        for name in work.NETWORKS:
            rows = [r for r in rows if (r["stage"], r["network"]) != (stage, name)]
            for row in stages[stage](name, os.cpu_count() or 1):
                rows.append(row | where)
                print(
                    f"{stage}, {name}, {row['setting']}: {row['value']} {row['unit']}, "
                    f"ratio {row['ratio']}",
                    flush=True,
                )
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(file, text.getvalue())


if __name__ == "__main__":
    main()

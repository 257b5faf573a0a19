"""make bench: the CPU's speed; every figure is a ratio, taken side by side in one run."""

import argparse
import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from maskalign.bench import processes
from maskalign.files import write_text

FOLDER = Path("results/benchmarks")
COLUMNS = [
    *("stage", "network", "setting", "unit", "value", "low", "high"),
    *("baseline", "baseline_setting", "ratio", "repeats", "device", "torch", "commit"),
]


def main() -> None:
    """Measure every stage, or those that are named, and write a row as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m maskalign.bench", description=__doc__)
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--network", metavar="NAME", help="one of them, such as 'VGG11 x1'")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "JOB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, job = options.measure
        print(json.dumps(processes.measure(kind, json.loads(job))))
        return
    import torch

    from maskalign.bench import work
    from maskalign.bench.stages import STAGES
    from maskalign.results import provenance
    from maskalign.throughput import device_name

    if torch.cuda.is_available():
        parser.error("this measures a CPU: make bench-gpu, or here with CUDA_VISIBLE_DEVICES=")
    if unknown := [s for s in options.stages if s not in STAGES]:
        parser.error(f"unknown stage '{unknown[0]}', must be one of {', '.join(STAGES)}")
    here = [n for n in work.NETWORKS if n not in (*work.NOT_ON_A_CPU, work.TOY)]
    networks = [options.network] if options.network else here
    if unknown := [n for n in networks if n not in work.NETWORKS]:
        parser.error(f"unknown network '{unknown[0]}', must be one of {', '.join(work.NETWORKS)}")
    about = provenance()
    where = {"device": device_name(), "torch": about["torch"]}
    where["commit"] = (about["commit"] or "")[:12]
    file = FOLDER / (re.sub(r"\W+", "-", where["device"]).strip("-").lower() + ".csv")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(file.open(newline=""))) if file.exists() else []
    for stage in options.stages or STAGES:
        known, found = rows, []
        for row in STAGES[stage](os.cpu_count() or 1, file, networks):
            found.append({"stage": stage} | row | where)
            measured = {(r["stage"], r["network"]) for r in found}
            rows = [r for r in known if (r["stage"], r["network"]) not in measured] + found
            rows.sort(key=lambda r: list(STAGES).index(r["stage"]))
            _write(file, rows)
            ratio = f", ratio {row['ratio']}" if row.get("ratio") else ""
            line = f"{stage}: {row['network']} {row['setting']}: {row['value']} {row['unit']}"
            print(f"{line}{ratio}", flush=True)


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV, and as a page beside it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())
    write_text(file.with_suffix(".md"), page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown: medians with the least and the largest, and their baseline."""
    about = {f"{r['device']}, torch {r['torch']}, commit {r['commit']}" for r in rows}
    lines = [f"# Measured on {'; '.join(sorted(about))}", ""]
    lines += ["| stage | network | setting | median | range | baseline | ratio |"]
    lines += ["|---|---|---|---:|---:|---|---:|"]
    for row in rows:
        of = {k: "" if v is None else v for k, v in row.items()}
        base = f"{of.get('baseline', '')} ({of['baseline_setting']})" if of.get("baseline") else ""
        cells = [of["stage"], of["network"], of["setting"], f"{of['value']} {of['unit']}"]
        cells += [f"{of['low']} to {of['high']}", base, str(of.get("ratio", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

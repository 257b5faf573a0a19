"""make bench: every figure is a ratio, taken side by side in one run on the same work."""

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
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "JOB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, job = options.measure
        print(json.dumps(processes.measure(kind, json.loads(job))))
        return
    from maskalign.bench.stages import STAGES
    from maskalign.results import provenance
    from maskalign.throughput import device_name

    if unknown := [s for s in options.stages if s not in STAGES]:
        parser.error(f"unknown stage '{unknown[0]}', must be one of {', '.join(STAGES)}")
    about = provenance()
    where = {"device": device_name(), "torch": about["torch"]}
    where["commit"] = (about["commit"] or "")[:12]
    file = FOLDER / (re.sub(r"\W+", "-", where["device"]).strip("-").lower() + ".csv")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(file.open(newline=""))) if file.exists() else []
    for stage in options.stages or STAGES:
        rows = [r for r in rows if r["stage"] != stage]
        for row in STAGES[stage](os.cpu_count() or 1, file):
            rows.append({"stage": stage} | row | where)
            _write(file, rows)
            ratio = f", ratio {row['ratio']}" if row.get("ratio") else ""
            line = f"{stage}: {row['network']} {row['setting']}: {row['value']} {row['unit']}"
            print(f"{line}{ratio}", flush=True)


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows, those of one stage together."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


if __name__ == "__main__":
    main()

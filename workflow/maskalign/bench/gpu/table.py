"""The benchmark's table: rows by piece, what follows from them, and how they are shown."""

import csv
import io
from pathlib import Path
from typing import Any

from maskalign import cost, throughput
from maskalign.bench import work
from maskalign.bench.gpu.plan import SETTINGS
from maskalign.files import write_text

Row = dict[str, Any]
KEY = ["piece", "network", "setting", "measure"]  # a later reading takes an earlier one's place
READING = [*KEY, "unit", "value", "low", "high", "repeats", "note"]
ABOUT = ["device", "driver", "torch", "cuda", "python", "commit", "began", "memory_mib", "threads"]
COLUMNS = READING + ABOUT
DERIVED = "derived"  # the piece of rows that follow from others
SHOWN = {  # columns of the short table: measure, title
    "training": "images/s",
    "times the textbook": "× textbook",
    "share of the dense rate": "% of dense bfloat16",
    "step": "ms per step",
    "device busy": "ms busy",
    "kernels and copies": "kernels",
    "graph launches": "graphs",
}


def read(file: Path) -> list[Row]:
    """Return the rows of an earlier run; none where there is no table of these columns."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    if reader.fieldnames != COLUMNS:
        raise ValueError(f"{file}: is no table of this benchmark, must have {', '.join(COLUMNS)}")
    return [r for r in rows if r["piece"] != DERIVED]


def derive(rows: list[Row]) -> list[Row]:
    """Return what follows from rows of one run: ratios to the textbook, shares of the ceiling."""
    found = []
    for own in (r for r in rows if r["measure"] in ("training", "training alone")):
        together = [r for r in rows if r["began"] == own["began"]]

        def of(measure: str, network: str, rows: list[Row] = together) -> list[float]:
            same = (r for r in rows if r["measure"] == measure and r["network"] == network)
            return [
                float(r["value"]) for r in same if "textbook" in r["setting"] or not r["setting"]
            ]

        speed = float(own["value"])
        theirs = of("training", own["network"])
        if own["measure"] == "training" and theirs and own["piece"].startswith("ours"):
            found.append(_derived(own, "times the textbook", "", speed / max(theirs)))
        work_of = of("operations", own["network"])
        dense = [
            float(r["value"])
            for r in together
            if r["measure"] == "dense rate" and r["setting"].startswith("bfloat16")
        ]
        if own["measure"] == "training alone" and work_of and dense:
            rate = speed * work_of[0] * 1e6
            share = 100 * rate / (dense[0] * 1e12)
            found.append(_derived(own, "share of the dense rate", "%", share))
    return found


def _derived(own: Row, measure: str, unit: str, value: float) -> Row:
    text = f"{value:.3g}"
    numbers = {"value": text, "low": text, "high": text, "repeats": 1, "note": ""}
    return own | {"piece": DERIVED, "measure": measure, "unit": unit} | numbers


def add(rows: list[Row], row: Row) -> list[Row]:
    """Return ``rows`` with a new reading in the place of an earlier one."""
    kept = [r for r in rows if any(r[k] != row[k] for k in KEY)]
    return [*kept, row]


def write(file: Path, rows: list[Row], missing: dict[str, str]) -> None:
    """Write the rows as CSV and, beside it, as a page."""
    rows = rows + derive(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())
    write_text(file.with_suffix(".md"), page(rows, missing))


def page(rows: list[Row], missing: dict[str, str]) -> str:
    """Return rows as Markdown: how training does in each setting, then every other reading.

    Args:
        rows: with the derived ones.
        missing: the pieces that were not measured, and why.
    """
    runs = sorted({tuple(str(r[k]) for k in ABOUT[:7]) for r in rows}, key=lambda run: run[6])
    lines = [f"# Measured on {runs[-1][0]}" if runs else "# Nothing measured", ""]
    for _, driver, torch, cuda, python, commit, began in runs:
        versions = f"torch {torch}, CUDA {cuda or 'none'}, Python {python}, commit {commit}"
        lines.append(f"- Driver {driver or 'none'}, {versions}, {began}.")
    lines += ["", *short(rows), "", "| piece | setting | measure | median | range | note | run |"]
    lines += ["|---|---|---|---:|---:|---|---|"]
    trained = {r["network"] for r in rows if r["measure"] == "training"}
    for r in rows:
        if r["measure"] in SHOWN and r["network"] in trained:
            continue
        low, high = (plain(r[k]) for k in ("low", "high"))
        spread = f"{low} to {high}" if low != high else ""
        value = f"{plain(r['value'])} {r['unit']}".strip()
        piece = f"{r['piece']} {r['network']}" if r["piece"] == DERIVED else r["piece"]
        cells = [piece, r["setting"], r["measure"], value, spread, r["note"], r["began"]]
        lines.append(f"| {' | '.join(c.replace('|', '/') for c in cells)} |")
    lines += ["", *(f"- Not measured: {name} ({why})." for name, why in missing.items())]
    return "\n".join(lines).rstrip() + "\n"


def plain(number: str) -> str:
    """Return a number as it is read: whole from a thousand on, else with three digits.

    >>> plain("153000"), plain("0.85333"), plain("10.7")
    ('153,000', '0.853', '10.7')
    """
    value = float(number)
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def short(rows: list[Row]) -> list[str]:
    """Return the short table: a line for each network and setting that was trained."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        if r["measure"] in SHOWN and r["piece"].partition(" ")[0] in ("ours", "textbook", DERIVED):
            found.setdefault((r["network"], r["setting"]), {})[r["measure"]] = r["value"]
    lines = [f"| network | setting | {' | '.join(SHOWN.values())} |"]
    lines += ["|---|---|" + "---:|" * len(SHOWN)]
    for (network, setting), values in found.items():
        if "training" in values:
            cells = [plain(values[m]) if m in values else "" for m in SHOWN]
            lines.append(f"| {network} | {setting} | {' | '.join(cells)} |")
    return lines


def add_throughput(file: Path, rows: list[Row]) -> None:
    """Add the speed of the settings that a recipe can ask for to a table of ``cost.THROUGHPUT``.

    All settings of a network share a process, so ``memory_mib``, its peak, may be too high.
    """
    table = cost.Throughput([file] if file.exists() else [])
    for r in rows:
        options = SETTINGS.get(r["setting"], {})
        wanted = not {"tf32", "any_order"} & set(options) and r["measure"] == "training alone"
        if not (wanted and r["piece"].startswith("ours")):
            continue
        same = {
            s["measure"]: s["value"]
            for s in rows
            if (s["piece"], s["setting"], s["began"]) == (r["piece"], r["setting"], r["began"])
        }
        if "evaluation" not in same:  # the run was cut off in between
            continue
        architecture, width, size, _ = work.NETWORKS[r["network"]]
        values = {
            "net": {"architecture": architecture, "options": work.OPTIONS.get(r["network"], {})},
            "width": width,
            "data": {"image_size": size},
            "batch_size": work.BATCH,
            **options,
        }
        row = cost.setting(values) | {
            "device": r["device"],
            "threads": str(r["threads"]),
            "train_images_s": f"{float(r['value']):.4g}",
            "eval_images_s": f"{float(same['evaluation']):.4g}",
            "memory_mib": str(r["memory_mib"]),
            "device_memory_mib": str(round(float(same.get("device memory", 0)))),
            "torch": r["torch"],
            "commit": r["commit"],
        }
        table.rows[row["device"], *(row[k] for k in cost.SETTING)] = row
    throughput.write(file, table)

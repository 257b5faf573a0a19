"""What the runs of a study say of themselves: accuracy, history, machine, time."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from maskalign import captions
from maskalign.identity import FACTORS
from maskalign.report.artefacts import TRAINED
from maskalign.results import DIVERGED
from maskalign.study import PATHS, Study

# What tells one machine or version from another, in a record's provenance.
MACHINE = ["commit", "device", "host", "threads", "python", "torch"]
FINALS = {"accuracy": "test", "loss": "train"}  # metric: split
POINTS = 100  # of a curve, at most
DIGITS = 4  # significant ones, of a point


def read(study: Study, folder: Path) -> pd.DataFrame:
    """Return the study's runs with what their records hold.

    Args:
        study: the study.
        folder: its results; records are ``runs/<path>/result.json`` below.

    Returns:
        One row a run: the columns of ``study.runs``, ``status``, final test ``accuracy`` (percent)
        and training ``loss`` (NaN where the run has none), ``seconds``, ``peak_memory_mib`` and
        MACHINE.

    Raises:
        ValueError: one line, if a record is none of this program.
    """
    found = []
    for path in study.runs["path"]:
        file = folder / "runs" / path / "result.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            row = {"status": record["status"], **record["provenance"]}
            scores = {(m.get("split"), m["metric"]): m["value"] for m in record["metrics"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not a record of a run ({error!r})") from None
        found.append(row | {name: scores.get((split, name)) for name, split in FINALS.items()})
    columns = ["status", *FINALS, "seconds", "peak_memory_mib", *MACHINE]
    records = pd.DataFrame(found, index=study.runs.index).reindex(columns=columns)
    return study.runs.join(records.astype(dict.fromkeys([*FINALS, "seconds"], float)))


def title(study: Study, run: dict[str, Any]) -> str:
    """Return a run in words, such as ``permuted, S = 90 %, k = 4, mask 0, init 1``."""
    known = study.methods.get(run["method"])
    parts = [known.title if known else run["stage"].replace("_", " ")]
    if _is(run["round"]):
        parts[0] += f" round {run['round']:g}"
    if _is(run["sparsity"]):
        parts.append(f"S = {captions.percent(run['sparsity'])} %")
    names = {"rewind_epoch": "k =", "mask_seed": "mask", "init_seed": "init"}
    parts += [f"{word} {run[name]:g}" for name, word in names.items() if _is(run[name])]
    if _is(run["order_seed"]) and run["order_seed"]:
        parts.append(f"order {run['order_seed']:g}")
    if matching := matched(run):
        parts.append(matching)
    parts += [f"{name} {run[name]:g}" for name in FACTORS if _is(run[name]) and run[name] != 1]
    return ", ".join(parts)


def matched(run: dict[str, Any]) -> str:
    """Return by what and when a run was matched, or nothing."""
    if not _is(run["matching_method"]):
        return ""
    when = f", t = {run['matching_epoch']:g}" if _is(run["matching_epoch"]) else ""
    return f"{run['matching_method']}{when}"


def curves(study: Study, runs: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Return the training curves of all runs that train, for ``drawn``.

    Long curves are thinned to POINTS points and values rounded to DIGITS digits, so that a page of
    thousands of runs stays small.
    """
    grids, series = Grids(), []
    for run in runs[runs["stage"].isin(TRAINED)].to_dict("records"):
        history = pd.read_csv(folder / "runs" / run["path"] / "history.csv")
        fields = [
            captions.data_title(study, run["dataset"]),
            captions.model_title(study, run["model"]),
            captions.times(run["width"]),
            study.methods[run["method"]].title,
        ]
        lines = {
            name: grids.line(history["epoch"], history[name])
            for name in ("train_loss", "test_accuracy")
        }
        lost = " (diverged)" * (run["status"] == DIVERGED)
        named = {"name": title(study, run) + lost, "path": run["path"], "look": run["method"]}
        series.append({"fields": fields, **named, "lines": lines})
    return {
        "fields": ["Data set", "Model", "Width", "Method"],
        "start": [*series[0]["fields"][:2], "all", "all"] if series else [],
        "x": "epoch of the run",
        "y": [("train_loss", "training loss"), ("test_accuracy", "test accuracy (%)")],
        "grids": grids.all,
        "series": series,
    }


def barriers(study: Study, points: pd.DataFrame) -> dict[str, Any]:
    """Return the interpolation curves of connectivity.csv, for ``drawn``."""
    grids, series = Grids(), []
    names = ["dataset", "model", "width", "mask_seed", "init_seed", "method", "matching_method"]
    names += ["sparsity", "correction", "split"]
    for key, part in points.groupby(names, dropna=False, sort=False):
        run = dict(zip(names, key, strict=True))
        fields = [
            captions.data_title(study, run["dataset"]),
            captions.model_title(study, run["model"]),
            captions.times(run["width"]),
            {"none": "none", "reset": "batch-norm reset", "repair": "REPAIR"}[run["correction"]],
            run["split"],
        ]
        words = {"naive": "A to B", "permuted": "permuted A to B", "imp": "A to IMP"}
        name = f"{words[run['method']]}, A = {run['mask_seed']:g}"
        name += f", B = {run['init_seed']:g}" if run["method"] != "imp" else ""
        name += f", {run['matching_method']}" if _is(run["matching_method"]) else ""
        name += f", S = {captions.percent(run['sparsity'])} %" if _is(run["sparsity"]) else ""
        name += " (diverged)" * bool((part["status"] == DIVERGED).any())
        lines = {y: grids.line(part["alpha"], part[y]) for y in ("loss", "error")}
        series.append({"fields": fields, "name": name, "look": run["method"], "lines": lines})
    corrected = [s["fields"] for s in series if s["fields"][3] != "none"]
    return {
        "fields": ["Data set", "Model", "Width", "Correction", "Split"],
        "start": [*corrected[0][:2], "all", corrected[0][3], "test"] if corrected else [],
        "x": "alpha, from A (0) to the other end (1)",
        "y": [("loss", "loss"), ("error", "error (%)")],
        "grids": grids.all,
        "series": series,
    }


class Grids:
    """Abscissas that curves share, each kept once."""

    def __init__(self):
        self.all: list[list[float]] = []
        self._known: dict[tuple[float, ...], int] = {}

    def line(self, x: Iterable[float], y: Iterable[float]) -> list[Any]:
        """Return [number of the grid, values] of a curve, without its empty points.

        An infinite value, of a diverged run, is None.
        """
        points = [(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(b)]
        if len(points) > POINTS:
            last = len(points) - 1
            points = [points[round(i * last / (POINTS - 1))] for i in range(POINTS)]
        grid = tuple(float(f"{a:.{DIGITS}g}") for a, _ in points)
        if grid not in self._known:
            self._known[grid] = len(self.all)
            self.all.append(list(grid))
        values = [float(f"{b:.{DIGITS}g}") if math.isfinite(b) else None for _, b in points]
        return [self._known[grid], values]


def cost(runs: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Return jobs, hours and peak memory (MiB) by stage, with epochs and hours as forecast.

    The hours are those that the jobs measured themselves, without their start-up. A last row sums.
    """
    stages = [stage for stage in PATHS if stage in set(runs["stage"])]
    groups = runs.groupby("stage")
    table = pd.DataFrame(
        {
            "jobs": groups.size(),
            "hours": groups["seconds"].sum() / 3600,
            "memory": groups["peak_memory_mib"].max(),
        }
    ).reindex(stages)
    hours = [c for c in forecast if c.startswith("hours ") and forecast[c].notna().any()]
    table = table.join(forecast.set_index("rule")[["epochs", *hours]])
    table.loc["all"] = table.sum(min_count=1)
    table.loc["all", "memory"] = table["memory"][:-1].max()
    return table.rename_axis("stage").reset_index()


def machines(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a combination of MACHINE, with runs and hours, the most used one first."""
    groups = runs.groupby(MACHINE, dropna=False)
    found = groups.agg(runs=("path", "size"), hours=("seconds", lambda s: s.sum() / 3600))
    return found.reset_index().sort_values("runs", ascending=False)


def _is(value: Any) -> bool:
    return value is not None and value == value  # NaN differs from itself

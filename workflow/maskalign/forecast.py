"""What a study will cost, before it runs: jobs, epochs, device-hours, disk and memory by rule."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from maskalign import cost
from maskalign.study import PATHS, Study


def forecast(study: Study, throughput: cost.Throughput) -> pd.DataFrame:
    """Count what every run of ``study`` will do.

    Returns:
        One row a run: rule, path, epochs, trained_images, evaluated_images, disk_mib (of its
        weights, as float32), and for each device of ``throughput`` the columns ``hours <device>``
        and ``memory <device>`` (MiB), NaN where the run's network was not measured.
    """
    rows = []
    for run in study.runs.to_dict("records"):
        counts = cost.images(run["values"]["data"]) or _in_folder(run["values"]["data"])
        found = cost.of(run, counts)
        row = {
            "rule": run["stage"],
            "path": run["path"],
            "epochs": found.epochs,
            "trained_images": found.trained,
            "evaluated_images": found.evaluated,
            "disk_mib": _disk(run) / 2**20,
        }
        for device in throughput.devices:
            seconds = throughput.seconds(device, run, found)
            measured = throughput.find(device, run["values"])
            row[f"hours {device}"] = math.nan if seconds is None else seconds / 3600
            row[f"memory {device}"] = float(measured["memory_mib"]) if measured else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def released_epochs(study: Study) -> int:
    """Return the epochs of the released scripts' plan for the same sparse trainings.

    For each pair and each sparsity they train A and B anew and prune in a chain of their own.
    """
    runs = study.runs
    sparse = runs[runs["stage"] == "sparse"]
    total = sum(cost.of(run, (1, 1)).epochs for run in sparse.to_dict("records"))
    tickets = sparse[sparse["mask_seed"] != sparse["init_seed"]]
    names = ["dataset", "model", "width", "mask_seed", "init_seed", "sparsity"]
    for run in tickets.drop_duplicates(names).to_dict("records"):
        last = study.run(run["parents"]["mask"])
        total += 2 * run["values"]["dense"]["epochs"]
        total += int(last["round"]) * last["values"]["training"]["epochs"]
    return total


def page(study: Study, runs: pd.DataFrame, throughput: cost.Throughput) -> str:
    """Return the forecast as Markdown: a table by rule, what sharing saves, what is not known."""
    devices = [d for d in throughput.devices if runs[f"hours {d}"].notna().any()]
    head = ["Rule", "Jobs", "Epochs", "Disk (GiB)", *(f"Hours, {d}" for d in devices)]
    lines = [f"# Forecast: study {study.name}, protocol {study.protocol}", ""]
    lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for rule in [*(stage for stage in PATHS if stage in set(runs["rule"])), "all"]:
        part = runs if rule == "all" else runs[runs["rule"] == rule]
        cells = [rule, f"{len(part):,}", f"{part['epochs'].sum():,}"]
        cells.append(f"{part['disk_mib'].sum() / 1024:.3g}")
        cells += [_hours(part[f"hours {d}"]) for d in devices]
        lines.append(f"| {' | '.join(cells)} |")
    ours = int(runs["epochs"].sum())
    theirs = released_epochs(study)
    text = f"Training takes {ours:,} epochs."
    if theirs > ours:
        text += (
            " The released scripts' plan, with dense models and a whole chain of rounds for "
            f"every sparsity, takes {theirs:,} for the same sparse trainings: sharing saves "
            f"{1 - ours / theirs:.0%}."
        )
    lines += [
        "",
        text,
        "",
        "Hours are those of one device doing one job after another, from measured images per "
        f"second and {cost.START_UP:g} s of start-up a job; matching counts as its forward passes, "
        "decoding of image files is not counted. Disk is what the runs keep, weights as float32.",
    ]
    for d in devices:
        memory = runs[f"memory {d}"].max()
        lines += ["", f"A job on {d} takes up to {memory:,.0f} MiB of memory."]
    lines += _unknown(study, runs, throughput, devices)
    return "\n".join(lines) + "\n"


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return jobs and sums by rule."""
    numbers = [c for c in runs if c not in ("rule", "path") and not c.startswith("memory ")]
    sums = runs.groupby("rule", sort=False)[numbers].sum(min_count=1)
    sums.insert(0, "jobs", runs["rule"].value_counts())
    memory = [c for c in runs if c.startswith("memory ")]
    return sums.join(runs.groupby("rule")[memory].max()).reset_index()


def _hours(hours: pd.Series) -> str:
    if hours.isna().all():
        return "not measured"
    missing = f" + {hours.isna().sum()} jobs not measured" * bool(hours.isna().any())
    return f"{hours.sum():,.2f}{missing}"


def _unknown(study: Study, runs: pd.DataFrame, throughput: cost.Throughput, devices) -> list[str]:
    dense = [study.run(path) for path in study.paths("dense")]
    names = {
        f"{r['model']} x{r['width']:g} on {r['dataset']}": r["values"] for r in reversed(dense)
    }
    lines = [] if devices else ["", "No device has a measured throughput for this study."]
    for d in devices:
        missing = sorted(n for n, values in names.items() if throughput.find(d, values) is None)
        if missing:
            lines += ["", f"Not measured on {d}: {', '.join(missing)}."]
    if lines:
        lines += ["", "`snakemake throughput` measures the study's networks on the device at hand."]
    for name, key in study.left_out.items():
        lines += ["", f"experiments.{name} is not counted: its data is not given ({key})."]
    return lines


def _in_folder(data: dict[str, Any]) -> tuple[int, int]:
    """Count the images of a user's folder."""
    counts = []
    for part in ("train", "val"):
        folder = Path(data["path"]).expanduser() / part
        if not folder.is_dir():
            raise ValueError(f"{data['path']}: has no folder '{part}'")
        counts.append(sum(1 for file in folder.glob("*/*") if file.is_file()))
    return min(counts[0], data["train_images"] or counts[0]), counts[1]


def _disk(run: cost.Run) -> int:
    """Return the bytes of the weights and masks that a run keeps."""
    if "training" not in run["values"]:
        return 0
    values = run["values"]
    net = {"width": values["width"], **values["net"], "data": values["data"]}
    weights, prunable = _sizes(json.dumps(net, sort_keys=True))
    if run["stage"] == "dense":
        return weights * (1 + len(values["keep_epochs"]))
    return weights + prunable  # a mask is one byte per weight


@functools.cache
def _sizes(text: str) -> tuple[int, int]:
    """Return the bytes of a network's state_dict and the number of its prunable weights."""
    import torch

    from maskalign import models

    net = json.loads(text)
    data = net["data"]
    with torch.device("meta"):
        model = models.build(
            net["architecture"],
            classes=cost.CLASSES.get(data["source"], 10) ** data["compose"],
            image_size=data["image_size"],
            in_channels=len(data["mean"]),
            width=net["width"],
            **net["options"],
        )
    tensors = model.state_dict()
    names = models.prunable(model, net["unprunable"])
    return sum(t.nbytes for t in tensors.values()), sum(tensors[n].numel() for n in names)

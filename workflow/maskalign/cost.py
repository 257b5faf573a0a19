"""What a run costs, counted from its resolved values: epochs, images trained on and evaluated.

Nothing is measured here and torch is not imported, so that a parsing Snakemake can ask.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Run = dict[str, Any]  # a row of Study.runs

# Training and test images of each source, as published or as its package has them.
IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "svhn": (73_257, 26_032),
    "fashion": (60_000, 10_000),
    "imagenet": (1_281_167, 50_000),
    "mnist5k": (4_000, 1_000),
    "mnist5k-folder": (4_000, 1_000),
    "digits": (1_438, 359),
}
CLASSES = {"cifar100": 100, "imagenet": 1000}  # where not 10
START_UP = 3.0  # seconds of a job before its first step: Python, torch, the data set
# What the speed of a network depends on.
SETTING = [
    *("architecture", "options", "width", "image_size"),
    *("batch_size", "precision", "compile", "graph"),
]
THROUGHPUT = [
    *("device", "threads", *SETTING, "train_images_s", "eval_images_s"),
    *("memory_mib", "device_memory_mib", "torch", "commit"),
]

MEASURED = ["train_images_s", "eval_images_s", "memory_mib"]
SLOWEST, FASTEST = 1e-6, 1e12  # measured numbers beyond are none


@dataclass(frozen=True)
class Cost:
    """What one run does.

    Attributes:
        epochs: passes over the training set, forward and backward.
        trained: images that went forward and backward.
        evaluated: images that went forward only.
    """

    epochs: int = 0
    trained: int = 0
    evaluated: int = 0


def images(data: dict[str, Any]) -> tuple[int, int] | None:
    """Return the training and test images of a data set; None where only its folder knows."""
    if data["source"] not in IMAGES:
        return None
    train, test = IMAGES[data["source"]]
    asked = (data["train_images"], data["test_images"])
    if data["compose"] == 2:  # samples are drawn, so there may be more of them than images
        return asked[0] or train, asked[1] or test
    return min(train, asked[0] or train), min(test, asked[1] or test)


def classes(data: dict[str, Any]) -> int | None:
    """Return the number of classes of a data set; None where only its folder knows."""
    if data["source"] not in IMAGES:
        return None
    return CLASSES.get(data["source"], 10) ** data["compose"]


def sparse_epochs(values: dict[str, Any]) -> int:
    """Return the epochs of sparse training: from the rewind epoch to T, times the length."""
    rest = values["dense"]["epochs"] - values["rewind_epoch"]
    return round(rest * values.get("length", 1))


def of(run: Run, counts: tuple[int, int]) -> Cost:
    """Return the cost of a run on ``counts`` training and test images."""
    values, (train, test) = run["values"], counts
    if "training" in values:
        epochs = values["training"].get("epochs")
        if epochs is None:  # sparse training goes on to T
            epochs = sparse_epochs(values)
        batch = values["training"].get("batch_size", values["batch_size"])
        return Cost(
            epochs,
            trained=epochs * (train // batch) * batch,
            evaluated=-(-epochs // values["evaluate_every"]) * test,
        )
    if run["stage"] in ("match", "diagnosis"):
        how = values["matching"]
        return Cost(evaluated=2 * min(how["images"] or train, train))
    if run["stage"] == "diversity":
        return Cost(evaluated=test * sum(map(len, run["parents"].values())))
    how = values["connectivity"]
    reset = min(how["reset_images"] or train, train)
    if run["stage"] == "landscape":
        return Cost(evaluated=(how["grid"] ** 2 + 3) * (reset + test))
    # At each point both splits, before and after a correction that passes over the images once.
    point = 2 * (min(how["train_images"] or train, train) + test) + reset
    lines = values["lines"] if run["stage"] == "interpolation" else run["parents"]["rounds"]
    return Cost(evaluated=len(lines) * how["points"] * point)


def setting(values: dict[str, Any]) -> dict[str, str]:
    """Return what the speed of a run's network depends on, as text (SETTING)."""
    net = values["net"]
    found = {
        "architecture": net["architecture"],
        "options": json.dumps(net["options"], sort_keys=True),
        "width": f"{values['width']:g}",
        "image_size": values["data"]["image_size"],
        "batch_size": values["batch_size"],
        "precision": values["precision"],
        "compile": values.get("compile", False),
        "graph": values.get("graph", False),
    }
    return {k: str(found[k]) for k in SETTING}


class Throughput:
    """Measured speeds of networks on devices."""

    def __init__(self, files: Iterable[str | Path]):
        """Read tables of THROUGHPUT; of equal settings on one device, the last one counts.

        Raises:
            ValueError: one line, if a file cannot be read, lacks a column or a value, or a measured
                number is none above 0.
        """
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        for file in files:
            try:
                with Path(file).open(encoding="utf-8", newline="") as stream:
                    self._read(file, csv.DictReader(stream, strict=True))
            except OSError as error:
                raise ValueError(f"{file}: {(error.strerror or '').lower()}") from None
            except UnicodeDecodeError:
                raise ValueError(f"{file}: is no UTF-8 text") from None
            except csv.Error as error:
                raise ValueError(f"{file}: is no CSV table ({error})") from None

    def _read(self, file: str | Path, reader: csv.DictReader) -> None:
        if missing := [c for c in THROUGHPUT if c not in (reader.fieldnames or [])]:
            raise ValueError(f"{file}: has no column '{missing[0]}'")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{file}, line {reader.line_num}: has not a value for each column")
            for name in MEASURED:
                _check_number(f"{file}, line {reader.line_num}", name, row[name])
            self.rows[row["device"], *(row[k] for k in SETTING)] = row

    @property
    def devices(self) -> list[str]:
        """The devices that have an entry."""
        return sorted({device for device, *_ in self.rows})

    def find(self, device: str, values: dict[str, Any]) -> dict[str, str] | None:
        """Return what was measured of a run's network on a device, or None."""
        return self.rows.get((device, *setting(values).values()))

    def seconds(self, device: str, run: Run, cost: Cost) -> float | None:
        """Return how long a run takes on a device; None if its network was not measured there."""
        row = self.find(device, run["values"])
        if row is None:
            return None
        train, forward = float(row["train_images_s"]), float(row["eval_images_s"])
        return START_UP + cost.trained / train + cost.evaluated / forward


def _check_number(where: str, name: str, text: str) -> None:
    try:
        good = SLOWEST <= float(text) <= FASTEST
    except ValueError:
        good = False
    if not good:
        allowed = f"must be a number from {SLOWEST:g} to {FASTEST:g}"
        raise ValueError(f"{where}: {name} is {text[:60]!r}, {allowed}")

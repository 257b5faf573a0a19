"""Small stages of the workflow, as their jobs run them."""

import json
from pathlib import Path
from typing import Any

from maskalign import sources, stages

DATA = {
    "source": "digits",
    "image_size": 8,
    "train_images": 120,
    "test_images": 60,
    "compose": 1,
    "mean": [0.3],
    "std": [0.38],
    "crop_padding": 1,
    "flip": False,
}


def arguments(folder: Path, stage: str, out: Path, epochs: int, width: int = 1) -> dict[str, Any]:
    """Return the arguments of ``stage`` with results in ``out``, on the parents in ``folder``."""
    parents = folder / "parents"
    values = {
        "stage": stage,
        "method": "naive",
        "version": 1,
        "data": DATA,
        "net": {
            "architecture": "resnet20",
            "options": {"blocks": [1], "channels": 4},
            "unprunable": [],
        },
        "model": "resnet20",
        "dataset": "digits",
        "width": width,
        "init_seed": 0,
        "order_seed": 0,
        "batch_size": 40,
        "processes": 1,
        "evaluate_every": 1,
        "precision": "float32",
        "dense": {"epochs": epochs},
        "keep_epochs": [0, 1],
        "training": {"epochs": epochs, "lr": 0.02, "schedule": "cosine"},
        "sparsity": 0.6,
        "rewind_epoch": 0,
        "start_epoch": 0,
    }
    given = {
        "dense": {"checkpoints": out / "checkpoints"},
        "imp": {
            "start": parents / "dense/model.safetensors",
            "start_mask": None,
            "mask": out / "mask.safetensors",
        },
        "sparse": {
            "checkpoints": parents / "dense/checkpoints",
            "imp_mask": parents / "imp/mask.safetensors",
            "mask": out / "mask.safetensors",
            "permutation": None,
        },
    }[stage]
    files = given | {
        "data": folder / "digits.safetensors",
        "state": out.with_name(f"{out.name}-state"),
        "model": out / "model.safetensors",
        "history": out / "history.csv",
        "result": out / "result.json",
    }
    return {"values": values} | {k: str(v) if v else None for k, v in files.items()}


def run(folder: Path, stage: str, out: Path, epochs: int) -> None:
    """Run a stage in this process."""
    getattr(stages, stage)(**arguments(folder, stage, out, epochs))


def prepare(folder: Path) -> Path:
    """Put a data set, a dense run and an IMP round to start from into ``folder``."""
    sources.prepare(DATA, folder / "digits.safetensors")
    for stage in ("dense", "imp"):
        run(folder, stage, folder / "parents" / stage, epochs=2)
    return folder


def results(out: Path) -> dict[str, object]:
    """Return the content of all files of a run, but for when and where it ran."""
    found: dict[str, object] = {
        str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()
    }
    record = json.loads(found.pop("result.json"))
    return found | {"record": {k: v for k, v in record.items() if k != "provenance"}}

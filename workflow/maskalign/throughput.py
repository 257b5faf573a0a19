"""Measuring how fast this device trains and evaluates the networks of a study.

Each network is measured in a process of its own, so that its peak memory is its own:
``python -m maskalign.throughput '<JSON of a run's values>'`` prints one row as JSON.
"""

import csv
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskalign import cost, process
from maskalign.files import write_text

if TYPE_CHECKING:
    from maskalign.study import Study

SECONDS = 3.0  # of training that are timed
SLOWEST_STEP = 20.0  # seconds; of a network that would be slower, a smaller batch is timed
FEWEST_IMAGES = 8  # of a first guess


def measure_study(study: "Study", file: Path, say=print) -> None:
    """Measure every network of ``study`` that this device has no entry for; add it to ``file``.

    Args:
        study: the study.
        file: table of ``cost.THROUGHPUT``; written after every row, so nothing measured is lost.
        say: receives one line a network.
    """
    table = cost.Throughput([file] if file.exists() else [])
    wanted: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in study.paths("dense"):
        values = study.run(path)["values"]
        wanted.setdefault(tuple(cost.setting(values).values()), values)
    for values in wanted.values():
        name = f"{values['model']} x{values['width']:g} on {values['dataset']}"
        if table.find(device_name(), values):
            say(f"{name}: measured before")
            continue
        row = _in_a_process(values)
        table.rows[row["device"], *(row[k] for k in cost.SETTING)] = row
        write(file, table)
        say(
            f"{name}: trains {float(row['train_images_s']):.4g} and evaluates "
            f"{float(row['eval_images_s']):.4g} images/s, {row['memory_mib']} MiB"
        )


def device_name() -> str:
    """Return the name under which this machine's measurements are kept."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return f"CPU {model[0]}" if model else "CPU"


def _in_a_process(values: dict[str, Any]) -> dict[str, str]:
    command = [sys.executable, "-m", "maskalign.throughput", json.dumps(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"{values['model']} x{values['width']:g}: not measured ({last})")
    return json.loads(done.stdout.splitlines()[-1])


def write(file: Path, table: cost.Throughput) -> None:
    """Write a table of ``cost.THROUGHPUT``, its rows in order."""
    text = io.StringIO()
    writer = csv.DictWriter(text, cost.THROUGHPUT, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows[key] for key in sorted(table.rows))
    write_text(file, text.getvalue())


def measure(values: dict[str, Any]) -> dict[str, str]:
    """Return one row: the speed of the study's own training loop on made-up images."""
    import torch

    from maskalign import devices
    from maskalign.evaluation import evaluate
    from maskalign.results import provenance

    devices.exact()
    cuda = torch.cuda.is_available()
    batch = values["batch_size"]
    small = min(batch, FEWEST_IMAGES)
    guess = _train(values, small, steps=1)[0] / small
    batch = min(batch, max(small, int(SLOWEST_STEP / guess)))
    steps = min(500, max(1, math.ceil(SECONDS / (guess * batch))))
    seconds, model, data = _train(values, batch, steps)
    tested = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS / 3:
        evaluate(model, data.test_batches())
        tested += len(data.test_labels)
    about = provenance()
    peak = torch.cuda.max_memory_allocated() >> 20 if cuda else 0
    row = {
        "device": device_name(),
        "threads": about["threads"],
        **cost.setting(values),
        "train_images_s": f"{steps * batch / seconds:.4g}",
        "eval_images_s": f"{tested / spent:.4g}",
        "memory_mib": about["peak_memory_mib"],
        "device_memory_mib": peak,
        "torch": about["torch"],
        "commit": (about["commit"] or "")[:12],
    }
    return {k: str(row[k]) for k in cost.THROUGHPUT}


def _train(values: dict[str, Any], batch: int, steps: int):
    """Train three epochs on made-up images; return seconds of the second, network and data."""
    import torch

    from maskalign import models
    from maskalign.checkpoint import save_tensors
    from maskalign.data import TensorData
    from maskalign.training import Plan, train

    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec, size = values["data"], values["data"]["image_size"]
    count = {"train": batch * steps, "test": min(500, batch * steps)}
    tensors = {}
    for part, n in count.items():
        shape = (n, len(spec["mean"]), size, size)
        tensors[f"{part}_images"] = torch.randint(256, shape, dtype=torch.uint8)
        tensors[f"{part}_labels"] = torch.arange(n) % cost.CLASSES.get(spec["source"], 10)
    ends: dict[int, float] = {}

    def note(epoch: int, _: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        ends[epoch] = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "images.safetensors"
        save_tensors(file, tensors)
        data = TensorData(file, spec, device)
        net = values["net"]
        model = models.build(
            net["architecture"],
            classes=data.classes,
            image_size=size,
            in_channels=data.channels,
            width=values["width"],
            **net["options"],
        ).to(device, memory_format=torch.channels_last)
        plan = Plan(
            epochs=3,
            lr=1e-3,
            seed=("throughput",),
            batch_size=batch,
            precision=values["precision"],
            compile=values.get("compile", False),
            graph=values.get("graph", False),
            evaluate_every=3,
        )
        train(model, data, plan, Path(scratch) / "state", "", keep=note, log=lambda _: None)
    return ends[2] - ends[1], model, data


if __name__ == "__main__":
    process.settle()
    print(json.dumps(measure(json.loads(sys.argv[1]))))

"""Several processes train as one does that takes their parts of a batch in turn."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from maskalign import distributed, models, stages
from maskalign.checkpoint import load_tensors, save_tensors
from maskalign.data import open_data
from maskalign.seeds import derive
from maskalign.training import Plan
from torch import nn

DATA = {"mean": [0.4, 0.5], "std": [0.3, 0.2], "crop_padding": 1, "flip": True}
VGG = {"architecture": "vgg11", "options": {"plan": [4, "M", 6, "M"]}}
THIN = {"blocks": [1, 1], "channels": 4}
RESNET = {"architecture": "resnet20", "options": THIN}
FAULTY = {"architecture": "faulty:Faulty", "options": THIN}
BATCH, EPOCHS = 12, 2
HERE = str(Path(__file__).parents[1] / "unit")  # of the module faulty

# One file a process: the stage as the workflow runs it.
JOB = """
import json, os, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from maskalign.job import job
arguments = json.loads(sys.argv[3])
with job(SimpleNamespace(rule="dense", wildcards={}, log=[sys.argv[2]], threads=1, resources={})):
    from maskalign import stages
    stages.dense(**arguments)
"""


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "small.safetensors"
    g = torch.Generator().manual_seed(0)
    images = {
        f"{part}_images": torch.randint(256, (n, 2, 8, 8), generator=g).to(torch.uint8)
        for part, n in (("train", 64), ("test", 20))
    }
    labels = {"train_labels": torch.arange(64) % 6, "test_labels": torch.arange(20) % 6}
    save_tensors(file, images | labels)
    return file


def values(net, processes: int, precision: str = "float32") -> dict:
    recipe = {"epochs": EPOCHS, "lr": 0.05, "schedule": "cosine", "momentum": 0.9}
    return {
        "stage": "dense",
        "version": 1,
        "model": "net",
        "dataset": "small",
        "width": 1,
        "init_seed": 3,
        "order_seed": 0,
        "data": DATA,
        "net": {"options": {}} | net,
        "batch_size": BATCH,
        "processes": processes,
        "precision": precision,
        "weight_decay": 0.01,
        "keep_epochs": [0, 1],
        "training": recipe,
    }


def arguments(folder: Path, data: Path, net, processes: int, **more) -> dict:
    names = ("state", "model", "checkpoints", "history", "result")
    files = {name: str(folder / name) for name in names}
    return files | {"data": str(data), "values": values(net, processes, **more)}


def dense(folder: Path, data: Path, net, processes: int, **more):
    """Return final weights, training losses, kept weights of epoch 1."""
    stages.dense(**arguments(folder, data, net, processes, **more))
    with (folder / "history").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    kept = load_tensors(folder / "checkpoints/epoch-0001.safetensors")[0]
    return load_tensors(folder / "model")[0], losses, kept


def close(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert torch.allclose(a[k].double(), b[k].double(), rtol=0, atol=1e-5), k


def same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def alive(processes):
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.waits
def test_two_processes_equal_one_without_batch_norm(tmp_path, data):
    one, losses, kept = dense(tmp_path / "one", data, VGG, 1)
    two, found, kept_too = dense(tmp_path / "two", data, VGG, 2)
    close(one, two)
    close(kept, kept_too)
    assert found == pytest.approx(losses, abs=1e-5)


@pytest.mark.waits
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_processes_equal_one_that_normalises_half_batches(tmp_path, data, precision):
    """The reference: both halves pass in turn, and only the first moves the running statistics."""
    weights, losses, _ = dense(tmp_path, data, RESNET, 2, precision=precision)
    images = open_data(data, DATA)
    torch.manual_seed(derive("init", 3))
    net = models.build("resnet20", 6, 8, 2, 1, **THIN)
    plan = Plan(epochs=EPOCHS, lr=0.05, seed=())
    sgd = torch.optim.SGD(net.parameters(), lr=1, momentum=0.9, weight_decay=0.01)
    expected = []
    for epoch in range(EPOCHS):
        batches = list(images.train_batches(BATCH, ("dense", 0, 3, 0), epoch))
        total = 0.0
        for step, (x, y) in enumerate(batches):
            sgd.zero_grad()
            for half in range(2):
                rows = slice(half * BATCH // 2, (half + 1) * BATCH // 2)
                before = {k: v.clone() for k, v in net.named_buffers()}
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    loss = nn.functional.cross_entropy(net(x[rows]), y[rows]) / 2
                loss.backward()
                total += float(loss.detach())
                if half:
                    net.load_state_dict(before, strict=False)
            sgd.param_groups[0]["lr"] = plan.learning_rate(epoch * len(batches) + step, 5)
            sgd.step()
        expected.append(total / len(batches))
    assert len(batches) == 5
    close(weights, net.state_dict())
    whole, *_ = dense(tmp_path / "whole", data, RESNET, 1, precision=precision)
    assert any((whole[k].double() - weights[k].double()).abs().max() > 1e-3 for k in whole)
    assert losses == pytest.approx(expected, abs=1e-5)


def start(folder: Path, job: dict, fault: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", JOB, HERE, str(folder / "log"), json.dumps(job)],
        env=os.environ | {"FAULT": fault, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.waits
@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("kill:1:3", "RuntimeError: training process 2 of 2 was killed by SIGKILL; log: "),
        ("raise:0:2", "RuntimeError: training process 1 of 2: ValueError: bad pass number 2; log:"),
    ],
)
def test_a_failing_process_ends_the_job_in_one_line(tmp_path, data, fault, line):
    process = start(tmp_path, arguments(tmp_path, data, FAULTY, 2), fault)
    children, parent = set(), psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end at any moment
            children |= {*parent.children(recursive=True)}
        time.sleep(0.1)
    _, error = process.communicate()
    assert process.returncode == 1
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert len(children) >= 2
    assert not alive(children)
    assert not (tmp_path / "model").exists()


def test_fewer_gpus_than_processes_are_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"^processes: 2 need a GPU each, but 1 can be seen$"):
        stages.dense(**arguments(tmp_path, data, VGG, 2))


@pytest.mark.parametrize(
    ("visible", "expected"), [("", ["0", "1"]), ("5,2,7", ["5", "2"]), ("GPU-a,GPU-b", None)]
)
def test_every_process_sees_one_gpu_of_those_that_the_job_was_given(monkeypatch, visible, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [distributed._environment(rank, 2)["CUDA_VISIBLE_DEVICES"] for rank in range(2)]
    assert found == (expected or visible.split(","))


def test_an_ordinary_job_starts_no_group(tmp_path, data, monkeypatch):
    monkeypatch.setattr(distributed, "launch", None)
    dense(tmp_path, data, VGG, 1)
    assert distributed.place() == (0, 1)

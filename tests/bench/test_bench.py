"""The benchmark measures the work that it names."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from conftest import ROOT
from maskalign.bench import __main__ as bench
from maskalign.bench import growth, matching, precision, processes, stages, work
from maskalign.checkpoint import load_tensors
from maskalign.identity import flat
from maskalign.study import read


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("textbook", {"workers": 0}),
        ("ours", {"precision": "float32", "seconds": 0.1, "made_up": True}),
        ("matching", {"seconds": 2}),
        ("connectivity", {"points": 2, "grid": 1}),
    ],
)
def test_a_measurement(kind, more, tmp_path):
    job = work.job("ResNet20 x1", **more) | {"images": 128, "meeting": str(tmp_path)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "maskalign.bench", "--measure", kind, json.dumps(job)],
        capture_output=True,
        text=True,
        check=True,
    )
    lasted, found = time.perf_counter() - began, json.loads(done.stdout)
    slowest = job["images"] / lasted  # images per second, if the process did nothing else
    if kind == "connectivity":
        assert set(found) == {"line", "landscape", "ensemble"}
        assert all(0.1 < f["forward"] / f["ours"] < 10 for f in found.values())
    elif kind == "matching":
        assert found["groups"] == 12
        assert found["alike"] > 0.95
        assert 0 < found["assignment"] < found["ours"]
        assert found["images"] < matching.BATCH or found["images"] % matching.BATCH == 0
        assert 0 < found["textbook"] < lasted - found["ours"]
    elif kind == "ours":
        assert slowest < found["low"] <= found["images_s"] <= found["high"]
        assert found["images_s"] < found["train_images_s"]
        assert found["step_ms"] == pytest.approx(1000 * work.BATCH / found["train_images_s"])
        assert found["eval_images_s"] > found["train_images_s"]
    else:
        assert found > slowest


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        ("growth", {"series": "training", "at": 0.25}),
        ("growth", {"series": "matching", "at": 256}),
        ("growth", {"series": "planning", "at": 1}),
        ("assignment", {"channels": 128}),
        ("starting", {"what": "planning one dense run of it"}),
    ],
)
def test_seconds(kind, job, monkeypatch):
    monkeypatch.chdir(ROOT)
    began = time.perf_counter()
    found = processes.measure(kind, job)
    assert 0 < found < time.perf_counter() - began


@pytest.mark.waits
def test_jobs_timed_at_once_wait_for_each_other(tmp_path):
    """The second one starts when the first one has warmed up, and waits."""
    options = {"precision": "float32", "images": 128}
    job = work.job("ResNet20 x1", meeting=str(tmp_path), jobs=2) | options
    began, first = time.perf_counter(), processes.start("ours", job, 1)
    while not list(tmp_path.iterdir()):
        assert first.poll() is None
        time.sleep(0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(3)
    second = processes.start("ours", job, 1)
    speeds = [processes.result(each)["images_s"] for each in (first, second)]
    assert min(speeds) > options["images"] / (time.perf_counter() - began)


def test_a_gpu_is_measured_by_another_command(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "this measures a CPU: make bench-gpu" in capsys.readouterr().err


@pytest.mark.parametrize("made_up", [False, True])
def test_images_of_a_class_are_alike(tmp_path, made_up):
    tensors, _ = load_tensors(work.prepare(tmp_path, 400, size=8, made_up=made_up))
    images, labels = tensors["train_images"].float().flatten(1), tensors["train_labels"]
    assert tensors["test_images"].shape == (100, 3, 8, 8)
    means = torch.stack([images[labels == c].mean(0) for c in range(work.CLASSES)])
    nearest = torch.cdist(images, means).argmin(1)
    assert (nearest == labels).float().mean() > 0.5


def test_more_images_than_there_are_repeat(tmp_path):
    tensors, _ = load_tensors(work.prepare(tmp_path, 4100, size=4))
    for part, there, n in (("train", 4000, 4100), ("test", 1000, 1025)):
        images, labels = tensors[f"{part}_images"], tensors[f"{part}_labels"]
        assert images.shape == (n, 3, 4, 4)
        assert torch.equal(images[there:], images[: n - there])
        assert torch.equal(labels[there:], labels[: n - there])
        assert images[:there].float().std() > 0


@pytest.mark.parametrize("procedure", ["ours", "textbook"])
def test_accuracy_is_a_share_of_the_test_images(procedure):
    job = stages.ACCURACY | {"images": 256, "epochs": 1, "seed": 0, "procedure": procedure}
    accuracy = processes.measure("accuracy", job)
    assert 0 <= accuracy <= 100
    assert accuracy * 64 / 100 == int(accuracy * 64 / 100)


def test_precisions_are_compared_seed_by_seed():
    runs = pd.DataFrame(
        {
            "model": f"{model}{suffix}",
            "method": method,
            "mask_seed": seed,
            "init_seed": seed,
            "order_seed": 0,
            "sparsity": sparsity,
            "split": "test",
            "metric": "accuracy",
            "value": 80 + 10 * seed + gap * (1 + seed) + sparsity,
            "status": "completed",
        }
        for model in precision.NETWORKS
        for suffix, gap in (("", 0), ("-bfloat16", -1))
        for method in ("dense", "imp", "lth", "permuted", "naive")
        for sparsity in ((0.5, 0.9) if method == "imp" else (0.9,))
        for seed in (0, 1)
    )
    found = list(precision.differences(runs))
    assert len(found) == 10
    for row in found:
        assert row["float32"] == pytest.approx([80.9, 90.9])
        assert row["mean"] == pytest.approx(-1.5)
        assert row["low"] < -1.5 < row["high"]


def test_the_study_of_both_precisions_differs_in_nothing_else():
    study = read([ROOT / "config/precision.yaml"])
    for model in precision.NETWORKS:
        runs = study.runs[study.runs["model"] == model]
        assert runs["mask_seed"].nunique() == 8
        for run in runs.to_dict("records"):
            other = study.run(run["path"].replace(f"/{model}-x", f"/{model}-bfloat16-x"))
            known, changed = flat(run["values"]), flat(other["values"])
            differ = {k for k in known | changed if known.get(k) != changed.get(k)}
            assert {"model"} <= differ <= {"model", "precision"}


def test_operations_are_those_of_the_arithmetic():
    job = work.job("ResNet20 x1", precision="float32")
    found = processes.measure("bounds", job)
    assert 0 < found["step"] < found["dense"]
    # 43.1 million multiplications and additions forward, and twice as many backward but for the
    # images' own gradient.
    forward, first = 43.1e6, 3 * 16 * 9 * 32 * 32
    assert found["per_image"] == pytest.approx(2 * (3 * forward - first), rel=0.01)


def test_the_page_has_every_row():
    row = dict.fromkeys(bench.COLUMNS, "") | {"stage": "matching", "value": "2", "unit": "s"}
    row |= {"low": "1", "high": "3", "baseline": "8", "baseline_setting": "other", "ratio": "4"}
    text = bench.page([row, row | {"stage": "starting", "baseline": "", "ratio": ""}])
    assert "| matching |  |  | 2 s | 1 to 3 | 8 (other) | 4 |" in text
    assert "| starting |  |  | 2 s | 1 to 3 |  |  |" in text


def test_growth_is_drawn(tmp_path):
    found = {name: {1: 1.0, 2: 3.0, 4: 8.0} for name in growth.SERIES}
    growth.draw(found, "some device", tmp_path / "growth.png")
    assert (tmp_path / "growth.png").exists()
    assert (tmp_path / "growth.pdf").read_bytes().startswith(b"%PDF")


def test_an_unknown_stage_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "maskalign.bench", "guessing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        "unknown stage 'guessing', must be one of training, accuracy, precision, bounds, matching"
        in done.stderr
    )


@pytest.mark.waits
def test_one_failing_measurement_ends_those_beside_it():
    def started(code):
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    waiting = started("import time; time.sleep(600)")
    with pytest.raises(RuntimeError, match="a measurement ended with exit code 3"):
        processes.results([waiting, started("raise SystemExit(3)")])
    assert waiting.returncode < 0
    assert processes.results([started("print(1)"), started("print(2)")]) == [1, 2]

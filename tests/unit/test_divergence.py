"""What diverges is marked, and so is all that is made from it."""

import json
import math

import pandas as pd
import pytest
import torch
from maskalign import analyses, sources, stages, training
from maskalign.checkpoint import load_tensors, read_metadata, save_tensors
from maskalign.ownership import Owner, OwnershipError

TOO_FAST = 1e12  # a learning rate at which a network without batch norm overflows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "digits.safetensors"
    sources.prepare(SPEC, file)
    return str(file)


SPEC = {
    "source": "digits",
    "image_size": 8,
    "train_images": 120,
    "test_images": 60,
    "compose": 1,
    "mean": [0.3],
    "std": [0.38],
    "crop_padding": 0,
    "flip": False,
}


def values(stage, lr=0.05, **more):
    """Return the resolved values of a run of a small VGG."""
    return {
        "stage": stage,
        "version": 1,
        "data": SPEC,
        "net": {"architecture": "vgg11", "options": {"plan": [8, "M"]}, "unprunable": []},
        "model": "vgg",
        "dataset": "digits",
        "width": 1,
        "method": None,
        "init_seed": 0,
        "order_seed": 0,
        "batch_size": 20,
        "processes": 1,
        "evaluate_every": 5,
        "precision": "float32",
        "dense": {"epochs": 5},
        "keep_epochs": [0, 3],
        "training": {"epochs": 5, "lr": lr, "schedule": "cosine"},
        "connectivity": {"points": 3, "reset_images": 40, "train_images": 40},
        **more,
    }


@pytest.fixture
def run(data, tmp_path):
    """Return a function that runs a stage and returns its record and its folder."""

    def start(stage, name, **inputs):
        out = tmp_path / name
        about = inputs.pop("values")
        outputs = {k: str(out / f) for k, f in OUTPUTS[stage].items()}
        if stage in ("dense", "imp", "sparse"):
            outputs["state"] = str(tmp_path / "state" / name)
        inputs = {k: str(v) if v else v for k, v in inputs.items()}
        getattr(analyses if stage == "interpolation" else stages, stage)(
            data=data, values=about, **inputs, **outputs
        )
        return json.loads((out / "result.json").read_text()), out

    return start


OUTPUTS = {
    "dense": {
        "model": "model.safetensors",
        "checkpoints": "checkpoints",
        "history": "history.csv",
        "result": "result.json",
    },
    "imp": {
        "model": "model.safetensors",
        "mask": "mask.safetensors",
        "history": "history.csv",
        "result": "result.json",
    },
    "sparse": {
        "model": "model.safetensors",
        "mask": "mask.safetensors",
        "history": "history.csv",
        "result": "result.json",
    },
    "interpolation": {"curve": "curve.csv", "result": "result.json"},
    "match": {"permutation": "permutation.safetensors", "result": "result.json"},
}
MATCHING = {"method": "activations", "measure": "last", "images": 40, "augment": False}


def metric(record, name):
    return [m["value"] for m in record["metrics"] if m["metric"] == name]


def test_a_diverged_run_is_evaluated_where_it_ends(run):
    """Or it would have no accuracy, and look like a run that was never made."""
    record, out = run("dense", "a", values=values("dense", lr=TOO_FAST))
    assert record["status"] == "diverged"
    assert len(metric(record, "accuracy")) == 1
    assert len(pd.read_csv(out / "history.csv")) < 5


def test_checkpoints_from_before_a_divergence_are_not_marked(run):
    _, out = run("dense", "a", values=values("dense", lr=TOO_FAST))
    marks = {f.name: read_metadata(f).get("status") for f in (out / "checkpoints").iterdir()}
    assert marks["epoch-0000.safetensors"] != "diverged"
    assert marks["epoch-0003.safetensors"] == "diverged"
    assert read_metadata(out / "model.safetensors")["status"] == "diverged"


def test_what_is_made_from_a_diverged_run_is_diverged(run):
    dense, a = run("dense", "a", values=values("dense", lr=TOO_FAST))
    other, b = run("dense", "b", values=values("dense", init_seed=1))
    assert (dense["status"], other["status"]) == ("diverged", "completed")
    pruned, imp = run(
        "imp",
        "imp",
        values=values("imp", sparsity=0.5, mask_seed=0),
        start=a / "model.safetensors",
        start_mask=None,
    )
    assert pruned["status"] == "diverged"
    sparse, _ = run(
        "sparse",
        "naive",
        values=values("sparse", init_seed=1, start_epoch=0, rewind_epoch=0),
        checkpoints=b / "checkpoints",
        imp_mask=imp / "mask.safetensors",
        permutation=None,
    )
    assert sparse["status"] == "diverged"
    assert len(metric(sparse, "accuracy")) == 1
    how = {"mask_seed": 0, "init_seed": 1, "b_epoch": 5, "matching": MATCHING}
    matched, match = run(
        "match",
        "match",
        values=values("match", **how),
        a=a / "model.safetensors",
        b=b / "model.safetensors",
        b_checkpoints=b / "checkpoints",
        beside=None,
    )
    assert matched["status"] == "diverged"
    line, folder = run(
        "interpolation",
        "line",
        values=values("interpolation", lines=["naive"], matching_method="activations", **how),
        a=a / "model.safetensors",
        b=b / "model.safetensors",
        permutation=match / "permutation.safetensors",
    )
    assert line["status"] == "diverged"
    assert set(pd.read_csv(folder / "curve.csv").status) == {"diverged"}


def test_weights_spoilt_by_the_last_step_are_a_divergence(run):
    """The training loss of the only step is that of the weights before it."""
    once = {"epochs": 1, "lr": 1e38, "schedule": "steps"}
    about = values("dense", batch_size=120, keep_epochs=[0], training=once)
    record, _ = run("dense", "a", values=about)
    assert math.isfinite(metric(record, "loss")[-1])
    assert record["status"] == "diverged"


def test_an_interrupted_run_goes_on_only_from_its_own_start(run, tmp_path, monkeypatch):
    """The values are equal, but the mask that it started under was made again and is another."""
    _, b = run("dense", "b", values=values("dense"))
    weights = load_tensors(b / "model.safetensors")[0]
    about = values("sparse", start_epoch=0, rewind_epoch=0)
    masks = {}
    for number in (1, 2):
        g = torch.Generator().manual_seed(number)
        kept = {k: torch.rand(w.shape, generator=g) > 0.5 for k, w in weights.items() if w.ndim > 1}
        masks[number] = tmp_path / f"mask-{number}.safetensors"
        save_tensors(masks[number], kept)
    inputs = {"checkpoints": b / "checkpoints", "permutation": None}
    _, fresh = run("sparse", "fresh", values=about, imp_mask=masks[2], **inputs)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return {"loss": 1.0, "accuracy": 1.0, "top5_accuracy": 1.0}

    often = about | {"evaluate_every": 1}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "evaluate", killed)
        run("sparse", "again", values=often, imp_mask=masks[1], **inputs)
    assert list((tmp_path / "state" / "again").rglob("resume.safetensors"))
    _, again = run("sparse", "again", values=often, imp_mask=masks[2], **inputs)
    ends = [load_tensors(out / "model.safetensors")[0] for out in (fresh, again)]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_a_run_that_was_taken_over_writes_nothing_more(run, tmp_path, monkeypatch):
    """The job that started first finds the other's name in the state folder, and ends."""
    about = values("dense", evaluate_every=1)
    real, epochs = training.evaluate, []

    def meanwhile(*args):
        epochs.append(1)
        if len(epochs) == 2:  # another job of the same run starts
            (owner,) = (tmp_path / "state" / "a").rglob("owner")
            owner.write_text("elsewhere process 1 since 1")
        return real(*args)

    monkeypatch.setattr(training, "evaluate", meanwhile)
    with pytest.raises(OwnershipError, match="taken over by elsewhere process 1 since 1; nothing"):
        run("dense", "a", values=about)
    assert len(epochs) == 2
    assert not list((tmp_path / "a").rglob("*.*"))


def test_a_run_that_another_job_finished_is_not_written_again(run, tmp_path):
    owner = Owner(tmp_path / "state")
    owner.check()
    other = Owner(tmp_path / "state")
    other.check()
    with pytest.raises(OwnershipError):
        owner.check()
    other.file.unlink()
    with pytest.raises(OwnershipError, match="a job that has finished it"):
        owner.check()

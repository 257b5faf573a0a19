"""A user's own data set and model, with no edit of the library."""

import pandas as pd
import yaml
from conftest import ROOT
from maskalign.study import Study
from PIL import Image
from running import copy_workflow, snakemake

NETS = """
from torch import nn

def gated(classes, width, image_size, hidden=4):
    size = round(hidden * width)
    return nn.Sequential(
        nn.Conv2d(3, size, 3, padding=1), nn.ReLU(), nn.Conv2d(size, size, 3, padding=1), nn.SiLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(size * (image_size // 2) ** 2, classes),
    )
"""
STUDY = """
study: own
datasets:
  mine:
    source: imagefolder
    path: images
    image_size: 8
    mean: [0.5, 0.5, 0.5]
    std: [0.2, 0.2, 0.2]
models:
  gated: {architecture: "mynets:gated", options: {hidden: 6}}
training:
  short:
    batch_size: 8
    keep_epochs: [0]
    dense: {epochs: 2, lr: 0.05}
    imp: {epochs: 1, lr: 0.01, fraction: 0.5}
    sparse: {lr: 0.05}
    connectivity: {points: 3}
experiments:
  mine:
    dataset: mine
    model: gated
    training: short
    widths: [1]
    pairs: 1
    sparsities: [0.5]
    rewind_epochs: [0]
    methods: [permuted]
    interpolation: {widths: [1]}
artefacts:
  tables: {table_05: {kind: accuracy, shows: [{dataset: mine, model: gated}]}}
  figures: {}
"""


def test_own_images_and_own_model_run_through_the_workflow(tmp_path):
    folder = copy_workflow(tmp_path)
    (folder / "mynets.py").write_text(NETS)
    (folder / "own.yaml").write_text(STUDY)
    for part in ("train", "val"):
        for label, colour in enumerate(("red", "blue")):
            (folder / "images" / part / colour).mkdir(parents=True)
            for i in range(8):
                pixel = (250 - 10 * i, 0, 10 * i) if label else (10 * i, 0, 250 - 10 * i)
                Image.new("RGB", (12, 10), pixel).save(folder / f"images/{part}/{colour}/{i}.png")
    targets = ("results/own/runs.csv", "results/own/tables/table_05.md")
    done = snakemake(folder, *targets, "--configfile", "own.yaml", "--cores", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    runs = pd.read_csv(folder / "results/own/runs.csv")
    accuracy = runs[(runs.metric == "accuracy") & (runs.method == "permuted")]
    assert accuracy.value.between(0, 100).all()
    assert len(accuracy) == 1
    assert set(runs.metric) >= {"error_barrier_none", "error_barrier_repair"}
    assert "mynets:gated with hidden = 6" in (folder / "results/own/tables/table_05.md").read_text()


def test_the_example_study_builds(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = Study(yaml.safe_load((ROOT / "config/example.yaml").read_text()))
    assert len(study.paths("sparse")) == 2 * 3 * 2 * 3

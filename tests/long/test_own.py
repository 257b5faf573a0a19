"""A user's own data set, model and method, with no edit of the library."""

import pandas as pd
import yaml
from conftest import ROOT
from maskalign.study import Study
from PIL import Image
from running import copy_workflow, snakemake
from safetensors.torch import load_file

NETS = """
from torch import nn

def gated(classes, width, image_size, hidden=4):
    size = round(hidden * width)
    return nn.Sequential(
        nn.Conv2d(3, size, 3, padding=1), nn.ReLU(), nn.Conv2d(size, size, 3, padding=1), nn.SiLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(size * (image_size // 2) ** 2, classes),
    )
"""
MASKS = """
def turned(mask, start):
    return {name: layer.flip(0) for name, layer in mask.items()}
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
methods:
  turned: {function: "mymasks:turned", permuted: true, title: upside down}
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
    methods: [permuted, turned]
    interpolation: {widths: [1]}
artefacts:
  tables:
    table_05: {kind: accuracy, shows: [{dataset: mine, model: gated}]}
    table_18: {kind: methods, shows: [{dataset: mine, model: gated}]}
  figures: {}
"""


def test_own_images_model_and_method_run_through_the_workflow(tmp_path):
    folder = copy_workflow(tmp_path)
    (folder / "mynets.py").write_text(NETS)
    (folder / "mymasks.py").write_text(MASKS)
    (folder / "own.yaml").write_text(STUDY)
    for part in ("train", "val"):
        for label, colour in enumerate(("red", "blue")):
            (folder / "images" / part / colour).mkdir(parents=True)
            for i in range(8):
                pixel = (250 - 10 * i, 0, 10 * i) if label else (10 * i, 0, 250 - 10 * i)
                Image.new("RGB", (12, 10), pixel).save(folder / f"images/{part}/{colour}/{i}.png")
    tables = folder / "results/own/tables"
    targets = ["results/own/runs.csv", *(f"results/own/tables/table_{n}.md" for n in ("05", 18))]
    done = snakemake(folder, *targets, "--configfile", "own.yaml", "--cores", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    runs = pd.read_csv(folder / "results/own/runs.csv")
    accuracy = runs[(runs.metric == "accuracy") & (runs.method == "permuted")]
    assert accuracy.value.between(0, 100).all()
    assert len(accuracy) == 1
    assert set(runs.metric) >= {"error_barrier_none", "error_barrier_repair"}
    assert "mynets:gated with hidden = 6" in (tables / "table_05.md").read_text()
    assert "upside down" in (tables / "table_18.md").read_text()
    runs = folder / "results/own/runs/paper/mine/gated-x1"
    mask, turned = (
        load_file(next(runs.glob(f"{method}/*/*/mask.safetensors")))
        for method in ("permuted", "turned")
    )
    assert all(turned[name].equal(layer.flip(0)) for name, layer in mask.items())


def test_the_example_study_builds(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = Study(yaml.safe_load((ROOT / "config/example.yaml").read_text()))
    assert len(study.paths("sparse")) == 2 * 3 * 2 * 4

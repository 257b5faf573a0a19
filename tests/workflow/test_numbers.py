"""The numbers of a finished study, made again by other means."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml
from maskalign.study import Study
from running import TINY
from safetensors.torch import load_file
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def study():
    return Study(yaml.safe_load(TINY.read_text()))


@pytest.fixture(scope="module")
def results(tiny):
    return tiny / "results/tiny"


def normalised(x, weights, name):
    """Return batch norm in eval mode, by its definition."""
    mean, var = (weights[f"{name}.running_{k}"].view(1, -1, 1, 1) for k in ("mean", "var"))
    scale, shift = (weights[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("weight", "bias"))
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def resnet(x, w):
    """Return the logits of three stages of one residual block each."""
    x = normalised(F.conv2d(x, w["conv1.weight"], padding=1), w, "bn1").relu()
    for stage, stride in enumerate((1, 2, 2)):
        block = f"stages.{stage}.0"
        y = F.conv2d(x, w[f"{block}.conv1.weight"], stride=stride, padding=1)
        y = F.conv2d(normalised(y, w, f"{block}.bn1").relu(), w[f"{block}.conv2.weight"], padding=1)
        y = normalised(y, w, f"{block}.bn2")
        if stride > 1:
            x = F.conv2d(x, w[f"{block}.shortcut.0.weight"], stride=stride, padding=1)
            x = normalised(x, w, f"{block}.shortcut.1")
        x = (x + y).relu()
    return x.mean((2, 3)) @ w["linear.weight"].T + w["linear.bias"]


def vgg(x, w):
    """Return the logits of two convolutions, each before a max pooling."""
    for layer in (0, 3):
        y = F.conv2d(x, w[f"features.{layer}.weight"], w[f"features.{layer}.bias"], padding=1)
        x = y.relu().unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
    return x.flatten(1) @ w["linear.weight"].T + w["linear.bias"]


def test_accuracy_is_that_of_the_saved_weights_on_the_source(results, study):
    """Through none of the library's models, batches and sums, in double precision."""
    prepared = load_file(results / "data/digits.safetensors")
    images = prepared["test_images"].double()[:, 0]
    source = torch.tensor(load_digits().images) * 255 / 16
    # Each test image is one of the source's, with its label.
    nearest = (images.flatten(1)[:, None] - source.flatten(1)[None]).abs().amax(2)
    labels = torch.tensor(load_digits().target)[nearest.argmin(1)]
    assert nearest.amin(1).max() <= 0.5
    x = (images[:, None] / 255 - 0.3) / 0.38

    rows = pd.read_csv(results / "runs.csv")
    rows = rows[(rows.metric == "accuracy") & (rows.split == "test") & (rows.dataset == "digits")]
    stages = ["dense", "imp_round", "imp", "sparse"]
    trained = study.runs[study.runs.stage.isin(stages) & (study.runs.dataset == "digits")]
    reported, recomputed = [], []
    for run in trained.to_dict("records"):
        weights = load_file(results / "runs" / run["path"] / "model.safetensors")
        weights = {k: v.double() for k, v in weights.items()}
        logits = {"resnet20": resnet, "vgg11": vgg}[run["model"]](x, weights)
        recomputed.append(100 * float((logits.argmax(1) == labels).double().mean()))
        record = json.loads((results / "runs" / run["path"] / "result.json").read_text())
        (value,) = (
            m["value"]
            for m in record["metrics"]
            if (m["metric"], m["split"]) == ("accuracy", "test")
        )
        reported.append(value)
    assert len(reported) == len(rows)
    assert reported == pytest.approx(recomputed)
    assert sorted(rows.value) == pytest.approx(sorted(recomputed))


def test_sparsity_is_that_of_the_saved_masks(results, study):
    pruned = study.runs[study.runs.stage.isin(["imp_round", "imp", "sparse"])]
    assert {"imp", "sparse"} <= set(pruned.stage)
    for run in pruned.to_dict("records"):
        record = json.loads((results / "runs" / run["path"] / "result.json").read_text())
        mask = load_file(results / "runs" / run["path"] / "mask.safetensors")
        total = sum(m.numel() for m in mask.values())
        masked = sum(int((~m).sum()) for m in mask.values())
        assert record["sparsity_reached"] == pytest.approx(masked / total, abs=1e-12)
        weights = load_file(results / "runs" / run["path"] / "model.safetensors")
        assert not any(weights[name][~kept].any() for name, kept in mask.items())


def test_table_figure_and_collected_results_have_the_same_numbers(results):
    runs = pd.read_csv(results / "runs.csv")
    table = pd.read_csv(results / "tables/table_05.csv").set_index("method")
    figure = pd.read_csv(results / "figures/figure_05.csv").set_index("method")
    other = pd.read_csv(results / "figures/figure_09.csv").set_index("method")
    for method in ("lth", "naive", "permuted"):
        init = {"lth": (0, 2)}.get(method, (1, 3))  # B of each pair; LTH starts from A
        own = runs[(runs.model == "resnet20") & (runs.method == method) & (runs.order_seed == 0)]
        own = own[(own.metric == "accuracy") & (own.split == "test") & (own.rewind_epoch == 0)]
        own = own[own.length == 1]
        own = own[own.init_seed.isin(init) & (own.mask_seed // 2 == own.init_seed // 2)]
        if method == "permuted":
            own = own[(own.matching_epoch == 2) & (own.matching_method == "activations")]
        assert len(own) == 2
        for shown in (table, figure, other):
            assert shown.loc[method, "mean"] == pytest.approx(own.value.mean(), rel=1e-7)
            assert shown.loc[method, "std"] == pytest.approx(np.std(own.value, ddof=1), rel=1e-7)

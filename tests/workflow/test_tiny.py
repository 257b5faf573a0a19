"""The real workflow, end to end, on the tiny study; and what users type at it."""

import json
import math
import shutil

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from maskalign import cost, figures, forecast, formats, tables
from maskalign.checkpoint import load_tensors
from maskalign.identity import IDENTITY
from maskalign.methods import MASKS
from maskalign.study import Study
from running import TINY, copy_workflow, snakemake


@pytest.fixture(scope="module")
def study():
    return Study(yaml.safe_load(TINY.read_text()))


def test_tables_and_figures_hold_the_numbers_of_the_collected_results(tiny, study):
    out = tiny / "results/tiny"
    names = ("runs.csv", "connectivity.csv", "landscapes.csv")
    rows = [pd.read_csv(out / name) for name in names]
    for name in study.config["artefacts"]["tables"]:
        again = formats.csv_text(tables.build(study, name, rows[0]).cells)
        assert again == (out / f"tables/{name}.csv").read_text()
    for name in study.config["artefacts"]["figures"]:
        again = formats.csv_text(figures.build(study, name, figures.Sources(*rows)).data)
        assert again == (out / f"figures/{name}.csv").read_text()


def test_the_forecast_counts_what_was_run(tiny, study):
    runs, forecast_mib = tiny / "results/tiny/runs", 0.0
    for row in forecast.forecast(study, cost.Throughput([])).itertuples():
        history = runs / row.path / "history.csv"
        if history.exists():
            assert len(pd.read_csv(history)) == row.epochs
        forecast_mib += row.disk_mib
    kept = sum(f.stat().st_size for f in runs.rglob("*.safetensors")) / 2**20
    assert forecast_mib == pytest.approx(kept, rel=0.15)
    for name, spec in study.config["datasets"].items():
        file = tiny / f"results/tiny/data/{name}.safetensors"
        if file.exists():
            data = load_tensors(file)[0]
            counted = (len(data["train_labels"]), len(data["test_labels"]))
            assert cost.images(spec) == counted


def test_every_table_and_figure_of_the_study_is_there(tiny, study):
    out = tiny / "results/tiny"
    for name in study.config["artefacts"]["tables"]:
        for suffix in (".csv", ".md", ".tex"):
            assert (out / "tables" / f"{name}{suffix}").stat().st_size > 0
    for name in study.config["artefacts"]["figures"]:
        for suffix in (".pdf", ".png"):
            assert (out / "figures" / f"{name}{suffix}").stat().st_size > 1000


def test_the_comparison_says_why_nothing_is_compared(tiny):
    out = tiny / "results/tiny"
    page = (out / "comparison.md").read_text()
    assert "**Nothing is compared: " in page
    assert "- Table 5, ResNet20 ×1 on CIFAR-10: CIFAR-10 is stood in for by digits" in page
    cells = pd.read_csv(out / "comparison.csv")
    assert set(cells.status) == {"not comparable"}
    assert len(cells) == len(pd.read_csv(ROOT / "config/reported.csv"))
    for suffix in (".pdf", ".png"):
        assert (out / f"comparison{suffix}").stat().st_size > 1000


def test_every_run_has_its_record_and_its_rows(tiny, study):
    runs = pd.read_csv(tiny / "results/tiny/runs.csv")
    assert set(runs.status) == {"completed"}
    accuracy = runs[(runs.metric == "accuracy") & (runs.split == "test")]
    trained = study.runs[study.runs.stage.isin(["dense", "imp_round", "imp", "sparse"])]
    assert len(accuracy) == len(trained)
    for path in trained.path:
        record = json.loads((tiny / "results/tiny/runs" / path / "result.json").read_text())
        assert {"commit", "device", "threads", "seconds"} <= record["provenance"].keys()


def test_sparse_solutions_have_the_sparsity_and_the_mask_to_the_bit(tiny, study):
    runs = tiny / "results/tiny/runs"
    sparse = study.runs[study.runs.stage == "sparse"]
    assert set(sparse.method) == {*MASKS, "own", "activity", "permuted_fan"}
    for run in sparse.to_dict("records"):
        imp, _ = load_tensors(runs / run["parents"]["mask"] / "mask.safetensors")
        mask, _ = load_tensors(runs / run["path"] / "mask.safetensors")
        weights, _ = load_tensors(runs / run["path"] / "model.safetensors")
        total = sum(m.numel() for m in mask.values())
        kept = sum(int(m.sum()) for m in mask.values())
        assert kept == round((1 - run["sparsity"]) * total)
        assert mask.keys() == imp.keys()
        for name, layer in mask.items():
            assert int(layer.sum()) == int(imp[name].sum())  # of every layer
            assert not weights[name][~layer].any()
        same = all(torch.equal(mask[name], imp[name]) for name in mask)
        assert same == (run["method"] in ("lth", "naive", "own"))


def test_lengths_and_rates_are_in_paths_and_tables_where_they_are_not_1(tiny, study):
    paths = [p for p in study.paths("sparse") if "/naive/" in p and "init-1_order-0_rewind-0" in p]
    head, *tails = (path.rpartition("_match-none-none") for path in paths)
    assert [head[2], *(tail[2] for tail in tails)] == ["", "_length-2", "_length-2_rate-0.5"]
    runs = pd.read_csv(tiny / "results/tiny/runs.csv")
    runs = runs[(runs.metric == "accuracy") & (runs.split == "test")].set_index("path")
    for path, epochs, rate in zip(paths, (2, 4, 4), (0.05, 0.05, 0.025), strict=True):
        history = pd.read_csv(tiny / "results/tiny/runs" / path / "history.csv")
        assert len(history) == epochs
        first = math.cos(math.pi * 7 / (epochs * 8))  # at the last of an epoch's eight steps
        assert history.lr[0] == pytest.approx(rate * (1 + first) / 2)
        assert (runs.length[path], runs.rate[path]) == (epochs / 2, rate / 0.05)
    assert runs.length[runs.method.isin(["dense", "imp"])].isna().all()


def test_the_diagnosis_compares_the_masks_that_were_trained(tiny, study):
    runs = tiny / "results/tiny/runs"
    (path,) = study.paths("diagnosis")
    metrics = json.loads((runs / path / "result.json").read_text())["metrics"]
    pruned = runs / "paper/digits/resnet20-x1/imp/mask-1/sparsity-0.8"
    own, _ = load_tensors(pruned / "mask.safetensors")
    for method in ("naive", "permuted", "permuted_fan"):
        of = (study.runs.method == method) & (study.runs.rewind_epoch == 0)
        of &= (study.runs.mask_seed == 0) & (study.runs.init_seed == 1)
        mask, _ = load_tensors(runs / study.runs[of].iloc[0].path / "mask.safetensors")
        (found,) = (
            m["value"] for m in metrics if (m["metric"], m.get("method")) == ("overlap", method)
        )
        both = sum(int((mask[k] & kept).sum()) for k, kept in own.items())
        assert found == pytest.approx(both / sum(int(kept.sum()) for kept in own.values()))


def test_early_matching_uses_another_permutation_file(tiny, study):
    matched = study.runs[(study.runs.stage == "match") & (study.runs.model == "resnet20")]
    assert sorted(set(matched.matching_epoch)) == [1, 2]


def test_both_ways_of_matching_give_permutations_and_are_compared(tiny, study):
    runs = tiny / "results/tiny/runs"
    matched = study.runs[(study.runs.stage == "match") & (study.runs.model == "resnet20")]
    last = matched[(matched.matching_epoch == 2) & (matched.init_seed == matched.mask_seed + 1)]
    last = last[last.matching_method != "activity"]
    assert sorted(last.matching_method) == ["activations"] * 2 + ["weights"] * 2
    found, scores = {}, {}
    for run in last.to_dict("records"):
        perms, _ = load_tensors(runs / run["path"] / "permutation.safetensors")
        for perm in perms.values():
            assert perm.sort().values.equal(torch.arange(len(perm)))
        metrics = json.loads((runs / run["path"] / "result.json").read_text())["metrics"]
        own = {m["metric"]: m["value"] for m in metrics if m.get("method") is None}
        key = run["matching_method"], run["mask_seed"]
        found[key], scores[key] = perms, own
        # Each way, started from no permutation, ends above it by its own measure.
        raised = {"activations": "matched_correlation", "weights": "weight_similarity"}[key[0]]
        if key[0] == "weights":
            (before,) = (
                m["value"] for m in metrics if (m["metric"], m.get("method")) == (raised, "naive")
            )
            assert own[raised] > before
            groups = {m.removeprefix("agreement.") for m in own if m.startswith("agreement.")}
            assert groups <= perms.keys()
            assert all(own[f"channels.{g}"] == len(perms[g]) for g in groups)
            assert 0 <= own["agreement"] <= 1
        else:
            assert "agreement" not in own
    for seed in (0, 2):
        activations, weights = found["activations", seed], found["weights", seed]
        assert activations.keys() == weights.keys()
        assert any(not activations[k].equal(weights[k]) for k in activations)
        correlation = "matched_correlation"
        assert scores["activations", seed][correlation] >= scores["weights", seed][correlation]


def test_a_line_between_unpermuted_models_is_in_the_results_once(tiny):
    curves = pd.read_csv(tiny / "results/tiny/connectivity.csv")
    lines = curves[(curves.model == "resnet20") & curves.method.isin(["naive", "permuted"])]
    assert not lines.duplicated([*IDENTITY, "alpha", "correction", "split"]).any()
    assert lines[lines.method == "naive"].matching_method.isna().all()
    permuted = lines[lines.method == "permuted"].groupby("mask_seed").matching_method
    assert all(set(part) == {"activations", "weights"} for _, part in permuted)
    assert set(lines[lines.method == "naive"].mask_seed) == {0, 2}


def test_masks_of_a_chain_are_nested(tiny, study):
    runs, compared = tiny / "results/tiny/runs", 0
    for run in study.runs[study.runs.stage.isin(["imp", "imp_round"])].to_dict("records"):
        before = run["parents"]["before_mask"]
        if before:
            compared += 1
            old, _ = load_tensors(runs / before / "mask.safetensors")
            new, _ = load_tensors(runs / run["path"] / "mask.safetensors")
            assert not any(bool((new[k] & ~old[k]).any()) for k in old)
    assert compared


def test_the_second_start_has_nothing_to_do(tiny):
    done = snakemake(tiny, "--configfile", str(TINY), "--cores", "2", "-n", "all")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_tables_and_figures_survive_without_weights(tiny, tmp_path):
    """Records are enough: nothing is trained to draw a figure again."""
    folder = copy_workflow(tmp_path)
    shutil.copytree(tiny / ".snakemake", folder / ".snakemake", symlinks=True)
    shutil.copytree(tiny / "results", folder / "results", copy_function=shutil.copy2)
    for weights in (folder / "results/tiny/runs").rglob("*.safetensors"):
        weights.unlink()
    figure = folder / "results/tiny/figures/figure_05.pdf"
    figure.unlink()
    arguments = ("--configfile", str(TINY), "--cores", "2", "--quiet", "rules")
    done = snakemake(folder, *arguments, "--", "results/tiny/figures/figure_05.pdf")
    assert done.returncode == 0, done.stderr[-2000:]
    assert figure.stat().st_size > 1000
    assert not list((folder / "results/tiny/runs").rglob("*.safetensors"))


def test_one_run_again_ends_with_the_same_bits(tiny, study):
    path = study.runs[study.runs.method == "permuted"].iloc[0].path
    folder = tiny / "results/tiny/runs" / path
    before, _ = load_tensors(folder / "model.safetensors")
    target = str((folder / "model.safetensors").relative_to(tiny))
    arguments = ("--configfile", str(TINY), "--cores", "1", "--forcerun", target, "--", target)
    assert snakemake(tiny, *arguments).returncode == 0
    after, _ = load_tensors(folder / "model.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_report_is_built(tiny):
    done = snakemake(tiny, "--configfile", str(TINY), "--cores", "1", "--report", "report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tiny / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("-n",),
        ("-n", "all_figures"),
        ("-n", "all_tables"),
        ("-n", "results/demo/figures/figure_05.pdf"),
        ("-n", "-R", "match"),
    ],
)
def test_ordinary_uses_of_snakemake_plan_the_demo(tmp_path, arguments):
    done = snakemake(copy_workflow(tmp_path), "--quiet", "rules", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("pairs=2", "study error: study file: unknown key 'pairs'; allowed are study,"),
        ("protocol=mine", "study error: protocol: 'mine' is not allowed, must be one of paper"),
        ("experiments={cifar10: {pairs: 0}}", "study error: experiments.cifar10.pairs: 0 is not"),
    ],
)
def test_a_bad_study_ends_in_one_line_before_anything_runs(tmp_path, override, line):
    done = snakemake(
        copy_workflow(tmp_path), "--configfile", "config/demo.yaml", "--config", override, "-n"
    )
    assert done.returncode != 0
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_the_study_of_a_second_file_holds_no_job_of_the_demo(tmp_path):
    done = snakemake(copy_workflow(tmp_path), "--configfile", str(TINY), "-n", "all")
    assert done.returncode == 0
    assert "results/demo" not in done.stdout + done.stderr

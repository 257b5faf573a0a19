"""Tables hold what an independent computation gives, and say what they do not hold."""

import re
import statistics
import warnings

import leveled
import pandas as pd
import pytest
import synthetic
from conftest import ROOT
from maskalign import formats, matching_table, settings, tables, verdicts
from maskalign.cells import DIVERSITY
from maskalign.methods import METHODS, trained
from maskalign.study import Study, read
from maskalign.units import Results

DENSE = "paper/mnist/resnet20-x1/dense/init-{}"
SPARSE = (
    "paper/mnist/resnet20-x1/{}/sparsity-0.9/mask-{}_init-{}_order-0_rewind-4_match-activations-{}"
).format


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def cell(table, **where):
    """Return the one cell of a table with these values."""
    cells = table.cells
    for column, value in where.items():
        cells = cells[cells[column] == value]
    assert len(cells) == 1
    return cells.iloc[0]


def written(table, tmp_path):
    """Return the text of a table's three files."""
    writers = {
        "csv": formats.write_csv,
        "md": formats.write_markdown,
        "tex": formats.write_latex,
    }
    for kind, write in writers.items():
        write(table, tmp_path / f"table.{kind}")
    return [(tmp_path / f"table.{kind}").read_text() for kind in writers]


@pytest.mark.parametrize("number", range(1, 20))
def test_every_table_of_the_demo_is_written(demo, number, tmp_path):
    study = Study(demo)
    table = tables.build(study, f"table_{number:02}", synthetic.runs(study))
    csv, markdown, latex = written(table, tmp_path)
    assert csv.startswith("dataset,model,")
    assert markdown.startswith(f"**Table {number}.** ")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{tab:table_"):
        assert part in latex
    assert not re.search(r"(?<!\\)[%_#]", re.sub(r"\\label\{.*?\}", "", latex)), "unescaped"
    assert "nan" not in (markdown + latex).lower()


@pytest.mark.parametrize("name", ["table_05", "table_06", "table_09", "table_11", "table_16"])
def test_means_are_those_of_the_independent_pairs(demo, name):
    """Ensembles add runs with mask seed 0; only independent pairs may enter."""
    pairs = range(3 if name == "table_16" else 2)
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, name, runs)
    found = runs[(runs.metric == "accuracy") & (runs.split == "test") & (runs.order_seed == 0)]
    found = found[(found.length.isna() | (found.length == 1)) & (found.rate.fillna(1) == 1)]
    sparse = table.cells[table.cells.method != "dense"]
    last = 10 if name == "table_09" else 8  # the dense epochs of the demo's recipes
    settings = 2 if name == "table_16" else 4  # of sparsity and rewind epoch
    assert len(sparse) == settings * sparse.method.nunique()
    if name == "table_16":  # the controls add LTH in one cell
        assert sparse[sparse.n == 0].method.tolist() == ["lth"]
        sparse = sparse[sparse.n > 0]
    for row in sparse.itertuples():
        values = [
            float(hit.value)
            for hit in found.itertuples()
            if (hit.dataset, hit.model, hit.width) == (row.dataset, row.model, row.width)
            and (hit.method, hit.sparsity, hit.rewind_epoch)
            == (row.method, row.sparsity, row.rewind_epoch)
            and (hit.mask_seed, hit.init_seed)
            in [(2 * p, 2 * p + (row.method != "lth")) for p in pairs]
            and (
                row.method != "permuted"
                or (hit.matching_epoch, hit.matching_method) == (last, "activations")
            )
        ]
        assert len(values) == row.n == len(pairs)
        assert row.mean == pytest.approx(statistics.mean(values))
        assert row.std == pytest.approx(statistics.stdev(values))


def test_dense_mean_is_over_all_a_and_b(demo):
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, "table_05", runs)
    chosen = runs[(runs.method == "dense") & (runs.metric == "accuracy") & runs.init_seed.notna()]
    chosen = chosen[(chosen.dataset == "mnist") & (chosen.model == "resnet20")]
    chosen = chosen[(chosen.width == 1) & chosen.init_seed.isin([0, 1, 2, 3])]
    dense = cell(table, method="dense")
    assert dense["n"] == 4
    assert dense["mean"] == pytest.approx(chosen.value.mean())
    assert f"Dense models reach {dense['mean']:.2f} ± {dense['std']:.2f} (n = 4)" in table.caption


def test_diverged_runs_enter_no_mean_and_are_named(demo, tmp_path):
    study = Study(demo)
    lost = SPARSE("permuted", 2, 3, 8)
    whole = tables.build(study, "table_05", synthetic.runs(study))
    table = tables.build(study, "table_05", synthetic.runs(study, (lost,)))
    where = {"method": "permuted", "sparsity": 0.9, "rewind_epoch": 4}
    assert "diverged" not in whole.caption
    assert "1 diverged run left out" in table.caption
    assert "n = 1 to 2 pairs" in table.caption
    assert cell(table, **where)["n"] == 1
    assert pd.isna(cell(table, **where)["std"])
    assert cell(table, **where)["mean"] > 50
    both = (lost, SPARSE("permuted", 0, 1, 8))
    table = tables.build(study, "table_05", synthetic.runs(study, both))
    assert "| diverged" in written(table, tmp_path)[1]


def test_best_permuted_value_of_each_row_is_bold(demo, tmp_path):
    study = Study(demo)
    for name in ("table_05", "table_10", "table_15"):
        table = tables.build(study, name, synthetic.runs(study))
        _, markdown, latex = written(table, tmp_path)
        permuted = table.cells[table.cells.method == "permuted"]
        best = permuted.groupby(["metric", "sparsity"])["mean"].max()
        bold = re.findall(r"\*\*(\d+\.\d+)", markdown.split("\n\n")[1])
        assert sorted(bold) == sorted(f"{value:.2f}" for value in best)
        assert 0 < len(bold) == len(best) == latex.count(r"\textbf{")


def test_single_runs_show_no_std(demo, tmp_path):
    study = Study(demo)
    table = tables.build(study, "table_10", synthetic.runs(study))
    grid = written(table, tmp_path)[1].split("\n\n")[1]
    assert "±" not in grid
    assert "no standard deviation" in table.caption
    assert set(table.cells[table.cells.method != "dense"].metric) == {"accuracy", "top5_accuracy"}


def test_early_matching_has_a_column_for_every_epoch_and_the_last(demo):
    study = Study(demo)
    table = tables.build(study, "table_15", synthetic.runs(study))
    assert list(table.layout) == ["LTH", "naive", *(f"permuted, t = {t}" for t in (1, 4, 8))]
    last = tables.build(study, "table_05", synthetic.runs(study))
    where = {"method": "permuted", "sparsity": 0.9, "rewind_epoch": 4, "matching_epoch": 8}
    assert cell(table, **where)["mean"] == cell(last, **where)["mean"]


def test_diversity_averages_the_accuracies_of_its_members(demo):
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, "table_01", runs)
    accuracies = runs[(runs.metric == "accuracy") & (runs.method == "lth") & (runs.mask_seed == 0)]
    members = accuracies[(accuracies.dataset == "mnist") & (accuracies.model == "resnet20")]
    members = members[(members.width == 1) & (members.sparsity == 0.9)]
    members = members[members.rewind_epoch == 4].value
    assert len(members) == 5
    found = cell(table, dataset="mnist", method="lth", metric="accuracy")
    assert found["n"] == 5
    assert found["mean"] == pytest.approx(members.mean())
    assert found["std"] == pytest.approx(members.std(ddof=1))
    assert len(table.cells) == 2 * 5 * len(DIVERSITY)  # ensembles, methods, columns
    joint = runs[(runs.metric == "kl") & (runs.method == "imp") & (runs.dataset == "mnist")].value
    assert cell(table, dataset="mnist", method="imp", metric="kl")["mean"] == joint.item()


def test_ensembles_of_several_masks_are_one_row(demo):
    demo["experiments"]["cifar10"]["diversity"] |= {"masks": 3, "members": 2}
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, "table_01", runs)
    paths = [p for p in study.paths("diversity") if study.run(p)["dataset"] == "mnist"]
    assert len(paths) == 3
    joint = runs[runs.path.isin(paths) & (runs.method == "permuted") & (runs.metric == "js")].value
    found = cell(table, dataset="mnist", method="permuted", metric="js")
    assert (found["n"], found["mean"]) == (3, pytest.approx(joint.mean()))
    assert found["std"] == pytest.approx(joint.std())
    members = [m for path in paths for m in study.run(path)["parents"]["permuted"]]
    single = runs[runs.path.isin(members) & (runs.metric == "accuracy")].value
    found = cell(table, dataset="mnist", method="permuted", metric="accuracy")
    assert (found["n"], found["mean"]) == (6, pytest.approx(single.mean()))
    assert "over n = 5 to 6 members" in table.caption
    assert "over n = 1 to 3 masks" in table.caption


def test_ensembles_at_two_places_are_two_rows(demo, tmp_path):
    own = demo["experiments"]["cifar10"]
    other = {k: own[k] for k in ("dataset", "model", "training", "pairs", "sparsities")}
    other |= {"widths": [1], "rewind_epochs": [0]}
    demo["experiments"]["other"] = other | {
        "diversity": {"widths": [1], "sparsity": 0.95, "rewind_epoch": 0}
    }
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, "table_01", runs)
    _, markdown, _ = written(table, tmp_path)
    for place, sparsity, epoch in (("S = 90 %, k = 4", 0.9, 4), ("S = 95 %, k = 0", 0.95, 0)):
        (line,) = [s for s in markdown.splitlines() if place in s and "LTH" in s and "12x12" in s]
        where = {"dataset": "mnist", "method": "lth", "metric": "kl", "rewind_epoch": epoch}
        found = cell(table, **where)
        assert (found["n"], found["sparsity"]) == (1, sparsity)
        assert f"| {found['mean']:.3f} " in line


@pytest.mark.parametrize("name", ["table_07", "table_14"])
def test_a_width_that_was_not_run_is_one_row_that_says_so(demo, name, tmp_path):
    study = Study(demo)
    table = tables.build(study, name, synthetic.runs(study))
    csv, markdown, _ = written(table, tmp_path)
    assert len(csv.splitlines()) == 1
    assert markdown.count("not run at this scale |") == 1
    assert "of the paper shows ResNet20" in table.caption


def test_named_values_that_were_not_run_are_dashes(demo, tmp_path):
    demo["artefacts"]["tables"]["table_05"]["shows"][0] |= {
        "sparsities": [0.9, 0.97],
        "rewind_epochs": [4, 100],
    }
    study = Study(demo)
    table = tables.build(study, "table_05", synthetic.runs(study))
    grid = written(table, tmp_path)[1]
    assert grid.count(formats.ABSENT) == 3 * 3 + 1  # three cells a method, and the caption
    assert "Not run at this scale: S = 97 %; k = 100" in table.caption
    assert list(table.layout) == ["k = 4", "k = 100"]


def test_hyperparameters_are_those_of_the_runs(demo):
    study = Study(demo)
    values = study.run(DENSE.format(0))["values"]
    table = tables.build(study, "table_02")
    cells = table.cells[(table.cells.dataset == "mnist") & (table.cells.model == "resnet20")]
    found = dict(zip(cells.name, cells["value"], strict=True))
    assert float(found["dense_lr"]) == values["training"]["lr"]
    assert int(found["epochs"]) == values["training"]["epochs"]
    assert float(found["weight_decay"]) == values["weight_decay"]
    table = tables.build(study, "table_04")
    assert set(table.cells.name) >= {"train_epochs_per_prune", "pruning_lr", "fraction"}


def test_what_is_matched_the_other_way_enters_no_other_table_and_no_claim(demo):
    study = Study(demo)
    runs = synthetic.runs(study)
    other = runs.copy()
    other.loc[other.matching_method == "weights", "value"] += 1000
    for name in demo["artefacts"]["tables"]:
        cells = [tables.build(study, name, rows).cells for rows in (runs, other)]
        assert cells[0].equals(cells[1]) == (name != "table_17"), name
    curves = synthetic.curves(study)
    same, changed = (verdicts.judge(study, Results(study, rows, curves)) for rows in (runs, other))
    assert same.equals(changed)


def test_a_recipe_that_matches_weights_is_shown_by_its_own_runs(demo):
    """Then activations are the other way, and what they give enters no table but the extra."""
    demo["training"]["vgg11"]["matching"] = {"method": "weights"}
    study = Study(demo)
    runs = synthetic.runs(study)
    cells = tables.build(study, "table_09", runs).cells
    mean = cells[(cells.method == "permuted") & (cells.rewind_epoch == 5)].set_index("sparsity")
    chosen = runs[(runs.metric == "accuracy") & (runs.matching_method == "weights")]
    chosen = chosen[(chosen.model == "vgg11") & (chosen.rewind_epoch == 5)]
    assert mean["mean"].to_dict() == pytest.approx(
        chosen.groupby("sparsity").value.mean().to_dict()
    )
    both = tables.build(study, "table_17", runs).cells
    assert set(both[both.model == "vgg11"].matching) == {"naive", "activations", "weights", "lth"}


def test_both_ways_of_matching_are_beside_each_other(demo, tmp_path):
    study = Study(demo)
    runs = synthetic.runs(study)
    table = tables.build(study, "table_17", runs)
    pairs = runs[runs.mask_seed.isin([0, 2]) & (runs.dataset == "mnist") & (runs.width == 1)]
    for model, metric, corrected in (
        ("vgg11", "error_barrier_repair", "corrected_barrier"),
        ("resnet20", "error_barrier_none", "barrier"),
    ):
        lines = pairs[(pairs.model == model) & (pairs.metric == metric) & (pairs.split == "test")]
        for how in ("activations", "weights"):
            values = lines[lines.matching_method == how].value
            found = cell(table, model=model, metric=corrected, matching=how)
            assert len(values) == found["n"] == 2
            assert found["mean"] == pytest.approx(values.mean())
        naive = lines[lines.method == "naive"].value
        assert len(naive) == 2
        found = cell(table, model=model, metric=corrected, matching="naive")
        assert found["mean"] == pytest.approx(naive.mean())
    where = {"model": "vgg11", "metric": "accuracy", "sparsity": 0.9}
    for how, method in (("activations", "permuted"), ("weights", "permuted"), ("lth", "lth")):
        sparse = pairs[(pairs.model == "vgg11") & (pairs.metric == "accuracy")]
        sparse = sparse[(sparse.method == method) & (sparse.sparsity == 0.9)]
        sparse = sparse[(sparse.rewind_epoch == 5) & (sparse.order_seed == 0)]
        if method == "permuted":
            sparse = sparse[sparse.matching_method == how]
        found = cell(table, matching=how, **where)
        assert found["n"] == len(sparse) == 2
        assert found["mean"] == pytest.approx(sparse.value.mean())
    ways = ["none (naive)", "activations", "weights", "none (LTH)"]
    models = [f"{model} ×1 / MNIST 12x12" for model in ("ResNet8", "VGG5")]
    assert list(table.layout.index) == [(model, way) for model in models for way in ways]
    agreed = table.cells[table.cells.metric == "agreement"]
    assert agreed.matching.tolist() == ["weights", "weights"]
    markdown = written(table, tmp_path)[1]
    assert "An extra: the paper has nothing of the kind." in markdown
    assert "of the paper shows" not in markdown


def test_diverged_models_and_runs_enter_no_comparison(demo):
    study = Study(demo)
    lost = ("paper/mnist/vgg11-x1/dense/init-3",)
    cells = tables.build(study, "table_17", synthetic.runs(study, lost)).cells
    cells = cells[cells.model == "vgg11"]
    of_ends = cells[cells.metric != "accuracy"]
    assert set(of_ends.n) == set(of_ends.diverged) == {1}
    assert set(cells[cells.metric == "accuracy"].n) == {2}
    path = "permuted/sparsity-0.9/mask-0_init-1_order-0_rewind-5_match-weights-10"
    table = tables.build(
        study, "table_17", synthetic.runs(study, (f"paper/mnist/vgg11-x1/{path}",))
    )
    found = cell(table, model="vgg11", metric="accuracy", matching="weights", sparsity=0.9)
    assert (found["n"], found["diverged"]) == (1, 1)
    assert "1 diverged run left out" in table.caption


def test_every_part_of_a_recipe_is_printed_with_its_own_values(demo):
    recipe = demo["training"]["resnet20"]
    recipe["dense"] |= {"schedule": "steps", "milestones": [3], "warmup_epochs": 1}
    recipe["imp"] |= {"momentum": 0.5, "weight_decay": 0.25}
    recipe["sparse"] |= {"schedule": "steps", "milestones": [2], "warmup_epochs": 0.5}
    (run,) = Study(demo).recipes("digits", "resnet20")
    printed = {kind: {} for kind in ("training", "pruning")}
    for kind, _, title, value in settings.printed(run):
        printed[kind][title] = value
    assert printed["training"] == {
        "Optimizer": "SGD",
        "Momentum": "0.9",
        "Dense learning rate": "0.08",
        "Sparse learning rate": "0.04",
        "Weight decay": "0.0005",
        "Batch size": "64",
        "Epochs T": "8",
        "Dense schedule": "divided by 10 at 3",
        "Sparse schedule": "divided by 10 at 2",
        "Dense warm-up (epochs)": "1",
        "Sparse warm-up (epochs)": "0.5",
    }
    assert printed["pruning"] == {
        "Epochs per round": "2",
        "Learning rate": "0.01",
        "Pruned per round (share of what remains)": "0.5",
        "Schedule within a round": "cosine to 0",
        "Momentum": "0.5",
        "Weight decay": "0.25",
    }


def test_a_comparison_that_was_not_run_is_said_to_be_missing(demo):
    for experiment in demo["experiments"].values():
        experiment.pop("matching_comparison", None)
    study = Study(demo)
    table = tables.build(study, "table_17", synthetic.runs(study))
    assert table.cells.empty
    assert "was run at this scale" in table.caption


def test_barriers_of_the_matchings_are_those_of_test_images(demo):
    study = Study(demo)
    runs = synthetic.runs(study)
    shows = {"dataset": "mnist", "model": "vgg11"}
    found = matching_table.numbers(study, shows, runs).rows
    splits = found[found.metric.str.contains("barrier")].groupby("metric").split.unique()
    assert splits.map(list).to_dict() == {"barrier": ["test"], "corrected_barrier": ["test"]}
    before = tables.build(study, "table_17", runs).cells
    runs.loc[runs.metric.str.startswith("error_barrier") & (runs.split == "train"), "value"] += 7
    assert before.equals(tables.build(study, "table_17", runs).cells)


def test_pairs_begin_at_the_first_pair(demo):
    demo["experiments"]["svhn"] |= {"first_pair": 3, "pairs": 2}
    for beyond in ("controls", "lengths", "rates"):
        demo["experiments"].pop(beyond)
    study = Study(demo)
    table = tables.build(study, "table_16", synthetic.runs(study))
    assert set(table.cells[table.cells.method != "dense"].n) == {2}
    assert cell(table, method="dense")["n"] == 4


def test_widths_with_other_sparsities_have_rows_of_their_own_alone():
    """A grid at one width alone: the other widths lack nothing by it."""
    study = read([ROOT / "tests/unit/grids.yaml"])
    table = tables.build(study, "table_09", synthetic.runs(study))
    run = {(r["width"], r["sparsity"]) for r in map(study.run, study.paths("sparse"))}
    shown = table.cells.dropna(subset=["sparsity"])[["width", "sparsity"]].drop_duplicates()
    assert len(shown) == 2 + 4 + 2
    assert {*shown.itertuples(index=False, name=None)} <= run
    assert " at ×0.5 (n = 20), " in table.caption


def test_a_caption_names_the_only_width():
    study = read([ROOT / "tests/unit/grids.yaml"])
    table = tables.build(study, "table_05", synthetic.runs(study))
    assert "of ResNet8 ×2 on Fashion-MNIST 14x14" in table.caption


def test_both_accuracies_are_printed_under_their_names(demo):
    study = Study(demo)
    table = tables.build(study, "table_10", synthetic.runs(study))
    names = {"top-1": "accuracy", "top-5": "top5_accuracy"}
    rows = table.layout.index.to_frame(index=False)
    assert set(rows["Accuracy"]) == set(names)
    for (accuracy, s, method), line in table.layout.iterrows():
        for column, printed in line.items():
            where = {"metric": names[accuracy], "sparsity": float(s) / 100}
            where |= {"method": {"LTH": "lth"}.get(method, method)}
            where |= {"rewind_epoch": float(column.removeprefix("k = "))}
            assert printed.mean == cell(table, **where)["mean"]


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_what_is_printed_is_mean_and_standard_deviation(tmp_path, kind):
    made = formats.Cell(91.234, 0.4, n=4)
    layout = pd.DataFrame({"k = 0": [made]}, index=pd.Index(["LTH"], name="Method"))
    table = formats.Table("table_05", "Text.", pd.DataFrame(), layout)
    getattr(formats, f"write_{kind}")(table, tmp_path / "table")
    text = (tmp_path / "table").read_text()
    assert ("91.23 ± 0.40" if kind == "markdown" else r"91.23 $\pm$ 0.40") in text


def test_a_csv_keeps_the_digits_of_its_numbers():
    text = formats.csv_text(pd.DataFrame({"mean": [91.234567, 0.00123456]}))
    assert text.split() == ["mean", "91.234567", "0.00123456"]


# -- every method (Table 18) -----------------------------------------------------------------------

MINE = {"mine": {"function": "maskalign.controls:shuffled", "title": "My mask"}}
EVERY = [{"dataset": "digits", "model": "resnet20"}]


def of_methods(*experiments, shows=EVERY):
    """Return Table 18 of experiments; accuracies are 100 times the method's place, and more."""
    artefacts = {"tables": {"table_18": {"kind": "methods", "shows": shows}}, "figures": {}}
    study = leveled.study(*experiments, artefacts=artefacts, methods=MINE)
    places = {name: 100 * i for i, name in enumerate(trained(study.methods))}

    def accuracy(r):
        off = 1000 * (r["length"] != 1) + 2000 * (r["rate"] != 1)
        return places[r["method"]] + 10 * r["sparsity"] + r["rewind_epoch"] + r["pair"] + off

    return study, tables.build(study, "table_18", leveled.runs(study, accuracy))


def test_every_method_has_a_row_in_the_order_of_the_registry(tmp_path):
    names = ["mine", *reversed(trained(METHODS))]
    cells = {"sparsities": [0.8, 0.9], "rewind_epochs": [0, 1], "lengths": [1, 2], "rates": [1, 2]}
    study, table = of_methods({"methods": names} | cells)
    assert table.layout.index.name == "Method"
    listed = [name for name in dict.fromkeys(table.cells.method) if name != "dense"]
    assert listed == [*trained(METHODS), "mine"]
    titles = [METHODS[name].title for name in trained(METHODS)] + ["My mask"]
    assert table.layout.index.tolist() == titles
    places = [(s, k) for s in (80, 90) for k in (0, 1)]
    assert [*table.layout] == [f"S = {s} %, k = {k}" for s, k in places]
    for i, title in enumerate(titles):
        for s, k in places:
            printed = table.layout.loc[title, f"S = {s} %, k = {k}"]
            assert printed.mean == pytest.approx(100 * i + s / 10 + k + 1)  # length 1 and rate 1
            assert (printed.std, printed.n) == (pytest.approx(1.0), 3)
    about = "; ".join(f"{m.title}: {m.about}" for m in study.methods.values() if m.start)
    starts = "LTH starts from A's weights of epoch k, the others from B's."
    assert f"Masks: {about}. {starts} All masks of a column keep as many" in table.caption
    assert about.endswith("; My mask: made by maskalign.controls:shuffled")
    assert "An extra: the paper has nothing of the kind." in table.caption
    csv, markdown, _ = written(table, tmp_path)
    assert len(csv.splitlines()) == 1 + 4 * len(names) + 1  # and the dense models
    assert "**" not in markdown.split("\n\n")[1]


def test_rows_of_methods_are_together_by_model(tmp_path):
    """The second data set is run at fewer sparsities, and some methods at one width alone."""
    cell = {"methods": ["naive", "fan", "own"], "widths": [4, 1]}
    other = {"dataset": "mnist", "methods": ["lth", "erk"]}
    shows = [{"dataset": "mnist", "model": "resnet20"}, *EVERY]
    _, table = of_methods(cell | {"sparsities": [0.8, 0.9]}, other, shows=shows)
    names = {1: "ResNet8 ×1", 4: "ResNet8 ×4"}
    assert table.layout.index.tolist() == [
        *((f"{names[1]} / MNIST 12x12", m) for m in ("LTH", "ERK")),
        *((f"{names[w]} / digits 8x8", m) for w in (1, 4) for m in ("naive", "own", "fan")),
    ]
    absent = table.layout.map(lambda printed: printed == formats.ABSENT)
    assert absent["S = 80 %, k = 1"].tolist() == 2 * [True] + 6 * [False]
    assert not absent["S = 90 %, k = 1"].any()
    for title in ("permuted:", "My mask", "uniform"):
        assert title not in table.caption


def test_no_method_is_a_table_that_says_so():
    _, table = of_methods({}, shows=[EVERY[0] | {"widths": [16]}])
    assert table.cells.empty
    assert "was run at this scale" in table.caption
    assert table.layout.to_numpy().tolist() == [["not run at this scale"]]

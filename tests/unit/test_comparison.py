"""Every reported number finds its counterpart, and nothing that is not the paper's is compared."""

import copy

import numpy as np
import pandas as pd
import pytest
import synthetic
import yaml
from conftest import ROOT
from maskalign import comparison, comparison_page, gap, reported
from maskalign.comparison import COMPARED, NOT_COMPARABLE, NOT_RUN, WHOLE
from maskalign.figures import comparison as figure
from maskalign.figures import style
from maskalign.methods import METHODS
from maskalign.study import Study
from matplotlib.text import Text
from scipy import stats

CSV = ROOT / "config/reported.csv"
FILES = (CSV, ROOT / "config/reported_hyperparameters.csv", ROOT / "config/reported.yaml")
SPARSITIES = [0.8, 0.9, 0.95, 0.97]
FEW = [0, 10, 25, 50, 100]
MANY = [0, 5, 10, 15, 20, 25, 50, 75, 100]
NAMES = {"cifar10": "c10", "cifar100": "c100", "svhn": "house", "imagenet": "web"}
NO_SHARES = pd.DataFrame(columns=gap.COLUMNS)
ENSEMBLE_EPOCH = 30  # of no other table, so that Table 1 has runs of its own


def the_paper():
    """Return the paper's experiments as a study under other names."""
    data = {"image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {
        "study": "paper",
        "datasets": {name: data | {"source": source} for source, name in NAMES.items()},
        "models": {name: {"architecture": name} for name in ("resnet20", "vgg11", "resnet50")},
        "training": {
            "long": {
                "keep_epochs": [*MANY, ENSEMBLE_EPOCH],
                "dense": {"epochs": 200, "lr": 0.08},
                "imp": {"epochs": 50, "lr": 0.01},
                "sparse": {"lr": 0.02},
            },
            "web": {
                "batch_size": 1024,
                "weight_decay": 1e-4,
                "keep_epochs": FEW[:-1],
                "dense": {"epochs": 80, "lr": 0.4},
                "imp": {"epochs": 20, "lr": 0.04},
                "sparse": {"lr": 0.4},
            },
        },
        "artefacts": {"tables": {}, "figures": {}},
    }
    config["datasets"]["web"] |= {"image_size": 224, "path": "/data/imagenet"}

    def experiment(dataset, model, widths, sparsities, epochs, **more):
        return {
            "dataset": dataset,
            "model": model,
            "training": "web" if model == "resnet50" else "long",
            "pairs": 3,
            "widths": widths,
            "sparsities": sparsities,
            "rewind_epochs": epochs,
            **more,
        }

    early = {"widths": [1], "rewind_epoch": 20, "matching_epochs": [5, 20, 50, 100]}
    ensembles = {"sparsity": 0.9, "rewind_epoch": ENSEMBLE_EPOCH}
    config["experiments"] = {
        "narrow": experiment(
            *("c10", "resnet20", [1, 4], SPARSITIES, MANY),
            early_matching=early,
            diversity=ensembles | {"widths": [1]},
        ),
        "wide": experiment("c10", "resnet20", [8, 16], SPARSITIES, FEW),
        "hundred": experiment(
            *("c100", "resnet20", [1, 4, 8, 16], SPARSITIES, FEW),
            diversity=ensembles | {"widths": [4]},
        ),
        "plain": experiment("c10", "vgg11", [1], [0.8, 0.9], [0, 5, 10, 15, 20, 25, 50]),
        "large": experiment("web", "resnet50", [1], SPARSITIES[:3], [10, 25, 50]),
        "house": experiment(
            *("house", "resnet20", [1], SPARSITIES, [10, 20]), methods=["naive", "permuted"]
        ),
    }
    return Study(config)


def planted(study, offset=0.0):
    """Return runs.csv of a study, with the reported means and stds in the place of its numbers."""
    runs = synthetic.runs(study)
    members = {  # of Table 1's ensembles, by data set: seeds of their members by method
        study.run(p)["dataset"]: {
            method: [study.run(m) for m in found]
            for method, found in study.run(p)["parents"].items()
        }
        for p in study.paths("diversity")
    }
    columns = ["dataset", "width", "model", "method", "metric", "split"]
    index = dict(iter(runs.groupby(columns)))
    for row in pd.read_csv(CSV).to_dict("records"):
        metric = {"test_accuracy": "accuracy", "top1": "accuracy", "top5": "top5_accuracy"}.get(
            row["metric"], row["metric"]
        )
        dataset = NAMES[row["dataset"]]
        part = index[dataset, row["width"], row["model"], row["method"], metric, "test"]
        if row["table"] == 1 and metric == "accuracy":
            keys = ["mask_seed", "init_seed", "order_seed", "sparsity", "rewind_epoch"]
            wanted = [
                tuple(-1 if pd.isna(m[k]) else m[k] for k in keys)
                for m in members[dataset][row["method"]]
            ]
            found = [tuple(values) in wanted for values in part[keys].fillna(-1).to_numpy()]
            part = part[found]
            assert len(part) == 5
            pattern = np.array([-1, -1, 0, 1, 1]) * 1.0
        else:
            part = part[part["sparsity"] == row["sparsity"]]
            if row["table"] == 1:
                assert len(part) == 1
                pattern = np.zeros(1)
            else:
                part = part[part["rewind_epoch"] == row["rewind_epoch"]]
                if row["method"] == "permuted":
                    last = 80 if row["model"] == "resnet50" else 200
                    t = last if pd.isna(row["matching_epoch"]) else row["matching_epoch"]
                    part = part[part["matching_epoch"] == t]
                assert len(part) == 3
                pattern = np.array([-1.0, 0.0, 1.0])
        spread = 0.0 if pd.isna(row["std"]) else row["std"]
        runs.loc[part.index, "value"] = row["mean"] + offset + spread * pattern
    return runs


@pytest.fixture(scope="module")
def paper():
    return reported.read(*FILES)


@pytest.fixture(scope="module")
def whole():
    """Return the paper as a study, and runs that hold the reported numbers."""
    study = the_paper()
    return study, planted(study)


@pytest.fixture(scope="module")
def table(whole, paper):
    return comparison.compare(*whole, paper)


def test_every_reported_cell_joins_and_differs_by_nothing(table):
    cells = pd.read_csv(CSV)
    assert table.table.value_counts().to_dict() == cells.table.value_counts().to_dict()
    assert set(table.status) == {COMPARED}
    assert table.difference.abs().max() < 1e-9
    keys = ["table", "model", "width", "dataset", "sparsity", "method"]
    for column in (*keys, "mean"):
        ours = table.sort_values([*keys, "reported_mean"])
        theirs = cells.sort_values([*keys, "mean"])
        column, other = (column, column) if column != "mean" else ("reported_mean", "mean")
        assert ours[column].tolist() == theirs[other].tolist()


def test_the_paper_study_is_the_papers_in_all_that_is_printed(paper):
    config = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    config["datasets"]["imagenet"]["path"] = "/data/imagenet"
    study = Study(config)
    for setting, cells in paper.settings():
        (shown,) = paper.comparable(study, setting)
        assert paper.differences(study, setting, shown) == []
        runs = study.runs[
            (study.runs.dataset == shown["dataset"])
            & (study.runs.model == shown["model"])
            & (study.runs.width == setting.width)
            & (study.runs.stage == "sparse")
        ]
        trained = cells[cells.method.isin(["lth", "naive", "permuted"])]
        for column in ("sparsity", "rewind_epoch", "matching_epoch", "method"):
            assert set(trained[column].dropna()) <= set(runs[column]), (setting, column)


def test_standard_deviations_and_runs_are_those_that_were_planted(table):
    spread = table[table.reported_std.notna()]
    accuracies = spread[spread.table > 1]
    assert np.allclose(accuracies["std"], accuracies.reported_std)
    assert set(accuracies.n) == set(accuracies.reported_n) == {3}
    members = spread[spread.table == 1]
    assert set(members.n) == set(members.reported_n) == {5}


def test_equal_means_are_inside_and_cells_without_std_are_not_judged(table):
    judged = table.reported_std.notna()
    assert table.inside[judged].eq(True).all()
    assert table.loc[~judged, ["inside", "low", "high"]].isna().all().all()
    assert set(table[~judged].table) == {1, 10}
    counts = comparison.summary(table).set_index("table")
    assert counts.loc[10, ["cells", COMPARED, "judged", "inside"]].tolist() == [54, 54, 0, 0]
    assert counts.loc[5, ["cells", COMPARED, "judged", "inside"]].tolist() == [108] * 4
    assert abs(counts.mean_difference).max() < 1e-9


def test_what_a_note_says_is_not_judged_is_shown_without_an_interval(whole, paper):
    printed = copy.deepcopy(paper)
    printed.cells.loc[printed.cells.table == 9, "judged"] = False
    table = comparison.compare(*whole, printed)
    rows = table[table.table == 9]
    assert rows[["inside", "low", "high"]].isna().all().all()
    assert rows.difference.notna().all()
    assert table[table.table == 5].inside.notna().all()


@pytest.mark.parametrize("offset", [7.0, -7.0])
def test_far_means_are_outside_and_counted_so(whole, paper, offset):
    study, _ = whole
    runs = planted(study, offset=offset)
    far = comparison.compare(study, runs, paper)
    counts = comparison.summary(far).set_index("table")
    assert counts.loc[12, ["judged", "inside"]].tolist() == [60, 0]
    assert counts.loc[12, "mean_difference"] == pytest.approx(offset)
    page = comparison_page.markdown(study, far, NO_SHARES, paper, runs)
    assert f"| 12 | 60 | 60 | 0 | 0 | 60 | 0 | {offset:+.2f} |" in page
    line = next(line for line in page.splitlines() if "| 90.41 ± 0.14 (n = 3) |" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert f"{offset:+.2f}" in cells
    assert "no" in cells
    assert "yes" not in cells


def test_a_summarys_mean_is_over_accuracies_alone(table):
    drawn = table.assign(difference=np.random.default_rng(0).normal(0, 3, len(table)))
    found = comparison.summary(drawn).set_index("table").mean_difference
    points = drawn[drawn.metric.str.endswith("accuracy")]  # not disagreement, KL and JS
    expected = {n: rows.difference.sum() / len(rows) for n, rows in points.groupby("table")}
    assert found.to_dict() == pytest.approx(expected)
    assert found[1] != pytest.approx(drawn[drawn.table == 1].difference.mean())


def test_the_interval_is_welchs():
    """By hand: se² = .09/3 + .25/5 = .08, df = .0064 / (.0009/2 + .0025/4) = 5.9535."""
    values = (np.array([v]) for v in (92.0, 0.3, 3.0, 91.0, 0.5, 5.0))
    low, high = (bound.item() for bound in comparison.welch(*values))
    half = stats.t.ppf(0.975, 0.0064 / (0.0009 / 2 + 0.0025 / 4)) * 0.08**0.5
    assert (low, high) == pytest.approx((1 - half, 1 + half))
    assert half == pytest.approx(0.6933, abs=5e-4)
    ours = np.random.default_rng(0).normal(91.6, 0.4, 4)
    theirs = np.random.default_rng(1).normal(91.0, 0.1, 3)
    test = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    summary = [np.array([v]) for x in (ours, theirs) for v in (x.mean(), x.std(ddof=1), len(x))]
    assert [b.item() for b in comparison.welch(*summary)] == pytest.approx([test.low, test.high])


@pytest.mark.parametrize(
    "values",
    [
        (92.0, np.nan, 1.0, 91.0, 0.5, 3.0),
        (92.0, 0.3, 3.0, 91.0, np.nan, 3.0),
        (92.0, 0.3, 3.0, 91.0, 0.5, np.nan),
        (92.0, 0.0, 3.0, 91.0, 0.0, 3.0),
        (np.nan, np.nan, 0.0, 91.0, 0.5, 3.0),
    ],
)
def test_there_is_no_interval_without_two_runs_and_a_spread(values):
    assert np.isnan(comparison.welch(*(np.array([v]) for v in values))).all()


def test_diverged_runs_are_left_out_and_a_lost_cell_is_not_run(whole, paper):
    study, runs = whole
    runs = runs.copy()
    cell = (runs.dataset == "c10") & (runs.model == "vgg11") & (runs.method == "naive")
    cell &= (runs.sparsity == 0.8) & (runs.split == "test") & (runs.metric == "accuracy")
    lost = cell & ((runs.rewind_epoch == 5) | ((runs.rewind_epoch == 0) & (runs.mask_seed == 2)))
    runs.loc[lost, ["status", "value"]] = ["diverged", 1.0]
    gone = (runs.model == "vgg11") & (runs.rewind_epoch == 10) & (runs.method == "lth")
    table = comparison.compare(study, runs[~gone], paper)
    rows = table[(table.table == 9) & (table.sparsity == 0.8) & (table.method == "naive")]
    rows = rows.set_index("rewind_epoch")
    assert rows.loc[0, ["n", "diverged", "status"]].tolist() == [2, 1, COMPARED]
    assert abs(rows.loc[0, "difference"]) < 1  # the value of the diverged run is 90 points off
    assert rows.loc[5, ["status", "why"]].tolist() == [NOT_RUN, "diverged"]
    assert np.isnan(rows.loc[5, "difference"])
    assert comparison.summary(table).set_index("table").loc[9, NOT_RUN] == 3
    page = comparison_page.markdown(study, table, NO_SHARES, paper, runs)
    assert "3 of 42 cells not run, 1 of them because every run diverged" in page
    assert "1 diverged run left out" in page


def test_a_diverged_member_takes_what_its_ensemble_gives(whole, paper):
    study, runs = whole
    runs = runs.copy()
    member = (runs.dataset == "c10") & (runs.method == "naive") & (runs.width == 1)
    member &= (runs.rewind_epoch == ENSEMBLE_EPOCH) & (runs.init_seed == 2)
    whole = (runs.dataset == "c10") & (runs.method == "naive") & runs.metric.isin(WHOLE)
    runs.loc[member | whole, "status"] = "diverged"
    table = comparison.compare(study, runs, paper)
    rows = table[(table.table == 1) & (table.dataset == "cifar10") & (table.method == "naive")]
    rows = rows.set_index("metric")
    assert rows.loc["accuracy", ["n", "status"]].tolist() == [4, COMPARED]
    assert set(rows.drop("accuracy").status) == {NOT_RUN}
    others = table[(table.table == 1) & (table.method != "naive")]
    assert set(others.status) == {COMPARED}


def test_table_1_is_compared_with_the_first_mask_alone(whole, paper):
    study, _ = whole
    config = copy.deepcopy(study.config)
    for name in ("narrow", "hundred"):
        config["experiments"][name]["diversity"]["masks"] = 3
    many = Study(config)
    found = synthetic.runs(many)
    first = {p for p in many.paths("diversity") if many.run(p)["mask_seed"] == 0}
    assert len(many.paths("diversity")) == 3 * len(first)
    others = found.path.isin({*many.paths("diversity")} - first)
    one = comparison.compare(many, found[~others], paper)
    all_of_them = comparison.compare(many, found, paper)
    table_1 = one.table == 1
    assert one[table_1].equals(all_of_them[table_1])
    assert set(one[table_1 & (one.metric == "accuracy")].n) == {5}


def test_ensembles_of_another_size_are_not_compared_but_their_members_are(whole, paper):
    study, runs = whole
    smaller = copy.copy(paper)
    object.__setattr__(smaller, "cells", paper.cells.assign(runs=4.0))
    table = comparison.compare(study, runs, smaller)
    ensembles = table[(table.table == 1) & (table.metric != "accuracy")]
    assert set(ensembles.status) == {NOT_COMPARABLE}
    assert ensembles["mean"].isna().all()
    assert set(table[(table.table == 1) & (table.metric == "accuracy")].status) == {COMPARED}


OTHER = [
    ("datasets", "c10", {"source": "digits", "stands_for": "CIFAR-10"}, "is stood in for by c10"),
    ("datasets", "c10", {"image_size": 16}, "images of 16 pixels, the paper's 32"),
    ("datasets", "c10", {"train_images": 49999}, "only 49999 train images"),
    ("datasets", "c10", {"test_images": 9999}, "only 9999 test images"),
    ("datasets", "c10", {"compose": 2}, "2 images in one sample"),
    ("models", "resnet20", {"options": {"channels": 16}}, "resnet20 has its own channels"),
    ("models", "resnet20", {"architecture": "my.nets:resnet20"}, "trains no ResNet20 on CIFAR-10"),
    ("datasets", "c10", {"source": "digits"}, "neither CIFAR-10 nor a data set that stands in"),
]


@pytest.mark.parametrize(("part", "name", "change", "why"), OTHER, ids=[o[3] for o in OTHER])
def test_what_is_not_the_papers_is_never_compared(whole, paper, part, name, change, why):
    study, runs = copy.copy(whole[0]), whole[1]
    study.config = copy.deepcopy(study.config)
    study.config[part][name] |= change
    table = comparison.compare(study, runs, paper)
    rows = table[(table.dataset == "cifar10") & (table.model == "resnet20")]
    assert set(rows.status) == {NOT_COMPARABLE}
    assert rows[["mean", "difference", "inside", "study_dataset"]].isna().all().all()
    assert all(why in text for text in rows.why)
    assert set(table[table.dataset == "imagenet"].status) == {COMPARED}


def test_another_length_of_training_is_never_compared(whole, paper):
    study, runs = copy.copy(whole[0]), whole[1]
    study.config = copy.deepcopy(study.config)
    study.config["training"]["web"]["dense"]["epochs"] = 90
    table = comparison.compare(study, runs, paper)
    assert set(table[table.table == 10].why) == {"T = 90 epochs, the paper's 80"}
    assert set(table[table.table != 10].status) == {COMPARED}


def test_other_hyperparameters_are_named_and_compared(whole, paper):
    study, runs = copy.copy(whole[0]), whole[1]
    study.config = copy.deepcopy(study.config)
    study.config["training"]["long"]["sparse"]["lr"] = 0.021
    study.config["training"]["long"]["imp"]["fraction"] = 0.5
    table = comparison.compare(study, runs, paper)
    assert set(table.status) == {COMPARED}
    lines = comparison_page.markdown(study, table, NO_SHARES, paper, runs).splitlines()
    (line,) = (line for line in lines if line.startswith("- vgg11 on c10: "))
    assert (
        "recipe differs from the paper's in: sparse learning rate 0.021 (the paper's 0.02)" in line
    )
    assert "IMP pruned per round (share of what remains) 0.5 (the paper's 0.2)" in line
    assert "crop_padding 0 (the paper's 4)" in line
    (line,) = (line for line in lines if line.startswith("- resnet50 on web: "))
    assert line.endswith("in: flip False (the paper's True)")


def test_two_models_that_are_the_papers_are_both_compared(whole, paper):
    study, runs = copy.copy(whole[0]), whole[1]
    study.config = copy.deepcopy(study.config)
    study.config["models"]["again"] = study.config["models"]["vgg11"]
    study.config["experiments"]["again"] = study.config["experiments"]["plain"] | {"model": "again"}
    rows = comparison.compare(study, runs, paper)
    rows = rows[rows.table == 9]
    assert rows.groupby("study_model").status.unique().map(list).to_dict() == {
        "vgg11": [COMPARED],
        "again": [NOT_RUN],
    }


def test_the_demo_says_for_every_table_why_nothing_is_compared(demo, paper):
    study = Study(demo)
    runs = synthetic.runs(study)
    table = comparison.compare(study, runs, paper)
    assert set(table.status) == {NOT_COMPARABLE}
    assert table[["mean", "difference"]].isna().all().all()
    page = comparison_page.markdown(study, table, NO_SHARES, paper, runs)
    assert "**Nothing is compared: " in page
    for number in (1, *range(5, 17)):
        assert f"- Table {number}, " in page
    assert "CIFAR-10 is stood in for by MNIST 12x12 (source mnist5k)" in page
    assert "SVHN is stood in for by digits 8x8 (source digits)" in page
    (text,) = (t for t in _texts(figure.draw(study, table, paper)) if "Nothing" in t)
    assert text.replace("\n", " ") == comparison.nothing(table)


def test_a_study_that_has_not_run_says_so(whole, paper):
    study, runs = whole
    table = comparison.compare(study, runs[:0], paper)
    assert set(table.status) == {NOT_RUN}
    page = comparison_page.markdown(study, table, NO_SHARES, paper, runs)
    assert "**Nothing is compared: none of the runs that the paper reports" in page
    assert "| all | 758 | 0 | 758 | 0 | 0 | 0 |  |" in page


def test_the_page_lists_every_cell_and_every_note(whole, table, paper):
    study, runs = whole
    page = comparison_page.markdown(study, table, NO_SHARES, paper, runs)
    assert "nan" not in page.lower().replace("divergen", "")
    for note in paper.facts["notes"]:
        assert note["text"] in page
    assert page.count("\n| 80 ") + page.count("\n| 90 ") + page.count("\n| 95 ") + page.count(
        "\n| 97 "
    ) == len(table)
    row = "| 80      | LTH      | 0   | 90.41 ± 0.14 (n = 3) | 90.41 ± 0.14 (n = 3) | +0.00 "
    (line,) = (line for line in page.splitlines() if line.startswith(row))
    assert "| yes " in line
    assert "-0.00 " not in page
    assert "## Table 12, ResNet20 ×4 on CIFAR-100 (here resnet20 on c100)" in page


def test_odd_numbers_carry_the_note_that_says_so(paper):
    """The notes on ties and reversals are on exactly the cells that tie or are reversed."""
    cells = paper.cells[paper.cells.table.between(5, 16) & (paper.cells.metric == "accuracy")]
    cells = cells[cells.matching_epoch.isna()]
    keys = ["table", "sparsity", "rewind_epoch"]
    wide = cells.pivot_table(index=keys, columns="method", values="mean")
    for other, text, odd in (
        ("naive", "Permuted ties with naive", wide.permuted <= wide.naive),
        ("lth", "Permuted ties with LTH", wide.permuted >= wide.lth),
    ):
        (number,) = (
            i for i, note in enumerate(paper.facts["notes"], 1) if note["text"].startswith(text)
        )
        noted = cells[cells.notes.str.split().map(lambda found, n=number: str(n) in found)]
        assert set(noted.method) == {other, "permuted"}
        found = set(noted[keys].itertuples(index=False, name=None))
        assert found == set(wide.index[odd])
    js = paper.cells[paper.cells.metric == "js"]
    assert len(js) == 8
    assert not js.judged.any()
    assert paper.cells[paper.cells.metric != "js"].judged.all()
    kl = paper.cells[paper.cells.metric == "kl"]
    assert (js["mean"].to_numpy() > kl["mean"].to_numpy() / 4).all()
    half = (paper.cells.table == 1) & (paper.cells.dataset == "cifar100")
    (number,) = (i for i, n in enumerate(paper.facts["notes"], 1) if "labelled 90 %" in n["text"])
    noted = paper.cells.notes.str.split().map(lambda found: str(number) in found)
    assert (noted == half).all()


def test_a_table_without_facts_is_refused_in_one_line(tmp_path):
    more = tmp_path / "reported.csv"
    more.write_text(CSV.read_text() + "17,,resnet20,1,cifar10,0.80,lth,0,,test_accuracy,90,\n")
    with pytest.raises(ValueError, match=r"reported.yaml: tables has no entry for 17, which"):
        reported.read(more, *FILES[1:])


def _texts(drawn):
    drawn.draw_without_rendering()
    found = [t for t in drawn.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [t.get_text() for t in found]


def test_the_figure_has_a_panel_a_data_set_and_every_cell(whole, table, paper, tmp_path):
    drawn = figure.draw(whole[0], table, paper)
    style.save(drawn, tmp_path / "figure.pdf", tmp_path / "figure.png")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    cells = pd.read_csv(CSV)
    whole_ensemble = cells.metric.isin(["disagreement", "kl", "js"])
    sizes = cells[~whole_ensemble].dataset.value_counts()
    data = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "svhn": "SVHN"}
    assert [ax.get_title() for ax in drawn.axes] == [
        *(f"{title}, % ({sizes[name]} cells)" for name, title in data.items()),
        f"Disagreement, KL, JS ({whole_ensemble.sum()} cells)",
    ]
    points = [line for ax in drawn.axes for line in ax.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in points) == len(table)
    colors = {method.look.color for method in METHODS.values() if method.paper}
    assert {line.get_color() for line in points} == colors
    drawn.draw_without_rendering()  # lays texts out at the figure's own resolution
    box = drawn.bbox
    for text in [*drawn.texts, *(ax.title for ax in drawn.axes), *drawn.legends[0].get_texts()]:
        extent = text.get_window_extent()
        assert extent.x0 >= box.x0 and extent.x1 <= box.x1, text.get_text()
        assert extent.y0 >= box.y0 and extent.y1 <= box.y1, text.get_text()

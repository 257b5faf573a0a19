"""Figures show the numbers of the tables, name their data, and clip no text."""

import itertools
import warnings
from pathlib import Path

import drawn
import pytest
import synthetic
from conftest import DEMO, ROOT
from maskalign import figures, selection, tables
from maskalign.captions import TIMES
from maskalign.study import Study, read

NAMES = list(DEMO["artefacts"]["figures"])


def sources(study, diverged=()):
    """Return synthetic results of everything that a figure may show."""
    results = (
        synthetic.runs(study, diverged),
        synthetic.curves(study, diverged),
        synthetic.planes(study),
    )
    return figures.Sources(*results)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_the_demo_is_written_whole(demo, name, tmp_path):
    study = Study(demo)
    files = {kind: str(tmp_path / f"figure.{kind}") for kind in ("pdf", "png", "csv", "md")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = figures.build(study, name, sources(study))
        figures.write(drawing, name, **files)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in (tmp_path / "figure.pdf").read_bytes()
    assert len((tmp_path / "figure.csv").read_text().splitlines()) > 1
    assert (tmp_path / "figure.md").read_text().startswith("**Figure ")
    assert not drawn.misplaced(drawing.figure)
    assert all(text.get_fontsize() >= 7 for text in drawn.texts(drawing.figure))


@pytest.mark.parametrize(
    ("figure", "table", "width"), [("figure_05", "table_05", 1), ("figure_10", "table_12", 4)]
)
def test_a_figure_draws_the_numbers_of_its_table(demo, figure, table, width):
    study = Study(demo)
    drawn = figures.build(study, figure, sources(study)).data
    cells = tables.build(study, table, synthetic.runs(study)).cells
    keys = ["width", "method", "sparsity", "rewind_epoch"]
    both = cells.merge(drawn[drawn.width == width], on=keys, suffixes=("", "_drawn"))
    assert len(both) == len(cells)
    for column in ("mean", "std", "n"):
        assert (both[column] == both[f"{column}_drawn"]).all()


def test_title_and_note_name_data_runs_and_gaps(demo):
    study = Study(demo)
    drawing = figures.build(study, "figure_05", sources(study))
    shown = [t.get_text() for t in drawn.texts(drawing.figure)]
    assert "MNIST 12x12 (stands in for CIFAR-10), ResNet8, n = 2 pairs" in shown
    assert f"Not run at this scale: {TIMES}8, {TIMES}16" in shown
    assert {f"S = 90 %, {TIMES}1", f"S = 95 %, {TIMES}4"} <= set(shown)


def test_nothing_run_is_a_figure_that_says_so(demo):
    demo["artefacts"]["figures"]["figure_05"]["shows"][0]["widths"] = [16]
    study = Study(demo)
    drawing = figures.build(study, "figure_05", sources(study))
    assert drawing.data.empty
    assert "not run at this scale" in [t.get_text() for t in drawn.texts(drawing.figure)]
    assert "was run at this scale" in drawing.caption
    assert not drawn.misplaced(drawing.figure)


def test_interpolation_means_are_over_the_pairs(demo):
    study = Study(demo)
    found = sources(study)
    drawn = figures.build(study, "figure_03", found).data
    curves = found.curves
    one = curves[(curves.dataset == "mnist") & (curves.model == "resnet20") & (curves.width == 4)]
    one = one[(one.method == "permuted") & (one.correction == "reset") & (one.alpha == 0.5)]
    values = one[one.split == "test"].loss
    row = drawn[(drawn.dataset == "mnist") & (drawn.width == 4) & (drawn.alpha == 0.5)]
    row = row[(row.method == "permuted") & (row.correction == "reset")].iloc[0]
    assert row["n"] == len(values) == 2
    assert row["mean"] == pytest.approx(values.mean())
    assert row["std"] == pytest.approx(values.std(ddof=1))


def test_a_diverged_dense_model_takes_its_curves_with_it(demo):
    study = Study(demo)
    drawing = figures.build(
        study, "figure_03", sources(study, ("paper/mnist/resnet20-x4/dense/init-3",))
    )
    lost = drawing.data[(drawing.data.dataset == "mnist") & (drawing.data.width == 4)]
    assert set(lost.n) == {1}
    assert "1 diverged run left out" in drawing.caption
    assert "n = 1 to 2 pairs" in drawing.caption


def test_imp_barriers_are_those_of_the_rounds(demo):
    study = Study(demo)
    drawing = figures.build(study, "figure_04", sources(study))
    barriers = drawing.data[drawing.data.panel == "a"]
    assert set(barriers.metric) == {"error_barrier_none", "error_barrier_reset"}
    assert sorted(barriers.sparsity.unique()) == [0.5, 0.75, 0.875, 0.9]
    assert set(barriers.n) == {2}
    marks = drawing.data[drawing.data.panel == "b"].dropna(subset=["mark"])
    assert set(marks.mark) >= {"dense", "lth", "permuted"}


def test_both_ways_of_matching_are_drawn_beside_each_other(demo):
    study = Study(demo)
    drawing = figures.build(study, "figure_13", sources(study))
    data, table = drawing.data, tables.build(study, "table_17", synthetic.runs(study)).cells
    lines = data[data.panel == "a"]
    assert set(lines.matching) == {"naive", "activations", "weights"}
    assert len(lines) == 2 * 3 * 2 * 9  # models, ways, before and after correction, points
    groups = data[data.panel == "b"]
    of_model = groups.groupby("model").group.agg(list).to_dict()
    assert of_model == {m: ["first", "second", "last"] for m in ("resnet20", "vgg11")}
    assert set(groups.chance) == {1 / 8}
    accuracies = data[data.panel == "c"]
    keys = ["model", "matching", "sparsity", "rewind_epoch"]
    both = accuracies.merge(table[table.metric == "accuracy"], on=keys, suffixes=("", "_table"))
    assert len(both) == len(accuracies) == 4 + 2 * 4
    assert (both["mean"] == both["mean_table"]).all()
    assert set(data.n) == {2}
    assert "An extra: the paper has nothing of the kind." in drawing.caption


def test_single_pairs_and_several_data_sets_are_drawn(demo):
    for name in ("cifar10", "vgg11", "cifar100"):
        demo["experiments"][name]["pairs"] = 1
    demo["experiments"]["cifar100"]["matching_comparison"] = {"widths": [1, 4], "rewind_epoch": 4}
    shown = {"dataset": "mnist-pairs", "model": "resnet20-100"}
    demo["artefacts"]["figures"]["figure_13"]["shows"].append(shown)
    study = Study(demo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = figures.build(study, "figure_13", sources(study))
        drawing.figure.draw_without_rendering()
    assert len(drawing.figure.axes) == 4 * 3
    assert "(a) MNIST pairs 10x10, ResNet8 ×4: A to B" in [
        t.get_text() for t in drawn.texts(drawing.figure)
    ]
    assert "a single pair (n = 1)" in drawing.caption


def test_what_is_matched_the_other_way_is_drawn_in_no_other_figure(demo):
    study = Study(demo)
    runs, curves, planes = synthetic.runs(study), synthetic.curves(study), synthetic.planes(study)
    other = [rows.copy() for rows in (runs, curves)]
    for rows, columns in zip(other, ("value", ["loss", "error"]), strict=True):
        rows.loc[rows.matching_method == "weights", columns] += 1000
    for name in NAMES:
        drawn = [
            figures.build(study, name, figures.Sources(*rows, planes)).data
            for rows in ((runs, curves), other)
        ]
        assert drawn[0].equals(drawn[1]) == (name != "figure_13"), name


def test_toy_draws_lth_only_where_asked(demo):
    study = Study(demo)
    first = figures.build(study, "figure_01", figures.Sources()).data
    twelfth = figures.build(study, "figure_12", figures.Sources()).data
    assert "lth" not in set(first.model)
    assert "lth" in set(twelfth.model)


def test_sources_are_the_runs_that_are_shown_and_no_others(demo):
    study = Study(demo)

    def needed(kind, name):
        found = selection.sources(study, kind, name)
        return {
            role: [study.run(str(Path(f).parent)) for f in files] for role, files in found.items()
        }

    assert needed("figures", "figure_02") == needed("tables", "table_02") == {}
    of = {"dataset": "mnist", "model": "resnet20", "width": 1}
    runs = needed("tables", "table_05")["runs"]
    assert all(run[k] == v for run in runs for k, v in of.items())
    # Two sparsities, two rewind epochs, three methods, two pairs, and the four dense models.
    assert {run["stage"] for run in runs} == {"dense", "sparse"}
    assert len(runs) == 2 * 2 * 3 * 2 + 4
    # At one rewind epoch, with the permuted runs of every matching epoch.
    early = needed("tables", "table_15")["runs"]
    permuted = [run["matching_epoch"] for run in early if run["method"] == "permuted"]
    assert sorted(permuted) == sorted(2 * 2 * [1, 4, 8])
    assert len(early) == 2 * 2 * (2 + 3) + 4
    lines = needed("figures", "figure_03")
    assert {run["stage"] for run in lines["curves"]} == {"interpolation"}
    assert set(lines) == {"curves"}
    assert {run["matching_method"] for run in lines["curves"]} == {"activations"}
    both = needed("figures", "figure_13")
    assert {run["matching_method"] for run in both["curves"]} == {"activations", "weights"}
    assert {run["stage"] for run in both["runs"]} == {"match", "interpolation", "sparse"}
    panels = needed("figures", "figure_04")
    assert [run["stage"] for run in panels["planes"]] == ["landscape"]
    assert {run["stage"] for run in panels["runs"]} == {"imp_barrier"}


def test_a_title_changes_what_an_artefact_depends_on(demo):
    before = selection.artefact(Study(demo), "figures", "figure_05")
    demo["datasets"]["mnist"]["title"] = "another"
    assert selection.artefact(Study(demo), "figures", "figure_05") != before


@pytest.mark.parametrize("kind", ["tables", "figures"])
def test_what_decides_titles_and_convergence_is_what_an_artefact_depends_on(demo, kind):
    name = {"tables": "table_05", "figures": "figure_05"}[kind]
    found = [selection.artefact(Study(demo), kind, name)]
    demo["claims"] = {"margin": 2}
    found.append(selection.artefact(Study(demo), kind, name))
    demo["methods"] = {"mine": {"function": "maskalign.controls:fan", "title": "one"}}
    found.append(selection.artefact(Study(demo), kind, name))
    demo["methods"]["mine"]["title"] = "two"
    found.append(selection.artefact(Study(demo), kind, name))
    assert all(a != b for a, b in itertools.combinations(found, 2))


def test_the_lowest_panel_that_is_drawn_has_the_labels_of_its_axis():
    study = read([ROOT / "tests/unit/grids.yaml"])
    figure = figures.build(study, "figure_06", sources(study)).figure
    figure.draw_without_rendering()
    by_column: dict[float, list] = {}
    for ax in figure.axes:
        if ax.axison:
            by_column.setdefault(round(ax.get_position().x0, 2), []).append(ax)
    assert [len(column) for column in by_column.values()] == [2, 4, 2]
    for column in by_column.values():
        *above, lowest = sorted(column, key=lambda ax: -ax.get_position().y0)
        assert lowest.get_xlabel() == "Rewind epoch k"
        assert lowest.xaxis.get_tick_params()["labelbottom"]
        assert not any(ax.get_xlabel() for ax in above)


@pytest.mark.parametrize("name", ["figure_03", "figure_03_error", "figure_04", "figure_13"])
def test_lines_are_drawn_on_test_images(demo, name):
    """Numbers of training images change nothing, and those of test images do."""
    study = Study(demo)
    given, drawn = sources(study), {}
    for changed in ("none", "train", "test"):
        runs, curves = given.runs.copy(), given.curves.copy()
        curves.loc[curves.split == changed, ["loss", "error"]] += 7
        line = runs.metric.str.startswith("error_barrier")
        runs.loc[line & (runs.split == changed), "value"] += 7
        sources_of = figures.Sources(runs, curves, given.planes)
        drawn[changed] = figures.build(study, name, sources_of).data
    assert drawn["none"].equals(drawn["train"])
    assert not drawn["none"].equals(drawn["test"])


@pytest.mark.parametrize(("name", "metric"), [("figure_03", "loss"), ("figure_03_error", "error")])
def test_a_line_has_the_metric_of_its_figure(demo, name, metric):
    study = Study(demo)
    given = sources(study)
    changed = given.curves.assign(**{metric: given.curves[metric] + 7})
    of = [
        figures.build(study, name, figures.Sources(given.runs, curves, given.planes)).data
        for curves in (given.curves, changed)
    ]
    assert (of[1]["mean"] - of[0]["mean"]).to_numpy() == pytest.approx(7)


def test_every_selection_has_a_panel_of_lines(demo):
    entry = demo["artefacts"]["figures"]["figure_03"]
    widths = [[1], [4], [1, 4], [1, 8], [1, 16], [4, 8], [4, 16], [1, 4, 8], [1, 4, 16]]
    entry["shows"] = [{"dataset": "mnist", "model": "resnet20", "widths": w} for w in widths]
    study = Study(demo)
    drawing = figures.build(study, "figure_03", sources(study))
    panels = [ax for ax in drawing.figure.axes if ax.get_title()]
    assert [ax.get_title()[:3] for ax in panels] == [f"({letter})" for letter in "abcdefghi"]
    assert all(ax.lines for ax in panels)

"""Table 19 holds what the diagnoses, lines and runs of each pair say, and no more."""

import math
import statistics

import leveled
import numpy as np
import pandas as pd
import pytest
from maskalign import diagnosis_table, formats, selection, tables
from maskalign.methods import METHODS, trained
from scipy import stats
from test_tables import written

EVERY = [{"dataset": "digits", "model": "resnet20"}]
MASKS = ["naive", "permuted", "shuffled", "fan", "permuted_fan"]
PLAIN = {"naive": 0.25, "permuted": 0.5, "shuffled": 0.125, "fan": 0.3, "permuted_fan": 0.4}


def built(*experiments, shows=EVERY, change=lambda runs: runs):
    """Return Table 19 of experiments that diagnose, with runs whose numbers are known."""
    artefacts = {"tables": {"table_19": {"kind": "diagnosis", "shows": shows}}, "figures": {}}
    study = leveled.study(*experiments, artefacts=artefacts)
    runs = change(known(leveled.runs(study, accuracy)))
    needed = selection.sources(study, "tables", "table_19")["runs"]
    given = runs[(runs.path + "/result.json").isin(needed)]  # as the table's job has them
    return study, runs, tables.build(study, "table_19", given)


def accuracy(r):
    """Return accuracies with a gap of 2 + pair at k = 1, twice of it at k = 4, and none at 0."""
    gap = (2 + r["pair"]) * {0: 0, 1: 1, 4: 2}[r["rewind_epoch"]]
    return 50 + gap * (r["method"] == "permuted") + 99 * (r["length"] != 1)


def known(runs):
    """Set what diagnoses and lines give: pair p has p tenths or points more than pair 0."""
    runs, pair = runs.copy(), runs.mask_seed // 2
    values = {
        "assignment_margin": 0.1 + pair / 10,
        "first_choices": 0.5 + pair / 10,
        "expected_overlap": 0.2 + pair / 10,
        "overlap": runs.method.map(PLAIN) + pair / 100,
        "error_barrier_none": 30.0 + pair,
        "error_barrier_reset": 5.0 - pair,
    }
    for metric, value in values.items():
        runs.loc[runs.metric == metric, "value"] = value
    other = runs.metric.str.startswith("error_barrier") & (
        (runs.split == "train") | (runs.method == "naive")
    )
    runs.loc[other, "value"] = 99.0
    return runs


ONE = {
    "methods": trained(METHODS),
    "rewind_epochs": [0, 1, 4],
    "lengths": [1, 2],
    "interpolation": {"widths": [1]},
    "diagnosis": {"widths": [1]},
}
TITLES = [title for title, _, _ in diagnosis_table.MEASURES.values()]


def test_every_pair_has_a_row_of_its_own_numbers_and_their_mean_is_last(tmp_path):
    _, _, table = built(ONE)
    assert table.layout.index.tolist() == ["0", "1", "2", "mean"]
    assert [*table.layout] == TITLES
    for p in range(3):
        expected = [100 * PLAIN["naive"] + p, 100 * PLAIN["permuted"] + p]
        expected += [100 * PLAIN["shuffled"] + p, 20 + 10 * p]
        expected += [100 * PLAIN["fan"] + p, 100 * PLAIN["permuted_fan"] + p]
        expected += [0.1 + p / 10, 50 + 10 * p, 5 - p, 1.5 * (2 + p)]
        row = table.layout.loc[f"{p}"]
        assert [cell.mean for cell in row] == pytest.approx(expected)
        assert [cell.n for cell in row] == len(TITLES) * [1]
    for title in TITLES:
        of_pairs = [table.layout.loc[f"{p}", title].mean for p in range(3)]
        cell = table.layout.loc["mean", title]
        assert cell.mean == pytest.approx(statistics.mean(of_pairs))
        assert (cell.std, cell.n) == (pytest.approx(statistics.stdev(of_pairs)), 3)
    assert "A rank correlation of barrier and gap needs 5 pairs, so none is given." in table.caption
    assert "An extra: the paper has nothing of the kind." in table.caption
    markdown = written(table, tmp_path)[1]
    (row,) = [line for line in markdown.splitlines() if line.startswith("| mean")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["26.0 ± 1.0", "51.0 ± 1.0"]
    assert cells[7:] == ["0.200 ± 0.100", "60.0 ± 10.0", "4.00 ± 1.00", "4.50 ± 1.50"]


def test_the_cells_name_their_runs(tmp_path):
    study, _, table = built(ONE)
    for cell in table.cells.itertuples():
        stages = [study.run(path)["stage"] for path in cell.runs.split()]
        assert {study.run(path)["mask_seed"] for path in cell.runs.split()} == {2 * cell.pair}
        if cell.measure == "gap":  # two methods at two rewind epochs
            assert stages == 4 * ["sparse"]
        else:
            assert stages == ["interpolation" if "barrier" in cell.measure else "diagnosis"]


def test_widths_and_sparsities_are_apart_and_what_has_none_is_repeated():
    cell = ONE | {"widths": [1, 4], "sparsities": [0.8, 0.9, 0.95], "methods": ["naive"]}
    cell |= {"interpolation": {"widths": [4]}}
    cell |= {"diagnosis": {"widths": [1, 4], "sparsities": [0.8, 0.9]}}

    def change(runs):
        hit = (runs.metric == "overlap") & (runs.sparsity == 0.9) & (runs.width == 4)
        return runs.assign(value=runs.value.where(~hit, runs.value + 0.125))

    _, _, table = built(cell, change=change)
    models = [f"ResNet8 ×{w} / digits 8x8" for w in (1, 4)]
    places = [(m, s) for m in models for s in ("80", "90")]
    rows = [(*place, pair) for place in places for pair in ("0", "1", "2", "mean")]
    assert table.layout.index.tolist() == rows
    overlap = table.layout["permuted (%)"]
    assert [overlap[*place, "0"].mean for place in places] == pytest.approx([50, 50, 50, 62.5])
    assert {table.layout["First choices (%)"][*place, "1"].mean for place in places} == {60.0}
    barrier = table.layout["Corrected barrier (points)"]
    assert barrier[*places[0], "0"] == formats.ABSENT  # no line at this width
    assert [barrier[*place, "0"].mean for place in places[2:]] == [5.0, 5.0]
    assert "Gap (points)" not in table.layout  # nothing is permuted
    _, _, one = built(cell, change=change, shows=[EVERY[0] | {"widths": [4], "sparsities": [0.9]}])
    assert one.layout.index.tolist() == ["0", "1", "2", "mean"]
    assert one.layout.loc["0", "permuted (%)"].mean == pytest.approx(62.5)


@pytest.mark.parametrize("pairs", [4, 5, 6])
def test_barrier_and_gap_are_correlated_over_five_pairs_or_more(pairs):
    """Pair p has another rank of the gap than of the barrier, which falls with p."""
    gaps = [3.0, 1.0, 4.0, 9.0, 5.0, 2.0][:pairs]

    def change(runs):
        hit = (runs.method == "permuted") & (runs.metric == "accuracy")
        value = 50 + (runs.mask_seed // 2).map(dict(enumerate(gaps)))
        return runs.assign(value=runs.value.where(~hit, value))

    cell = ONE | {"pairs": pairs, "methods": ["naive", "permuted"], "rewind_epochs": [1]}
    _, _, table = built(cell, change=change)
    if pairs < 5:
        assert (
            "A rank correlation of barrier and gap needs 5 pairs, so none is given."
            in table.caption
        )
        return
    ranks = np.argsort(np.argsort(gaps)), np.arange(pairs)[::-1]
    rho = np.corrcoef(*ranks)[0, 1]
    p = 2 * stats.t.sf(abs(rho) * math.sqrt((pairs - 2) / (1 - rho**2)), pairs - 2)
    assert (
        "Spearman's rank correlation of barrier and gap over pairs is ×1, S = 90 %: "
        f"{rho:.2f} (n = {pairs}, p = {p:.2g})."
    ) in table.caption


def test_a_pair_without_a_run_has_no_gap_and_a_line_that_diverged_no_barrier(tmp_path):
    def change(runs):
        of_first = runs.mask_seed == 0
        lost = of_first & runs.metric.str.startswith("error_barrier")
        lost |= of_first & (runs.metric == "accuracy") & (runs.method == "naive")
        return runs.assign(status=runs.status.mask(lost, "diverged"))

    _, _, table = built(ONE, change=change)
    assert table.layout.loc["0", "Gap (points)"] == formats.ABSENT
    assert table.layout.loc["0", "Corrected barrier (points)"].n == 0
    for title in ("Gap (points)", "Corrected barrier (points)"):
        assert table.layout.loc["mean", title].n == 2
    assert "nan" not in "".join(written(table, tmp_path)[1:]).lower()
    assert "diverged" in written(table, tmp_path)[1]


def test_the_gap_is_over_the_rewind_epochs_that_both_methods_have():
    def change(runs):
        lost = (runs.rewind_epoch == 4) & (runs.method == "naive") & (runs.mask_seed == 2)
        return runs.assign(status=runs.status.mask(lost, "diverged"))

    _, _, table = built(ONE, change=change)
    assert [table.layout.loc[f"{p}", "Gap (points)"].mean for p in range(3)] == [3.0, 3.0, 6.0]


def test_nothing_diagnosed_is_a_table_that_says_so():
    _, _, table = built({"interpolation": {"widths": [1]}})
    assert table.cells.empty
    assert "was run at this scale" in table.caption
    assert table.layout.to_numpy().tolist() == [["not run at this scale"]]


def test_matchings_of_another_kind_give_no_number():
    """Lines and runs of the other way of matching are no part of a pair's numbers."""
    cell = ONE | {"methods": ["naive", "permuted"], "rewind_epochs": [1]}
    cell |= {"matching_comparison": {"widths": [1], "rewind_epoch": 1}}

    def change(runs):
        other = runs.matching_method == "weights"
        assert other.any()
        return runs.assign(value=runs.value.where(~other, -77.0))

    _, _, table = built(cell, change=change)
    _, _, plain = built(cell)
    pd.testing.assert_frame_equal(table.cells, plain.cells)

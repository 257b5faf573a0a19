"""Selections hold the runs of the independent pairs, here written out by hand for the demo."""

import copy
import math

import pandas as pd
import pytest
import synthetic
from conftest import DEMO
from maskalign import selection
from maskalign.study import Study

RESNET = {"dataset": "mnist", "model": "resnet20"}
PAIRS = [(0, 1), (2, 3)]
LAST = 8  # the dense epochs of the demo's ResNet
BOTH = ("activations", "weights")


@pytest.fixture(scope="module")
def study():
    return Study(copy.deepcopy(DEMO))


@pytest.fixture(scope="module")
def runs(study):
    """Return all results of the demo, and the same of another protocol."""
    found = synthetic.runs(study)
    return pd.concat([found, found.assign(protocol="released")], ignore_index=True)


def keys(rows):
    """Return the key columns of rows, None where empty; each of them is there once."""
    table = rows[selection.KEYS].astype(object)
    found = [tuple(row) for row in table.where(table.notna(), None).to_numpy()]
    assert len(found) == len(set(found))
    return set(found)


def dense(width):
    return {(width, "dense", None, seed, 0, *[None] * 6) for pair in PAIRS for seed in pair}


def sparse(width, s, k, matchings=((LAST, "activations"),)):
    found = set()
    for a, b in PAIRS:
        found |= {(width, "lth", a, a, 0, s, k, None, None, 1, 1)}
        found |= {(width, "naive", a, b, 0, s, k, None, None, 1, 1)}
        found |= {(width, "permuted", a, b, 0, s, k, *matching, 1, 1) for matching in matchings}
    return found


def test_what_is_shown_are_the_pairs_at_the_last_matching_epoch(study, runs):
    expected = dense(1) | dense(4)
    for width in (1, 4):
        for s in (0.9, 0.95):
            expected |= sparse(width, s, 0) | sparse(width, s, 4)
    rows = selection.shown(study, RESNET, runs, "loss").rows
    assert keys(rows) == expected
    same = {"protocol": "paper", "split": "test", "metric": "loss"} | RESNET
    assert all(set(rows[column]) == {value} for column, value in same.items())


def test_early_matching_shows_every_epoch_and_the_last(study, runs):
    rows = selection.shown(study, RESNET, runs, "accuracy", selection.EARLY).rows
    every = [(t, "activations") for t in (1, 4, LAST)]
    assert keys(rows) == dense(1) | sparse(1, 0.9, 4, every) | sparse(1, 0.95, 4, every)


def test_axes_choose_runs_and_dense_models_have_no_sparsity(study, runs):
    chosen = RESNET | {"widths": [1, 16], "sparsities": [0.95, 0.97], "rewind_epochs": [4]}
    shown = selection.shown(study, chosen, runs, "accuracy")
    assert keys(shown.rows) == dense(1) | sparse(1, 0.95, 4)
    assert shown.missing == {"widths": [16], "sparsities": [0.97], "rewind_epochs": []}


def test_permuted_runs_are_those_that_the_recipe_matches():
    config = copy.deepcopy(DEMO)
    config["training"]["resnet20"]["matching"] = {"method": "weights"}
    weights = Study(config)
    rows = selection.shown(weights, RESNET | {"widths": [4]}, synthetic.runs(weights), "accuracy")
    of = ((LAST, "weights"),)
    cells = [sparse(4, s, k, of) for s in (0.9, 0.95) for k in (0, 4)]
    assert keys(rows.rows) == dense(4).union(*cells)


def test_lines_join_the_ends_of_a_pair_as_the_recipe_matches(study, runs):
    barriers = runs[(runs.metric == "error_barrier_reset") & (runs.split == "test")]
    other = barriers.assign(init_seed=barriers.init_seed + 5)  # ends of no pair
    for widths, at in ((None, (1, 4)), ([4], (4,))):
        where = RESNET | ({"widths": widths} if widths else {})
        rows = selection.on_lines(study, where, pd.concat([barriers, other])).rows
        expected = set()
        for a, b in PAIRS:
            for width in at:
                expected |= {(width, "naive", a, b, None, *[None] * 6)}
                expected |= {
                    (width, "permuted", a, b, None, *[None] * 3, "activations", None, None)
                }
            for reached in (0.5, 0.75, 0.875, 0.9):
                expected |= {(4, "imp", a, a, None, reached, *[None] * 5)}
        assert keys(rows) == expected


def test_both_matchings_are_compared_at_the_experiments_sparsity_and_epoch(study, runs):
    rows = selection.compared_matchings(study, RESNET, runs).rows
    accuracies = rows[(rows.metric == "accuracy") & (rows.split == "test")]
    assert keys(accuracies) == sparse(1, 0.9, 4, [(LAST, how) for how in BOTH])
    lines = rows[(rows.metric == "error_barrier_none") & (rows.split == "train")]
    permuted = {
        (1, "permuted", a, b, None, *[None] * 3, how, None, None) for a, b in PAIRS for how in BOTH
    }
    naive = {(1, "naive", a, b, None, *[None] * 6) for a, b in PAIRS}
    assert keys(lines) == permuted | naive
    matched = rows[rows.metric == "weight_similarity"]
    found = {
        (1, None, a, b, None, None, None, LAST, how, None, None) for a, b in PAIRS for how in BOTH
    }
    assert keys(matched) == found | naive


def test_pairs_share_no_model():
    assert selection.pairs({"first_pair": 3, "pairs": 2}) == [(6, 7), (8, 9)]


def test_a_summary_counts_diverged_runs_and_averages_the_others():
    rows = pd.DataFrame(
        {
            "method": ["lth", "lth", "lth", "naive", "naive", None],
            "value": [1.0, 4.0, 70.0, 5.0, 80.0, 6.0],
            "status": ["completed", "completed", "diverged", "completed", "diverged", "completed"],
            "path": ["b", "a", "c", "d", "d", "e"],
        }
    )
    found = selection.summarise(rows, ["method"]).set_index("method")
    assert found.loc["lth"].tolist() == [2.5, pytest.approx(3 / math.sqrt(2)), 2, 1, "a b c"]
    assert found.loc["naive", ["mean", "n", "diverged"]].tolist() == [5.0, 1, 1]
    assert math.isnan(found.loc["naive", "std"])
    assert found.loc["naive", "runs"] == "d"
    assert found[found.index.isna()]["mean"].tolist() == [6.0]


def test_runs_that_two_experiments_name_count_once(runs):
    config = copy.deepcopy(DEMO)
    again = {"widths": [1], "pairs": 1, "sparsities": [0.9], "rewind_epochs": [4]}
    whole = config["experiments"]["cifar10"]
    shared = {k: whole[k] for k in ("dataset", "model", "training")}
    config["experiments"]["again"] = shared | again
    rows = selection.shown(Study(config), RESNET | {"widths": [1]}, runs, "accuracy").rows
    cells = [sparse(1, s, k) for s in (0.9, 0.95) for k in (0, 4)]
    assert keys(rows) == dense(1).union(*cells)


def test_runs_of_a_selection_are_at_its_widths():
    config = copy.deepcopy(DEMO)
    config["experiments"]["cifar10"]["diversity"]["widths"] = [1, 4]
    study = Study(config)
    for widths in ([1], [4], [1, 4], None):
        where = RESNET | ({"widths": widths} if widths else {})
        found = [study.run(p) for p in study.selected(where, "diversity", "interpolation")]
        assert {run["width"] for run in found} == set(widths or [1, 4])
        assert {(run["dataset"], run["model"]) for run in found} == {("mnist", "resnet20")}
        assert {run["stage"] for run in found} == {"diversity", "interpolation"}


# -- views -----------------------------------------------------------------------------------------

DIGITS = {"dataset": "digits", "model": "resnet20"}
TRIPLE = [(0, 1), (2, 3), (4, 5)]
RECIPES = (LAST, "activations")
# Ticket, start and matching of each method of the demo's experiment on controls.
CONTROLS = {
    "lth": (0, 0, None, None),
    "naive": (0, 1, None, None),
    "permuted": (0, 1, *RECIPES),
    "own": (1, 1, None, None),
    "activity": (0, 1, LAST, "activity"),
    "permuted_fan": (0, 1, *RECIPES),
    "fan": (0, 1, None, None),
    "random_permutation": (0, 1, None, None),
    "shuffled": (0, 1, None, None),
    "uniform": (0, 1, None, None),
    "erk": (0, 1, None, None),
}


def cells(methods, s, k, length=1, rate=1):
    found = set()
    for pair in TRIPLE:
        for name in methods:
            ticket, start, *matching = CONTROLS[name]
            found |= {(1, name, pair[ticket], pair[start], 0, s, k, *matching, length, rate)}
    return found


LENGTHS = ("lth", "naive", "permuted", "shuffled")
SHORT = ("naive", "permuted")
OF_PAPER = cells(SHORT, 0.9, 1) | cells(SHORT, 0.9, 4) | cells(["lth"], 0.9, 1)
OF_METHODS = OF_PAPER | cells(CONTROLS, 0.9, 1)
LONGER = {n: cells(LENGTHS, 0.9, 1, n) for n in (2, 4)}
EVERY = OF_METHODS | LONGER[2] | LONGER[4] | cells(SHORT, 0.9, 1, 4, 2)
DENSE = {(1, "dense", None, seed, 0, *[None] * 6) for pair in TRIPLE for seed in pair}
VIEWED = {"PAPER": OF_PAPER, "METHODS": OF_METHODS, "EVERYTHING": EVERY, "EARLY": set()}


@pytest.mark.parametrize("view", VIEWED)
def test_a_view_holds_its_methods_lengths_and_rates(study, runs, view):
    dense = set() if view == "EARLY" else DENSE
    look = getattr(selection, view)
    assert keys(selection.shown(study, DIGITS, runs, "accuracy", look).rows) == VIEWED[view] | dense
    assert keys(selection.planned(study, DIGITS, look)) == VIEWED[view] | dense


def test_a_view_can_ask_for_some_of_each(study):
    view = selection.View(["naive", "own"], lengths=[4, 1], rates=[2])
    expected = cells(["naive"], 0.9, 1, 4, 2)
    assert keys(selection.planned(study, DIGITS, view)) == expected | DENSE


def test_scores_are_those_of_the_split_that_is_asked_for(study, runs):
    runs, splits = runs[runs.metric == "loss"], ["test", "train"]
    both = pd.concat([runs.assign(split=split, value=i) for i, split in enumerate(splits)])
    for i, split in enumerate(splits):
        rows = selection.shown(study, DIGITS, both, "loss", split=split).rows
        assert set(rows.value) == {i}


def needed(study, kind, shows, part="tables"):
    """Return the files that an artefact is made from, by role, and its runs and their keys."""
    config = copy.deepcopy(study.config)
    name = {"tables": "table_50", "figures": "figure_50"}[part]
    config["artefacts"] = {"tables": {}, "figures": {}}
    config["artefacts"][part][name] = {"kind": kind, "shows": [shows]}
    own = Study(config)
    files = selection.sources(own, part, name)
    found = [own.run(file.rpartition("/")[0]) for file in files.get("runs", [])]
    return files, found, {tuple(run[k] for k in selection.KEYS) for run in found}


@pytest.mark.parametrize(
    ("kind", "part", "expected"),
    [
        ("accuracy", "tables", OF_PAPER | cells(LENGTHS[:3], 0.9, 1, 2)),
        ("rewind", "figures", OF_PAPER | cells(LENGTHS[:3], 0.9, 1, 2)),
        ("sparsity", "figures", OF_PAPER | cells(LENGTHS[:3], 0.9, 1, 2)),
        ("methods", "tables", OF_METHODS | LONGER[2]),
        ("methods", "figures", OF_METHODS | LONGER[2]),
        ("length", "figures", EVERY),
    ],
)
def test_an_artefact_needs_its_view_and_twice_the_length(study, kind, part, expected):
    files, _, found = needed(study, kind, DIGITS, part)
    assert found == expected | DENSE
    assert files.keys() == {"runs"}
    assert all(file.endswith("/result.json") for file in files["runs"])


def test_early_matching_needs_twice_the_length_of_its_cells_too():
    config = copy.deepcopy(DEMO)
    config["experiments"]["cifar10"]["lengths"] = [1, 2, 4]
    where = RESNET | {"widths": [1], "rewind_epochs": [4]}
    early = sparse(1, 0.9, 4, [(t, "activations") for t in (1, 4, LAST)])
    early |= sparse(1, 0.95, 4, [(t, "activations") for t in (1, 4, LAST)])
    twice = {(*keys[:-2], 2, 1) for s in (0.9, 0.95) for keys in sparse(1, s, 4)}
    assert needed(Study(config), "early_matching", where)[2] == early | twice | dense(1)


def test_an_artefact_needs_what_its_axes_hold(study):
    shows = DIGITS | {"sparsities": [0.9], "rewind_epochs": [4]}
    assert needed(study, "methods", shows)[2] == cells(SHORT, 0.9, 4) | DENSE
    assert needed(study, "length", shows | {"widths": [4]}, "figures")[2] == set()


def test_a_diagnosis_needs_its_runs_the_lines_and_the_papers_sparse_runs(study):
    files, runs, _ = needed(study, "diagnosis", DIGITS)
    assert files.keys() == {"runs"}
    of = {s: [r for r in runs if r["stage"] == s] for s in ("diagnosis", "interpolation", "sparse")}
    assert sum(map(len, of.values())) == len(runs)
    for stage in ("diagnosis", "interpolation"):
        assert [(r["mask_seed"], r["init_seed"]) for r in of[stage]] == TRIPLE
    assert {tuple(run[k] for k in selection.KEYS) for run in of["sparse"]} == OF_PAPER

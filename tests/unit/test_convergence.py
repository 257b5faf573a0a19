"""Whether longer training would help is said of every cell, and decides nothing."""

import functools
import math

import leveled
import pandas as pd
import pytest
import synthetic
from maskalign import convergence, figures, tables, verdicts
from maskalign.convergence import CONVERGED, NOT_CONVERGED, NOT_SHOWN
from maskalign.study import Study
from test_tables import cell, written

DIGITS = {"dataset": "digits", "model": "resnet20"}
T_OF_TWO = 2.919986  # 95 % quantile of t with 2 degrees of freedom, from a table
REACH = T_OF_TWO * 0.1 / math.sqrt(3)  # of gains of three pairs that are 0.1 apart
PERMUTED = {"methods": ["permuted"]}


@functools.cache
def doubled(lengths=(1, 2), rates=(1,), **more):
    more = {name: list(values) for name, values in more.items()}
    return leveled.study(PERMUTED | more | {"lengths": list(lengths), "rates": list(rates)})


def rising(gain):
    """Return accuracies that gain so much from any length to twice of it, 0.1 more per pair."""
    return lambda r: 50 + (gain + 0.1 * (r["pair"] - 1)) * math.log2(r["length"])


def states(study, runs, *by):
    """Return the state of each cell by the columns given."""
    table = convergence.of_selection(study, DIGITS, runs).set_index(list(by))
    assert table.index.is_unique
    return table["convergence"].to_dict()


@pytest.mark.parametrize(("off", "state"), [(-1e-5, CONVERGED), (1e-5, NOT_CONVERGED)])
@pytest.mark.parametrize("margin", [1.0, 0.25])
def test_a_cell_is_converged_if_the_bound_of_its_gain_is_below_the_margin(off, state, margin):
    study = leveled.study(PERMUTED | {"lengths": [1, 2]}, claims={"margin": margin})
    runs = leveled.runs(study, rising(margin - REACH + off))
    assert states(study, runs, "length") == {1: state, 2: NOT_SHOWN}


def test_each_length_is_judged_by_twice_of_it():
    study = doubled((0.5, 1, 2, 4, 3), rewind_epochs=(0,))
    levels = {0.5: 20, 1: 50, 2: 60, 3: 61, 4: 60}
    runs = leveled.runs(study, lambda r: levels[r["length"]] + 0.1 * r["pair"] * r["length"])
    expected = {0.5: NOT_CONVERGED, 1: NOT_CONVERGED, 2: CONVERGED, 3: NOT_SHOWN, 4: NOT_SHOWN}
    assert states(study, runs, "length") == expected


def test_gains_are_those_of_pairs():
    """The pairs are 10 points apart, and each gains a tenth of a point."""
    study = doubled()
    for shift, state in ((0, CONVERGED), (1, NOT_CONVERGED)):

        def accuracy(r, shift=shift):
            pair = (r["pair"] + shift * (r["length"] == 2)) % 3
            return 50 + 10 * pair + 0.1 * pair * r["length"]

        assert states(study, leveled.runs(study, accuracy), "length")[1] == state


def lose(runs, status="diverged", **where):
    """Return the runs with those of some values diverged, or without them."""
    hit = pd.Series(True, index=runs.index)
    for name, value in where.items():
        hit &= runs[name] == value
    assert hit.any()
    if status is None:
        return runs[~hit]
    return runs.assign(status=runs.status.mask(hit, status), value=runs.value.mask(hit, 99.0))


@pytest.mark.parametrize("status", ["diverged", None])
@pytest.mark.parametrize("length", [1, 2])
def test_a_pair_that_lacks_a_run_does_not_count(status, length):
    """Two pairs gain next to nothing; the third one would gain 40 points."""
    study = doubled()
    gain = [0.0, 0.01, 40.0]
    runs = leveled.runs(study, lambda r: 50 + (r["length"] - 1) * gain[int(r["pair"])])
    assert states(study, runs, "length")[1] == NOT_CONVERGED
    lost = lose(runs, status, mask_seed=4, length=length)
    assert states(study, lost, "length")[1] == CONVERGED
    alone = lose(lost, status, mask_seed=2, length=length)  # one pair has no bound
    assert states(study, alone, "length")[1] == NOT_CONVERGED


def test_a_length_that_diverged_was_run_and_one_that_is_not_there_was_not():
    study = doubled()
    runs = leveled.runs(study, rising(0.0))
    assert states(study, runs, "length")[1] == CONVERGED
    assert states(study, lose(runs, length=2), "length") == {1: NOT_CONVERGED}
    assert states(study, lose(runs, None, length=2), "length") == {1: NOT_SHOWN}
    assert states(study, lose(runs, length=1), "length") == {2: NOT_SHOWN}


def test_cells_are_apart():
    """Every part of a cell has two values; the second one alone gains from length 1 to 2."""
    study = doubled((1, 2), (1, 2), widths=(1, 4), sparsities=(0.8, 0.9), rewind_epochs=(0, 1))
    for part, good, bad in (
        *(("rate", 1, 2), ("width", 1, 4), ("sparsity", 0.8, 0.9), ("rewind_epoch", 0, 1)),
    ):
        runs = leveled.runs(
            study,
            lambda r, part=part, bad=bad: 50 + 5 * (r["length"] - 1) * (r[part] == bad) + r["pair"],
        )
        found = convergence.of_selection(study, DIGITS, runs)
        found = found[found.length == 1]
        assert len(found) == 2**4
        expected = found[part].map({good: CONVERGED, bad: NOT_CONVERGED})
        assert found.convergence.tolist() == expected.tolist()


def test_methods_are_apart():
    study = leveled.study({"methods": ["naive", "own"], "lengths": [1, 2]})
    runs = leveled.runs(study, lambda r: 50 + 5 * (r["length"] - 1) * (r["method"] == "own"))
    found = states(study, runs, "method", "length")
    assert (found["naive", 1], found["own", 1]) == (CONVERGED, NOT_CONVERGED)


ABOUT = "Convergence of sparse training: "
EARLY = {"widths": [1], "rewind_epoch": 1, "matching_epochs": [1, 4]}


@pytest.fixture(scope="module")
def early():
    """Return a study that also matches early, with its runs: permuted ones have converged."""
    both = {"lengths": [1, 2], "interpolation": {"widths": [1]}}
    study = leveled.study(both | {"early_matching": EARLY}, both | {"rewind_epochs": [0]})
    return study, leveled.runs(study, lambda r: 50 + 9 * (r["length"] - 1) * (r["method"] == "lth"))


def test_early_matching_runs_are_cells_of_their_own(early):
    study, runs = early
    found = convergence.of_selection(study, DIGITS, runs)
    found = found[(found.method == "permuted") & (found.rewind_epoch == 1) & (found.length == 1)]
    expected = {1: NOT_SHOWN, 4: NOT_SHOWN, 8: CONVERGED}
    assert found.set_index("matching_epoch").convergence.to_dict() == expected


def test_a_claim_counts_the_cells_of_its_methods_and_epochs(early):
    study, runs = early
    table = verdicts.judge(study, leveled.results(study, runs))
    found = table.set_index("claim").convergence
    assert found["correction_lowers_barrier"] == ""
    late = "2 of 2 cells converged"  # at the last matching epoch alone, and at length 1
    assert found["permuted_beats_naive"] == found["close_at_initialisation"] == late
    assert found["lth_beats_permuted"] == "1 of 2 cells converged, 1 not converged"
    assert found["rewinding_helps_permuted_more"] == "4 of 4 cells converged"
    assert found["permuted_beats_naive_longest"] == "2 of 2 cells not shown"


def test_a_claim_counts_only_cells_that_all_its_methods_have():
    """Naive is also trained from another epoch, where shuffled is not."""
    study = leveled.study(
        {"methods": ["naive", "shuffled"]}, {"methods": ["naive"], "rewind_epochs": [4]}
    )
    table = verdicts.judge(study, leveled.results(study, leveled.runs(study, lambda r: 50)))
    found = table.set_index("claim").convergence
    assert found["naive_beats_shuffled"] == "2 of 2 cells not shown"


def lossy(dataset, losses):
    """Return a study of two methods with these training losses of its pairs, and its runs."""
    study = leveled.study(
        {"dataset": dataset, "model": "resnet20", "methods": ["naive", "permuted"]}
    )
    runs = leveled.runs(study, lambda r: 50.0)
    of = (runs.metric == "loss") & (runs.split == "train") & (runs.method == "permuted")
    runs.loc[of, "value"] = [losses[int(seed) // 2] for seed in runs.mask_seed[of]]
    runs.loc[(runs.metric == "loss") & (runs.split == "test"), "value"] = 99.0
    return study, runs


@pytest.mark.parametrize(
    ("dataset", "classes"), [("digits", 10), ("mnist-pairs", 100), ("mnist-folder", 10)]
)
def test_a_run_has_not_started_if_its_loss_is_near_that_of_a_guess(dataset, classes):
    """A composed image has the classes of both parts: ten become a hundred."""
    limit = {10: 2.0723, 100: 4.1447}[classes]  # 0.9 times 2.302585 and 4.605170
    study, runs = lossy(dataset, [limit + 1e-3, limit - 1e-3, 1e9])
    found = convergence.of_study(study, runs).set_index("method")
    assert found.not_started.to_dict() == {"naive": 0, "permuted": 2}
    assert found.runs.to_dict() == {"naive": 3, "permuted": 3}
    lost = lose(runs, method="permuted", mask_seed=4)
    found = convergence.of_study(study, lost).set_index("method")
    assert (found.not_started["permuted"], found.runs["permuted"]) == (1, 2)


def test_nothing_is_said_of_a_start_where_the_classes_are_not_known():
    study, runs = lossy("digits", [9.0, 9.0, 9.0])
    study.config["datasets"]["digits"]["source"] = "imagefolder"
    found = convergence.of_study(study, runs)
    assert found.not_started.isna().all()
    text = convergence.sentence(found, 6)
    assert text == f"{ABOUT}2 of 2 cells not shown (twice the length was not run)."


def cells_of(states, late=0.0):
    rows = [(f"m{i}", state, late * (i == 0)) for i, state in enumerate(states)]
    return pd.DataFrame(rows, columns=["method", "convergence", "not_started"])


@pytest.mark.parametrize(
    ("states", "late", "runs", "text"),
    [
        ([CONVERGED], 0, None, "1 of 1 cell converged."),
        ([CONVERGED], 1, None, "1 of 1 cell converged; 1 run has not started."),
        ([NOT_CONVERGED], 1, 3, "1 of 1 cell not converged; 1 run of 3 has not started."),
        (
            [NOT_CONVERGED, CONVERGED, NOT_SHOWN, NOT_CONVERGED],
            2,
            12,
            "1 of 4 cells converged, 2 not converged, 1 not shown (twice the length was not run); "
            "2 runs of 12 have not started.",
        ),
    ],
)
def test_a_caption_counts_cells_and_runs(states, late, runs, text):
    assert convergence.sentence(cells_of(states, late), runs) == ABOUT + text


def test_a_caption_counts_no_cell_twice_and_none_that_has_no_state():
    cells = cells_of([CONVERGED, math.nan])
    assert convergence.sentence(pd.concat([cells, cells])) == (f"{ABOUT}1 of 1 cell converged.")
    assert convergence.sentence(cells_of([math.nan])) == ""


def test_states_are_joined_to_cells_as_they_are():
    """Half of the length is not enough for permuted, and the whole is not enough for LTH."""
    study = leveled.study({"rewind_epochs": [0], "lengths": [0.5, 1, 2]})
    gain = {"lth": {0.5: 50, 1: 50, 2: 59}, "permuted": {0.5: 40, 1: 50, 2: 50}}
    runs = leveled.runs(study, lambda r: gain.get(r["method"], gain["lth"])[r["length"]])
    rows = [
        ("permuted", 0.9, 0.0, 8.0),
        ("dense", math.nan, math.nan, math.nan),
        ("lth", 0.9, 0.0, math.nan),
        ("lth", 0.97, 0.0, math.nan),  # not run
        ("permuted", 0.9, 0.0, 8.0),  # of another metric
    ]
    names = ["method", "sparsity", "rewind_epoch", "matching_epoch"]
    cells = pd.DataFrame(rows, columns=names, index=[7, 7, 3, 0, 1]).assign(
        **DIGITS, width=1, mean=range(5)
    )
    found = convergence.joined(study, [DIGITS], runs, cells)
    pd.testing.assert_frame_equal(found[cells.columns], cells)
    expected = [CONVERGED, None, NOT_CONVERGED, None, CONVERGED]
    assert found.convergence.astype(object).where(found.convergence.notna(), None).tolist() == (
        expected
    )
    assert found.not_started.isna().tolist() == [state is None for state in expected]
    longer = convergence.joined(study, [DIGITS], runs, cells.assign(length=2, rate=1))
    assert longer.convergence.dropna().tolist() == 3 * [NOT_SHOWN]


def test_cells_of_which_nothing_was_run_stay_empty():
    study = leveled.study({})
    none = synthetic.runs(study)[:0]
    found = convergence.of_study(study, none)
    assert list(found) == convergence.COLUMNS
    assert found.empty
    assert convergence.sentence(found) == ""
    cells = pd.DataFrame(columns=["dataset", "model", "method", "mean"])
    assert convergence.joined(study, [DIGITS], none, cells).empty
    one = pd.DataFrame([{**DIGITS, "method": "lth", "mean": 1.0}])
    assert convergence.joined(study, [DIGITS], none, one).convergence.isna().all()


# -- where it is said ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown():
    """Return a study with every kind that says it, and its runs; all have a column."""
    every = [{"dataset": "digits", "model": "resnet20"}]
    kinds = {
        "tables": {"table_05": "accuracy", "table_15": "early_matching", "table_18": "methods"},
        "figures": {
            "figure_05": "rewind",
            "figure_09": "sparsity",
            "figure_14": "methods",
            "figure_15": "length",
        },
    }
    artefacts = {
        part: {name: {"kind": kind, "shows": every} for name, kind in names.items()}
        for part, names in kinds.items()
    }
    more = {"sparsities": [0.8, 0.9], "rewind_epochs": [0, 1], "early_matching": EARLY}
    study = leveled.study(more | {"lengths": [1, 2]}, artefacts=artefacts)
    runs = leveled.runs(study, lambda r: 50 + 9 * (r["length"] - 1) * (r["method"] == "lth"))
    late = (runs.metric == "loss") & (runs.split == "train") & (runs.method == "naive")
    late &= (runs.length == 1) & (runs.sparsity == 0.9) & (runs.rewind_epoch == 1)
    runs.loc[late & (runs.mask_seed == 2), "value"] = 9.0
    return study, runs


NAMES = ["table_05", "table_15", "table_18", "figure_05", "figure_09", "figure_14", "figure_15"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_figures_say_it_of_their_cells(shown, name, tmp_path):
    study, runs = shown
    if name.startswith("table"):
        made = tables.build(study, name, runs)
        cells, text = made.cells, written(made, tmp_path)[0].splitlines()[0]
    else:
        made = figures.build(study, name, figures.Sources(runs))
        cells = made.data
        text = ",".join(cells.columns)
        cells = cells[cells.kind == "accuracy"] if name == "figure_15" else cells
    assert {"convergence", "not_started"} <= set(text.split(","))
    assert convergence.sentence(cells) in made.caption
    assert "; 1 run has not started." in made.caption
    dense = cells.method == "dense"
    assert cells.convergence.isna().tolist() == dense.tolist()
    length = cells.get("length", pd.Series(1, index=cells.index))
    last = cells.matching_epoch.isna() | (cells.matching_epoch == 8)
    expected = cells.method.map({"lth": NOT_CONVERGED}).fillna(CONVERGED)
    expected = expected.where(last & (length == 1), NOT_SHOWN)
    assert cells.convergence[~dense].tolist() == expected[~dense].tolist()


def test_both_metrics_of_a_cell_have_its_state(demo):
    study = Study(demo)
    table = tables.build(study, "table_10", synthetic.runs(study))
    for metric in ("accuracy", "top5_accuracy"):
        where = {"sparsity": 0.9, "rewind_epoch": 2, "method": "lth", "metric": metric}
        assert cell(table, **where)["convergence"] == NOT_SHOWN
    assert f"{ABOUT}12 of 12 cells not shown" in table.caption


def test_long_runs_change_no_verdict_of_the_papers_claims():
    several = {"pairs": 4, "widths": [1, 4], "sparsities": [0.8, 0.9], "rewind_epochs": [0, 1]}
    longer = several | {"lengths": [2, 4], "rates": [1, 2]}

    def accuracy(r):
        gain = {"lth": 3.0, "permuted": 1.5}.get(r["method"], 0.0)
        return 50 + gain + 0.1 * hash_of(r["path"]) + 9 * (r["length"] - 1) * (r["rate"] == 2)

    found = []
    for study in (leveled.study(several), leveled.study(several, longer)):
        table = verdicts.judge(study, leveled.results(study, leveled.runs(study, accuracy)))
        table = table[table.family == "paper"].drop(columns="convergence")
        found.append(table.reset_index(drop=True))
    pd.testing.assert_frame_equal(*found)
    assert set(found[0].verdict) == {verdicts.SUPPORTED, verdicts.NOT_SUPPORTED, verdicts.UNDECIDED}


def hash_of(path):
    """Return a number of a path that is the same in every process, within 0 and 1."""
    return (sum((i + 1) * ord(c) for i, c in enumerate(path)) % 997) / 997

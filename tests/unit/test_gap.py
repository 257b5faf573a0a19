"""The share of the gap closed is a ratio of means over pairs, with a bootstrap interval."""

import leveled
import numpy as np
import pandas as pd
import pytest
import synthetic
from maskalign import gap
from maskalign.study import Study
from maskalign.units import Results
from scipy.stats import t

# Of pairs whose own shares, 0.9, 0.25, 0.5 and 0.6, have another mean than the ratio of means.
PAIRS = pd.DataFrame(
    {
        "lth": [60.0, 62.0, 58.0, 61.0],
        "naive": [50.0, 54.0, 52.0, 51.0],
        "permuted": [59.0, 56.0, 55.0, 57.0],
    }
)


def test_a_share_is_a_ratio_of_means_over_pairs():
    found = gap.share(PAIRS)
    assert found["n"] == 4
    assert found["gap"] == pytest.approx(34 / 4)
    assert found["share"] == pytest.approx(20 / 34)
    gaps = PAIRS.lth - PAIRS.naive
    half = t.isf(0.025, 3) * gaps.std() / 2
    assert (found["gap_low"], found["gap_high"]) == pytest.approx((8.5 - half, 8.5 + half))


def test_the_interval_is_that_of_all_draws_of_pairs():
    """Four pairs have 256 equally probable draws, so their percentiles are known."""
    draws = np.stack(np.meshgrid(*[range(4)] * 4), -1).reshape(-1, 4)
    closed = (PAIRS.permuted - PAIRS.naive).to_numpy()[draws].mean(1)
    ratios = closed / (PAIRS.lth - PAIRS.naive).to_numpy()[draws].mean(1)
    found = gap.share(PAIRS)
    expected = np.percentile(ratios, [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.02)
    many = pd.DataFrame(np.random.default_rng(1).normal([60, 50, 55], 1, (12, 3)), columns=[*PAIRS])
    assert gap.share(many) == gap.share(many)  # the same draws every time


def test_there_is_no_share_where_lth_is_not_above_naive():
    shuffled = PAIRS.assign(lth=[60.0, 40.0, 58.0, 50.0])
    assert (shuffled.lth - shuffled.naive).mean() > 0
    found = gap.share(shuffled)
    assert np.isnan([found["share"], found["low"], found["high"]]).all()
    assert found["why"] == gap.NOT_ABOVE
    assert gap.share(PAIRS.assign(lth=2 * PAIRS.naive - 60.0))["why"] == gap.NOT_ABOVE
    equal = gap.share(PAIRS.assign(lth=PAIRS.naive + 5.0))
    assert (equal["gap"], equal["why"]) == (5.0, "all numbers are equal")


def test_too_few_pairs_have_no_share():
    found = gap.share(PAIRS.assign(permuted=[55.0, 57.0, np.nan, np.nan]))
    assert (found["n"], found["gap"]) == (2, 9.0)
    assert np.isnan(found["share"])
    assert found["why"] == "2 of 4 pairs have all runs"
    assert gap.share(PAIRS[:2])["why"] == "fewer than 3 pairs"


@pytest.fixture(scope="module")
def study():
    from conftest import DEMO

    own = DEMO["experiments"]["cifar10"] | {"pairs": 4, "rewind_epochs": [0, 1, 4]}
    config = DEMO | {"experiments": {"cifar10": own, "svhn": DEMO["experiments"]["svhn"]}}
    return Study(config | {"artefacts": {"tables": {}, "figures": {}}})


@pytest.mark.parametrize(
    ("width", "sparsity", "epoch"), [(None, None, None), (4, 0.95, None), (1, 0.9, 0), (4, 0.9, 1)]
)
def test_shares_are_those_of_the_cells_of_independent_pairs(study, width, sparsity, epoch):
    runs = synthetic.runs(study)
    table = gap.shares(Results(study, runs, synthetic.curves(study)))
    assert set(table.dataset) == {"mnist"}  # digits have no LTH
    found = table
    for name, value in (("width", width), ("sparsity", sparsity), ("rewind_epoch", epoch)):
        found = found[found[name].isna() if value is None else found[name] == value]
    rows = runs[(runs.metric == "accuracy") & runs.method.isin(["lth", "naive", "permuted"])]
    rows = rows[(rows.dataset == "mnist") & (rows.mask_seed // 2 == (rows.init_seed // 2))]
    rows = rows[(rows.order_seed == 0) & (rows.matching_method != "weights")]
    rows = rows[rows.matching_epoch.isna() | (rows.matching_epoch == 8)]
    rows = rows[rows.rewind_epoch > 0] if epoch is None else rows[rows.rewind_epoch == epoch]
    rows = rows if width is None else rows[rows.width == width]
    rows = rows if sparsity is None else rows[rows.sparsity == sparsity]
    means = rows.groupby(["mask_seed", "method"]).value.mean().unstack()
    (row,) = found.to_dict("records")
    assert row["n"] == len(means) == 4
    assert row["gap"] == pytest.approx((means.lth - means.naive).mean())
    if not row["why"]:
        ratio = (means.permuted - means.naive).mean() / (means.lth - means.naive).mean()
        assert row["share"] == pytest.approx(ratio)


def config_of(**experiments):
    from conftest import DEMO

    names = ("dataset", "model", "training", "pairs", "sparsities")
    own = {k: DEMO["experiments"]["cifar10"][k] for k in names}
    made = {name: own | more for name, more in experiments.items()}
    recipe = {"resnet20": DEMO["training"]["resnet20"] | {"keep_epochs": [0, 1, 4, 6]}}
    shown = {"artefacts": {"tables": {}, "figures": {}}}
    return DEMO | {"experiments": made, "training": DEMO["training"] | recipe} | shown


def test_widths_count_alike_and_pairs_of_other_epochs_lessen_no_cell():
    narrow = {"pairs": 4, "widths": [1], "rewind_epochs": [0, 1, 4, 6]}
    wide = {"pairs": 4, "widths": [4], "rewind_epochs": [4]}
    begin = {"pairs": 3, "first_pair": 4, "widths": [1], "rewind_epochs": [0]}
    study = Study(config_of(narrow=narrow, wide=wide, begin=begin))
    runs = synthetic.runs(study)
    levels = {"lth": 60.0, "naive": 50.0, "permuted": 50.0}
    known = (runs.metric == "accuracy") & runs.method.isin([*levels])
    draw = np.random.default_rng(0).normal(0, 0.01, len(runs))
    runs.loc[known, "value"] = runs.method.map(levels)[known] + draw[known]
    runs.loc[known & (runs.width == 4) & (runs.method == "permuted"), "value"] += 10.0
    table = gap.shares(Results(study, runs, synthetic.curves(study)))
    whole = table[table.width.isna()].iloc[0]
    assert (whole.n, whole.share) == (4, pytest.approx(0.5, abs=0.01))
    start = table[(table.rewind_epoch == 0) & (table.width == 1) & (table.sparsity == 0.9)]
    assert start.n.item() == 7


def test_pairs_without_a_common_cell_have_a_row_that_says_so():
    first = {"pairs": 3, "widths": [1], "rewind_epochs": [4]}
    study = Study(config_of(first=first, second=first | {"first_pair": 3, "widths": [4]}))
    table = gap.shares(Results(study, synthetic.runs(study), synthetic.curves(study)))
    row = table[table.width.isna()].iloc[0]
    assert (row.n, row.why) == (0, "0 of 6 pairs have all runs")


def test_a_share_is_printed_in_percent():
    nan = float("nan")
    assert gap.share_text(nan, nan, nan) == "none"
    assert gap.share_text(0.285) == "28"
    assert gap.share_text(0.5, -0.104, 0.996) == "50 [-10, 100]"


# -- the share that long training leaves -----------------------------------------------------------

# The pairs' own shares, 0.25, 1/3, 0.6 and 0.5, have another mean than the ratio of means.
LONG = pd.DataFrame({"first": [4.0, 6.0, 5.0, 2.0], "gap": [1.0, 2.0, 3.0, 1.0]})


def test_the_share_left_is_a_ratio_of_means_over_pairs():
    found = gap._left(LONG)
    assert (found["n"], found["gap"], found["gap_longest"]) == (4, 17 / 4, 7 / 4)
    assert found["share"] == pytest.approx(7 / 17)
    half = t.isf(0.025, 3) * LONG["first"].std() / 2
    assert (found["gap_low"], found["gap_high"]) == pytest.approx((4.25 - half, 4.25 + half))
    draws = np.stack(np.meshgrid(*[range(4)] * 4), -1).reshape(-1, 4)
    first, last = (LONG[name].to_numpy()[draws].mean(1) for name in ("first", "gap"))
    expected = np.percentile(last / first, [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.02)


def test_without_a_gap_at_length_1_nothing_is_left_of_it():
    found = gap._left(LONG.assign(first=[4.0, -6.0, 5.0, 2.0]))
    assert np.isnan([found["share"], found["low"], found["high"]]).all()
    assert (found["why"], found["gap_longest"]) == (gap.NO_GAP, 7 / 4)
    assert gap._left(LONG.assign(first=-LONG["first"]))["why"] == gap.NO_GAP
    assert gap._left(LONG.assign(first=3.0))["why"] == "all numbers are equal"
    few = gap._left(LONG.assign(gap=[1.0, 2.0, np.nan, np.nan]))
    assert (few["n"], few["why"], few["gap"]) == (2, "2 of 4 pairs have all runs", 5.0)
    assert gap._left(LONG[:2])["why"] == "fewer than 3 pairs"


def lengthened(*parts):
    """Return a study of permuted and naive with these parts, and the share left by its runs.

    The gap is 8 points, at length 4 of rate 1 half of it, and at sparsity 0.8 there is none.
    """
    cell = {"methods": ["naive", "permuted"], "pairs": 4, "sparsities": [0.8, 0.9]}
    study = leveled.study(*(cell | part for part in parts))

    def accuracy(r):
        whole = (8.0 + r["pair"]) * (r["method"] == "permuted") * (r["sparsity"] == 0.9)
        return 50 + whole / (2 if r["length"] == 4 else 1) - 9 * (r["rate"] != 1)

    return gap.left(leveled.results(study, leveled.runs(study, accuracy)))


def test_both_gaps_are_over_the_cells_that_have_both_lengths():
    """At sparsity 0.8, without a gap, the longest length is not run."""
    short, long = {}, {"sparsities": [0.9], "lengths": [4], "rates": [1, 2]}
    (row,) = lengthened(short, long).to_dict("records")
    assert (row["length"], row["n"], row["why"]) == (4, 4, "")
    assert (row["gap"], row["gap_longest"]) == pytest.approx((9.5, 4.75))
    assert row["share"] == pytest.approx(0.5)
    (row,) = lengthened(short, {"lengths": [4]}).to_dict("records")
    assert (row["gap"], row["gap_longest"]) == pytest.approx((4.75, 2.375))


@pytest.mark.parametrize(
    "short", [{"widths": [4]}, {"methods": ["lth"]}, {"rewind_epochs": [0]}], ids=str
)
def test_without_a_cell_at_length_1_there_is_no_share_and_it_says_so(short):
    (row,) = lengthened(short, {"lengths": [4]}).to_dict("records")
    assert (row["n"], row["why"]) == (0, gap.NOT_BOTH)
    assert np.isnan(row["share"])


def test_the_share_left_is_said_in_words():
    study = leveled.study({"methods": ["naive", "permuted"], "lengths": [1, 4]})
    levels = {1: [4.0, 6.0, 5.0], 4: [1.0, 2.0, 3.0]}

    def accuracy(r):
        return 50 + (r["method"] == "permuted") * levels[r["length"]][int(r["pair"])]

    results = leveled.results(study, leveled.runs(study, accuracy))
    assert gap.left_text(gap.left(results), ("digits", "resnet20")).startswith(
        "share of the gap at length 1 left (%): 40 ["
    )
    alone = leveled.study({"methods": ["naive", "permuted"], "lengths": [4]})
    results = leveled.results(alone, leveled.runs(alone, accuracy))
    assert gap.left_text(gap.left(results), ("digits", "resnet20")) == (
        f"share of the gap at length 1 left (%): none ({gap.NOT_BOTH})"
    )


def test_controls_lengths_and_rates_change_no_share():
    own = {"pairs": 4, "rewind_epochs": [0, 1]}
    more = [
        {"methods": ["lth", "naive", "permuted", "own", "shuffled"]},
        own | {"lengths": [1, 2, 4], "rates": [1, 2]},
    ]

    def accuracy(r):
        gain = {"lth": 5.0, "permuted": 2.0}.get(r["method"], 0.0)
        return 50 + gain * (1 + r["pair"] / 9) + 90 * (r["length"] > 1) + 70 * (r["rate"] > 1)

    tables = [
        gap.shares(leveled.results(study, leveled.runs(study, accuracy)))
        for study in (leveled.study(own), leveled.study(own, *more))
    ]
    assert tables[0].share.notna().any()
    pd.testing.assert_frame_equal(*tables)

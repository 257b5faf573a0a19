"""The claims on sparse training are tested at every length by itself, beside the verdicts."""

import math

import leveled
import pandas as pd
import pytest
from maskalign import claims_page, gap, verdicts
from maskalign.claim import FEWEST_UNITS
from maskalign.units import Results
from scipy import stats
from statsmodels.stats.multitest import multipletests

CELLS = {"methods": ["lth", "naive", "permuted", "shuffled"], "pairs": 5, "sparsities": [0.8, 0.9]}
# Permuted - naive by length, points; pairs differ by their number.
GAPS = {1: 6.0, 2: 0.2, 4: -3.0}


@pytest.fixture(scope="module")
def study():
    return leveled.study(
        CELLS | {"rewind_epochs": [0, 1], "lengths": [1, 2]},
        CELLS | {"sparsities": [0.9], "lengths": [4]},
        CELLS | {"lengths": [2], "rates": [2]},
    )


def accuracy(row):
    """Return an accuracy with the gaps of GAPS, and another one at another rate."""
    if row["rate"] != 1:
        return 99.0 if row["method"] == "permuted" else 1.0
    gap_of_pair = GAPS[row["length"]] + 0.5 * (row["pair"] % 3 - 1) * (row["length"] + 1)
    more = {"permuted": gap_of_pair, "lth": 10 + row["pair"]}.get(row["method"], 0)
    return 50 + row["pair"] + more


@pytest.fixture(scope="module")
def results(study):
    return leveled.results(study, leveled.runs(study, accuracy))


@pytest.fixture(scope="module")
def table(study, results):
    return verdicts.judge_longer(study, results)


def row_of(table, claim, length):
    (row,) = table[(table["claim"] == claim) & (table["length"] == length)].itertuples()
    return row


@pytest.mark.parametrize("length", [2, 4])
def test_a_length_is_tested_with_its_own_runs_at_the_rate_of_the_recipe(table, length):
    values = [GAPS[length] + 0.5 * (pair % 3 - 1) * (length + 1) for pair in range(5)]
    row = row_of(table, "permuted_beats_naive", length)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (row.mean, row.low, row.high) == pytest.approx((sum(values) / 5, low, high))
    assert (row.n, row.planned) == (5, 5)
    assert row.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_length_one_has_its_verdicts_elsewhere(study, results, table):
    assert sorted(table["length"].unique()) == [2, 4]
    first = verdicts.judge(study, results).set_index("claim")
    assert first.loc["permuted_beats_naive", "mean"] == pytest.approx(6.0, abs=0.3)
    assert first.loc["permuted_beats_naive", "verdict"] == "supported"
    assert row_of(table, "permuted_beats_naive", 2).verdict == "undecided"
    assert row_of(table, "permuted_beats_naive", 4).verdict == "not supported"


def test_p_values_are_adjusted_within_a_length(table):
    for _, part in table[table["p"].notna()].groupby(["family", "length"]):
        adjusted = multipletests(part["p"], 0.05, method="holm")[1]
        assert part["p_holm"].to_numpy() == pytest.approx(adjusted)
    counts = table[table["p"].notna()].groupby(["family", "length"]).size()
    assert counts[("paper", 2)] > counts[("paper", 4)] > 1  # k = 0 is not trained at length 4


def test_only_claims_that_compare_sparse_training_there_have_a_row(table):
    none = {"correction_lowers_barrier", "imp_stays_connected", "permuted_beats_naive_longest"}
    assert not none & {*table["claim"]}
    at_two, at_four = ({*table.loc[table["length"] == n, "claim"]} for n in (2, 4))
    assert at_two - at_four == {
        "close_at_initialisation",
        "rewinding_helps_permuted_more",
        "gap_grows_with_sparsity",
    }
    assert "naive_beats_shuffled" in at_four
    assert "permuted_beats_permuted_fan" not in at_two


def test_convergence_is_that_of_the_length(study, results, table):
    """Length 2 has twice its length for one sparsity of two, length 4 has none."""
    text = row_of(table, "permuted_beats_naive", 2).convergence
    assert text.startswith("4 cells") or " of 4 cells " in text
    assert "2 not shown" in text
    assert row_of(table, "permuted_beats_naive", 4).convergence == "2 of 2 cells not shown"


def test_results_of_another_length_leave_the_first_as_they_are(results):
    before = results.accuracy.copy()
    longer = results.at(4)
    assert (results.length, longer.length) == (1, 4)
    pd.testing.assert_frame_equal(results.accuracy, before)
    assert results.lengths() == [1, 2, 4]
    assert longer.planned.index.equals(longer.accuracy.index)
    assert {*longer.planned.index.get_level_values("sparsity")} == {0.9}
    assert longer.planned[["permuted", "naive"]].all(axis=None)
    assert longer.difference("permuted", "naive", late=True).groupby("pair").size().eq(1).all()


def test_a_study_of_one_length_has_no_such_tests_and_no_such_part_of_the_page():
    study = leveled.study(CELLS, CELLS | {"lengths": [2], "rates": [2]})
    rows = leveled.runs(study, lambda r: 50.0 + r["pair"])
    results = leveled.results(study, rows)
    longer = verdicts.judge_longer(study, results)
    assert isinstance(results, Results)
    assert results.lengths() == [1]  # length 2 has another rate alone
    assert longer.empty
    assert [*longer.columns] == [*verdicts.COLUMNS, "length"]
    assert "other lengths" not in page(study, results, longer, rows)


def test_the_page_prints_every_test(study, results, table):
    text = page(study, results, table, results._of[1])
    part = text.split("## The claims at other lengths of sparse training\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert claims_page.LONGER in part
    assert len(lines) == len(table)
    for line, row in zip(lines, table.itertuples(), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:4] == [row.claim, row.scope, f"{row.length:g}", row.verdict]
        assert cells[4] == f"{row.effect}: {claims_page.interval(row.mean, row.low, row.high)}"
        assert cells[6] == ("" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}")
        assert cells[7:] == [row.why, row.convergence]


def test_the_share_of_the_gap_is_given_at_every_length(study, results):
    """LTH is 12 points ahead of naive at every length, so the share follows from GAPS."""
    table = gap.shares_longer(results).set_index("length")
    assert [*table.index] == [2, 4]
    for length, row in table.iterrows():
        values = [GAPS[length] + 0.5 * (pair % 3 - 1) * (length + 1) for pair in range(5)]
        assert row["gap"] == pytest.approx(12)
        assert row["share"] == pytest.approx(sum(values) / 5 / 12)
        assert row["n"] == 5
    text = page(study, results, verdicts.judge_longer(study, results), results._of[1])
    part = text.split("## Share of the gap closed\n")[1].split("\n## ")[0]
    lengths = [line.split("|")[2].strip() for line in part.splitlines() if "digits" in line]
    assert lengths == ["1", "2", "4"]


def test_a_study_of_one_length_has_one_share():
    study = leveled.study(CELLS, CELLS | {"lengths": [2], "rates": [2]})
    results = leveled.results(study, leveled.runs(study, lambda r: 50.0 + r["pair"]))
    assert gap.shares_longer(results).empty


def test_too_few_pairs_decide_nothing():
    study = leveled.study(CELLS | {"pairs": FEWEST_UNITS - 1, "lengths": [1, 2]})
    rows = leveled.runs(study, lambda r: 50.0 + r["pair"])
    longer = verdicts.judge_longer(study, leveled.results(study, rows))
    assert {*longer["verdict"]} == {"undecided"}
    assert longer["p"].isna().all()


def page(study, results, longer, rows):
    table, shares, left = verdicts.judge(study, results), gap.shares(results), gap.left(results)
    more = gap.shares_longer(results)
    return claims_page.markdown(study, table, longer, shares, more, left, [rows])

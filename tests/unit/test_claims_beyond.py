"""Claims beyond the paper: their numbers on made-up runs, and how they are adjusted and tested."""

import functools

import leveled
import numpy as np
import pandas as pd
import pytest
import synthetic
from conftest import DEMO
from maskalign import claims, claims_beyond, gap, power, verdicts
from maskalign.claim import ABOVE, CLOSE
from maskalign.methods import METHODS, trained
from maskalign.study import Study
from maskalign.units import UNIT
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

CONTROLS = {"methods": trained(METHODS), "rewind_epochs": [0, 1]}
# The differences are unlike, so that no two claims of other methods have the same number.
LEVELS = {name: 50 + 2**i / 64 for i, name in enumerate(CONTROLS["methods"])}
FIRST_AND_SECOND = {
    "naive_beats_shuffled": ("naive", "shuffled"),
    "permuted_beats_shuffled": ("permuted", "shuffled"),
    "permuted_beats_permuted_fan": ("permuted", "permuted_fan"),
    "permuted_fan_beats_fan": ("permuted_fan", "fan"),
    "activity_closes_less": ("permuted", "activity"),
    "permuted_is_close_to_own": ("permuted", "own"),
    "random_permutation_equals_naive": ("random_permutation", "naive"),
}
LONGEST = "permuted_beats_naive_longest"


def weight(method, pair):
    return LEVELS[method] * (1 + pair / 10)


def accuracy(r):
    """Return accuracies whose differences are known; those at k = 0 are far off."""
    return weight(r["method"], r["pair"]) + 1000 * (r["rewind_epoch"] == 0) * LEVELS[r["method"]]


@functools.cache
def controlled():
    study = leveled.study(CONTROLS)
    return study, leveled.results(study, leveled.runs(study, accuracy))


def numbers(claim, results):
    (found,) = [c for c in claims_beyond.CLAIMS if c.name == claim]
    table = found.numbers(results)
    return dict(zip(table.pair.astype(int), table.value, strict=True))


def test_every_claims_number_is_that_of_its_words():
    _, results = controlled()
    assert {*FIRST_AND_SECOND, LONGEST} == {c.name for c in claims_beyond.CLAIMS}
    for claim in claims_beyond.CLAIMS[:-1]:
        first, second = FIRST_AND_SECOND[claim.name]
        assert claim.methods == (first, second)
        words = [name.replace("_", " ") for name in (first, second)]
        assert claim.effect == f"{words[0]} - {words[1]}, points"
        expected = {p: weight(first, p) - weight(second, p) for p in range(3)}
        assert numbers(claim.name, results) == pytest.approx(expected), claim.name
    assert numbers(LONGEST, results) == {}


def test_that_something_is_close_is_tested_on_both_sides():
    study, results = controlled()
    table = verdicts.judge(study, results).set_index("claim")
    close = ["permuted_is_close_to_own", "random_permutation_equals_naive"]
    for claim in claims_beyond.CLAIMS:
        assert claim.kind == (CLOSE if claim.name in close else ABOVE)
    for name in close:
        values = np.array([*numbers(name, results).values()])
        assert table.test[name] == "TOST, margin 1"
        if abs(values.mean()) < 1:
            assert table.p[name] == pytest.approx(DescrStatsW(values).ttost_mean(-1, 1)[0])
    assert abs(table["mean"]["permuted_is_close_to_own"]) < 1


def test_families_are_adjusted_apart(monkeypatch):
    study, results = controlled()
    table = verdicts.judge(study, results)
    assert [*dict.fromkeys(table.family)] == ["paper", "beyond"]
    for _, part in table[table.p.notna()].groupby("family"):
        assert len(part) > 2
        expected = multipletests(part.p, 0.05, method="holm")[1]
        assert part.p_holm.tolist() == pytest.approx(expected.tolist())
    monkeypatch.setattr(verdicts, "FAMILIES", {"paper": claims.CLAIMS})
    alone = verdicts.judge(study, results)
    pd.testing.assert_frame_equal(alone, table[table.family == "paper"])
    assert len(verdicts.overall(alone)) == len(claims.CLAIMS)


def test_a_study_without_controls_has_no_row_of_them_and_says_that_they_are_not_tested():
    study = leveled.study({})
    table = verdicts.judge(study, leveled.results(study, leveled.runs(study, lambda r: 50.0)))
    assert set(table.family) == {"paper"}
    every = verdicts.overall(table).set_index("claim")
    assert set(every.loc[every.family == "beyond", "held"]) == {verdicts.UNTESTED}
    assert every.n_untested[[*FIRST_AND_SECOND, LONGEST]].tolist() == 8 * [0]


def test_controls_change_no_claim_of_the_paper():
    """Beside the cells of the paper's methods stand all controls, at other pairs too."""
    several = {"sparsities": [0.8, 0.9], "rewind_epochs": [0, 1]}
    more = [CONTROLS | {"sparsities": [0.9]}, CONTROLS | {"methods": ["own"], "pairs": 6}]
    studies = leveled.study(several), leveled.study(several, *more)
    tables = []
    for study in studies:
        runs = leveled.runs(study, lambda r: weight(r["method"], r["pair"]))
        results = leveled.results(study, runs)
        judged = verdicts.judge(study, results)
        tables.append((judged[judged.family == "paper"], gap.shares(results)))
    for first, second in zip(*tables, strict=True):
        assert len(first)
        pd.testing.assert_frame_equal(first, second)


# -- the longest training --------------------------------------------------------------------------

GAP = {"methods": ["naive", "permuted"]}
# Accuracy by method, length and rate. Naive is best at rate 2, permuted at the recipe's: the gap is
# 10 - 7. The best of both together would be at rate 1, with a gap of 10 - 4.
BEST = {
    ("naive", 4, 0.5): 1.0,
    ("naive", 4, 1): 4.0,
    ("naive", 4, 2): 7.0,
    ("permuted", 4, 0.5): 8.0,
    ("permuted", 4, 1): 10.0,
    ("permuted", 4, 2): 9.0,
}


@functools.cache
def long(**more):
    cell = {
        name: list(values) if isinstance(values, tuple) else values for name, values in more.items()
    }
    cell = {"pairs": 4} | cell
    return leveled.study(
        GAP | cell | {"lengths": [1, 2, 4]},
        GAP | cell | {"lengths": [4], "rates": [0.5, 2]},
        GAP | {"dataset": "mnist", "lengths": [1, 2]},
    )


def longest(r):
    if r["dataset"] == "mnist":
        return 50 + 20 * (r["length"] == 2) * (r["method"] == "permuted") + r["pair"] / 10
    if r["length"] < 4:
        return 50 + 30 * (r["method"] == "permuted")
    own = BEST[r["method"], r["length"], r["rate"]]
    return 50 + own * (1 + r["pair"] / 10) + 1000 * (r["rewind_epoch"] == 0)


def of_digits(claim, results):
    table = claim.numbers(results)
    table = table[table.dataset == "digits"]
    return dict(zip(table.pair.astype(int), table.value, strict=True))


CLAIM = claims_beyond.CLAIMS[-1]


def test_the_longest_claim_is_about_the_longest_length_of_each_task_at_the_best_rates():
    study = long()
    results = leveled.results(study, leveled.runs(study, longest))
    lengths = {("digits", "resnet20"): 4, ("mnist", "resnet20"): 2}
    assert results.longest_lengths() == lengths
    found = results.longest()
    digits = found.loc[["digits"]]
    assert set(digits.rate_naive) == {2}
    assert set(digits.rate_permuted) == {1}
    table = CLAIM.numbers(results).set_index(UNIT).value
    assert table["digits", "resnet20"].to_dict() == pytest.approx(
        {p: 3 * (1 + p / 10) for p in range(4)}
    )
    assert table["mnist", "resnet20"].to_dict() == pytest.approx(dict.fromkeys(range(3), 20.0))


def test_the_longest_claim_is_about_later_rewind_epochs_and_chooses_rates_by_cell():
    """At sparsity 0.8 naive is best at half of the rate."""

    def accuracy(r):
        more = 100 * (r["sparsity"] == 0.8) * (r["method"] == "naive") * (r["rate"] == 0.5)
        return longest(r) + more * (r["length"] == 4) * (r["dataset"] == "digits")

    study = long(sparsities=(0.8, 0.9), rewind_epochs=(0, 1))
    results = leveled.results(study, leveled.runs(study, accuracy))
    digits = results.longest().loc[["digits"]]
    assert set(digits.index.get_level_values("rewind_epoch")) == {1}
    rates = digits.groupby("sparsity").rate_naive.unique().map(list).to_dict()
    assert rates == {0.8: [0.5], 0.9: [2.0]}
    gaps = {p: (10 - 1) * (1 + p / 10) - 100 for p in range(4)}
    expected = {p: (gaps[p] + 3 * (1 + p / 10)) / 2 for p in range(4)}
    assert of_digits(CLAIM, results) == pytest.approx(expected)


def lost(runs, method, rate, *seeds):
    hit = (runs.dataset == "digits") & (runs.method == method) & (runs.length == 4)
    hit &= (runs.rate == rate) & runs.mask_seed.isin(seeds)
    assert hit.any()
    return runs.assign(status=runs.status.mask(hit, "diverged"))


def test_a_rate_at_which_a_pair_lost_its_run_is_not_chosen():
    study = long()
    runs = leveled.runs(study, longest)
    whole = of_digits(CLAIM, leveled.results(study, lost(runs, "naive", 0.5, 0)))
    assert whole[0] == pytest.approx(3.0)
    results = leveled.results(study, lost(runs, "naive", 2, 0))
    best = max((1, 0.5), key=lambda rate: BEST["naive", 4, rate])
    assert set(results.longest().loc[["digits"]].rate_naive) == {best}
    assert not np.isnan([*of_digits(CLAIM, results).values()]).any()


def test_pairs_without_the_run_at_the_best_rate_do_not_count():
    study = long()
    runs = leveled.runs(study, longest)
    for rate in (0.5, 1, 2):  # a pair is lost at every rate
        runs = lost(runs, "naive", rate, 0)
    found = of_digits(CLAIM, leveled.results(study, runs))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(3.3)


def test_a_rate_counts_only_if_both_methods_and_all_pairs_have_it():
    """Rate 2 would be best for both; naive lacks it, or pairs do."""

    def accuracy(r):
        return 50 + 9 * (r["rate"] == 2) + (r["method"] == "permuted") + r["pair"] / 10

    both = {"methods": ["naive", "permuted"], "lengths": [2]}
    one = {"methods": ["permuted"], "lengths": [2], "rates": [2]}
    few = both | {"rates": [2], "pairs": 2}
    for more in (one, few):
        study = leveled.study(both, more)
        found = leveled.results(study, leveled.runs(study, accuracy)).longest()
        assert len(found) == 3
        assert {*found.rate_permuted, *found.rate_naive} == {1}
        assert found.gap.tolist() == pytest.approx([1.0] * 3)


def test_the_longest_length_is_that_of_later_rewind_epochs():
    parts = {"methods": ["naive", "permuted"]}
    study = leveled.study(
        parts | {"rewind_epochs": [0], "lengths": [4]}, parts | {"lengths": [1, 2]}
    )
    results = leveled.results(study, leveled.runs(study, lambda r: 50 + r["length"]))
    assert results.longest_lengths() == {("digits", "resnet20"): 2}


def test_the_best_rate_is_chosen_by_the_mean_over_pairs():
    """Rate 2 is best for most pairs, and rate 1 on average."""

    def accuracy(r):
        if r["dataset"] != "digits" or r["length"] < 4 or r["method"] == "permuted":
            return longest(r)
        return 50 + {0.5: 0.0, 1: 100.0 * (r["pair"] == 0), 2: 1.0}[r["rate"]]

    study = long()
    results = leveled.results(study, leveled.runs(study, accuracy))
    assert set(results.longest().loc[["digits"]].rate_naive) == {1}


def test_a_cell_that_diverged_at_every_rate_gives_its_pairs_no_number():
    study = long(sparsities=(0.8, 0.9))
    runs = leveled.runs(study, longest)
    gone = (runs.length == 4) & (runs.method == "naive") & (runs.sparsity == 0.8)
    runs.loc[gone, "status"] = "diverged"
    results = leveled.results(study, runs)
    assert [*of_digits(CLAIM, results)] == [0, 1, 2, 3]
    assert np.isnan([*of_digits(CLAIM, results).values()]).all()
    row = (
        verdicts.judge(study, results)
        .set_index(["claim", "scope"])
        .loc[LONGEST, "digits, resnet20"]
    )
    assert (row.n, row.planned, row.why) == (0, 4, "0 of 4 pairs have all runs")


def test_convergence_and_the_share_left_stand_beside_the_longest_claim_alone():
    study = long()
    results = leveled.results(study, leveled.runs(study, lambda r: longest(r) + r["pair"] ** 2))
    table = verdicts.judge(study, results).set_index(["claim", "scope"])
    row = table.loc[LONGEST, "digits, resnet20"]
    assert row.convergence == "2 of 2 cells not shown"  # two methods, each at its best rate
    assert table.loc[LONGEST, "mnist, resnet20"].convergence == row.convergence  # at its own length
    left = gap.left(results).set_index("dataset").loc["digits"]
    share = gap.share_text(left.share, left.low, left.high)
    assert row.beside == f"share of the gap at length 1 left (%): {share}" + (
        f" ({left.why})" if left.why else ""
    )
    other = table.loc["permuted_beats_naive", "mnist, resnet20"]
    assert other.convergence == "1 of 2 cells converged, 1 not converged"
    assert set(table.beside[[name != LONGEST for name, _ in table.index]]) == {""}


def test_a_study_that_trains_nothing_longer_has_no_longest_claim():
    study = leveled.study(GAP | {"lengths": [1]}, GAP | {"dataset": "mnist", "rewind_epochs": [0]})
    results = leveled.results(study, leveled.runs(study, lambda r: 50.0))
    assert results.longest().empty
    assert CLAIM.numbers(results).empty
    assert gap.left(results).empty


def test_power_splits_the_level_over_the_family_of_a_claim():
    sizes = {name: len(members) for name, members in verdicts.FAMILIES.items()}
    assert sizes == {"paper": 11, "beyond": 8}
    study, results = controlled()
    table = power.plan(study, results).set_index("claim")
    for name, family in (("permuted_beats_naive", "paper"), ("permuted_beats_shuffled", "beyond")):
        assert power._test(CLAIM, family)["alpha"] == pytest.approx(0.05 / sizes[family] / 2)
        least = {f: power._least(CLAIM, f, 10) * table.sd[name] for f in sizes}
        assert table.least_10[name] == pytest.approx(least[family])
        assert least["paper"] > 1.01 * least["beyond"]


def test_the_demo_tests_every_claim_beyond_the_paper():
    study = Study(DEMO)
    table = verdicts.judge(study, leveled.results(study, synthetic.runs(study)))
    beyond = table[table.family == "beyond"]
    assert set(beyond.claim) == {c.name for c in claims_beyond.CLAIMS}
    assert set(beyond.scope) == {"digits, resnet20"}
    assert set(beyond.n) == {3}

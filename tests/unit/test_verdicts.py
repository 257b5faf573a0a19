"""The tests behind the verdicts, against their textbook formulas."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from maskalign import convergence, verdicts
from maskalign.claim import ABOVE, BELOW, CLOSE, Claim
from maskalign.units import UNIT
from maskalign.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED
from scipy.stats import t

VALUES = np.array([0.2, 0.9, 1.4, 0.5, 0.6])
STUDY = SimpleNamespace(config={"claims": {"margin": 1.0}})
NO_CELLS = SimpleNamespace(states=pd.DataFrame(columns=convergence.COLUMNS))


def error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


def claim(kind, numbers=None, name="one"):
    return Claim(name, "text", "points", numbers, kind)


def result_of(values, kind, margin=1.0):
    return verdicts._test(claim(kind), np.array(values), margin)


def decided(monkeypatch, values, kind, margin=1.0):
    """Return the only row of a study's verdicts: one claim, one data set and model."""
    units = pd.DataFrame([("a", "net", pair) for pair in range(len(values))], columns=UNIT)
    numbers = units.assign(value=values)
    monkeypatch.setattr(verdicts, "FAMILIES", {"paper": [claim(kind, lambda r: numbers)]})
    study = SimpleNamespace(config={"claims": {"margin": margin}})
    (row,) = verdicts.judge(study, NO_CELLS).to_dict("records")
    return row


@pytest.mark.parametrize("sign", [1, -1])
def test_larger_is_a_two_sided_t_test(sign):
    row = result_of(sign * VALUES, ABOVE)
    half = t.isf(0.025, 4) * error(VALUES)
    assert row["p"] == pytest.approx(2 * t.sf(VALUES.mean() / error(VALUES), 4))
    assert row["mean"] == pytest.approx(sign * VALUES.mean())
    assert (row["low"], row["high"]) == pytest.approx((row["mean"] - half, row["mean"] + half))


@pytest.mark.parametrize("sign", [1, -1])
def test_close_is_two_one_sided_tests_against_the_margin(sign):
    row = result_of(sign * VALUES, CLOSE)
    sides = [(VALUES.mean() + 1) / error(VALUES), (1 - VALUES.mean()) / error(VALUES)]
    assert row["p"] == pytest.approx(max(t.sf(side, 4) for side in sides))
    assert row["test"] == "TOST, margin 1"


@pytest.mark.parametrize("sign", [1, -1])
def test_not_close_is_a_test_against_the_nearer_end_of_the_margin(sign):
    row = result_of(sign * (VALUES + 2), CLOSE)
    assert row["p"] == pytest.approx(t.sf((VALUES.mean() + 2 - 1) / error(VALUES), 4))


@pytest.mark.parametrize(("shift", "side"), [(0.0, 1), (2.0, -1), (-9.0, 1)])
def test_below_is_a_one_sided_test_against_the_margin(shift, side):
    row = result_of(VALUES + shift, BELOW)
    distance = (1 - VALUES.mean() - shift) / error(VALUES)
    assert row["p"] == pytest.approx(t.sf(side * distance, 4))
    assert row["test"] == "t-test, margin 1"


@pytest.mark.parametrize(
    ("kind", "mean", "verdict"),
    [
        (ABOVE, 2.0, SUPPORTED),
        (ABOVE, -2.0, NOT_SUPPORTED),
        (ABOVE, 0.05, UNDECIDED),
        (CLOSE, 0.05, SUPPORTED),
        (CLOSE, 2.0, NOT_SUPPORTED),
        (CLOSE, -2.0, NOT_SUPPORTED),
        (CLOSE, 0.95, UNDECIDED),
        (CLOSE, 1.05, UNDECIDED),
        (BELOW, 0.05, SUPPORTED),
        (BELOW, -2.0, SUPPORTED),
        (BELOW, 2.0, NOT_SUPPORTED),
        (BELOW, 1.05, UNDECIDED),
    ],
)
def test_a_verdict_needs_a_mean_on_its_side_and_a_small_p(monkeypatch, kind, mean, verdict):
    values = VALUES - VALUES.mean() + mean
    row = decided(monkeypatch, values / 1.0, kind)
    assert row["verdict"] == verdict
    assert row["why"] == (verdicts.NOT_DECIDED if verdict == UNDECIDED else "")


def test_supported_and_not_supported_need_the_same_adjusted_p(monkeypatch):
    """Twelve claims share the level: an interval just outside the margin decides nothing."""
    spread = VALUES - VALUES.mean()
    half = t.isf(0.025, 4) * error(VALUES)
    for kind, mean in ((CLOSE, 1.01 + half), (CLOSE, -1.01 - half), (ABOVE, -0.01 - half)):
        units = pd.DataFrame([("a", "net", pair) for pair in range(5)], columns=UNIT)
        numbers = units.assign(value=spread + mean)
        weak = units.assign(value=spread)
        many = [claim(kind, lambda r, numbers=numbers: numbers, "first")]
        many += [claim(ABOVE, lambda r, weak=weak: weak, f"{i}") for i in range(11)]
        for claims, verdict in ((many[:1], NOT_SUPPORTED), (many, UNDECIDED)):
            monkeypatch.setattr(verdicts, "FAMILIES", {"paper": claims})
            assert verdicts.judge(STUDY, NO_CELLS).verdict[0] == verdict


@pytest.mark.parametrize("value", [0.0, 0.5, 5.0, -0.5, 0.1 + 0.2])
@pytest.mark.parametrize("kind", [ABOVE, CLOSE, BELOW])
def test_numbers_that_are_all_equal_have_no_p(monkeypatch, kind, value):
    """Rounding is no spread: 0.1 + 0.2 differs from 0.3 in its last digit."""
    values = [value, value, value, 0.3 if 0.3 < value < 0.4 else value]
    row = decided(monkeypatch, values, kind)
    assert math.isnan(row["p"])
    assert math.isnan(row["p_holm"])
    assert row["verdict"] == UNDECIDED
    assert row["why"] == "all numbers are equal"


def numbers(draws):
    """Return the numbers of a claim: three units of one data set and four of another."""
    units = [("a", "net", pair) for pair in range(3)] + [("b", "net", pair) for pair in range(4)]
    return pd.DataFrame(units, columns=UNIT).assign(value=draws)


def test_p_values_are_adjusted_over_the_claims_of_a_scope(monkeypatch):
    draw = np.random.default_rng(0)
    tables = [numbers(draw.normal(mean, 1, 7)) for mean in (0.1, 1.0, 2.0, -4.0)]
    made = [claim(ABOVE, lambda r, table=table: table, f"{i}") for i, table in enumerate(tables)]
    monkeypatch.setattr(verdicts, "FAMILIES", {"paper": made})
    found = verdicts.judge(STUDY, NO_CELLS)
    assert set(found.scope) == {"a, net", "b, net"}
    for scope, of in (("a, net", "a"), ("b, net", "b")):
        values = [x.value[x.dataset == of].to_numpy() for x in tables]
        p = [2 * t.sf(abs(v.mean()) / error(v), len(v) - 1) for v in values]
        holm, least = [0.0] * 4, 0.0
        for rank, i in enumerate(np.argsort(p)):
            least = holm[i] = max(least, min(1.0, (4 - rank) * p[i]))
        part = found[found.scope == scope]
        assert part.p.tolist() == pytest.approx(p)
        assert part.p_holm.tolist() == pytest.approx(holm)
        verdict = [
            UNDECIDED if h > 0.05 else SUPPORTED if v.mean() > 0 else NOT_SUPPORTED
            for h, v in zip(holm, values, strict=True)
        ]
        assert part.verdict.tolist() == verdict
        assert part.n.tolist() == [len(v) for v in values]


@pytest.mark.parametrize(("count", "verdict"), [(2, UNDECIDED), (3, SUPPORTED)])
def test_three_units_are_needed(monkeypatch, count, verdict):
    assert decided(monkeypatch, [5.0, 5.1, 4.9][:count], ABOVE)["verdict"] == verdict


def test_units_without_a_number_do_not_count(monkeypatch):
    row = decided(monkeypatch, [3.0, 4.0, np.nan, 5.0, np.nan, 4.5, 3.5], ABOVE)
    assert (row["n"], row["mean"]) == (5, pytest.approx(4.0))


def test_a_claim_holds_in_all_some_or_none_of_what_could_be_tested(monkeypatch):
    rows = {
        "first": [SUPPORTED, SUPPORTED],
        "second": [SUPPORTED, NOT_SUPPORTED, UNDECIDED],
        "third": [UNDECIDED],
        "fourth": [],
        "fifth": [],
    }
    monkeypatch.setattr(verdicts, "FAMILIES", {"paper": [claim(ABOVE, name=n) for n in rows]})
    could = [(name, verdict, 0.5) for name, found in rows.items() for verdict in found]
    could_not = [(name, UNDECIDED, math.nan) for name in ("first", "fourth", "fourth")]
    table = pd.DataFrame(could + could_not, columns=["claim", "verdict", "p"])
    found = verdicts.overall(table).set_index("claim")
    assert found.held.tolist() == ["all", "some", "none", "not tested", "not tested"]
    assert found.supported.tolist() == [
        "in all (2 of 2)",
        "in some (1 of 3)",
        "in none (0 of 1)",
        "not tested",
        "not tested",
    ]
    counts = found[["n_supported", "n_not_supported", "n_undecided", "n_untested"]].to_numpy()
    assert counts.tolist() == [[2, 0, 0, 1], [1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2], [0, 0, 0, 0]]

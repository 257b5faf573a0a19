"""The tests behind the verdicts, against their textbook formulas."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from maskalign import verdicts
from maskalign.claims import UNIT, Claim
from maskalign.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED
from scipy.stats import t

VALUES = np.array([0.2, 0.9, 1.4, 0.5, 0.6])


def error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("sign", [1, -1])
def test_larger_is_a_two_sided_t_test(sign):
    row = verdicts._test(sign * VALUES, close=False, margin=1.0)
    half = t.isf(0.025, 4) * error(VALUES)
    assert row["p"] == pytest.approx(2 * t.sf(VALUES.mean() / error(VALUES), 4))
    assert row["mean"] == pytest.approx(sign * VALUES.mean())
    assert (row["low"], row["high"]) == pytest.approx((row["mean"] - half, row["mean"] + half))


@pytest.mark.parametrize("sign", [1, -1])
def test_close_is_two_one_sided_tests_against_the_margin(sign):
    row = verdicts._test(sign * VALUES, close=True, margin=1.0)
    sides = [(VALUES.mean() + 1) / error(VALUES), (1 - VALUES.mean()) / error(VALUES)]
    assert row["p"] == pytest.approx(max(t.sf(side, 4) for side in sides))


def test_close_is_refuted_only_by_an_interval_outside_the_margin():
    row = {"test": "TOST, margin 1", "p_holm": 0.7, "mean": 1.5}
    cases = [(1.1, 1.9, NOT_SUPPORTED), (0.8, 2.2, UNDECIDED), (-1.9, -1.1, NOT_SUPPORTED)]
    for low, high, verdict in cases:
        assert verdicts._verdict(row | {"low": low, "high": high}, margin=1.0) == verdict


def numbers(draws):
    """Return the numbers of a claim: three units of one data set and four of another."""
    units = [("a", "net", 1, pair) for pair in range(3)] + [("b", "net", 1, p) for p in range(4)]
    return pd.DataFrame(units, columns=UNIT).assign(value=draws)


def test_p_values_are_adjusted_over_the_claims_of_a_scope(monkeypatch):
    draw = np.random.default_rng(0)
    tables = [numbers(draw.normal(mean, 1, 7)) for mean in (0.1, 1.0, 2.0, -4.0)]
    made = [
        Claim(f"{i}", "text", "points", lambda r, table=table: table)
        for i, table in enumerate(tables)
    ]
    monkeypatch.setattr(verdicts, "CLAIMS", made)
    monkeypatch.setattr(verdicts, "Results", lambda study, runs: None)
    study = SimpleNamespace(config={"claims": {"margin": 1.0}})
    found = verdicts.judge(study, pd.DataFrame())
    for scope, of in (("all", "ab"), ("a, net", "a"), ("b, net", "b")):
        values = [x.value[x.dataset.isin([*of])].to_numpy() for x in tables]
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
def test_three_units_are_needed(count, verdict):
    row = verdicts._test(np.array([5.0, 5.1, 4.9])[:count], close=False, margin=1.0)
    assert verdicts._verdict(row | {"p_holm": row["p"]}, margin=1.0) == verdict


def test_units_without_a_number_do_not_count(monkeypatch):
    values = np.array([3.0, 4.0, np.nan, 5.0, np.nan, 4.5, 3.5])
    made = Claim("one", "text", "points", lambda r: numbers(values))
    monkeypatch.setattr(verdicts, "CLAIMS", [made])
    monkeypatch.setattr(verdicts, "Results", lambda study, runs: None)
    study = SimpleNamespace(config={"claims": {"margin": 1.0}})
    row = verdicts.judge(study, pd.DataFrame()).set_index("scope").loc["all"]
    assert (row.n, row["mean"]) == (5, pytest.approx(4.0))

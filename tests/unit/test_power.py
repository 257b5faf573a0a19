"""The planned number of units finds what it says, as often as it says."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import synthetic
from maskalign import power, verdicts
from maskalign.claim import ABOVE, BELOW, CLOSE
from maskalign.claims import CLAIMS
from maskalign.study import Study
from maskalign.units import UNIT, Results
from statsmodels.stats.weightstats import DescrStatsW
from test_claims import planted

BETTER, NEAR, RISES = (next(c for c in CLAIMS if c.kind == k) for k in (ABOVE, CLOSE, BELOW))
DRAWS = 1000


@pytest.mark.parametrize("n", [5, 20])
def test_the_least_effect_is_found_at_the_stated_power(n):
    draw = np.random.default_rng(n)
    values = draw.normal(power._least(BETTER, "paper", n), 1, (DRAWS, n))
    p = np.array([verdicts.P[ABOVE](v, 1.0) for v in values])
    assert (p < verdicts.LEVEL / len(CLAIMS)).mean() == pytest.approx(power.POWER, abs=0.04)


@pytest.mark.parametrize("n", [5, 20])
def test_the_least_margin_shows_equal_results_to_be_close(n):
    draw = np.random.default_rng(n)
    margin = power._least(NEAR, "paper", n)
    p = [DescrStatsW(v).ttost_mean(-margin, margin)[0] for v in draw.normal(0, 1, (DRAWS, n))]
    found = (np.array(p) < verdicts.LEVEL / len(CLAIMS)).mean()
    assert found == pytest.approx(power.POWER, abs=0.04)


@pytest.mark.parametrize("n", [5, 20])
def test_the_least_distance_below_the_margin_is_found_at_the_stated_power(n):
    draw = np.random.default_rng(n)
    values = draw.normal(1.0 - power._least(RISES, "paper", n), 1, (DRAWS, n))
    p = np.array([verdicts.P[BELOW](v, 1.0) for v in values])
    found = (p < verdicts.LEVEL / len(CLAIMS)) & (values.mean(1) < 1.0)
    assert found.mean() == pytest.approx(power.POWER, abs=0.04)


@pytest.mark.parametrize(("mean", "needed"), [(3.09, 6), (4.2, 5), (0.5, 59), (0.05, 5419)])
def test_so_many_units_are_needed_and_no_fewer(mean, needed):
    level = verdicts.LEVEL / len(CLAIMS)

    def found(n):
        least = scipy.stats.t.isf(level / 2, n - 1)
        return scipy.stats.nct.sf(least, n - 1, mean * math.sqrt(n))

    assert power._needed(BETTER, "paper", -mean, 1.0, 0.0) == needed
    assert found(needed - 1) < power.POWER <= found(needed)


def test_a_pilot_says_how_many_units_its_effect_needs(demo):
    demo["experiments"]["cifar10"] |= {"pairs": 4}
    study = Study(demo)
    runs, curves = planted(study, permuted=1.0, noise=2.0, seed=1), synthetic.curves(study)
    small, large = (
        power.plan(
            study, Results(study, planted(study, permuted=effect, noise=2.0, seed=1), curves)
        )
        .query("scope == 'mnist, resnet20'")
        .set_index("claim")
        for effect in (1.0, 8.0)
    )
    name = "permuted_beats_naive"
    assert small.loc[name, "n"] == 4  # pairs, whatever their widths
    assert large.loc[name, "needed"] < small.loc[name, "needed"]
    assert large.loc[name, "least_5"] > large.loc[name, "least_60"] > 0
    assert math.isinf(large.loc["close_at_initialisation", "needed"])  # 8 points are not close
    page = power.markdown(study, small.reset_index(), [runs, curves])
    assert f"| {small.loc[name, 'needed']:.0f} |" in page


def test_numbers_that_differ_by_rounding_alone_plan_nothing(demo, monkeypatch):
    units = pd.DataFrame([("a", "net", pair) for pair in range(3)], columns=UNIT)
    numbers = units.assign(value=[90.1 - 90.0, 50.1 - 50.0, 10.1 - 10.0])
    assert numbers.value.std() > 0
    made = dataclasses.replace(BETTER, numbers=lambda r: numbers)
    monkeypatch.setattr(power, "FAMILIES", {"paper": [made]})
    assert power.plan(Study(demo), None).empty


@pytest.mark.parametrize("permuted", [0.5, -0.5])
def test_a_plan_follows_from_mean_and_sample_std_of_the_pilots_units(demo, permuted):
    demo["experiments"]["cifar10"] |= {"pairs": 4}
    study = Study(demo)
    runs = planted(study, permuted=permuted, noise=0.3, seed=2)
    results, signs = Results(study, runs, synthetic.curves(study)), set()
    table = power.plan(study, results)
    for row in table.to_dict("records"):
        ((claim, size),) = (
            (c, len(family))
            for family in verdicts.FAMILIES.values()
            for c in family
            if c.name == row["claim"]
        )
        found = claim.numbers(results)
        found = found[(found.dataset + ", " + found.model) == row["scope"]].value.to_numpy()
        sd = math.sqrt(((found - found.mean()) ** 2).sum() / (len(found) - 1))
        assert [row["n"], row["mean"], row["sd"]] == pytest.approx([len(found), found.mean(), sd])
        level = verdicts.LEVEL / size / (2 if claim.kind == ABOVE else 1)
        wanted = 0.9 if claim.kind == CLOSE else 0.8

        def power_of(effect, n, sd=sd, level=level):
            least = scipy.stats.t.isf(level, n - 1)
            return scipy.stats.nct.sf(least, n - 1, effect / sd * math.sqrt(n))

        for n in power.UNITS:
            assert power_of(row[f"least_{n}"], n) == pytest.approx(wanted, abs=1e-3)
        mean, margin = found.mean(), 1.0
        effect = {ABOVE: abs(mean), CLOSE: margin - abs(mean), BELOW: margin - mean}[claim.kind]
        if effect <= 0:
            assert math.isinf(row["needed"])
            continue
        assert power_of(effect, row["needed"]) >= wanted
        if row["needed"] > verdicts.FEWEST_UNITS:
            assert power_of(effect, row["needed"] - 1) < wanted
        signs.add((claim.kind, mean > 0))
    assert (CLOSE, permuted > 0) in signs

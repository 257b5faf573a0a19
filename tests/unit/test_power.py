"""The planned number of units finds what it says, as often as it says."""

import math

import numpy as np
import pytest
import scipy.stats
from maskalign import power, verdicts
from maskalign.claims import CLAIMS, Results
from maskalign.study import Study
from statsmodels.stats.weightstats import DescrStatsW
from test_claims import planted

BETTER = next(c for c in CLAIMS if not c.close)
CLOSE = next(c for c in CLAIMS if c.close)
DRAWS = 1500


@pytest.mark.parametrize("n", [5, 20])
def test_the_least_effect_is_found_at_the_stated_power(n):
    draw = np.random.default_rng(n)
    values = draw.normal(power._least(BETTER, n), 1, (DRAWS, n))
    p = np.array([verdicts._test(v, False, 1.0)["p"] for v in values])
    assert (p < verdicts.LEVEL / len(CLAIMS)).mean() == pytest.approx(power.POWER, abs=0.04)


@pytest.mark.parametrize("n", [5, 20])
def test_the_least_margin_shows_equal_results_to_be_close(n):
    draw = np.random.default_rng(n)
    margin = power._least(CLOSE, n)
    p = [DescrStatsW(v).ttost_mean(-margin, margin)[0] for v in draw.normal(0, 1, (DRAWS, n))]
    found = (np.array(p) < verdicts.LEVEL / len(CLAIMS)).mean()
    assert found == pytest.approx(power.POWER, abs=0.04)


@pytest.mark.parametrize(("mean", "needed"), [(3.09, 6), (4.2, 5), (0.5, 59), (0.05, 5419)])
def test_so_many_units_are_needed_and_no_fewer(mean, needed):
    level = verdicts.LEVEL / len(CLAIMS)

    def found(n):
        least = scipy.stats.t.isf(level / 2, n - 1)
        return scipy.stats.nct.sf(least, n - 1, mean * math.sqrt(n))

    assert power._needed(BETTER, -mean, 1.0, 0.0) == needed
    assert found(needed - 1) < power.POWER <= found(needed)


def test_a_pilot_says_how_many_units_its_effect_needs(demo):
    study = Study(demo)
    runs = planted(study, permuted=1.0, noise=2.0, seed=1)
    small, large = (
        power.plan(study, planted(study, permuted=effect, noise=2.0, seed=1))
        .query("scope == 'mnist, resnet20'")
        .set_index("claim")
        for effect in (1.0, 8.0)
    )
    name = "permuted_beats_naive"
    assert small.loc[name, "n"] == 4  # two pairs at two widths
    assert large.loc[name, "needed"] < small.loc[name, "needed"]
    assert large.loc[name, "least_5"] > large.loc[name, "least_60"] > 0
    assert math.isinf(large.loc["close_at_initialisation", "needed"])  # 8 points are not close
    page = power.markdown(study, small.reset_index(), runs)
    assert f"| {small.loc[name, 'needed']:.0f} |" in page


@pytest.mark.parametrize("permuted", [0.5, -0.5])
def test_a_plan_follows_from_mean_and_sample_std_of_the_pilots_units(demo, permuted):
    study = Study(demo)
    runs = planted(study, permuted=permuted, noise=0.3, seed=2)
    table, results, signs = power.plan(study, runs), Results(study, runs), set()
    for row in table.to_dict("records"):
        (claim,) = (c for c in CLAIMS if c.name == row["claim"])
        found = claim.numbers(results)
        found = found[(found.dataset + ", " + found.model) == row["scope"]].value.to_numpy()
        sd = math.sqrt(((found - found.mean()) ** 2).sum() / (len(found) - 1))
        assert [row["n"], row["mean"], row["sd"]] == pytest.approx([len(found), found.mean(), sd])
        level = verdicts.LEVEL / len(CLAIMS) / (1 if claim.close else 2)
        wanted = 0.9 if claim.close else 0.8

        def power_of(effect, n, sd=sd, level=level):
            least = scipy.stats.t.isf(level, n - 1)
            return scipy.stats.nct.sf(least, n - 1, effect / sd * math.sqrt(n))

        for n in power.UNITS:
            assert power_of(row[f"least_{n}"], n) == pytest.approx(wanted, abs=1e-3)
        effect = 1.0 - abs(found.mean()) if claim.close else abs(found.mean())  # margin 1
        if effect <= 0:
            assert math.isinf(row["needed"])
            continue
        assert power_of(effect, row["needed"]) >= wanted
        if row["needed"] > verdicts.FEWEST_UNITS:
            assert power_of(effect, row["needed"] - 1) < wanted
        signs.add((claim.close, found.mean() > 0))
    assert (True, permuted > 0) in signs

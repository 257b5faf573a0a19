"""What a study of n independent units can decide, by the spread that a pilot study shows.

A unit is an independent pair, for ensembles a mask. The tests are those of ``verdicts``: the level
is split over all claims of a family (the paper's, or those beyond it), as Holm's correction does
for the smallest p-value, and a claim counts as decidable at 80 % power.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import pandas as pd
from statsmodels.stats.power import TTestPower

from maskalign import origin
from maskalign.claim import ABOVE, BELOW, CLOSE, FEWEST_UNITS, LEVEL, Claim, equal
from maskalign.study import Study
from maskalign.units import TASK, Results
from maskalign.verdicts import FAMILIES

POWER = 0.8
UNITS = [5, 10, 20, 30, 60]
COLUMNS = ["claim", "effect", "scope", "n", "mean", "sd", "needed"]


def plan(study: Study, results: Results) -> pd.DataFrame:
    """Compute from the spread between a pilot's units what n units can show.

    Args:
        study: the pilot study.
        results: its runs by pair and cell.

    Returns:
        One row a claim, data set and model: claim, effect (what the number is, and its unit),
        scope, the pilot's n, mean and sd, ``needed``, the units at which an effect of the pilot's
        size is found (infinite if none would do), and ``least_<n>``, the smallest effect that n
        units find; for "close" claims it is the least margin within which they show two equal
        results, for "hardly rises" the least distance below the margin that they find.
    """
    rows = []
    for family, claim in ((f, c) for f, members in FAMILIES.items() for c in members):
        for (dataset, model), part in claim.numbers(results).groupby(TASK):
            values = part["value"].dropna()
            if len(values) < FEWEST_UNITS or equal(values.to_numpy()):
                continue
            about = {"claim": claim.name, "effect": claim.effect, "scope": f"{dataset}, {model}"}
            spread = {"n": len(values), "mean": values.mean(), "sd": values.std()}
            margin = study.config["claims"]["margin"]
            needed = {"needed": _needed(claim, family, values.mean(), values.std(), margin)}
            least = {f"least_{n}": _least(claim, family, n) * values.std() for n in UNITS}
            rows.append(about | spread | needed | least)
    return pd.DataFrame(rows, columns=[*COLUMNS, *(f"least_{n}" for n in UNITS)])


def _test(claim: Claim, family: str) -> dict[str, Any]:
    """Return the test of a claim, as the side of it on which the effect lies.

    A two-sided test is found on that side alone. "Close" is two one-sided tests: with a true
    difference of 0 both must succeed, so each is given half of what may fail.
    """
    level = LEVEL / len(FAMILIES[family])
    power = 1 - (1 - POWER) / 2 if claim.kind == CLOSE else POWER
    return {
        "alpha": level / 2 if claim.kind == ABOVE else level,
        "power": power,
        "alternative": "larger",
    }


def _least(claim: Claim, family: str, n: int) -> float:
    return float(TTestPower().solve_power(nobs=n, **_test(claim, family)))


def _needed(claim: Claim, family: str, mean: float, sd: float, margin: float) -> float:
    effect = {ABOVE: abs(mean), CLOSE: margin - abs(mean), BELOW: margin - mean}[claim.kind]
    if effect <= 0:
        return math.inf
    test = _test(claim, family)
    wanted = test.pop("power")

    def enough(n: int) -> bool:
        return TTestPower().power(effect / sd, n, **test) >= wanted

    most = FEWEST_UNITS
    while not enough(most):
        most *= 2
    return FEWEST_UNITS + bisect_left(range(FEWEST_UNITS, most), True, key=enough)


def markdown(study: Study, table: pd.DataFrame, sources: Iterable[pd.DataFrame]) -> str:
    """Return the plan as a page.

    Below the title stands a warning if the rows of ``sources``, the pilot's runs.csv and
    connectivity.csv, have several result versions or another version than this code makes.
    """
    heads = ["Claim", "Scope", "Effect (mean ± sd of n)", "Units needed"]
    heads += [f"Least effect, {n} units" for n in UNITS]
    lines = [f"# What n units can decide: pilot {study.name}, protocol {study.protocol}", ""]
    lines += origin.paragraph(pd.concat(sources))
    lines += [" ".join(str(__doc__).split()), ""]
    lines += [f"| {' | '.join(heads)} |", "|---|---|---|" + "---:|" * (1 + len(UNITS))]
    for row in table.to_dict("records"):
        effect = f"{row['mean']:.2f} ± {row['sd']:.2f} of {row['n']}, {row['effect']}"
        needed = "none would do" if math.isinf(row["needed"]) else f"{row['needed']:.0f}"
        least = [f"{row[f'least_{n}']:.2f}" for n in UNITS]
        lines.append(f"| {' | '.join([row['claim'], row['scope'], effect, needed, *least])} |")
    return "\n".join(lines) + "\n"

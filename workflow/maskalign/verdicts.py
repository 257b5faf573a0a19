"""The claims as statistical tests over the runs of a study.

The unit is an independent pair (A, B); for ensembles it is the mask. A unit gives each claim one
number, a mean or a slope over widths, sparsities and rewind epochs. Only cells count that the study
plans for every unit. A unit without one of these runs, such as one that diverged, does not count.
Every data set and model has its own verdict, and architectures are never pooled. "Larger" and
"grows" are two-sided t-tests of the numbers against 0. "Close" is an equivalence test (TOST)
with the study's margin if the mean is within it, else a one-sided t-test against the nearer end of
the margin. "Hardly rises" is a one-sided t-test against the margin. p-values are adjusted by Holm
over the claims of one data set and model, the paper's claims and those beyond it apart. An adjusted
p of at most 0.05 decides: the claim is supported if the mean is on its side, else not supported.
Intervals are 95 %, not adjusted. A claim is supported in all, some or none of the data sets and
models in which it could be tested; this count is not adjusted over data sets and models.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from maskalign import claims, claims_beyond, convergence, gap
from maskalign.claim import (
    ABOVE,
    BELOW,
    CLOSE,
    EQUAL,
    FEWEST_UNITS,
    LEVEL,
    Claim,
    equal,
    few,
)
from maskalign.study import Study
from maskalign.units import CELL, TASK, Results

# By family: p-values are adjusted within one.
FAMILIES = {"paper": claims.CLAIMS, "beyond": claims_beyond.CLAIMS}
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
VERDICTS = [SUPPORTED, NOT_SUPPORTED, UNDECIDED]
UNTESTED = "not tested"
HELD = ["all", "some", "none", UNTESTED]
NOT_DECIDED = f"adjusted p above {LEVEL:g}"
COLUMNS = [
    *("family", "claim", "text", "effect", "unit", "scope", "mean", "low", "high", "n"),
    *("planned", "test", "p", "p_holm", "verdict", "why", "convergence", "beside"),
]
TESTS = {ABOVE: "t-test", CLOSE: "TOST, margin {:g}", BELOW: "t-test, margin {:g}"}


def judge(study: Study, results: Results) -> pd.DataFrame:
    """Test every claim for each data set and model.

    Args:
        study: the study; ``claims.margin`` is what counts as close, in points.
        results: its runs by pair and cell.

    Returns:
        One row (COLUMNS) per claim and scope, a data set and model: mean, low, high (95 %
        interval), n (units that count), planned (all units), p, p_holm, verdict, and ``why`` it is
        undecided. Fewer than three units or numbers that are all equal have no p and are undecided.
        ``convergence`` says how many cells of its methods have converged, ``beside`` what else is
        to be read with it.
    """
    return _judge(study, results, list(_every()))


def judge_longer(study: Study, results: Results) -> pd.DataFrame:
    """Make the tests of claims that compare sparse training at every other length than 1.

    They stand beside the verdicts, which are those of length 1, and change none. p-values are
    adjusted over the claims of one family, data set, model and length.

    Returns:
        As ``judge``, with a column ``length``: one row per claim, scope and length at which the
        study plans its runs.
    """
    compared = [(f, claim) for f, claim in _every() if claim.methods and not claim.longest]
    parts = [pd.DataFrame(columns=[*COLUMNS, "length"])]
    for length in results.lengths():
        if length != 1:
            table = _judge(study, results.at(length), compared)
            parts.append(table[table["planned"] > 0].assign(length=length))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _judge(study: Study, results: Results, claims: list[tuple[str, Claim]]) -> pd.DataFrame:
    margin, rows = study.config["claims"]["margin"], []
    for family, claim in claims:
        left = gap.left(results) if claim.longest else None
        converged = _convergence(claim, results)
        for task, part in claim.numbers(results).groupby(TASK):
            tested = _test(claim, part["value"].to_numpy(float), margin)
            about = {"family": family, "claim": claim.name, "text": claim.text}
            about |= {"effect": claim.effect, "unit": claim.unit, "scope": ", ".join(task)}
            about["convergence"] = converged.get(task, "")
            about["beside"] = gap.left_text(left, task) if left is not None else ""
            rows.append(about | tested)
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, tested in table[table["p"].notna()].groupby(["family", "scope"]):
        table.loc[tested.index, "p_holm"] = multipletests(tested["p"], LEVEL, method="holm")[1]
    kinds = {claim.name: claim.kind for _, claim in _every()}
    every = table.to_dict("records")
    table["verdict"] = [_verdict(row, kinds[row["claim"]], margin) for row in every]
    table.loc[(table["verdict"] == UNDECIDED) & table["p"].notna(), "why"] = NOT_DECIDED
    return table


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """Return where each claim holds: in all, some or none of the data sets and models.

    Only those count in which the claim could be tested: with a p.

    Args:
        table: what ``judge`` returns.

    Returns:
        One row per claim: family, claim, text, effect, ``held`` (of HELD), ``supported`` (the same
        in words), ``n_supported``, ``n_not_supported``, ``n_undecided`` and ``n_untested``.
    """
    rows = []
    for family, claim in _every():
        own = table[table["claim"] == claim.name]
        could = own[own["p"].notna()]
        counts = [int((could["verdict"] == verdict).sum()) for verdict in VERDICTS]
        numbers = dict(zip(("n_supported", "n_not_supported", "n_undecided"), counts, strict=True))
        numbers["n_untested"] = len(own) - len(could)
        about = {"family": family, "claim": claim.name, "text": claim.text, "effect": claim.effect}
        held = _held(counts[0], len(could))
        words = UNTESTED if held == UNTESTED else f"in {held} ({counts[0]} of {len(could)})"
        rows.append(about | {"held": held, "supported": words} | numbers)
    return pd.DataFrame(rows)


def _every() -> Iterator[tuple[str, Claim]]:
    for family, members in FAMILIES.items():
        for claim in members:
            yield family, claim


def _convergence(claim: Claim, results: Results) -> dict[tuple[str, str], str]:
    """Return by data set and model how many of a claim's cells have converged, in words."""
    if not claim.methods:
        return {}
    if claim.longest:
        found = results.longest().reset_index()
        lengths = results.longest_lengths()
        length = [lengths[task] for task in found[TASK].itertuples(index=False, name=None)]
        parts = [found.rename(columns={f"rate_{m}": "rate"}) for m in claim.methods]
    else:
        found = results.difference(*claim.methods, late=claim.late).rename("value").reset_index()
        parts, length = [found.assign(rate=1.0)] * 2, results.length
    if found.empty:
        return {}
    named = zip(claim.methods, parts, strict=True)
    keys = [*TASK, "method", *CELL, "length", "rate"]
    cells = pd.concat([p.assign(method=m, length=length) for m, p in named])[keys]
    cells = cells.drop_duplicates().astype(dict.fromkeys(keys[3:], float))
    states = results.states.astype(dict.fromkeys(keys[3:], float)).merge(cells, on=keys)
    return {task: convergence.words(part) for task, part in states.groupby(TASK)}


def _verdict(row: dict[str, Any], kind: str, margin: float) -> str:
    if not row["p_holm"] <= LEVEL:
        return UNDECIDED
    return SUPPORTED if _holds(kind, row["mean"], margin) else NOT_SUPPORTED


def _held(supported: int, scopes: int) -> str:
    if not scopes:
        return UNTESTED
    return "all" if supported == scopes else "some" if supported else "none"


def _holds(kind: str, mean: float, margin: float) -> bool:
    """Return whether a mean is on the claim's side."""
    return {ABOVE: mean > 0, CLOSE: abs(mean) < margin, BELOW: mean < margin}[kind]


def _test(claim: Claim, values: np.ndarray, margin: float) -> dict[str, Any]:
    planned, values = len(values), values[~np.isnan(values)]
    n = len(values)
    row = {"mean": values.mean() if n else math.nan, "low": math.nan, "high": math.nan}
    row |= {
        "n": n,
        "planned": planned,
        "test": TESTS[claim.kind].format(margin),
        "p": math.nan,
        "why": "",
    }
    if n < FEWEST_UNITS:
        return row | {"why": few(n, planned, claim.unit)}
    if equal(values):
        return row | {"why": EQUAL}
    row["low"], row["high"] = stats.ttest_1samp(values, 0).confidence_interval(1 - LEVEL)
    return row | {"p": float(P[claim.kind](values, margin))}


def _p_above(values: np.ndarray, margin: float) -> float:
    return stats.ttest_1samp(values, 0).pvalue


def _p_close(values: np.ndarray, margin: float) -> float:
    """Return p of being within the margin, or of being outside, on the side of the mean.

    Only one of the two can be a false decision, so neither costs the other anything.
    """
    if _holds(CLOSE, values.mean(), margin):
        return DescrStatsW(values).ttost_mean(-margin, margin)[0]
    return stats.ttest_1samp(np.sign(values.mean()) * values, margin, alternative="greater").pvalue


def _p_below(values: np.ndarray, margin: float) -> float:
    """Return p of being below the margin, or of being above, on the side of the mean."""
    side = "less" if _holds(BELOW, values.mean(), margin) else "greater"
    return stats.ttest_1samp(values, margin, alternative=side).pvalue


P: dict[str, Callable[[np.ndarray, float], float]] = {
    ABOVE: _p_above,
    CLOSE: _p_close,
    BELOW: _p_below,
}

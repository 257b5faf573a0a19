"""The paper's claims as statistical tests over the runs of a study.

The unit is an independent pair (A, B) at one width: such pairs share no trained model. Whatever a
pair contributes to a claim (over sparsities, rewind epochs) is first reduced to one number, a mean
or a slope, so that runs which share a model are not counted as independent. "Larger" and "grows"
are two-sided t-tests of these numbers against 0; "close" and "small" are equivalence tests (TOST)
with the study's margin. p-values are adjusted by Holm over the claims, for all experiments pooled
and for each data set and model on its own.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from maskalign import origin
from maskalign.claims import CLAIMS, Results
from maskalign.study import Study

LEVEL = 0.05
FEWEST_UNITS = 3
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


def judge(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """Test every claim, for each experiment's data set and model and pooled over all.

    Args:
        study: the study; ``claims.margin`` is what counts as close, in points.
        runs: runs.csv.

    Returns:
        One row a claim and scope: claim, text, effect, scope, mean, low, high (95 % interval), n
        (units), test, p, p_holm, verdict. Fewer than three units are undecided, as is a result
        whose adjusted p-value is above 0.05; an effect significantly against the claim, or (for
        "close") an interval wholly outside the margin, is not supported.
    """
    results, margin = Results(study, runs), study.config["claims"]["margin"]
    rows = []
    for claim in CLAIMS:
        numbers = claim.numbers(results)
        scopes = [("all", numbers)]
        scopes += [
            (f"{dataset}, {model}", part)
            for (dataset, model), part in numbers.groupby(["dataset", "model"])
        ]
        for scope, part in scopes:
            tested = _test(part["value"].dropna().to_numpy(float), claim.close, margin)
            about = {"claim": claim.name, "text": claim.text, "effect": claim.effect}
            rows.append(about | {"scope": scope} | tested)
    table = pd.DataFrame(rows)
    table["p_holm"] = np.nan
    for _, tested in table[table["p"].notna()].groupby("scope"):
        table.loc[tested.index, "p_holm"] = multipletests(tested["p"], LEVEL, method="holm")[1]
    table["verdict"] = [_verdict(row, margin) for row in table.to_dict("records")]
    return table


def _test(values: np.ndarray, close: bool, margin: float) -> dict[str, Any]:
    n = len(values)
    name = f"TOST, margin {margin:g}" if close else "t-test"
    row = {"mean": values.mean() if n else math.nan, "low": math.nan, "high": math.nan}
    row |= {"n": n, "test": name, "p": math.nan}
    if n < FEWEST_UNITS:
        return row
    if np.ptp(values) == 0:  # no spread: the t statistic is 0 / 0 or infinite
        if not close and not values[0]:
            return row
        outside = close and abs(values[0]) >= margin
        return row | {"low": values[0], "high": values[0], "p": float(outside)}
    low, high = stats.ttest_1samp(values, 0).confidence_interval(1 - LEVEL)
    if close:
        p = DescrStatsW(values).ttost_mean(-margin, margin)[0]
    else:
        p = stats.ttest_1samp(values, 0).pvalue
    return row | {"low": low, "high": high, "p": p}


def _verdict(row: dict[str, Any], margin: float) -> str:
    if math.isnan(row["p_holm"]):
        return UNDECIDED
    if row["test"] == "t-test":
        if row["p_holm"] > LEVEL:
            return UNDECIDED
        return SUPPORTED if row["mean"] > 0 else NOT_SUPPORTED
    if row["p_holm"] <= LEVEL:
        return SUPPORTED
    return NOT_SUPPORTED if row["low"] > margin or row["high"] < -margin else UNDECIDED


def markdown(study: Study, table: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Return the claims as a page: one verdict per claim, and the tests behind it.

    Args:
        study: the study.
        table: what ``judge`` returns.
        runs: runs.csv. Below the title stands a warning if its rows have several result versions or
            another version than this code makes.
    """
    title = f"# Claims: study {study.name}, protocol {study.protocol}"
    lines = [title, "", *origin.paragraph(runs)]
    lines += [" ".join(str(__doc__).split("\n\n", 1)[1].split()), ""]
    pooled = table[table["scope"] == "all"]
    lines += ["| Claim | Verdict | Effect | n |", "|---|---|---|---|"]
    for row in pooled.itertuples():
        lines.append(f"| {row.text} | **{row.verdict}** | {_effect(row)} {row.effect} | {row.n} |")
    lines += ["", "## By data set and model", ""]
    lines += ["| Claim | Scope | Verdict | Effect | n | Test | p (Holm) |", "|---|" + "---|" * 6]
    for row in table[table["scope"] != "all"].itertuples():
        p = "" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}"
        cells = [row.claim, row.scope, row.verdict, _effect(row), str(row.n), row.test, p]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _effect(row) -> str:
    if math.isnan(row.mean):
        return "none"
    interval = "" if math.isnan(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.mean:.2f}{interval}"

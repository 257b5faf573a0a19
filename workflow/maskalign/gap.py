"""The share of the gap between LTH and naive that the permuted mask closes.

The share is (mean permuted - mean naive) / (mean LTH - mean naive), a ratio of means over pairs. It
has no unit: at equal sparsity and rewind epochs it can be compared between networks and data sets.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from maskalign.units import CELL, METHODS, TASK, UNIT, Results, over_widths, shared
from maskalign.verdicts import EQUAL, FEWEST_UNITS, LEVEL, equal, few

RESAMPLES = 9999
NOT_ABOVE = "LTH is not above naive with 95 %"
COLUMNS = [
    *(*TASK, *CELL, "n", "gap", "gap_low", "gap_high", "share", "low", "high", "why"),
]


def shares(results: Results) -> pd.DataFrame:
    """Return the share of each data set and model, over all late cells and in parts of them.

    Only cells that every pair has count. There is one row with empty CELL per data set and model,
    over the mean of all cells with k > 0; one row per width and sparsity with an empty rewind
    epoch, over the mean of k > 0; and one row per cell.

    Returns:
        COLUMNS. ``gap`` is LTH - naive in points with its 95 % t-interval; ``low`` and ``high``
        bound the 95 % interval of ``share`` by bootstrap over pairs. ``why`` says why there is no
        share.
    """
    table = results.accuracy[results.planned.all(axis=1)]
    late = shared(table[table.index.get_level_values("rewind_epoch") > 0])
    rows = []
    for level, values in (([], over_widths(late)), (CELL[:2], late), (CELL, table)):
        means = values.groupby([*UNIT, *level]).mean(skipna=False)
        for cell, part in means.groupby([*TASK, *level]):
            rows.append(dict(zip([*TASK, *level], cell, strict=True)) | share(part))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(TASK, kind="stable", ignore_index=True)


def share(values: pd.DataFrame) -> dict[str, Any]:
    """Return n, gap, share, their intervals, and why there is no share.

    Args:
        values: accuracies, percent: one row per pair, columns METHODS; pairs with NaN do not count.
    """
    planned, values = len(values), values[METHODS].dropna()
    gaps, n = (values["lth"] - values["naive"]).to_numpy(), len(values)
    row = dict.fromkeys(("gap_low", "gap_high", "share", "low", "high"), math.nan)
    row |= {"n": n, "gap": gaps.mean() if n else math.nan, "why": ""}
    if n < FEWEST_UNITS:
        return row | {"why": few(n, planned, "pair")}
    if equal(gaps):
        return row | {"why": EQUAL}
    row["gap_low"], row["gap_high"] = stats.ttest_1samp(gaps, 0).confidence_interval(1 - LEVEL)
    if not row["gap_low"] > 0:
        return row | {"why": NOT_ABOVE}
    columns = [values[method].to_numpy() for method in METHODS]
    # The same draws every time, so that the page does not change by itself.
    interval = stats.bootstrap(
        columns,
        _ratio,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return row | {"share": float(_ratio(*columns)), "low": interval.low, "high": interval.high}


def _ratio(lth: np.ndarray, naive: np.ndarray, permuted: np.ndarray, axis: int = -1) -> np.ndarray:
    naive = naive.mean(axis)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may hold one pair n times
        return (permuted.mean(axis) - naive) / (lth.mean(axis) - naive)


def share_text(share: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a share in print, percent, with its interval where there is one."""
    if math.isnan(share):
        return "none"
    return f"{100 * share:.0f}" + (
        "" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    )

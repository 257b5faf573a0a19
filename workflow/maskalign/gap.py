"""The share of the gap between LTH and naive that the permuted mask closes.

The share is (mean permuted - mean naive) / (mean LTH - mean naive), a ratio of means over pairs. It
has no unit: at equal sparsity and rewind epochs it can be compared between networks and data sets.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from maskalign.claim import EQUAL, FEWEST_UNITS, LEVEL, equal, few
from maskalign.methods import MASKS
from maskalign.units import CELL, TASK, UNIT, Results, over_widths, shared

RESAMPLES = 9999
NOT_ABOVE = "LTH is not above naive with 95 %"
NO_GAP = "permuted is not above naive at length 1 with 95 %"
NOT_BOTH = "no cell is trained at length 1 too"
LEFT = [*TASK, "length", "n", "gap", "gap_low", "gap_high", "gap_longest"]
LEFT += ["share", "low", "high", "why"]
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
    table = results.accuracy.loc[results.planned[[*MASKS]].all(axis=1), [*MASKS]]
    late = shared(table[table.index.get_level_values("rewind_epoch") > 0])
    rows = []
    for level, values in (([], over_widths(late)), (CELL[:2], late), (CELL, table)):
        means = values.groupby([*UNIT, *level]).mean(skipna=False)
        for cell, part in means.groupby([*TASK, *level]):
            rows.append(dict(zip([*TASK, *level], cell, strict=True)) | share(part))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(TASK, kind="stable", ignore_index=True)


def shares_longer(results: Results) -> pd.DataFrame:
    """Return the shares over all late cells at every other length of sparse training than 1.

    Returns:
        ``length`` and the columns of ``shares`` but CELL: one row per data set, model and length
        that is trained by LTH, naive and permuted at the recipe's rate.
    """
    columns = ["length", *(name for name in COLUMNS if name not in CELL)]
    parts = [pd.DataFrame(columns=columns)]
    for length in results.lengths():
        table = shares(results.at(length)) if length != 1 else parts[0]
        if len(table):
            whole = table[table[CELL].isna().all(axis=1)]
            parts.append(whole.assign(length=length)[columns])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def share(values: pd.DataFrame) -> dict[str, Any]:
    """Return n, gap, share, their intervals, and why there is no share.

    Args:
        values: accuracies, percent: one row per pair, columns MASKS; pairs with NaN do not count.
    """
    planned, values = len(values), values[[*MASKS]].dropna()
    parts = (values[method] - values["naive"] for method in ("permuted", "lth"))
    return _share(*(part.to_numpy() for part in parts), planned, NOT_ABOVE)


def _share(part: np.ndarray, whole: np.ndarray, planned: int, not_above: str) -> dict[str, Any]:
    """Return n, gap (mean of ``whole``), share of it that ``part`` is, and why there is none.

    Args:
        part, whole: points, [pairs that count].
        planned: how many pairs there should be.
        not_above: why, where ``whole`` is not above 0 with 95 %.
    """
    n = len(whole)
    row = dict.fromkeys(("gap_low", "gap_high", "share", "low", "high"), math.nan)
    row |= {"n": n, "gap": whole.mean() if n else math.nan, "why": ""}
    if n < FEWEST_UNITS:
        return row | {"why": few(n, planned, "pair")}
    if equal(whole):
        return row | {"why": EQUAL}
    row["gap_low"], row["gap_high"] = stats.ttest_1samp(whole, 0).confidence_interval(1 - LEVEL)
    if not row["gap_low"] > 0:
        return row | {"why": not_above}
    return row | ratio(part, whole)


def left(results: Results) -> pd.DataFrame:
    """Return the share of the gap at length 1 that is left at the longest one, at the best rates.

    The gap is permuted - naive with k > 0. Only cells that every pair has at both lengths count.

    Returns:
        LEFT, one row per data set and model that is trained longer: the longest ``length``, n,
        ``gap`` (at length 1, points, with its 95 % t-interval), ``gap_longest``, ``share`` and the
        95 % interval of it by bootstrap over pairs, and why there is no share.
    """
    longest = results.longest()
    if longest.empty:
        return pd.DataFrame(columns=LEFT)
    planned = results.planned[["permuted", "naive"]].all(axis=1)
    first = (results.accuracy["permuted"] - results.accuracy["naive"])[planned].rename("first")
    both = shared(pd.concat([longest, first], axis=1, join="inner"))
    means = over_widths(both[["gap", "first"]])
    rows = []
    for task, _ in longest.groupby(TASK):
        part = means[[key[: len(TASK)] == task for key in means.index]]
        row = dict(zip(TASK, task, strict=True)) | {"length": results.longest_lengths()[task]}
        rows.append(row | (_left(part) if len(part) else {"n": 0, "why": NOT_BOTH}))
    return pd.DataFrame(rows, columns=LEFT)


def left_text(table: pd.DataFrame, task: tuple[str, str]) -> str:
    """Return in words what ``left`` has of a data set and model."""
    row = table[(table["dataset"] == task[0]) & (table["model"] == task[1])].iloc[0]
    share = share_text(row["share"], row["low"], row["high"])
    return f"share of the gap at length 1 left (%): {share}" + f" ({row['why']})" * bool(row["why"])


def _left(values: pd.DataFrame) -> dict[str, Any]:
    planned, values = len(values), values.dropna()
    longest = {"gap_longest": values["gap"].mean()}
    parts = (values[name].to_numpy() for name in ("gap", "first"))
    return longest | _share(*parts, planned, NO_GAP)


def ratio(part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """Return mean(part) / mean(whole), with its 95 % interval by bootstrap over pairs.

    Args:
        part, whole: [pairs], paired.
    """
    # The same draws every time, so that the page does not change by itself.
    interval = stats.bootstrap(
        [part, whole],
        _ratio,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {"share": float(_ratio(part, whole)), "low": interval.low, "high": interval.high}


def _ratio(part: np.ndarray, whole: np.ndarray, axis: int = -1) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may hold one pair n times
        return part.mean(axis) / whole.mean(axis)


def share_text(share: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a share in print, percent, with its interval where there is one."""
    if math.isnan(share):
        return "none"
    return f"{100 * share:.0f}" + (
        "" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    )

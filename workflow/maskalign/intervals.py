"""Means over independent pairs with their 95 % intervals, by the t-distribution."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from maskalign import origin

LEVEL = 0.95
NUMBERS = ["mean", "std", "low", "high", "n", "diverged", "runs"]


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return columns ``by`` and NUMBERS, one row per group, as ``selection.summarise`` counts.

    ``low`` and ``high`` are the ends of the interval of the mean.
    """
    lost = rows["status"] == "diverged"
    kept = rows.assign(value=rows["value"].where(~lost), lost=lost)
    found = []
    for key, part in kept.groupby(by, dropna=False):
        values = part["value"]
        ends = of_mean(values)
        counts = (values.count(), part["lost"].sum(), origin.joined(part["path"]))
        found.append((*key, values.mean(), values.std(), *ends, *counts))
    return pd.DataFrame(found, columns=[*by, *NUMBERS])


def of_mean(values: Iterable[float]) -> tuple[float, float]:
    """Return both ends of the interval; NaN for fewer than two values."""
    found = np.asarray([v for v in values if not math.isnan(v)], dtype=float)
    if len(found) < 2:
        return math.nan, math.nan
    reach = stats.t.ppf((1 + LEVEL) / 2, len(found) - 1) * stats.sem(found)
    return found.mean() - reach, found.mean() + reach

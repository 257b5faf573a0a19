"""The 95 % interval of a mean over independent pairs, by the t-distribution."""

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats

LEVEL = 0.95


def of_mean(values: Iterable[float]) -> tuple[float, float]:
    """Return both ends of the interval; NaN for fewer than two values."""
    found = np.asarray([v for v in values if not math.isnan(v)], dtype=float)
    if len(found) < 2:
        return math.nan, math.nan
    reach = stats.t.ppf((1 + LEVEL) / 2, len(found) - 1) * stats.sem(found)
    return found.mean() - reach, found.mean() + reach

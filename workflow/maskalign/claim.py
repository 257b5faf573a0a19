"""A claim: a number per pair or mask, and the test that it takes.

A pair gives a claim one number, a mean or a slope over widths, sparsities and rewind epochs. Its
networks share seeds and its runs share networks, so that only pairs are independent. A pair that
lacks a run of these cells has no number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from maskalign.units import Results, over_widths

# Kinds of claims: the number is above 0, within the margin of 0, or below the margin.
ABOVE, CLOSE, BELOW = "above", "close", "below"
LEVEL = 0.05
FEWEST_UNITS = 3
EQUAL = "all numbers are equal"


@dataclass(frozen=True)
class Claim:
    """A claim and how a unit's results become the number that is tested.

    Attributes:
        name: short name, in claims.csv.
        text: the claim in words.
        effect: the number and its unit of measure.
        numbers: results of a study -> one row per unit, columns ``UNIT`` and ``value``; NaN for a
            unit with a planned run that was not completed.
        kind: ABOVE, CLOSE or BELOW.
        unit: ``pair``, or ``mask`` where an ensemble of one mask gives one number.
        methods: whose sparse training it compares; none where it is about other networks.
        late: whether it is about rewind epochs above 0 (True), 0 (False), or all (None).
        longest: whether it is about the longest length, at the best rates.
    """

    name: str
    text: str
    effect: str
    numbers: Callable[[Results], pd.DataFrame]
    kind: str = ABOVE
    unit: str = "pair"
    methods: tuple[str, ...] = ()
    late: bool | None = True
    longest: bool = False


def mean(values: pd.Series) -> pd.DataFrame:
    """Return the mean over widths of the mean over the other cells, by unit."""
    return over_widths(values).rename("value").reset_index()


def equal(values: np.ndarray) -> bool:
    """Return whether numbers differ by rounding at most, so that they have no spread."""
    return np.allclose(values, values[0], rtol=1e-9, atol=1e-9)


def few(n: int, planned: int, unit: str) -> str:
    """Return why ``n`` of the planned units decide nothing."""
    if planned < FEWEST_UNITS:
        return f"fewer than {FEWEST_UNITS} {unit}s"
    return f"{n} of {planned} {unit}s have all runs"

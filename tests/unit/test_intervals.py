"""The interval of a mean is the textbook's."""

import math

import pandas as pd
import pytest
from maskalign import intervals

T_OF_TWO = 4.302653  # 97.5 % quantile of t with 2 degrees of freedom, from a table


def test_the_interval_is_that_of_the_t_distribution():
    reach = T_OF_TWO * 2 / math.sqrt(3)
    assert intervals.of_mean([3.0, 5.0, 7.0]) == pytest.approx((5 - reach, 5 + reach), abs=1e-5)
    assert intervals.of_mean(iter([3.0, math.nan, 5.0, 7.0])) == intervals.of_mean([3, 5, 7])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_fewer_than_two_values_have_none(values):
    assert all(math.isnan(end) for end in intervals.of_mean(values))


def test_diverged_values_enter_no_interval_and_are_counted():
    rows = pd.DataFrame(
        {
            "method": ["one"] * 4,
            "value": [1.0, 2.0, 3.0, 900.0],
            "status": ["completed"] * 3 + ["diverged"],
            "path": ["a", "b", "c", "d"],
        }
    )
    (row,) = intervals.summary(rows, ["method"]).to_dict("records")
    assert (row["method"], row["mean"], row["std"], row["n"], row["diverged"]) == (
        "one",
        2,
        1,
        3,
        1,
    )
    assert (row["low"], row["high"]) == intervals.of_mean([1.0, 2.0, 3.0])
    assert row["runs"] == "a b c d"

"""The paper's claims."""

import math

import numpy as np
import pandas as pd

from maskalign.claim import BELOW, CLOSE, Claim, mean
from maskalign.units import UNIT, Results, shared

GAP = ("permuted", "naive")


def _slope(values: pd.Series, along: str) -> pd.DataFrame:
    """Return the least-squares slope of ``values`` over the index level ``along``, by unit.

    Only cells that are planned at every value of ``along`` count: the gap depends on the rewind
    epoch, and another choice of epochs at one end would pass for a slope. Widths count alike.
    """
    found = []
    for key, part in values.groupby(UNIT):
        table = part.fillna(math.inf).unstack(along).dropna()  # an infinite cell lacks its run
        if table.shape[1] > 1:
            widths = [name for name in table.index.names if name == "width"]
            means = (table.groupby(widths).mean() if widths else table).mean()
            known = len(table) and np.isfinite(table).all(axis=None)
            slope = np.polyfit(means.index.to_numpy(float), means, 1)[0] if known else math.nan
            found.append((*key, slope))
    return pd.DataFrame(found, columns=[*UNIT, "value"])


def _by_doubling(values: pd.Series) -> pd.DataFrame:
    """Return the slope per doubling of the width."""
    doubled = values.rename(index=np.log2, level="width").rename_axis(index={"width": "doubling"})
    return _slope(doubled, "doubling")


def _rewinding(r: Results) -> pd.DataFrame:
    """Return the gap at k > 0 minus that at k = 0, over the widths and sparsities with both."""
    late, start = (
        r.difference("permuted", "naive", late=k)
        .groupby([*UNIT, "width", "sparsity"])
        .mean(skipna=False)
        for k in (True, False)
    )
    both = late.index.intersection(start.index)
    return mean(late[both] - start[both])


def _ensembles(r: Results, measure: str) -> pd.DataFrame:
    """Return permuted - LTH of the ensembles' ``measure``."""
    if r.ensembles.empty:
        return mean(pd.Series(index=r.ensembles.index, dtype=float))
    table = r.ensembles[measure]
    return mean(shared(table["permuted"] - table["lth"]))


CLAIMS = [
    Claim(
        "permuted_beats_naive",
        "From a rewind epoch above 0, the permuted mask is better than the naive one.",
        "permuted - naive, points",
        lambda r: mean(r.difference("permuted", "naive", late=True)),
        methods=GAP,
    ),
    Claim(
        "gap_grows_with_sparsity",
        "The gap between permuted and naive grows with sparsity.",
        "points per unit of sparsity",
        lambda r: _slope(r.difference("permuted", "naive", late=True), "sparsity"),
        methods=GAP,
    ),
    Claim(
        "gap_grows_with_width",
        "The gap between permuted and naive grows with width.",
        "points per doubling of the width",
        lambda r: _by_doubling(r.difference("permuted", "naive", late=True)),
        methods=GAP,
    ),
    Claim(
        "lth_beats_permuted",
        "The lottery ticket is better than the permuted mask.",
        "LTH - permuted, points",
        lambda r: mean(r.difference("lth", "permuted", late=True)),
        methods=("lth", "permuted"),
    ),
    Claim(
        "close_at_initialisation",
        "At rewind epoch 0, permuted and naive are close.",
        "permuted - naive at k = 0, points",
        lambda r: mean(r.difference("permuted", "naive", late=False)),
        kind=CLOSE,
        methods=GAP,
        late=False,
    ),
    Claim(
        "rewinding_helps_permuted_more",
        "Rewinding to a later epoch helps permuted more than naive.",
        "gap at k > 0 minus gap at k = 0, points",
        _rewinding,
        methods=GAP,
        late=None,
    ),
    Claim(
        "barrier_falls_with_width",
        "The corrected barrier between aligned networks falls with width.",
        "fall of the test-error barrier per doubling of the width, points",
        lambda r: _by_doubling(-r.barriers("permuted", corrected=True)),
    ),
    Claim(
        "correction_lowers_barrier",
        "Batch-norm reset or REPAIR lowers the barrier between aligned networks.",
        "barrier without minus with correction, points",
        lambda r: mean(
            r.barriers("permuted", corrected=False) - r.barriers("permuted", corrected=True)
        ),
    ),
    Claim(
        "imp_stays_connected",
        "From a dense network to its pruned solution, the corrected error hardly rises.",
        "largest rise of the test error above the dense network's, on the line and at its end, "
        "points",
        lambda r: mean(shared(r.rises)),
        kind=BELOW,
    ),
    Claim(
        "permuted_more_diverse",
        "Permuted solutions of one mask disagree more than lottery tickets of one mask.",
        "disagreement of permuted minus LTH, share of test samples",
        lambda r: _ensembles(r, "disagreement"),
        unit="mask",
    ),
    Claim(
        "permuted_ensemble_gains_more",
        "A permuted ensemble gains more over its members than an ensemble of lottery tickets.",
        "gain of permuted minus gain of LTH, points",
        lambda r: _ensembles(r, "gain"),
        unit="mask",
    ),
]

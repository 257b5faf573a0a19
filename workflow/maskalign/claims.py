"""The paper's claims, each with the number that a pair of networks contributes to its test.

Whatever a pair contributes (over sparsities, rewind epochs) is reduced to one number, a mean or a
slope, so that runs which share a model are not counted as independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from maskalign import selection
from maskalign.study import Study

UNIT = ["dataset", "model", "width", "pair"]


@dataclass(frozen=True)
class Claim:
    """A claim and how a pair's results become the number that is tested.

    Attributes:
        name: short name, in claims.csv.
        text: the claim in words.
        effect: what the number is, and its unit.
        numbers: results of a study -> one row a unit, columns ``UNIT`` and ``value``.
        close: whether the claim is that the number is within the margin, not above 0.
    """

    name: str
    text: str
    effect: str
    numbers: Callable[["Results"], pd.DataFrame]
    close: bool = False


class Results:
    """Accuracies and barriers of the independent pairs, in points (percent)."""

    def __init__(self, study: Study, runs: pd.DataFrame):
        """Collect the completed runs of all experiments of ``study`` from runs.csv."""
        trained = {(e["dataset"], e["model"]) for e in study.config["experiments"].values()}
        shows = [{"dataset": d, "model": m} for d, m in sorted(trained)]
        accuracy = [selection.shown(study, s, runs, "accuracy").rows for s in shows]
        lines = [selection.on_lines(study, s, runs).rows for s in shows]
        sparse = _paired(pd.concat(accuracy))
        sparse = sparse[sparse["method"].isin(["lth", "naive", "permuted"])]
        # One row a cell that a unit trained with every method that it has.
        self.cells = sparse.pivot_table(
            index=[*UNIT, "sparsity", "rewind_epoch"], columns="method", values="value"
        ).reindex(columns=["lth", "naive", "permuted"])
        barriers = _paired(pd.concat(lines))
        barriers = barriers[
            barriers["metric"].str.startswith("error_barrier") & (barriers["split"] == "test")
        ]
        barriers["correction"] = barriers["metric"].str.rsplit("_", n=1).str[1]
        barriers["corrected"] = barriers["correction"] != "none"
        self.barriers = barriers
        self.ensembles = pd.DataFrame(
            [row for path in study.paths("diversity") for row in _ensemble(study, path, runs)],
            columns=[*UNIT, "method", "disagreement", "gain"],
        )

    def difference(self, first: str, second: str, late: bool | None = None) -> pd.Series:
        """Return first - second in points by cell; only k > 0 (``late``), only k = 0, or all."""
        k = self.cells.index.get_level_values("rewind_epoch")
        keep = slice(None) if late is None else (k > 0) == late
        return (self.cells[first] - self.cells[second])[keep].dropna()


def _paired(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[(rows["status"] == "completed") & rows["mask_seed"].notna()]
    return rows.assign(pair=rows["mask_seed"] // 2)


def _ensemble(study: Study, path: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return disagreement and gain over its members (points) of each method's ensemble."""
    run, rows = study.run(path), []
    whole = selection.of(study, run, runs[runs["split"] == "test"])
    unit = {k: run[k] for k in ("dataset", "model", "width")} | {"pair": run["mask_seed"] // 2}
    for method, members in run["parents"].items():

        def value(metric: str, names: dict[str, Any], method=method) -> float:
            wanted = {k: names[k] for k in selection.KEYS} | {"method": method, "metric": metric}
            found = whole[selection.same(whole, wanted) & (whole["status"] == "completed")]
            return found["value"].mean()  # NaN if there is none

        accuracy = np.mean([value("accuracy", study.run(member)) for member in members])
        gain = value("ensemble_accuracy", run) - accuracy
        row = {"method": method, "disagreement": value("disagreement", run), "gain": gain}
        rows.append(unit | row)
    return rows


def _mean(values: pd.Series) -> pd.DataFrame:
    return values.groupby(UNIT).mean().rename("value").reset_index()


def _slope(values: pd.Series, along: str, unit: list[str]) -> pd.DataFrame:
    """Return the least-squares slope of ``values`` over the index level ``along``, by unit.

    Only cells that a unit has at every value of ``along`` count: the gap depends on the rewind
    epoch, and another choice of epochs at one end would pass for a slope.
    """
    found = []
    for key, part in values.groupby(unit):
        means = part.unstack(along).dropna().mean()
        if len(means) > 1 and means.notna().all():
            found.append((*key, np.polyfit(means.index.to_numpy(float), means.to_numpy(), 1)[0]))
    return pd.DataFrame(found, columns=[*unit, "value"])


def _gap_with_sparsity(r: Results) -> pd.DataFrame:
    return _slope(r.difference("permuted", "naive", late=True), "sparsity", UNIT)


def _by_doubling(values: pd.Series) -> pd.DataFrame:
    """Return the slope per doubling of the width; a unit is then a pair at all its widths."""
    doubled = values.rename(index=np.log2, level="width").rename_axis(index={"width": "doubling"})
    return _slope(doubled, "doubling", ["dataset", "model", "pair"])


def _rewinding(r: Results) -> pd.DataFrame:
    """Return the gap at k > 0 minus that at k = 0, over the sparsities that have both."""
    late, start = (
        r.difference("permuted", "naive", late=k).groupby([*UNIT, "sparsity"]).mean()
        for k in (True, False)
    )
    return _mean((late - start).dropna())


def _barriers(r: Results, method: str, corrected: bool) -> pd.Series:
    found = r.barriers[(r.barriers["method"] == method) & (r.barriers["corrected"] == corrected)]
    return found.groupby(UNIT)["value"].mean()


def _ensembles(r: Results, metric: str) -> pd.DataFrame:
    """Return permuted - LTH of an ensemble's ``metric``; the unit is an ensemble."""
    table = r.ensembles.pivot_table(index=UNIT, columns="method", values=metric)
    if not {"permuted", "lth"} <= set(table.columns):
        return pd.DataFrame(columns=[*UNIT, "value"])
    return (table["permuted"] - table["lth"]).rename("value").reset_index()


def _corrected_imp(r: Results) -> pd.DataFrame:
    found = r.barriers[(r.barriers["method"] == "imp") & r.barriers["corrected"]]
    last = found.sort_values("sparsity").groupby(UNIT)["value"].last()
    return last.rename("value").reset_index()


CLAIMS = [
    Claim(
        "permuted_beats_naive",
        "From a rewind epoch above 0, the permuted mask is better than the naive one.",
        "permuted - naive, points",
        lambda r: _mean(r.difference("permuted", "naive", late=True)),
    ),
    Claim(
        "gap_grows_with_sparsity",
        "The gap between permuted and naive grows with sparsity.",
        "points per unit of sparsity",
        _gap_with_sparsity,
    ),
    Claim(
        "gap_grows_with_width",
        "The gap between permuted and naive grows with width.",
        "points per doubling of the width",
        lambda r: _by_doubling(r.difference("permuted", "naive", late=True)),
    ),
    Claim(
        "lth_beats_permuted",
        "The lottery ticket is at least as good as the permuted mask (tested: better).",
        "LTH - permuted, points",
        lambda r: _mean(r.difference("lth", "permuted", late=True)),
    ),
    Claim(
        "close_at_initialisation",
        "At rewind epoch 0, permuted and naive are close.",
        "permuted - naive at k = 0, points",
        lambda r: _mean(r.difference("permuted", "naive", late=False)),
        close=True,
    ),
    Claim(
        "rewinding_helps_permuted_more",
        "Rewinding to a later epoch helps permuted more than naive.",
        "gap at k > 0 minus gap at k = 0, points",
        _rewinding,
    ),
    Claim(
        "barrier_falls_with_width",
        "The corrected barrier between aligned networks falls with width.",
        "fall of the test-error barrier per doubling of the width, points",
        lambda r: _by_doubling(-_barriers(r, "permuted", corrected=True)),
    ),
    Claim(
        "correction_lowers_barrier",
        "Batch-norm reset or REPAIR lowers the barrier between aligned networks.",
        "barrier without minus with correction, points",
        lambda r: _difference_of_barriers(r),
    ),
    Claim(
        "imp_stays_connected",
        "The corrected barrier from a dense network to its pruned solution is small.",
        "test-error barrier of the last IMP round, points",
        _corrected_imp,
        close=True,
    ),
    Claim(
        "permuted_more_diverse",
        "Permuted solutions of one mask disagree more than lottery tickets of one mask.",
        "disagreement of permuted minus LTH, share of test samples",
        lambda r: _ensembles(r, "disagreement"),
    ),
    Claim(
        "permuted_ensemble_gains_more",
        "A permuted ensemble gains more over its members than an ensemble of lottery tickets.",
        "gain of permuted minus gain of LTH, points",
        lambda r: _ensembles(r, "gain"),
    ),
]


def _difference_of_barriers(r: Results) -> pd.DataFrame:
    plain, corrected = (_barriers(r, "permuted", corrected=c) for c in (False, True))
    return (plain - corrected).dropna().rename("value").reset_index()

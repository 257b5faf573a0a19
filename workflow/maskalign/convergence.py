"""Whether sparse training has converged, and whether it has started at all.

A cell (data set, model, width, method, S, k and rate) is converged at length L if it was also
trained for 2 L and the one-sided 95 % bound of its mean gain in test accuracy from L to 2 L, over
pairs, is below the study's margin. It is not converged if the bound is not. Where 2 L was not run,
convergence is not shown. A run has not started if its training loss at the end is above
0.9 ln(classes). None of this changes a verdict.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from maskalign import cost, selection
from maskalign.selection import EARLY, EVERYTHING, Selection
from maskalign.study import Study

CONVERGED, NOT_CONVERGED, NOT_SHOWN = "converged", "not converged", "not shown"
STATES = [CONVERGED, NOT_CONVERGED, NOT_SHOWN]
LEVEL = 0.95
STARTED = 0.9  # of ln(classes), the loss of a guess
TASK = ["dataset", "model"]
CELL = [*TASK, "width", "method", "sparsity", "rewind_epoch", "matching_epoch"]
FACTORS = ["length", "rate"]
COLUMNS = [*CELL, *FACTORS, "convergence", "not_started", "runs"]


def of_study(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of every data set and model, as ``of_selection`` does."""
    tasks = dict.fromkeys((e["dataset"], e["model"]) for e in study.config["experiments"].values())
    shows = [dict(zip(TASK, task, strict=True)) for task in tasks]
    return pd.concat([of_selection(study, s, runs) for s in shows], ignore_index=True)


def of_selection(study: Study, s: Selection, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of sparse training of a selection, each with its state.

    Args:
        study: the study; ``claims.margin`` is the margin, in points.
        s: data set and model, perhaps widths, sparsities and rewind epochs.
        runs: runs.csv.

    Returns:
        COLUMNS: CELL, FACTORS, ``convergence`` (of STATES), and how many of the cell's ``runs``
        have ``not_started``: NaN where the number of classes is not known.
    """
    accuracy, loss = (
        _rows(study, s, runs, *what) for what in (("accuracy", "test"), ("loss", "train"))
    )
    if accuracy.empty:
        return pd.DataFrame(columns=COLUMNS)
    margin = study.config["claims"]["margin"]
    by_length = dict(list(accuracy.groupby("length")))
    found = []
    for cell, part in accuracy.groupby([*CELL, *FACTORS], dropna=False):
        where = dict(zip([*CELL, *FACTORS], cell, strict=True))
        longer = by_length.get(2 * where["length"])
        found.append(where | {"convergence": _state(part, longer, where, margin)})
    table = pd.DataFrame(found)
    classes = cost.classes(study.config["datasets"][s["dataset"]])
    late = loss["value"] > STARTED * math.log(classes) if classes else math.nan
    lost = loss.assign(not_started=late).astype({"not_started": float})
    groups = lost.groupby([*CELL, *FACTORS], dropna=False, as_index=False)
    counts = groups.agg(not_started=("not_started", _total), runs=("path", "count"))
    return table.merge(counts, how="left", on=[*CELL, *FACTORS])[COLUMNS]


def _rows(study: Study, s: Selection, runs: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """Return the completed sparse runs of independent pairs, early-matching ones included."""
    views = [selection.shown(study, s, runs, metric, v, split).rows for v in (EVERYTHING, EARLY)]
    rows = pd.concat(views).drop_duplicates("path")
    rows = rows[(rows["method"] != "dense") & (rows["status"] == "completed")]
    return rows.assign(pair=rows["mask_seed"] // 2)


def _state(
    part: pd.DataFrame, longer: pd.DataFrame | None, where: dict[str, Any], margin: float
) -> str:
    if longer is None:
        return NOT_SHOWN
    names = [*(name for name in CELL), "rate"]
    longer = longer[selection.same(longer, {k: _plain(where[k]) for k in names})]
    if longer.empty:
        return NOT_SHOWN
    values = (rows.set_index("pair")["value"] for rows in (longer, part))
    gains = (next(values) - next(values)).dropna().to_numpy()
    return CONVERGED if bound(gains) < margin else NOT_CONVERGED


def bound(gains: np.ndarray) -> float:
    """Return the one-sided 95 % upper bound of a mean, by the t-distribution; inf below two."""
    if len(gains) < 2:
        return math.inf
    spread = stats.t.ppf(LEVEL, len(gains) - 1) * stats.sem(gains)
    return float(gains.mean() + spread)


def joined(study: Study, shows: Iterable[Selection], runs: pd.DataFrame, cells: pd.DataFrame):
    """Return ``cells`` with columns ``convergence`` and ``not_started``; empty for dense ones.

    Args:
        study: the study.
        shows: the selections that the cells are of.
        runs: the rows of runs.csv that they are made from.
        cells: one row per cell, with the columns CELL, and FACTORS unless all are 1.
    """
    parts = [of_selection(study, s, runs) for s in shows]
    states = pd.concat(parts, ignore_index=True).drop_duplicates([*CELL, *FACTORS])
    factors = [name for name in FACTORS if name in cells]
    if not factors:
        states = states[(states["length"] == 1) & (states["rate"] == 1)]
    names = ["convergence", "not_started"]
    if states.empty or cells.empty:
        return cells.assign(**dict.fromkeys(names, math.nan))
    keys = [*(name for name in CELL if name in cells), *factors]
    types = dict.fromkeys(keys[len(TASK) :], float) | {"method": "str"}
    right = states[[*keys, *names]].drop_duplicates(keys).astype(types)
    found = cells.astype(types).merge(right, how="left", on=keys)
    return cells.assign(**{name: found[name].to_numpy() for name in names})


def sentence(cells: pd.DataFrame, runs: int | None = None) -> str:
    """Return what a caption says of the convergence of its cells.

    Args:
        cells: with columns ``convergence`` and ``not_started``; dense ones and repeated ones, of
            other metrics, do not count.
        runs: how many runs they are of, if that is to be said.
    """
    own = cells[cells["convergence"].notna()]
    keys = [name for name in (*CELL, *FACTORS) if name in own]
    own = own.drop_duplicates(keys)
    if own.empty:
        return ""
    text = f"Sparse training: {words(own)}"
    late = int(own["not_started"].sum())  # 0 where the number of classes is not known
    if late:
        text += f"; {late} run{'s' * (late != 1)}"
        text += f" of {runs}" * (runs is not None)
        text += f" {'have' if late != 1 else 'has'} not started"
    return text + "."


def words(cells: pd.DataFrame) -> str:
    """Return how many cells are in each state: ``2 of 8 cells converged, 6 not converged``."""
    counts = cells["convergence"].value_counts()
    parts = [f"{counts[state]} {TEXTS[state]}" for state in STATES if state in counts]
    total = len(cells)
    return f"of {total} cell{'s' * (total != 1)} {', '.join(parts)}"


TEXTS = {
    CONVERGED: "converged",
    NOT_CONVERGED: "not converged",
    NOT_SHOWN: "not shown to be converged, as twice the length was not run",
}


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def _total(values: pd.Series) -> float:
    return values.sum(min_count=1)

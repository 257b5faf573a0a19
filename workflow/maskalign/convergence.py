"""Whether sparse training has converged, and whether it has started at all.

A cell (data set, model, width, method, S, k and rate) is converged at length L if it was also
trained for 2 L and the one-sided 95 % bound of its mean gain in test accuracy from L to 2 L, over
pairs, is below the study's margin. It is not converged if the bound is not. Where 2 L was not run,
convergence is not shown. A run has not started if its training loss at the end is above
0.9 ln(classes). None of this changes a verdict.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from maskalign import cost, selection
from maskalign.selection import EARLY, EVERYTHING, Selection, View
from maskalign.study import Study

CONVERGED, NOT_CONVERGED, NOT_SHOWN = "converged", "not converged", "not shown"
STATES = [CONVERGED, NOT_CONVERGED, NOT_SHOWN]
LEVEL = 0.95
STARTED = 0.9  # of ln(classes), the loss of a guess
TASK = ["dataset", "model"]
CELL = [*TASK, "width", "method", "sparsity", "rewind_epoch", "matching_epoch"]
FACTORS = ["length", "rate"]
KEYS = [*CELL, *FACTORS]
COLUMNS = [*KEYS, "convergence", "not_started", "runs"]


def of_study(
    study: Study, runs: pd.DataFrame, views: Sequence[View] = (EVERYTHING, EARLY)
) -> pd.DataFrame:
    """Return the cells of every data set and model, as ``of_selection`` does."""
    tasks = dict.fromkeys((e["dataset"], e["model"]) for e in study.config["experiments"].values())
    shows = [dict(zip(TASK, task, strict=True)) for task in tasks]
    return pd.concat([of_selection(study, s, runs, views) for s in shows], ignore_index=True)


def of_selection(
    study: Study, s: Selection, runs: pd.DataFrame, views: Sequence[View] = (EVERYTHING, EARLY)
) -> pd.DataFrame:
    """Return the cells of sparse training of a selection, each with its state.

    Args:
        study: the study; ``claims.margin`` is the margin, in points.
        s: data set and model, perhaps widths, sparsities and rewind epochs.
        runs: runs.csv.
        views: which runs of the selection are looked at.

    Returns:
        COLUMNS: CELL, FACTORS, ``convergence`` (of STATES), and how many of the cell's completed
        ``runs`` have ``not_started``: NaN where the number of classes is not known.
    """
    rows, loss = (
        _rows(study, s, runs, views, *what) for what in (("accuracy", "test"), ("loss", "train"))
    )
    table = _states(rows, study.config["claims"]["margin"])
    classes = cost.classes(study.config["datasets"][s["dataset"]])
    loss = loss[loss["status"] == "completed"]
    late = loss["value"] > STARTED * math.log(classes) if classes else math.nan
    loss = loss.assign(not_started=late).astype({"not_started": float})
    counts = loss.groupby(KEYS, dropna=False).agg(
        not_started=("not_started", _total), runs=("path", "count")
    )
    return table.merge(counts.reset_index(), how="left", on=KEYS)[COLUMNS]


def _rows(
    study: Study,
    s: Selection,
    runs: pd.DataFrame,
    views: Sequence[View],
    metric: str,
    split: str,
) -> pd.DataFrame:
    """Return the sparse runs of independent pairs; the value of a diverged one is NaN."""
    parts = [selection.shown(study, s, runs, metric, view, split).rows for view in views]
    rows = pd.concat(parts).drop_duplicates("path")
    rows = rows[rows["method"] != "dense"]
    value = rows["value"].where(rows["status"] == "completed")
    return rows.assign(value=value, pair=rows["mask_seed"] // 2)


def _states(rows: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Return the state of each cell that has a completed run."""
    longer = rows.assign(length=rows["length"] / 2)[[*KEYS, "pair", "value"]]
    done = rows[rows["status"] == "completed"]
    both = done.merge(longer, how="left", on=[*KEYS, "pair"], suffixes=("", "_longer"))
    both["gain"] = both["value_longer"] - both["value"]
    gains = both.groupby(KEYS, dropna=False)["gain"].agg(["mean", "sem", "count"]).reset_index()
    ran = longer[KEYS].drop_duplicates().assign(ran=True)
    ran = gains[KEYS].merge(ran, how="left", on=KEYS)["ran"].eq(True)
    below = bound(gains["mean"], gains["sem"], gains["count"]) < margin
    states = pd.Series(np.where(below, CONVERGED, NOT_CONVERGED), gains.index, dtype="str")
    return gains[KEYS].assign(convergence=states.where(ran, NOT_SHOWN))


def bound(mean: pd.Series, sem: pd.Series, n: pd.Series) -> np.ndarray:
    """Return one-sided 95 % upper bounds of means, by the t-distribution; inf for n below 2.

    Args:
        mean, sem: means and their standard errors.
        n: how many values each mean is over.
    """
    reach = stats.t.ppf(LEVEL, n.clip(lower=2) - 1) * sem
    return np.where(n < 2, math.inf, mean + reach)


def joined(study: Study, shows: Iterable[Selection], runs: pd.DataFrame, cells: pd.DataFrame):
    """Return ``cells`` with columns ``convergence`` and ``not_started``; empty for dense ones.

    Args:
        study: the study.
        shows: the selections that the cells are of.
        runs: the rows of runs.csv that they are made from.
        cells: one row per cell, with the columns CELL, and FACTORS unless all are 1.
    """
    parts = [of_selection(study, s, runs) for s in shows]
    states = pd.concat(parts, ignore_index=True).drop_duplicates(KEYS)
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
    keys = [name for name in KEYS if name in own]
    own = own.drop_duplicates(keys)
    if own.empty:
        return ""
    text = f"Convergence of sparse training: {words(own)}"
    if NOT_SHOWN in set(own["convergence"]):
        text += " (twice the length was not run)"
    late = float(own["not_started"].sum())
    if late:
        text += f"; {late:.0f} run{'s' * (late != 1)}"
        text += f" of {runs}" * (runs is not None)
        text += f" {'have' if late != 1 else 'has'} not started"
    return text + "."


def words(cells: pd.DataFrame) -> str:
    """Return how many cells are in each state: ``2 of 8 cells converged, 6 not converged``."""
    counts, total = cells["convergence"].value_counts(), len(cells)
    if not total:
        return ""
    first, *rest = [state for state in STATES if state in counts]
    text = f"{counts[first]} of {total} cell{'s' * (total != 1)} {first}"
    return ", ".join([text, *(f"{counts[state]} {state}" for state in rest)])


def _total(values: pd.Series) -> float:
    return values.sum(min_count=1)

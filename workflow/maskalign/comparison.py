"""The study's results beside the paper's, cell by cell.

A cell is compared when data set, image size, number of images, architecture and length T of dense
training are the paper's; other settings may differ and are named. Ours are means over n independent
pairs with sample standard deviations, without diverged runs. Table 1 has one mask, so ours there
are those of the first mask, over the members of its ensemble. The interval is the 95 % confidence
interval of ours - reported by Welch's unequal-variances t-test, from both means, standard
deviations and n; a cell is inside when the interval contains 0.
Without a reported standard deviation, or with fewer than two runs here, only the difference is
shown. If nothing differed, about 95 of 100 intervals would contain 0; cells share models, so they
are not independent of each other.
"""

import numpy as np
import pandas as pd
from scipy import stats

from maskalign import selection
from maskalign.cells import CELL, ensembles
from maskalign.reported import Paper
from maskalign.selection import Selection
from maskalign.study import Study

LEVEL = 0.95
COMPARED, NOT_RUN, NOT_COMPARABLE = "compared", "not run", "not comparable"
# What joins a cell to ours within a setting; Table 1 does not say its rewind epoch.
KEYS = {
    "accuracy": ["sparsity", "method", "rewind_epoch", "metric"],
    "early_matching": ["sparsity", "method", "rewind_epoch", "matching_epoch", "metric"],
    "diversity": ["sparsity", "method", "metric"],
}
OURS = ["mean", "std", "n", "diverged", "runs"]
COLUMNS = [
    *("table", "model", "width", "dataset", "sparsity", "method", "rewind_epoch"),
    *("matching_epoch", "metric", "study_dataset", "study_model", *OURS),
    *("reported_mean", "reported_std", "reported_n", "difference", "low", "high", "inside"),
    *("status", "why", "notes"),
]
POINTS = ["accuracy", "top5_accuracy", "ensemble_accuracy"]  # metrics in percent
WHOLE = ["ensemble_accuracy", "disagreement", "kl", "js"]  # one number an ensemble


def compare(study: Study, runs: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """Join every number that the paper reports with the study's.

    Args:
        study: the study.
        runs: runs.csv.
        paper: the paper's numbers.

    Returns:
        One row (COLUMNS) a reported cell and a data set and model of the study that are the
        paper's; one row a cell where there is none. ``status`` is compared, not run (also:
        diverged) or not comparable, ``why`` its reason. ``low`` and ``high`` bound the interval
        of ``difference``, ours - reported; ``inside`` is empty where nothing is judged.
    """
    parts = []
    for setting, cells in paper.settings():
        cells = cells.rename(
            columns={"mean": "reported_mean", "std": "reported_std", "runs": "reported_n"}
        )
        shows = paper.comparable(study, setting)
        if not shows:
            parts.append(cells.assign(status=NOT_COMPARABLE, why=paper.why_not(study, setting)))
        for s in shows:
            beside = _join(cells, _ours(study, s, paper.kind(setting), runs), paper.kind(setting))
            parts.append(beside.assign(study_dataset=s["dataset"], study_model=s["model"]))
    # Records, because whole columns are empty in some parts and their types would clash.
    table = pd.DataFrame([row for part in parts for row in part.to_dict("records")])
    table = table.reindex(columns=[*COLUMNS, "judged"])
    table.loc[table["metric"].isin(WHOLE), "reported_n"] = 1
    numbers = ["mean", "std", "n", "reported_mean", "reported_std", "reported_n"]
    table[numbers] = table[numbers].astype(float)
    table["difference"] = table["mean"] - table["reported_mean"]
    table["low"], table["high"] = welch(*(table[c].to_numpy() for c in numbers))
    table.loc[~table["judged"].astype(bool), ["low", "high"]] = np.nan
    inside = (table["low"] <= 0) & (table["high"] >= 0)
    table["inside"] = inside.astype("boolean").mask(table["low"].isna())
    return table[COLUMNS]


def welch(mean, std, n, other_mean, other_std, other_n) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of Welch's 95 % interval of mean - other_mean, elementwise.

    All arguments are float arrays [N]; NaN where fewer than two runs, no std, or no spread at all.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = std**2 / n, other_std**2 / other_n
        freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (other_n - 1))
        half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(a + b)
    half = np.where((n >= 2) & (other_n >= 2) & (a + b > 0), half, np.nan)
    return mean - other_mean - half, mean - other_mean + half


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Count, for each of the paper's tables, cells by status, judged and inside; mean difference.

    The mean difference, in points, is that of the accuracies that are compared.
    """
    points = table["difference"].where(table["metric"].isin(POINTS))
    groups = table.assign(points=points, judged=table["inside"].notna()).groupby("table")
    found = groups.agg(
        cells=("status", "size"),
        judged=("judged", "sum"),
        inside=("inside", "sum"),
        mean_difference=("points", "mean"),
    )
    for i, status in enumerate((COMPARED, NOT_RUN, NOT_COMPARABLE), 1):
        found.insert(i, status, groups["status"].agg(lambda s, status=status: (s == status).sum()))
    return found.reset_index()


def nothing(table: pd.DataFrame) -> str:
    """Return one sentence on why nothing is compared, or nothing where something is."""
    if (table["status"] == COMPARED).any():
        return ""
    if (table["status"] == NOT_RUN).any():
        return "Nothing is compared: none of the runs that the paper reports has been completed."
    return (
        "Nothing is compared: no data set and model of this study are the paper's at the "
        "paper's size."
    )


# -- ours ------------------------------------------------------------------------------------------


def _ours(study: Study, s: Selection, kind: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the study's cells of a setting: columns cells.CELL and OURS."""
    if kind == "diversity":
        return _ensembles(study, s, runs)
    view = selection.VIEWS.get(kind, selection.PAPER)
    rows = [selection.shown(study, s, runs, metric, view).rows for metric in POINTS[:2]]
    return selection.summarise(pd.concat(rows), CELL)


def _ensembles(study: Study, s: Selection, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of ensembles of the first mask; ``members`` is the size of a whole one."""
    every = [study.run(path) for path in study.selected(s, "diversity")]
    first = min((run["mask_seed"] for run in every), default=None)
    found = [ensembles(study, [], runs)]
    for run in (run for run in every if run["mask_seed"] == first):
        cells = ensembles(study, [run["path"]], runs)
        size = len(run["parents"]["dense"])
        cells["members"] = np.where(cells["metric"].isin(WHOLE), size, np.nan)
        cells.loc[cells["method"].isin(["dense", "imp"]), "rewind_epoch"] = np.nan
        found.append(cells)
    return pd.concat(found[1:] or found).drop_duplicates()


def _join(cells: pd.DataFrame, ours: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the paper's cells with ours beside them, and with status and why."""
    if kind == "diversity":
        cells = cells.drop(columns="rewind_epoch")
    own = [c for c in (*OURS, "members", "rewind_epoch") if c in ours and c not in KEYS[kind]]
    found = cells.merge(ours[[*KEYS[kind], *own]], how="left", on=KEYS[kind])
    found[["n", "diverged"]] = found[["n", "diverged"]].fillna(0).astype(int)
    found["status"] = np.where(found["n"] > 0, COMPARED, NOT_RUN)
    found["why"] = np.where((found["n"] == 0) & (found["diverged"] > 0), "diverged", "")
    if "members" in found:
        other = (found["n"] > 0) & (found["members"] != found["reported_n"])
        other &= found["members"].notna()
        found.loc[other, "status"] = NOT_COMPARABLE
        found.loc[other, "why"] = "the ensemble has another number of members than the paper's"
        found.loc[other, OURS[:3]] = (np.nan, np.nan, 0)
    return found

"""The cells of the tables: means over independent pairs, and how they are printed."""

import itertools

import pandas as pd

from maskalign import captions, selection
from maskalign.formats import ABSENT, Cell
from maskalign.methods import ordered, titles
from maskalign.selection import Selection
from maskalign.study import Study

CELL = [
    "dataset",
    "model",
    "width",
    "metric",
    "sparsity",
    "method",
    "rewind_epoch",
    "matching_epoch",
]
DIVERSITY = {  # metric: title and digits
    "accuracy": ("Test accuracy (%)", 2),
    "ensemble_accuracy": ("Ensemble accuracy (%)", 2),
    "disagreement": ("Disagreement", 3),
    "kl": ("KL (nats)", 3),
    "js": ("JS (nats)", 3),
}


def summary(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell, in the order of the paper: sparsity, method, epochs."""
    cells = selection.summarise(rows, CELL)
    order = {"method": lambda c: c.map([*study.methods].index)} if len(cells) else {}
    for column in reversed(["width", "sparsity", "method", "rewind_epoch", "matching_epoch"]):
        cells = cells.sort_values(column, key=order.get(column), kind="stable")
    return cells.reset_index(drop=True)


def complete(study: Study, s: Selection, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells and, with n = 0, those that the selection names but the study lacks."""
    sparse = cells[cells["method"] != "dense"]
    if sparse.empty:
        return sparse
    axes = {column: selection.values_of(s, axis, sparse) for axis, column in selection.AXES.items()}
    axes |= {"method": ordered(study.methods, sparse["method"])}
    full = pd.DataFrame(itertools.product(*axes.values()), columns=list(axes))
    one = sparse.iloc[0]
    if "sparsities" not in s:  # those of one width are not missing at another one
        full = full.merge(sparse[["width", "sparsity"]].drop_duplicates())
    full = full.merge(sparse, how="left", on=list(axes))
    full = full.fillna({"n": 0, "diverged": 0, "runs": ""})
    full[["dataset", "model", "metric"]] = [one["dataset"], one["model"], one["metric"]]
    dense = cells[(cells["method"] == "dense") & cells["width"].isin(axes["width"])]
    return pd.concat([dense, full[cells.columns]], ignore_index=True)


def ensembles(study: Study, paths: list[str], runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of diversity runs, those of several masks as one, in the order of ``paths``.

    Accuracy is over the members of all masks; what an ensemble gives as a whole is over masks.
    """
    found = runs[(runs["split"] == "test") & runs["metric"].isin(DIVERSITY)]
    of, empty = found["path"], pd.DataFrame(columns=[*CELL, "mean", "std", "n", "diverged", "runs"])
    parts: dict[tuple, list[pd.DataFrame]] = {}
    for run in map(study.run, paths):
        where = {k: run[k] for k in ("dataset", "model", "width", "sparsity", "rewind_epoch")}
        rows = parts.setdefault(tuple(where.values()), [])
        rows.append(found[of == run["path"]])
        for method, members in run["parents"].items():
            single = found[of.isin(members) & (found["metric"] == "accuracy")]
            rows.append(single.assign(method=method, **where))
    cells = [_ensemble(pd.concat(rows), list(run["parents"])) for rows in parts.values()]
    return pd.concat(cells, ignore_index=True) if cells else empty


def _ensemble(rows: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    cells = selection.summarise(rows.assign(matching_epoch=float("nan")), CELL)
    metrics = list(DIVERSITY)
    cells["at"] = cells["method"].map(methods.index) * 9 + cells["metric"].map(metrics.index)
    return cells.sort_values("at").drop(columns=["at", "matching_epoch"])


def layout(study: Study, cells: pd.DataFrame, columns: pd.Series, by: list[str]) -> pd.DataFrame:
    """Return the cells as printed, rows labelled by ``by`` and by what else differs."""
    if cells.empty:
        return absent()
    names = [
        f"{captions.model_title(study, m)} {captions.times(w)} / {captions.data_title(study, d)}"
        for d, m, w in zip(cells["dataset"], cells["model"], cells["width"], strict=True)
    ]
    labels = {"Model": names}
    if "sparsity" in by:
        labels["Accuracy"] = cells["metric"].map({"accuracy": "top-1", "top5_accuracy": "top-5"})
        labels["Sparsity (%)"] = cells["sparsity"].map(captions.percent)
    if "at" in by:
        labels["At"] = cells["at"]
    if "method" in by:
        labels["Method"] = cells["method"].map(titles(study.methods))
    rows = pd.DataFrame(labels, index=cells.index)
    index = [k for k in rows if k not in ("Model", "Accuracy", "At") or rows[k].nunique() > 1]
    several = columns[cells["method"] == "permuted"].nunique() > 1
    best = cells["mean"].where((cells["method"] == "permuted") & ("sparsity" in by) & several)
    bold = best.notna() & (best == best.groupby([rows[k] for k in index]).transform("max"))
    rows["cell"] = [
        Cell(mean, std, n, DIVERSITY.get(metric, ("", 2))[1], b) if n or lost else ABSENT
        for mean, std, n, lost, metric, b in zip(
            *(cells[k] for k in ("mean", "std", "n", "diverged", "metric")), bold, strict=True
        )
    ]
    rows["column"] = columns
    order = rows[index].drop_duplicates()
    wide = rows.pivot(index=index, columns="column", values="cell")
    wide = wide.reindex(columns=columns.drop_duplicates().tolist()).fillna(ABSENT)
    key = pd.MultiIndex.from_frame(order) if len(index) > 1 else order[index[0]]
    return wide.rename_axis(columns=None).reindex(key)


def absent(why: str = captions.NOT_RUN) -> pd.DataFrame:
    """Return the layout of a table of which nothing was run."""
    return pd.DataFrame({"Result": [why]}, index=pd.Index([ABSENT], name="Method"))

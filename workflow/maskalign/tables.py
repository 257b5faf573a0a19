"""The tables of a study: the paper's (1 to 15), the rebuttal's (16), and one of two matchings."""

import itertools
from typing import Any

import pandas as pd

from maskalign import captions, matching_table, origin, selection, settings
from maskalign.captions import METHOD_TITLES, METRIC_TITLES
from maskalign.formats import ABSENT, Cell, Table
from maskalign.selection import METHODS, Selection
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
Made = tuple[list[str], pd.DataFrame, pd.DataFrame]  # sentences of the caption, cells, layout


def build(study: Study, name: str, runs: pd.DataFrame | None = None) -> Table:
    """Return table ``name`` of a study.

    Args:
        study: the study, whose configuration says what the table shows.
        name: name of the table in the study's artefacts.
        runs: rows of runs.csv; the kinds ``training`` and ``pruning`` need none.
    """
    entry = study.config["artefacts"]["tables"][name]
    text, cells, layout = KINDS[entry["kind"]](study, entry, runs)
    if cells.empty:
        layout = _absent(captions.absence(study, entry["shows"][0]))
        return Table(name, captions.nothing(study, name, entry["shows"]), cells, layout)
    text.append(captions.in_paper(study, name))
    if "runs" in cells:
        text.insert(0, origin.warning(origin.behind(cells, runs)))
    return Table(name, captions.join(*text), cells, layout)


def accuracy(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Tables 5 to 14 and 16: accuracy by sparsity S, method and rewind epoch k, in percent."""
    what = METRIC_TITLES[entry["metrics"][0]]
    if entry["metrics"] == ["accuracy", "top5_accuracy"]:
        what = "top-1 and top-5 test accuracy (%)"
    parts = [
        (s, selection.shown(study, s, runs, metric))
        for s, metric in itertools.product(entry["shows"], entry["metrics"])
    ]
    cells = pd.concat([_complete(s, _summary(shown.rows)) for s, shown in parts])
    sparse = cells[cells["method"] != "dense"]
    about = f"{what[0].upper()}{what[1:]} of {captions.subject(study, entry['shows'])}"
    text = [
        f"{about} by sparsity S and rewind epoch k: {_spread(sparse)}.",
        _dense(cells),
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_missing(parts), _diverged(cells)),
    ]
    columns = sparse["rewind_epoch"].map("k = {:g}".format)
    return text, cells, _layout(study, sparse, columns, ["sparsity", "method"])


def early_matching(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Table 15: accuracy by the epoch t at which B is matched to the final A, in percent."""
    parts = [(s, selection.shown(study, s, runs, "accuracy", early=True)) for s in entry["shows"]]
    cells = pd.concat([_summary(shown.rows) for _, shown in parts])
    cells = cells[cells["method"] != "dense"].reset_index(drop=True)
    rewinds = ", ".join(f"{k:g}" for k in sorted(cells["rewind_epoch"].unique()))
    text = [
        f"Test accuracy (%) of {captions.subject(study, entry['shows'])} from rewind epoch "
        f"k = {rewinds}, with the final A matched to B at epoch t: {_spread(cells)}.",
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_missing(parts), _diverged(cells)),
    ]
    permuted = cells["matching_epoch"].map("permuted, t = {:g}".format)
    columns = permuted.where(cells["method"] == "permuted", cells["method"].map(METHOD_TITLES))
    return text, cells, _layout(study, cells, columns, ["sparsity"])


def diversity(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Table 1: accuracy (percent) of each method's ensemble and diversity of its members."""
    paths = [p for s in entry["shows"] for p in study.selected(s, "diversity")]
    cells = ensembles(study, paths, runs)
    if cells.empty:
        return [], cells, cells
    single = cells["metric"] == "accuracy"
    places = [
        f"S = {captions.percent(s)} %, k = {k:g}"
        for s, k in zip(cells["sparsity"], cells["rewind_epoch"], strict=True)
    ]
    text = [
        f"Ensembles of {captions.subject(study, entry['shows'])} at "
        f"{' and '.join(sorted(set(places)))}: test accuracy is "
        f"{captions.spread(cells.loc[single, 'n'], 'member')}; the other columns compare the "
        f"members' outputs on the test data, {captions.spread(cells.loc[~single, 'n'], 'mask')}.",
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_absent_widths(entry, cells), _diverged(cells)),
    ]
    columns = cells["metric"].map(lambda m: DIVERSITY[m][0])
    return text, cells, _layout(study, cells.assign(at=places), columns, ["at", "method"])


KINDS = {
    "accuracy": accuracy,
    "early_matching": early_matching,
    "matching": matching_table.matching,
    "diversity": diversity,
    "training": settings.training,
    "pruning": settings.pruning,
}


# -- cells -----------------------------------------------------------------------------------------


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell, in the order of the paper: sparsity, method, epochs."""
    cells = selection.summarise(rows, CELL)
    order = {"method": lambda c: c.map(METHODS.index)} if len(cells) else {}
    for column in reversed(["width", "sparsity", "method", "rewind_epoch", "matching_epoch"]):
        cells = cells.sort_values(column, key=order.get(column), kind="stable")
    return cells.reset_index(drop=True)


def _complete(s: Selection, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells and, with n = 0, those that the selection names but the study lacks."""
    sparse = cells[cells["method"] != "dense"]
    if sparse.empty:
        return sparse
    axes = {column: selection.values_of(s, axis, sparse) for axis, column in selection.AXES.items()}
    axes |= {"method": [m for m in METHODS if m in set(sparse["method"])]}
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


# -- layout ----------------------------------------------------------------------------------------


def _layout(study: Study, cells: pd.DataFrame, columns: pd.Series, by: list[str]) -> pd.DataFrame:
    """Return the cells as printed, rows labelled by ``by`` and by what else differs."""
    if cells.empty:
        return _absent()
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
        labels["Method"] = cells["method"].map(METHOD_TITLES)
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


def _absent(why: str = captions.NOT_RUN) -> pd.DataFrame:
    """Return the layout of a table of which nothing was run."""
    return pd.DataFrame({"Result": [why]}, index=pd.Index([ABSENT], name="Method"))


# -- sentences -------------------------------------------------------------------------------------


def _spread(cells: pd.DataFrame) -> str:
    numbers = cells.loc[cells["n"] > 0, "n"]
    if numbers.empty:
        return captions.NOT_RUN
    permuted = cells.loc[cells["method"] == "permuted", ["rewind_epoch", "matching_epoch"]]
    text = captions.spread(numbers, "pair")
    text += ", the best permuted value of a row in bold" * (len(permuted.drop_duplicates()) > 1)
    return text + f" ({ABSENT}: {captions.NOT_RUN})" * bool(
        (cells["n"] + cells["diverged"]).eq(0).any()
    )


def _dense(cells: pd.DataFrame) -> str:
    """Return what the dense models of the pairs reach, by model and accuracy."""
    parts = []
    dense = cells[(cells["method"] == "dense") & (cells["n"] > 0)]
    for row in dense.itertuples():
        std = f" ± {row.std:.2f}" if row.n > 1 else ""
        where = {"accuracy": "", "top5_accuracy": " top-5"}[row.metric]
        width = f" at {captions.times(row.width)}" * (dense["width"].nunique() > 1)
        parts.append(f"{row.mean:.2f}{std}{where}{width} (n = {row.n:.0f})")
    return f"Dense models reach {', '.join(parts)}." if parts else ""


def _diverged(cells: pd.DataFrame) -> int:
    """Return the number of diverged runs; a run has several metrics but diverges once."""
    return int(cells.loc[cells["metric"] == "accuracy", "diverged"].sum())


def _missing(parts: list[tuple[Selection, selection.Shown]]) -> dict[str, list[float]]:
    """Return what any of the selections lacks, by axis."""
    return {
        axis: sorted({v for _, shown in parts for v in shown.missing[axis]})
        for axis in selection.AXES
    }


def _absent_widths(entry: dict[str, Any], cells: pd.DataFrame) -> dict[str, list[float]]:
    named = [(s["dataset"], s["model"], w) for s in entry["shows"] for w in s.get("widths", [])]
    there = set(zip(cells["dataset"], cells["model"], cells["width"], strict=True))
    return {"widths": sorted({n[2] for n in named if n not in there})}

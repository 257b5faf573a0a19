"""The tables of a study: the paper's (1 to 15), the rebuttal's (16), and extras (17 to 19)."""

import itertools
from typing import Any

import pandas as pd

from maskalign import (
    captions,
    convergence,
    diagnosis_table,
    matching_table,
    origin,
    selection,
    settings,
)
from maskalign.captions import METRIC_TITLES
from maskalign.cells import DIVERSITY, absent, complete, ensembles, layout, summary
from maskalign.formats import ABSENT, Table
from maskalign.methods import A, ordered, titles
from maskalign.selection import EARLY, METHODS, Selection
from maskalign.study import Study

Made = tuple[list[str], pd.DataFrame, pd.DataFrame]  # sentences of the caption, cells, layout


def build(study: Study, name: str, runs: pd.DataFrame | None = None) -> Table:
    """Return table ``name`` of a study.

    Args:
        study: the study, whose configuration says what the table shows.
        name: name of the table in the study's artefacts.
        runs: rows of runs.csv; the kinds ``training`` and ``pruning`` need none.
    """
    entry = study.config["artefacts"]["tables"][name]
    text, cells, printed = KINDS[entry["kind"]](study, entry, runs)
    if cells.empty:
        printed = absent(captions.absence(study, entry["shows"][0]))
        return Table(name, captions.nothing(study, name, entry["shows"]), cells, printed)
    text.append(captions.in_paper(study, name))
    if "runs" in cells:
        text.insert(0, origin.warning(origin.behind(cells, runs)))
    return Table(name, captions.join(*text), cells, printed)


def accuracy(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Tables 5 to 14 and 16: accuracy by sparsity S, method and rewind epoch k, in percent."""
    what = METRIC_TITLES[entry["metrics"][0]]
    if entry["metrics"] == ["accuracy", "top5_accuracy"]:
        what = "top-1 and top-5 test accuracy (%)"
    parts = [
        (s, selection.shown(study, s, runs, metric))
        for s, metric in itertools.product(entry["shows"], entry["metrics"])
    ]
    cells = pd.concat([complete(study, s, summary(study, shown.rows)) for s, shown in parts])
    cells = convergence.joined(study, entry["shows"], runs, cells)
    sparse = cells[cells["method"] != "dense"]
    about = f"{what[0].upper()}{what[1:]} of {captions.subject(study, entry['shows'])}"
    text = [
        f"{about} by sparsity S and rewind epoch k: {_spread(sparse)}.",
        _dense(cells),
        convergence.sentence(cells),
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_missing(parts), _diverged(cells)),
    ]
    columns = sparse["rewind_epoch"].map("k = {:g}".format)
    return text, cells, layout(study, sparse, columns, ["sparsity", "method"])


def early_matching(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Table 15: accuracy by the epoch t at which B is matched to the final A, in percent."""
    parts = [(s, selection.shown(study, s, runs, "accuracy", EARLY)) for s in entry["shows"]]
    cells = pd.concat([summary(study, shown.rows) for _, shown in parts])
    cells = cells[cells["method"] != "dense"].reset_index(drop=True)
    cells = convergence.joined(study, entry["shows"], runs, cells)
    rewinds = ", ".join(f"{k:g}" for k in sorted(cells["rewind_epoch"].unique()))
    text = [
        f"Test accuracy (%) of {captions.subject(study, entry['shows'])} from rewind epoch "
        f"k = {rewinds}, with the final A matched to B at epoch t: {_spread(cells)}.",
        convergence.sentence(cells),
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_missing(parts), _diverged(cells)),
    ]
    permuted = cells["matching_epoch"].map("permuted, t = {:g}".format)
    names = cells["method"].map(titles(study.methods))
    columns = permuted.where(cells["method"] == "permuted", names)
    return text, cells, layout(study, cells, columns, ["sparsity"])


def methods(study: Study, entry: dict[str, Any], runs: pd.DataFrame) -> Made:
    """Table 18: accuracy of every method by sparsity S and rewind epoch k, in percent."""
    parts = [(s, selection.shown(study, s, runs, "accuracy", METHODS)) for s in entry["shows"]]
    cells = pd.concat([summary(study, shown.rows) for _, shown in parts])
    cells = convergence.joined(study, entry["shows"], runs, cells.reset_index(drop=True))
    sparse = cells[cells["method"] != "dense"]
    if sparse.empty:
        return [], sparse, sparse
    named = ordered(study.methods, sparse["method"])
    about = "; ".join(f"{study.methods[m].title}: {study.methods[m].about}" for m in named)
    text = [
        f"Test accuracy (%) of every method on {captions.subject(study, entry['shows'])} by "
        f"sparsity S and rewind epoch k: {captions.spread(sparse['n'], 'pair')} ({ABSENT}: "
        f"{captions.NOT_RUN}). Masks: {about}. {_starts(study, named)} All masks of a column keep "
        "as many weights.",
        _dense(cells),
        convergence.sentence(cells),
        captions.conditions(study, entry["shows"]),
        captions.exceptions(_missing(parts), _diverged(cells)),
    ]
    columns = [
        f"S = {captions.percent(s)} %, k = {k:g}"
        for s, k in zip(sparse["sparsity"], sparse["rewind_epoch"], strict=True)
    ]
    columns = pd.Series(columns, index=sparse.index)
    place = sparse.groupby(["dataset", "model", "width"], sort=False).ngroup()
    order = sparse.assign(place=place, rank=sparse["method"].map([*study.methods].index))
    rows = sparse.loc[order.sort_values(["place", "rank"], kind="stable").index]
    return text, cells, layout(study, rows, columns, ["method"])


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
    return text, cells, layout(study, cells.assign(at=places), columns, ["at", "method"])


KINDS = {
    "accuracy": accuracy,
    "early_matching": early_matching,
    "matching": matching_table.matching,
    "methods": methods,
    "diagnosis": diagnosis_table.diagnosis,
    "diversity": diversity,
    "training": settings.training,
    "pruning": settings.pruning,
}


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


def _starts(study: Study, names: list[str]) -> str:
    """Return whose weights of epoch k sparse training starts from."""
    from_a = [study.methods[m].title for m in names if study.methods[m].start == A]
    if len(from_a) == len(names):
        return "All start from A's weights of epoch k."
    some = f"{' and '.join(from_a)} start{'s' * (len(from_a) == 1)} from A's weights of epoch k, "
    return f"{some}the others from B's." if from_a else "All start from B's weights of epoch k."


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

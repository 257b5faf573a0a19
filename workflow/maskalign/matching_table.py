"""A table beyond the paper: matching by activations and by weights beside each other."""

from typing import Any

import pandas as pd

from maskalign import captions, selection
from maskalign.formats import ABSENT, Cell
from maskalign.selection import Selection, Shown
from maskalign.study import Study

BY = ["dataset", "model", "width", "matching", "metric", "sparsity", "rewind_epoch"]
# What a row shows: unpermuted, permuted by either method, or the ticket of A itself.
MATCHINGS = {
    "naive": "none (naive)",
    "activations": "activations",
    "weights": "weights",
    "lth": "none (LTH)",
}
METRICS = {  # metric: title and digits
    "barrier": ("Barrier (points)", 2),
    "corrected_barrier": ("Barrier, corrected (points)", 2),
    "matched_correlation": ("Correlation", 3),
    "weight_similarity": ("Weight similarity", 3),
    "agreement": ("Agreement", 3),
    "accuracy": ("Accuracy (%)", 2),
}
BARRIERS = {
    "error_barrier_none": "barrier",
    "error_barrier_reset": "corrected_barrier",
    "error_barrier_repair": "corrected_barrier",
}
CORRECTIONS = {"reset": "batch-norm reset", "repair": "REPAIR"}
AGREEMENT = (
    "Agreement is the share of channels to which both ways assign the same channel, among those "
    "that vary over the images, as activations leave the place of a constant channel to chance."
)
# Before a group's name, in the metrics of its agreement and of its number of channels.
GROUP, CHANNELS = "agreement.", "channels."


def matching(study: Study, entry: dict[str, Any], runs: pd.DataFrame):
    """Barriers, what either way raises, their agreement, and accuracies; see ``tables.build``."""
    shows = entry["shows"]
    parts = [numbers(study, s, runs) for s in shows]
    cells = pd.concat([_cells(part) for part in parts], ignore_index=True)
    text = [
        "Matching A to B by activations and by weights (coordinate descent, Git Re-Basin), for "
        f"{captions.subject(study, shows)}: {_spread(cells)}. Barriers are those of the test "
        "error on the line from A, permuted or not, to B, as it is and corrected by "
        f"{corrections(pd.concat([part.rows['correction'] for part in parts]))}. Correlation is "
        "that of matched channels' activations, weight similarity the cosine of B's and permuted "
        f"A's weights. {AGREEMENT} Accuracies are those of the naive, permuted and LTH masks on "
        f"the test data, at sparsity S from rewind epoch k. {ABSENT}: there is no such value.",
        captions.conditions(study, shows),
        captions.exceptions(missing(parts), diverged(parts)),
    ]
    return text, cells, _layout(study, cells)


def numbers(study: Study, s: Selection, runs: pd.DataFrame) -> Shown:
    """Return the numbers of METRICS, GROUP and CHANNELS, with columns matching and correction."""
    part = selection.compared_matchings(study, s, runs)
    rows = part.rows
    barriers = rows["metric"].isin(BARRIERS)
    rows = rows.assign(
        correction=rows["metric"].str.rsplit("_", n=1).str[-1].where(barriers),
        metric=rows["metric"].replace(BARRIERS),
        matching=rows["matching_method"].fillna(rows["method"]),
    )
    known = rows["metric"].isin(METRICS) | rows["metric"].str.startswith((GROUP, CHANNELS))
    at_test = rows["metric"].isin(["barrier", "corrected_barrier", "accuracy"])
    rows = rows[known & (rows["split"] == at_test.map({True: "test", False: "train"}))]
    return Shown(rows, part.missing)


def corrections(found: pd.Series) -> str:
    """Return the names of the variance corrections in a column of them."""
    return " or ".join(text for key, text in CORRECTIONS.items() if key in set(found))


def missing(parts: list[Shown]) -> dict[str, list[float]]:
    """Return what any of the selections lacks, by axis."""
    return {
        axis: sorted({v for part in parts for v in part.missing[axis]}) for axis in selection.AXES
    }


def diverged(parts: list[Shown]) -> int:
    """Return the number of diverged sparse runs and of matchings of diverged models."""
    names = [*selection.KEYS, "matching"]
    rows = pd.concat([part.rows for part in parts])
    lost = rows[(rows["status"] == "diverged") & rows["metric"].isin(["accuracy", "barrier"])]
    return len(lost.drop_duplicates(names))


def accuracy_title(sparsity: float, rewind_epoch: float) -> str:
    """Return where an accuracy is taken."""
    return f"S = {captions.percent(sparsity)} %, k = {rewind_epoch:g}"


def _cells(part: Shown) -> pd.DataFrame:
    """Return one row a cell of METRICS: by width, then in the order of MATCHINGS and METRICS."""
    cells = selection.summarise(part.rows[part.rows["metric"].isin(METRICS)], BY)
    ranks = pd.DataFrame(
        {
            "width": cells["width"],
            "matching": pd.Categorical(cells["matching"], list(MATCHINGS)).codes,
            "metric": pd.Categorical(cells["metric"], list(METRICS)).codes,
            "sparsity": cells["sparsity"],
        }
    )
    return cells.loc[ranks.sort_values(list(ranks)).index]


def _spread(cells: pd.DataFrame) -> str:
    numbers = cells.loc[cells["n"] > 0, "n"]
    return captions.spread(numbers, "pair") if len(numbers) else captions.NOT_RUN


def _layout(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    if cells.empty:
        return pd.DataFrame()
    names = [
        f"{captions.model_title(study, m)} {captions.times(w)} / {captions.data_title(study, d)}"
        for d, m, w in zip(cells["dataset"], cells["model"], cells["width"], strict=True)
    ]
    rows = pd.DataFrame({"Model": names, "Matching": cells["matching"].map(MATCHINGS).tolist()})
    index = [k for k in rows if k != "Model" or rows[k].nunique() > 1]
    rows["cell"] = [
        Cell(mean, std, n, METRICS[metric][1]) if n or lost else ABSENT
        for mean, std, n, lost, metric in zip(
            *(cells[k] for k in ("mean", "std", "n", "diverged", "metric")), strict=True
        )
    ]
    rows["column"] = [
        METRICS[metric][0] + (f", {accuracy_title(s, k)}" if metric == "accuracy" else "")
        for metric, s, k in zip(*(cells[k] for k in BY[4:]), strict=True)
    ]
    titles = [title for title, _ in METRICS.values()]
    columns = sorted(rows["column"].unique(), key=lambda c: (titles.index(c.split(", S =")[0]), c))
    order = rows[index].drop_duplicates()
    wide = rows.pivot(index=index, columns="column", values="cell")
    wide = wide.reindex(columns=columns).fillna(ABSENT)
    key = pd.MultiIndex.from_frame(order) if len(index) > 1 else order[index[0]]
    return wide.rename_axis(columns=None).reindex(key)

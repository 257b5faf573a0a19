"""Accuracy against the rewind epoch (Figures 5 to 8, 11) or the sparsity (Figures 9, 10)."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from maskalign import captions, convergence, selection
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.study import Study

COLUMN = ["dataset", "model", "width"]
# kind: drawn against, one row of panels each
AXES = {"rewind": ("rewind_epoch", "sparsity"), "sparsity": ("sparsity", "rewind_epoch")}


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw lines LTH, naive and permuted with std bands, and the dense mean dashed.

    Panels are widths by sparsities (kind ``rewind``) or widths by rewind epochs (``sparsity``). Of
    what the selection names, widths and rows that were not run are left out and named below.
    """
    entry = study.config["artefacts"]["figures"][name]
    x, facet = AXES[entry["kind"]]
    parts = [selection.shown(study, s, sources.runs, entry["metric"]) for s in entry["shows"]]
    by = [*COLUMN, "metric", "sparsity", "rewind_epoch", "method", "matching_epoch"]
    data = selection.summarise(pd.concat([part.rows for part in parts]), by)
    missing = {a: sorted({v for part in parts for v in part.missing[a]}) for a in selection.AXES}
    sparse = data[data["method"] != "dense"]
    if sparse.empty:
        return style.nothing(study, name, entry, data)
    data = convergence.joined(study, entry["shows"], sources.runs, data)
    columns = list(sparse[COLUMN].drop_duplicates().itertuples(index=False, name=None))
    rows = sorted(sparse[facet].unique())
    panels = list(itertools.product(rows, columns))
    shape = (len(rows), len(columns)) if len(columns) > 1 else _grid(len(rows))
    figure, axes = style.canvas(*shape, sharex=True)
    for ax, (row, column) in itertools.zip_longest(axes.flat, panels, fillvalue=(None, None)):
        if row is None:
            ax.remove()
            continue
        of_column = data[(data[COLUMN] == pd.Series(column, COLUMN)).all(axis=1)]
        _panel(ax, of_column[of_column[facet] == row], of_column, x)
        ax.set_title(_title(study, facet, row, column, columns))
    _label(axes, x, entry["metric"])
    methods = [m for m in ("lth", "naive", "permuted", "dense") if m in set(data["method"])]
    heads = " / ".join(dict.fromkeys(captions.heading(study, s) for s in entry["shows"]))
    title = f"{heads}, {captions.counted(sparse.loc[sparse['n'] > 0, 'n'], 'pair')}"
    handles = [style.handle(study.methods[m]) for m in methods]
    style.frame(figure, title, handles, note=captions.not_run(missing))
    return Drawing(figure, data, _caption(study, name, entry, data, missing))


def _panel(ax: Axes, found: pd.DataFrame, of_column: pd.DataFrame, x: str) -> None:
    """Draw one panel: ``found`` are its sparse results, ``of_column`` holds the dense ones."""
    if found.empty:
        return style.absent(ax)
    dense = of_column[(of_column["method"] == "dense") & (of_column["n"] > 0)]
    look = style.LOOKS["dense"]
    for level in dense["mean"]:
        ax.axhline(level, color=look.color, linestyle=look.dash)
    for method, line in found.sort_values(x).groupby("method"):
        style.line(ax, style.LOOKS[method], _position(line[x], x), line["mean"], line["std"])
    _ticks(ax, np.sort(found[x].unique()), x)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.07)
    return None


def _position(values: np.ndarray, x: str) -> np.ndarray:
    """Return where values stand on the x axis: sparsities by the logarithm of what remains."""
    return -np.log(1 - values) if x == "sparsity" else values


def _ticks(ax: Axes, values: np.ndarray, x: str) -> None:
    """Label every sparsity, and every rewind epoch unless labels would touch."""
    if x == "sparsity":
        ax.set_xticks(_position(values, x), [captions.percent(v) for v in values])
    elif np.diff(values).min(initial=np.ptp(values)) < 0.1 * np.ptp(values):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        ax.set_xticks(values)


def _title(study: Study, facet: str, row: float, column: tuple, columns: list[tuple]) -> str:
    where = f"S = {captions.percent(row)} %" if facet == "sparsity" else f"k = {row:g}"
    text = f"{where}, {captions.times(column[2])}"
    others = {c[:2] for c in columns}
    return text if len(others) == 1 else f"{captions.data_title(study, column[0])}, {text}"


def _label(axes, x: str, metric: str) -> None:
    titles = {"rewind_epoch": "Rewind epoch k", "sparsity": "Sparsity S (%)"}
    what = captions.METRIC_TITLES[metric]
    for column in axes.T:
        drawn = [ax for ax in column if ax.axison and ax.figure]
        for ax in drawn[-1:]:  # the lowest one, below which nothing was run
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(titles[x])
    for row in axes:
        drawn = [ax for ax in row if ax.axison and ax.figure]
        for ax in drawn[:1]:
            ax.set_ylabel(f"{what[0].upper()}{what[1:]}")


def _grid(panels: int) -> tuple[int, int]:
    """Return rows and columns for the panels of a single width: at most four beside each other."""
    rows = -(-panels // 4)
    return rows, -(-panels // rows)


def _caption(study: Study, name: str, entry: dict, data: pd.DataFrame, missing: dict) -> str:
    what, shows = captions.METRIC_TITLES[entry["metric"]], entry["shows"]
    against = "the rewind epoch k"
    if entry["kind"] == "sparsity":
        against = "the sparsity S, spaced by the logarithm of the weights that remain"
    n = data.loc[(data["method"] != "dense") & (data["n"] > 0), "n"]
    spread = captions.spread(n, "pair")
    dense = data.loc[(data["method"] == "dense") & (data["n"] > 0), "n"]
    beside = f", dashed the mean of the dense models ({captions.counted(dense, 'model')})"
    return captions.join(
        f"{what[0].upper()}{what[1:]} of {captions.subject(study, shows)} against {against}: "
        f"{spread}{beside * bool(len(dense))}; vertical axes differ between panels.",
        convergence.sentence(data),
        captions.conditions(study, shows),
        captions.exceptions(missing, int(data["diverged"].sum())),
        captions.in_paper(study, name),
    )

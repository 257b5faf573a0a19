"""Accuracy of every method, as dots with intervals (Figure 14, an extra)."""

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from maskalign import captions, convergence, intervals, selection
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.methods import ordered
from maskalign.selection import METHODS
from maskalign.study import Study

PANEL = ["dataset", "model", "width", "sparsity", "rewind_epoch"]
ROW = 0.16  # inches of a method
WIDE = 3  # panels beside each other, at most
PAIR = 3.0  # points of the mark of a pair
ROOM = 0.25  # of the range of the pairs, left and right of it


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw a panel for each width, S and k: one row per method, one small dot per pair."""
    entry = study.config["artefacts"]["figures"][name]
    shows = entry["shows"]
    parts = [selection.shown(study, s, sources.runs, "accuracy", METHODS) for s in shows]
    rows = pd.concat([part.rows for part in parts])
    data = intervals.summary(rows, [*PANEL, "method", "matching_epoch"])
    sparse = data[data["method"] != "dense"]
    if sparse.empty:
        return style.nothing(study, name, entry, data)
    data = convergence.joined(study, shows, sources.runs, data)
    methods = ordered(study.methods, sparse["method"])
    panels = list(sparse[PANEL].drop_duplicates().itertuples(index=False, name=None))
    grid = -(-len(panels) // WIDE)
    height = ROW * len(methods) + 0.65
    figure, axes = style.canvas(grid, -(-len(panels) // grid), height, sharey=True)
    for ax, panel in itertools.zip_longest(axes.flat, panels):
        if panel is None:
            ax.remove()
            continue
        _panel(study, ax, data, rows, panel, methods)
        ax.set_title(_title(study, data, panel, panels))
    for column in axes.T:
        lowest = [ax for ax in column if ax.figure][-1]
        lowest.set_xlabel("Test accuracy (%)")
    title = " / ".join(dict.fromkeys(captions.heading(study, s) for s in shows))
    title += f", {captions.counted(sparse.loc[sparse['n'] > 0, 'n'], 'pair')}"
    missing = {a: sorted({v for part in parts for v in part.missing[a]}) for a in selection.AXES}
    style.frame(figure, title, _keys(), note=captions.not_run(missing))
    return Drawing(figure, data, _caption(study, name, shows, data, methods, missing))


def _panel(
    study: Study, ax: Axes, data: pd.DataFrame, rows: pd.DataFrame, panel: tuple, methods: list[str]
) -> None:
    where = dict(zip(PANEL, panel, strict=True))
    own, pairs = (t[selection.same(t, where)] for t in (data, rows))
    values = []
    for place, method in enumerate(methods):
        look = study.methods[method].look
        dots = pairs[(pairs["method"] == method) & (pairs["status"] == "completed")]["value"]
        values += [*dots]
        mark = {"marker": look.marker or "o", "linestyle": ""}
        ax.plot(dots, [place] * len(dots), color=look.color, markersize=PAIR, alpha=0.5, **mark)
        for row in own[own["method"] == method].itertuples():
            ax.plot([row.low, row.high], [place, place], color=look.color, linewidth=1)
            ax.plot([row.mean], [place], color=look.color, mec="white", mew=0.4, **mark)
    if values:
        room = ROOM * max(max(values) - min(values), 1.0)
        ax.set_xlim(min(values) - room, max(values) + room)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.set_yticks(range(len(methods)), [study.methods[m].title for m in methods])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelbottom=True)


def _title(study: Study, data: pd.DataFrame, panel: tuple, panels: list[tuple]) -> str:
    """Return where a panel is, and the dense mean: on the axis it would squeeze the others."""
    dataset, _, width, sparsity, k = panel
    lines = [f"{captions.times(width)}, S = {captions.percent(sparsity)} %, k = {k:g}"]
    if len({p[:2] for p in panels}) > 1:
        lines.insert(0, captions.data_title(study, dataset))
    where = dict(zip(PANEL[:3], panel[:3], strict=True)) | {"method": "dense"}
    dense = data[selection.same(data, where)]["mean"].dropna()
    lines += [f"dense: {level:.1f} %" for level in dense]
    return "\n".join(lines)


def _keys() -> list[Line2D]:
    gray = {"color": style.GREY, "marker": "o"}
    return [
        Line2D([], [], label="mean with 95 % interval", mec="white", mew=0.4, **gray),
        Line2D([], [], label="one pair", linestyle="", markersize=PAIR, alpha=0.5, **gray),
    ]


def _caption(
    study: Study, name: str, shows: list, data: pd.DataFrame, methods: list[str], missing: dict
) -> str:
    n = data.loc[(data["method"] != "dense") & (data["n"] > 0), "n"]
    about = "; ".join(f"{study.methods[m].title}: {study.methods[m].about}" for m in methods)
    cut = data["low"].notna().any()
    return captions.join(
        f"Test accuracy (%) of every method on {captions.subject(study, shows)}: mean with 95 % "
        f"t-interval over {captions.counted(n, 'pair')}, small marks are pairs; above each panel "
        f"the mean of the dense models; horizontal axes differ between panels"
        f"{', and cut off intervals that reach beyond them' * bool(cut)}. Masks: {about}.",
        convergence.sentence(data),
        captions.conditions(study, shows),
        captions.exceptions(missing, int(data["diverged"].sum())),
        captions.in_paper(study, name),
    )

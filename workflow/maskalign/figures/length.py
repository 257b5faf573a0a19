"""Accuracies, and gaps between them, against the length of sparse training (Figure 15)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from maskalign import captions, convergence, intervals, selection
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.methods import ordered
from maskalign.selection import EVERYTHING
from maskalign.study import Study

PANEL = ["dataset", "model", "width", "sparsity", "rewind_epoch"]
KEYS = [*PANEL, "method", "matching_epoch", "length", "rate"]
# Differences that are drawn, with the look of the method that is ahead or behind.
GAPS = {("lth", "naive"): "lth", ("permuted", "naive"): "permuted", ("naive", "shuffled"): "naive"}
DODGE = 0.08  # doublings between the intervals of two gaps, so that none covers another
MARGIN = 1.15  # of the axis of lengths, beyond its ends


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw two panels for each width, S and k: accuracies, and gaps, against the length L.

    Lines are at the recipe's rate; a hollow mark is a method at its best other rate.
    """
    entry = study.config["artefacts"]["figures"][name]
    shows = entry["shows"]
    parts = [selection.shown(study, s, sources.runs, "accuracy", EVERYTHING) for s in shows]
    rows = pd.concat([part.rows for part in parts])
    rows = _longer(rows[rows["method"] != "dense"].assign(pair=lambda r: r["mask_seed"] // 2))
    accuracies = intervals.summary(rows, KEYS).assign(kind="accuracy")
    data = pd.concat([accuracies, _gaps(rows)], ignore_index=True)
    if data.empty:
        return style.nothing(study, name, entry, data)
    of_methods = data["kind"] == "accuracy"
    judged = convergence.joined(study, shows, sources.runs, data[of_methods])
    data = pd.concat([judged, data[~of_methods]], ignore_index=True)
    panels = list(data[PANEL].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = style.canvas(len(panels), 2, height=1.8, width=3)
    for (left, right), panel in zip(axes, panels, strict=True):
        own = data[selection.same(data, dict(zip(PANEL, panel, strict=True)))]
        _draw_accuracies(study, left, own[own["kind"] == "accuracy"])
        _draw_gaps(study, right, own[own["kind"] == "gap"])
        left.set_title(_title(study, panel, panels))
    for ax in axes[-1]:
        ax.set_xlabel("Length L of sparse training, times (T - k)")
    title = " / ".join(dict.fromkeys(captions.heading(study, s) for s in shows))
    title += f", {captions.counted(data.loc[data['n'] > 0, 'n'], 'pair')}"
    style.frame(figure, title, *_keys(study, data))
    return Drawing(figure, data, _caption(study, name, shows, data))


def _longer(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of those methods of a panel that are trained at more than one length."""
    lengths = rows.groupby([*PANEL, "method"])["length"].transform("nunique")
    return rows[lengths > 1]


def _gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the differences GAPS at the recipe's rate, pair by pair."""
    same = rows[rows["rate"] == 1]
    keys = [*PANEL, "length", "rate", "pair"]
    parts = []
    for first, second in GAPS:
        ends = [same[same["method"] == m].set_index(keys) for m in (first, second)]
        both = ends[0].join(ends[1].add_suffix("_second"), how="inner")
        lost = (both[["status", "status_second"]] == "diverged").any(axis=1)
        both["value"] = both["value"] - both["value_second"]
        both["path"] = both["path"] + " " + both["path_second"]
        both["status"] = lost.map({True: "diverged", False: "completed"})
        both = both.assign(method=f"{first} - {second}", matching_epoch=float("nan"))
        parts.append(both.reset_index())
    return intervals.summary(pd.concat(parts), KEYS).assign(kind="gap")


def _draw_accuracies(study: Study, ax: Axes, own: pd.DataFrame) -> None:
    for method in ordered(study.methods, own["method"]):
        look, part = study.methods[method].look, own[own["method"] == method]
        line = part[part["rate"] == 1].sort_values("length")
        style.line(ax, look, line["length"], line["mean"], line["std"])
        for row in _best(part).itertuples():
            ax.plot([row.length], [row.mean], **_hollow(look.color, look.marker))
    ax.set_ylabel("Test accuracy (%)")
    _axis(ax, own["length"])


def _best(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells whose rate is the best of their length and is not the recipe's."""
    keys = [*PANEL, "method", "length"]
    known = cells.dropna(subset=["mean"])
    usual = known.assign(usual=known["rate"] == 1).groupby(keys)["usual"].transform("any")
    known = known[usual]  # where the recipe's rate was run
    best = known.loc[known.groupby(keys)["mean"].idxmax()]
    return best[best["rate"] != 1]


def _draw_gaps(study: Study, ax: Axes, own: pd.DataFrame) -> None:
    ax.axhline(0, color=style.GREY, linewidth=0.8)
    drawn = [gap for gap in GAPS if f"{gap[0]} - {gap[1]}" in set(own["method"])]
    for place, (first, second) in enumerate(drawn):
        line = own[own["method"] == f"{first} - {second}"].sort_values("length")
        line["at"] = line["length"] * 2 ** (DODGE * (place - (len(drawn) - 1) / 2))
        look = study.methods[GAPS[first, second]].look
        ax.plot(line["at"], line["mean"], **style.drawn(look))
        known = line.dropna(subset=["low"])
        ends = [known["mean"] - known["low"], known["high"] - known["mean"]]
        bar = {"fmt": "none", "ecolor": look.color, "elinewidth": 1, "capsize": 2}
        ax.errorbar(known["at"], known["mean"], ends, **bar)
    values = [0.0, *own["mean"].dropna()]
    room = 0.6 * max(max(values) - min(values), 1.0)
    ax.set_ylim(min(values) - room, max(values) + room)
    ax.set_ylabel("Gap (points)")
    _axis(ax, own["length"])


def _axis(ax: Axes, lengths: pd.Series) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(lengths.unique()), [f"{v:g}" for v in sorted(lengths.unique())])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if len(lengths):
        ax.set_xlim(lengths.min() / MARGIN, lengths.max() * MARGIN)


def _hollow(color: str, marker: str) -> dict:
    return {"marker": marker, "mfc": "none", "mec": color, "linestyle": "", "mew": 1.0}


def _title(study: Study, panel: tuple, panels: list[tuple]) -> str:
    dataset, _, width, sparsity, k = panel
    text = f"{captions.times(width)}, S = {captions.percent(sparsity)} %, k = {k:g}"
    several = len({p[:2] for p in panels}) > 1
    return f"{captions.data_title(study, dataset)}, {text}" if several else text


def _keys(study: Study, data: pd.DataFrame) -> list[list[Line2D]]:
    drawn = data[data["kind"] == "accuracy"]
    methods = [style.handle(study.methods[m]) for m in ordered(study.methods, drawn["method"])]
    gaps = []
    for (first, second), method in GAPS.items():
        if f"{first} - {second}" in set(data["method"]):
            title = f"{study.methods[first].title} - {study.methods[second].title}"
            look = style.drawn(study.methods[method].look)
            gaps.append(Line2D([], [], label=f"gap {title}", **look))
    if len(_best(drawn)):
        mark = _hollow(style.GREY, "o")
        methods.append(Line2D([], [], label="at its best rate, if another", **mark))
    return [methods, gaps]


def _caption(study: Study, name: str, shows: list, data: pd.DataFrame) -> str:
    rates = sorted(data.loc[data["rate"] != 1, "rate"].unique())
    others = ", ".join(f"{rate:g}" for rate in rates)
    n = data.loc[data["n"] > 0, "n"]
    return captions.join(
        f"Left: test accuracy (%) on {captions.subject(study, shows)} against the length L of "
        f"sparse training, which takes L (T - k) epochs: {captions.spread(n, 'pair')}. Right: "
        "paired differences at the recipe's rate with their 95 % t-intervals, which the axis may "
        "cut off.",
        f"Hollow: the best of the rates {others} times the recipe's, where it beats the recipe's."
        if others
        else "",
        convergence.sentence(data),
        captions.conditions(study, shows),
        captions.exceptions({}, int(data.loc[data["kind"] == "accuracy", "diverged"].sum())),
        captions.in_paper(study, name),
    )

"""Matching by activations and by weights beside each other: lines, agreement, accuracies."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from maskalign import captions, selection
from maskalign.figures import style
from maskalign.figures.style import LOOKS, Drawing, Sources
from maskalign.matching_table import (
    AGREEMENT,
    BY,
    CHANNELS,
    GROUP,
    corrections,
    diverged,
    missing,
    numbers,
)
from maskalign.methods import Look
from maskalign.study import Study

MATCHED = {  # the looks of the masks; the other way of matching is a darker kind of permuted
    "naive": LOOKS["naive"],
    "activations": LOOKS["permuted"],
    "weights": Look("#384a7d", "v", "--", "#384a7d", "#384a7d"),
    "lth": LOOKS["lth"],
}
TITLES = {
    "naive": "naive, A unpermuted",
    "activations": "matched by activations",
    "weights": "matched by weights",
    "lth": "LTH",
}


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw a row of three panels for each selection and width.

    (a) Test error on the line from A to B, corrected and as it is; (b) the agreement of the two
    matchings in each permutation group; (c) test accuracy of the masks.
    """
    entry = study.config["artefacts"]["figures"][name]
    shows = entry["shows"]
    parts = [numbers(study, s, sources.runs) for s in shows]
    lines = [_lines(study, s, sources) for s in shows]
    places = [
        (i, width)
        for i, part in enumerate(parts)
        for width in sorted(part.rows["width"].unique().tolist())
    ]
    figure, axes = style.canvas(max(1, len(places)), 3, height=1.9, width=2.1)
    data = []
    for (i, width), row in zip(places, axes, strict=bool(places)):
        of_width = parts[i].rows[parts[i].rows["width"] == width]
        found = selection.summarise(of_width, BY)
        line = selection.summarise(
            lines[i][lines[i]["width"] == width], [*BY[:4], "correction", "alpha"]
        )
        groups = _groups(found, of_width)
        accuracies = found[found["metric"] == "accuracy"]
        _line_panel(row[0], line)
        _agreement_panel(row[1], groups, found)
        _accuracy_panel(row[2], accuracies)
        where = f"{captions.model_title(study, shows[i]['model'])} {captions.times(width)}"
        if len({s["dataset"] for s in shows}) > 1:
            where = f"{captions.data_title(study, shows[i]['dataset'])}, {where}"
        _titles(row, where)
        data += [line.assign(panel="a"), groups.assign(panel="b"), accuracies.assign(panel="c")]
    if not places:
        for ax in axes.flat:
            style.absent(ax, captions.absence(study, shows[0]))
    table = pd.concat(data, ignore_index=True) if data else pd.DataFrame()
    shown = [m for m in MATCHED if len(table) and m in set(table["matching"])]
    counts = table.loc[table["n"] > 0, "n"] if len(table) else pd.Series(dtype=int)
    heads = " / ".join(dict.fromkeys(captions.data_text(study, s["dataset"]) for s in shows))
    count = captions.counted(counts, "pair") if len(counts) else captions.NOT_RUN
    handles = _handles(shown) if shown else ()
    note = captions.not_run(missing(parts))
    style.frame(figure, f"{heads}, {count}", *handles, note=note)
    return Drawing(figure, table, _caption(study, name, shows, parts, counts, lines))


def _lines(study: Study, s: selection.Selection, sources: Sources) -> pd.DataFrame:
    """Return the points of the lines from A to B, with a column ``matching``."""
    rows = selection.compared_matchings(study, s, sources.curves).rows
    rows = rows[rows["split"] == "test"]
    matching = rows["matching_method"].fillna(rows["method"])
    return rows.assign(matching=matching, metric="error", value=rows["error"])


def _groups(found: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the agreement of each permutation group, in the order of the network.

    Columns ``group``, ``place`` (from 1) and ``chance``, the agreement of random permutations.
    """
    order = [m for m in dict.fromkeys(rows["metric"]) if m.startswith(GROUP)]
    groups = found[found["metric"].isin(order)]
    names = groups["metric"].str.removeprefix(GROUP)
    channels = found.set_index("metric")["mean"]
    groups = groups.assign(
        group=names,
        place=groups["metric"].map(order.index) + 1,
        chance=[1 / channels[CHANNELS + name] for name in names],
    )
    return groups.sort_values("place")


def _line_panel(ax: Axes, data: pd.DataFrame) -> None:
    data = data[data["n"] > 0]
    if data.empty:
        return style.absent(ax)
    for (matching, correction), line in data.groupby(["matching", "correction"]):
        look = MATCHED[matching]
        x, mean, std = (line[k].to_numpy(float) for k in ("alpha", "mean", "std"))
        if correction == "none":
            ax.plot(x, mean, color=look.color, linestyle=":", linewidth=1.1)
        else:
            mark = {"marker": look.marker, "mec": "white", "mew": 0.4}
            ax.plot(x, mean, color=look.color, **mark, zorder=3)
            style.band(ax, x, mean, std, look.color)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.set_xlabel(r"$\alpha$")
    ax.set_ylabel("Test error (%)")
    return None


def _agreement_panel(ax: Axes, groups: pd.DataFrame, found: pd.DataFrame) -> None:
    groups = groups[groups["n"] > 0]
    if groups.empty:
        return style.absent(ax)
    color = MATCHED["weights"].color
    ax.bar(groups["place"], groups["mean"], 0.7, color=color, alpha=0.35)
    bars = {"fmt": "none", "ecolor": color, "elinewidth": 1, "capsize": 2}
    ax.errorbar(groups["place"], groups["mean"], groups["std"], **bars)
    for level in found.loc[(found["metric"] == "agreement") & (found["n"] > 0), "mean"]:
        ax.axhline(level, color=color, linestyle="--", linewidth=1)
    ax.hlines(
        groups["chance"], groups["place"] - 0.35, groups["place"] + 0.35, color="0.2", linewidth=1
    )
    ax.set_ylim(0, min(1.0, 1.15 * (groups["mean"] + groups["std"].fillna(0)).max() + 0.02))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_xlabel("Group of channels, in order of depth")
    ax.set_ylabel("Agreement")
    return None


def _accuracy_panel(ax: Axes, data: pd.DataFrame) -> None:
    """Draw a mark with its standard deviation for each mask, side by side at each sparsity."""
    data = data[data["n"] > 0]
    if data.empty:
        return style.absent(ax)
    places = list(dict.fromkeys(zip(data["sparsity"], data["rewind_epoch"], strict=True)))
    shown = [m for m in MATCHED if m in set(data["matching"])]
    for shift, matching in zip(np.linspace(-0.24, 0.24, len(shown)), shown, strict=True):
        mine, look = data[data["matching"] == matching], MATCHED[matching]
        at = zip(mine["sparsity"], mine["rewind_epoch"], strict=True)
        x = [places.index(place) + shift for place in at]
        mark = {"fmt": look.marker, "color": look.color, "elinewidth": 1.2, "capsize": 2}
        ax.errorbar(x, mine["mean"], mine["std"], **mark)
    epochs = {k for _, k in places}
    texts = [f"{100 * s:g}" if len(epochs) == 1 else f"{100 * s:g}\n{k:g}" for s, k in places]
    ax.set_xticks(range(len(places)), texts)
    alike = f"S (%), k = {places[0][1]:g}"
    ax.set_xlabel(alike if len(epochs) == 1 else "S (%) and, below it, k")
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.grid(visible=False, axis="x")
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_ylabel("Test accuracy (%)")
    return None


def _titles(row: np.ndarray, where: str) -> None:
    titles = ("A to B", "agreement", "masks")
    for letter, ax, title in zip("abc", row, titles, strict=True):
        ax.set_title(f"({letter}) {where}: {title}")


def _handles(shown: list[str]) -> tuple[list[Line2D], ...]:
    """Return the legend's rows: masks, and kinds of lines."""
    first = [
        Line2D(
            [], [], color=MATCHED[m].color, marker=MATCHED[m].marker, mec="white", label=TITLES[m]
        )
        for m in shown
    ]
    second = [
        Line2D([], [], color="0.2", label="corrected (a)"),
        Line2D([], [], color="0.2", linestyle=":", linewidth=1.1, label="as it is (a)"),
        Line2D([], [], color=MATCHED["weights"].color, linestyle="--", label="all channels (b)"),
        Line2D([], [], color="0.2", linewidth=1, label="by chance (b)"),
    ]
    return first, second


def _caption(study: Study, name: str, shows, parts, counts: pd.Series, lines) -> str:
    if counts.empty:
        return captions.nothing(study, name, shows)
    found = corrections(pd.concat([line["correction"] for line in lines]))
    return captions.join(
        "Matching A to B by activations and by weights (coordinate descent, Git Re-Basin), for "
        f"{captions.subject(study, shows)}: {captions.spread(counts, 'pair')}. (a) Test error on "
        f"the line from A, permuted or not, to B: after {found} (solid) and as it is (dotted). "
        "(b) Agreement of the two ways in each permutation group, over all channels (dashed), "
        "and that of random permutations (black). "
        f"{AGREEMENT} (c) Test accuracy of the naive, permuted and LTH masks at sparsity S from "
        "rewind epoch k.",
        captions.conditions(study, shows),
        captions.exceptions(missing(parts), diverged(parts)),
        captions.in_paper(study, name),
    )

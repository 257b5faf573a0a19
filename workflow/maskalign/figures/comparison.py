"""Our results against the paper's: one point a cell, one panel a data set."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from maskalign.comparison import COMPARED, POINTS, nothing
from maskalign.figures import style
from maskalign.methods import METHODS, ordered
from maskalign.reported import Paper
from maskalign.study import Study

PANEL_ROW = 3  # panels beside each other


def draw(study: Study, table: pd.DataFrame, paper: Paper) -> Figure:
    """Draw the cells of ``comparison.compare``: reported across, ours upwards, std as bars.

    Accuracies have a panel a data set, Table 1's disagreement and divergences one together. Where
    nothing is compared, the figure is the sentence that says so.
    """
    with style.styled():
        found = table[table["status"] == COMPARED]
        if found.empty:
            return _sentence(study, nothing(table))
        panels = _panels(found, paper)
        columns = min(PANEL_ROW, len(panels))
        figure, axes = style.canvas(-(-len(panels) // columns), columns, height=2.1, width=2.1)
        for ax, (title, cells) in zip(axes.flat, panels.items(), strict=False):
            _panel(ax, cells)
            ax.set_title(f"{title} ({len(cells)} cells)")
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel("Ours")
        methods = ordered(METHODS, found["method"])
        style.frame(
            figure,
            f"Ours against the paper's: study {study.name}, {len(found)} of {len(table)} cells",
            [_handle(m) for m in methods],
            note="One point a cell; bars are standard deviations, on the grey line both are equal.",
        )
        return figure


def _panels(found: pd.DataFrame, paper: Paper) -> dict[str, pd.DataFrame]:
    """Return the cells of each panel by its title."""
    points = found["metric"].isin(POINTS)
    panels = {
        f"{paper.facts['datasets'][dataset]['title']}, %": cells
        for dataset, cells in found[points].groupby("dataset", sort=False)
    }
    return panels | ({} if points.all() else {"Disagreement, KL, JS": found[~points]})


def _panel(ax: Axes, cells: pd.DataFrame) -> None:
    mean, std = (cells[[name, f"reported_{name}"]].to_numpy() for name in ("mean", "std"))
    low, high = (mean - np.nan_to_num(std)).min(), (mean + np.nan_to_num(std)).max()
    margin = 0.04 * max(high - low, 1e-3)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color=style.GREY, linewidth=0.8, zorder=1)
    for method, part in cells.groupby("method"):
        look = style.LOOKS[method]
        bars = {"xerr": part["reported_std"].fillna(0), "yerr": part["std"].fillna(0)}
        at = (part["reported_mean"], part["mean"])
        ax.errorbar(*at, **bars, fmt="none", ecolor=look.color, elinewidth=0.7, alpha=0.6)
        ax.plot(*at, **_mark(method), alpha=0.8)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="Reported")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def _mark(method: str) -> dict:
    look = style.LOOKS[method]
    mark = {"color": look.color, "marker": look.marker or "P", "linestyle": ""}
    return mark | {"markersize": 4, "mec": "white", "mew": 0.4}


def _handle(method: str) -> Line2D:
    return Line2D([], [], label=METHODS[method].title, **_mark(method) | {"markersize": 5})


def _sentence(study: Study, text: str) -> Figure:
    figure, axes = style.canvas(1, 1, height=0.3, width=style.TEXT_WIDTH)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, text, ha="center", va="center", color=style.GREY, fontsize=8)
    style.frame(figure, f"Ours against the paper's: study {study.name}")
    return figure

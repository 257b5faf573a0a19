"""What all figures share: colours, sizes, frame, and the files that a figure is written to."""

import contextlib
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maskalign import captions
from maskalign.captions import NOT_RUN, number
from maskalign.files import atomic, write_text
from maskalign.formats import csv_text
from maskalign.methods import METHODS, Look, Method
from maskalign.study import Study

TEXT_WIDTH = 6.75  # inches; the paper's columns are 3.25 wide
COLUMN_WIDTH = 3.25
GREY = "0.45"
TIED = "\N{NO-BREAK SPACE}"
RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # embeds TrueType outlines, so text stays text
    "axes.grid": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


LOOKS = {name: method.look for name, method in METHODS.items()}


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers it draws (one row a drawn point), and its caption."""

    figure: Figure
    data: pd.DataFrame
    caption: str


@dataclass(frozen=True)
class Sources:
    """Rows of runs.csv, connectivity.csv and landscapes.csv, as far as a figure needs them."""

    runs: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    planes: pd.DataFrame | None = None


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Apply the figures' style within the block."""
    with mpl.rc_context(RC):
        yield


def write(drawing: Drawing, name: str, pdf: str, png: str, csv: str, md: str) -> None:
    """Write a figure as vector PDF and 150 dpi PNG, its numbers as CSV, its caption as Markdown."""
    save(drawing.figure, pdf, png)
    write_text(csv, csv_text(drawing.data))
    write_text(md, f"**{number(name)}.** {drawing.caption}\n")


def save(figure: Figure, pdf: str | Path, png: str | Path) -> None:
    """Write a figure as vector PDF and 150 dpi PNG, atomically."""
    with styled(), atomic(pdf) as vector, atomic(png) as pixels:
        figure.savefig(vector, format="pdf", metadata={"CreationDate": None})
        figure.savefig(pixels, format="png", dpi=150)


def canvas(
    rows: int, columns: int, height: float = 1.45, width: float = 2.1, **options
) -> tuple[Figure, np.ndarray]:
    """Return a figure of at most text width and its axes [rows, columns]; sizes in inches."""
    total = min(TEXT_WIDTH, max(COLUMN_WIDTH, 0.5 + width * columns))
    figure = Figure(figsize=(total, height * rows + 0.35), layout="constrained")
    FigureCanvasAgg(figure)  # measures text; without a canvas a figure cannot be laid out
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def frame(figure: Figure, title: str, *keys: Iterable[Artist], note: str = "") -> None:
    """Put the title line above the panels, a grey note and the legend below; the figure grows.

    Each of ``keys`` is a row of the legend; what does not fit the width goes on below.
    """
    width, height = figure.get_size_inches()
    title = _wrapped(title, int(width * 13.5))  # characters an inch, bold 8 and plain 7 points
    note = _wrapped(note, int(width * 16))
    rows = [_fitting(figure, list(row)) for row in keys]
    rows = [row for row in rows if row["handles"]]
    head = 0.16 * (1 + title.count("\n")) + 0.06
    heights = [0.15 * -(-len(row["handles"]) // row["ncols"]) for row in rows]
    legend = sum(heights) + 0.06 if rows else 0.0
    foot = legend + (0.14 * (1 + note.count("\n")) + 0.04 if note else 0.0)
    total = height + head + foot
    figure.set_size_inches(width, total)
    figure.get_layout_engine().set(rect=(0, foot / total, 1, height / total))
    figure.text(0.5, 1 - 0.04 / total, title, ha="center", va="top", fontsize=8, weight="bold")
    if note:
        at = (foot - 0.02) / total
        figure.text(0.5, at, note, ha="center", va="top", fontsize=7, color=GREY)
    for i, row in enumerate(rows):
        above_bottom = sum(heights[i + 1 :]) + 0.01
        figure.legend(**row, loc="lower center", bbox_to_anchor=(0.5, above_bottom / total))


def _wrapped(text: str, columns: int) -> str:
    """Return text in lines of at most so many columns, none of which ends within ``n = 3``."""
    return textwrap.fill(text.replace(" = ", f"{TIED}={TIED}"), columns).replace(TIED, " ")


def _fitting(figure: Figure, handles: list[Artist]) -> dict[str, Any]:
    """Return the options of a legend with as many columns as the figure is wide enough for."""
    options: dict[str, Any] = {"columnspacing": 1.4, "handlelength": 2.6, "labelspacing": 0.3}
    options |= {"borderpad": 0.1, "borderaxespad": 0.1, "handles": handles, "ncols": len(handles)}
    while options["ncols"] > 1:
        drawn = figure.legend(**options)
        needed = drawn.get_window_extent().width
        drawn.remove()
        if needed <= figure.bbox.width:
            break
        options["ncols"] -= 1
    return options


def line(ax: Axes, look: Look, x, mean, std) -> None:
    """Draw means with their standard deviations as a light band."""
    x, mean, std = (np.asarray(v, dtype=float) for v in (x, mean, std))
    ax.plot(x, mean, **drawn(look))
    band(ax, x, mean, std, look.color)


def drawn(look: Look) -> dict[str, Any]:
    """Return the options of a line with markers."""
    dash = look.dash if isinstance(look.dash, str) else (0, look.dash)
    mark = {"color": look.color, "marker": look.marker, "linestyle": dash}
    return mark | {"mec": "white", "mew": 0.4}


def band(ax: Axes, x, mean, std, color) -> None:
    """Draw mean ± std as a light band where there is a std, as a bar at a lone point."""
    if np.isnan(std).all():
        return
    if len(x) == 1:
        ax.errorbar(x, mean, std, color=color, linewidth=4, alpha=0.25)
    else:
        ax.fill_between(x, mean - std, mean + std, color=color, alpha=0.25, linewidth=0)


def handle(method: Method) -> Line2D:
    """Return the legend's entry of a method."""
    return Line2D([], [], label=method.title, **drawn(method.look))


def nothing(study: Study, name: str, entry: dict[str, Any], data: pd.DataFrame) -> Drawing:
    """Return the figure of selections of which nothing was run, and why."""
    figure, axes = canvas(1, 1, height=0.8)
    absent(axes[0, 0], captions.absence(study, entry["shows"][0]))
    frame(figure, " / ".join(captions.heading(study, s) for s in entry["shows"]))
    return Drawing(figure, data, captions.nothing(study, name, entry["shows"]))


def absent(ax: Axes, why: str = NOT_RUN) -> None:
    """Mark a panel of which nothing was run."""
    ax.set_axis_off()
    place = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    ax.text(0.5, 0.5, why, color=GREY, fontsize=7, **place)

"""Interpolation between A and B, with A permuted to match B or not (Figure 3)."""

import itertools
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from maskalign import captions, selection
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.study import Study

BY = ["dataset", "model", "width", "method", "correction", "split", "alpha"]
CORRECTIONS = {"reset": "batch-norm reset", "repair": "REPAIR"}
MARKERS = "o^sDvP"


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw test loss or error against alpha, a panel for each selection and a line for each width.

    Solid is permuted A to B after the variance correction, dotted the same before it, dashed grey
    unpermuted A to B after the correction.
    """
    entry = study.config["artefacts"]["figures"][name]
    shows, metric = entry["shows"], entry["metric"]
    parts = [_of(study, s, sources, metric) for s in shows]
    data = pd.concat([selection.summarise(part.rows, BY) for part in parts])
    widths = sorted({*data["width"], *itertools.chain(*(s.get("widths", []) for s in shows))})
    looks = _looks(widths)
    figure, axes = style.canvas(1, len(shows), height=2.1)
    notes: dict[str, list[str]] = {}
    letters = ascii_lowercase[: len(shows)]
    for letter, ax, s, part in zip(letters, axes.flat, shows, parts, strict=True):
        mine = selection.summarise(part.rows, BY)
        why = captions.absence(study, s)
        _panel(ax, mine, looks, why)
        head = captions.data_text(study, s["dataset"]).replace(" (", "\n(")
        n = captions.counted(mine["n"], "pair") if len(mine) else why
        ax.set_title(f"({letter}) {head}\n{captions.model_title(study, s['model'])}, {n}")
        ax.set_xlabel(r"$\alpha$")
        if absent := captions.gaps(part.missing):
            notes.setdefault(absent, []).append(letter)
    what = captions.METRIC_TITLES[metric]
    axes[0, 0].set_ylabel(f"{what[0].upper()}{what[1:]}")
    title = r"From permuted A, $\pi$(A), at $\alpha$ = 0 to B at $\alpha$ = 1"
    gaps = (f"{absent} ({', '.join(of)})" for absent, of in notes.items())
    note = captions.not_run_text(gaps)
    handles = _handles(looks, sorted(data["width"].unique()))
    style.frame(figure, title, *handles, note=note)
    return Drawing(figure, data, _caption(study, name, entry, parts, data))


def _of(study: Study, s: dict, sources: Sources, metric: str) -> selection.Shown:
    """Return the test curves of a selection."""
    part = selection.on_lines(study, s, sources.curves)
    rows = part.rows[(part.rows["split"] == "test") & (part.rows["method"] != "imp")]
    return selection.Shown(rows.assign(value=rows[metric]), part.missing)


def _looks(widths: list[float]) -> dict[float, dict]:
    """Return colour and marker of each width: darker is wider."""
    shades = colormaps["viridis_r"](np.linspace(0.2, 0.95, max(len(widths), 2)))
    return {
        w: {"color": tuple(shade), "marker": marker}
        for w, shade, marker in zip(widths, shades, itertools.cycle(MARKERS), strict=False)
    }


def _panel(ax: Axes, data: pd.DataFrame, looks: dict[float, dict], why: str) -> None:
    data = data[data["n"] > 0]
    if data.empty:
        return style.absent(ax, why)
    for (width, method, correction), line in data.groupby(["width", "method", "correction"]):
        look, corrected = looks[width], correction != "none"
        x, mean, std = (line[k].to_numpy(float) for k in ("alpha", "mean", "std"))
        if method == "permuted" and corrected:
            ax.plot(x, mean, **look, mec="white", mew=0.4, zorder=3)
            style.band(ax, x, mean, std, look["color"])
        elif method == "permuted":
            ax.plot(x, mean, color=look["color"], linestyle=":", linewidth=1.1, alpha=0.8)
        elif corrected:
            mark = {"marker": look["marker"], "markersize": 2.5}
            ax.plot(x, mean, color="0.6", linestyle="--", linewidth=0.9, **mark)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    return None


def _handles(looks: dict[float, dict], widths: list[float]) -> tuple[list[Line2D], ...]:
    """Return the legend's rows: widths, and kinds of lines."""
    first = [
        Line2D([], [], **looks[w], mec="white", mew=0.4, label=captions.times(w)) for w in widths
    ]
    second = [
        Line2D([], [], color="0.2", label=r"$\pi$(A) to B, corrected"),
        Line2D([], [], color="0.2", linestyle=":", linewidth=1.1, label=r"$\pi$(A) to B, as it is"),
        Line2D([], [], color="0.6", linestyle="--", linewidth=0.9, label="A to B, corrected"),
    ]
    return first, second


def _corrections(data: pd.DataFrame) -> str:
    return " or ".join(text for key, text in CORRECTIONS.items() if key in set(data["correction"]))


def _caption(study: Study, name: str, entry: dict, parts: list, data: pd.DataFrame) -> str:
    shows = entry["shows"]
    if data.empty:
        return captions.nothing(study, name, shows)
    what = captions.METRIC_TITLES[entry["metric"]]
    spread = captions.spread(data.loc[data["n"] > 0, "n"], "pair")
    lost = data[data["diverged"] > 0].groupby(BY[:3])["diverged"].max().sum()
    missing = {"widths": sorted({w for part in parts for w in part.missing["widths"]})}
    return captions.join(
        f"{what[0].upper()}{what[1:]} along the line from A permuted to match B to B, of "
        f"{captions.subject(study, shows)}: {spread} "
        f"after {_corrections(data)} (solid) and before (dotted), and without permuting A "
        "(dashed grey).",
        captions.conditions(study, shows),
        captions.exceptions(missing, int(lost)),
        captions.in_paper(study, name),
    )

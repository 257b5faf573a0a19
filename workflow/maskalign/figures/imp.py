"""IMP stays in the dense model's basin: barriers along the rounds, and the plane (Figure 4)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from maskalign import captions, selection
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.study import Study

BY = ["dataset", "model", "width", "metric", "sparsity"]
BARRIERS = {  # metric: label, Set2 colour of the method whose dash it borrows
    "error_barrier_none": ("as it is", "naive"),
    "error_barrier_reset": ("batch-norm reset", "permuted"),
    "error_barrier_repair": ("REPAIR", "permuted"),
}
MARKS = {"dense": ("*", "dense"), "lth": ("o", "LTH"), "permuted": ("^", "permuted")}


def draw(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw (a) test-error barriers from dense A to each IMP round; (b) the 0-1 loss on a plane.

    The plane goes through permuted dense A, permuted LTH and the permuted solution. A second
    selection or width adds a row of panels.
    """
    entry = study.config["artefacts"]["figures"][name]
    shows = [s | {"widths": [w]} for s in entry["shows"] for w in _widths(study, s)]
    figure, axes = style.canvas(len(shows), 2, height=2.3, width=3.1)
    data, lost = [], 0
    for s, (left, right) in zip(shows, axes, strict=True):
        barriers = selection.summarise(_barriers(study, s, sources.runs), BY)
        lost += int(barriers.groupby("metric")["diverged"].max().sum())
        plane = _of(s, sources.planes)
        _rounds(left, barriers)
        _plane(figure, right, plane)
        where = captions.times(s["widths"][0])
        if len(shows) > 1:
            where = f"{captions.data_title(study, s['dataset'])}, {where}"
        left.set_title(f"(a) {where}: dense to IMP iterates")
        right.set_title(f"(b) {where}: plane of one pair's models")
        data += [barriers.assign(panel="a"), plane.assign(panel="b")]
    table = pd.concat(data)
    numbers = table.loc[(table["panel"] == "a") & (table["n"] > 0), "n"]
    heads = " / ".join(dict.fromkeys(captions.heading(study, s) for s in shows))
    count = captions.counted(numbers, "pair") if len(numbers) else captions.absence(study, shows[0])
    handles = _handles(set(table["metric"].dropna())) if len(numbers) else []
    style.frame(figure, f"{heads}, {count}", handles)
    return Drawing(figure, table, _caption(study, name, entry["shows"], numbers, lost))


def _widths(study: Study, s: dict[str, Any]) -> list[float]:
    run = {study.run(p)["width"] for p in study.selected(s, "imp_barrier", "landscape")}
    return s.get("widths") or sorted(run) or [1]


def _barriers(study: Study, s: dict[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    rows = selection.on_lines(study, s, runs).rows
    rows = rows[rows["metric"].isin(BARRIERS) & (rows["split"] == "test")]
    return rows[rows["method"] == "imp"]


def _rounds(ax: Axes, barriers: pd.DataFrame) -> None:
    """Draw barriers against the sparsities of the rounds, which stand at equal distances."""
    found = barriers[barriers["n"] > 0]
    if found.empty:
        return style.absent(ax)
    levels = sorted(found["sparsity"].unique())
    for metric, line in found.groupby("metric"):
        look = style.LOOKS[BARRIERS[metric][1]]
        x = [levels.index(s) for s in line["sparsity"]]
        mean, std = line["mean"].to_numpy(), line["std"].to_numpy()
        mark = {"marker": look.marker, "mec": "white", "mew": 0.4}
        ax.plot(x, mean, color=look.color, linestyle=look.dash, **mark)
        style.band(ax, np.array(x), mean, std, look.color)
    step = -(-len(levels) // 10)
    kept = (
        [*range(0, len(levels) - step, step), len(levels) - 1] if step > 1 else range(len(levels))
    )
    digits = 1 if len(levels) < 8 else 0
    texts = [f"{100 * levels[i]:.{digits}f}".removesuffix(".0") for i in kept]
    ax.set_xticks(list(kept), texts)
    ax.axhline(0, color="0.6", linewidth=0.6)
    ax.set(xlabel="Sparsity of the IMP round (%)", ylabel="Test-error barrier (points)")
    return None


def _of(s: dict[str, Any], planes: pd.DataFrame) -> pd.DataFrame:
    """Return the plane of a selection of one width; no rows if it was not run or diverged."""
    planes = planes[planes["status"] != "diverged"]
    keys = {"dataset": s["dataset"], "model": s["model"], "width": s["widths"][0]}
    planes = planes[(planes[list(keys)] == pd.Series(keys)).all(axis=1)]
    return planes.rename(columns={"path": "runs"}).drop(columns=["versions", "commit"])


def _plane(figure: Figure, ax: Axes, plane: pd.DataFrame) -> None:
    """Draw a landscape: filled contours of the test error, and the three models."""
    if plane.empty:
        return style.absent(ax)
    field = plane[plane["mark"].isna()].pivot(index="y", columns="x", values="error")
    shades = ax.contourf(field.columns, field.index, field.to_numpy(), 12, cmap="Greys")
    bar = figure.colorbar(shades, ax=ax, pad=0.02)
    bar.set_label("Test error (%)")
    bar.outline.set_linewidth(0.6)
    for row in plane.dropna(subset=["mark"]).itertuples():
        marker, label = MARKS[row.mark]
        color, size = style.LOOKS[row.mark].color, 11 if marker == "*" else 7
        ax.plot(row.x, row.y, marker, color=color, mec="black", mew=0.7, markersize=size)
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
        right = row.x > sum(ax.get_xlim()) / 2
        place = {"xytext": (-7 if right else 7, 5), "textcoords": "offset points"}
        side = {"ha": "right" if right else "left", "va": "bottom", "fontsize": 7, "bbox": box}
        ax.annotate(f"{label}, {row.error:.0f} %", (row.x, row.y), **place, **side)
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="Distance in weight space", ylabel="Distance in weight space")
    return None


def _handles(metrics: set[str]) -> list[Line2D]:
    looks = {m: style.LOOKS[method] for m, (_, method) in BARRIERS.items() if m in metrics}
    return [
        Line2D(
            [],
            [],
            color=look.color,
            marker=look.marker,
            linestyle=look.dash,
            mec="white",
            mew=0.4,
            label=f"(a) {BARRIERS[m][0]}",
        )
        for m, look in looks.items()
    ]


def _caption(study: Study, name: str, shows: list, numbers: pd.Series, lost: int) -> str:
    if numbers.empty:
        return captions.nothing(study, name, shows)
    return captions.join(
        f"(a) Test-error barrier on the line from dense A to the model after each IMP round, of "
        f"{captions.subject(study, shows)}: {captions.spread(numbers, 'pair')}. (b) Test error on "
        "the plane through permuted dense A, permuted LTH and the permuted solution of the first "
        "pair, batch-norm statistics re-estimated at every point.",
        captions.conditions(study, shows),
        captions.exceptions({}, lost),
        captions.in_paper(study, name),
    )

"""The two-parameter toy: real gradient-descent paths on the real loss (Figures 1 and 12)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D

from maskalign import captions, toy
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.methods import METHODS
from maskalign.study import Study

LOW, HIGH = -0.8, 3.1
LEVELS = 4 * np.linspace(0, 1, 13) ** 2  # of the loss, denser near the basins
PANELS = {"A": ["dense_a", "lth"], "B": ["dense_b", "naive", "permuted"]}
LOOKS = {"dense_a": "dense", "dense_b": "dense", "lth": "lth"}
LOOKS |= {"naive": "naive", "permuted": "permuted"}


def draw(study: Study, name: str, _: Sources) -> Drawing:
    """Draw dense and pruned A (with LTH in Figure 12), and dense, naive and permuted B."""
    entry = study.config["artefacts"]["figures"][name]
    paths = toy.run()
    shown = [m for m in paths["model"].unique() if m != "lth" or entry["with_lth"]]
    paths = paths[paths["model"].isin(shown)]
    figure, axes = style.canvas(1, 2, height=2.75, width=3.1, sharex=True, sharey=True)
    side = np.linspace(LOW, HIGH, 160)
    field = toy.loss(np.stack(np.meshgrid(side, side), axis=-1))
    norm = BoundaryNorm(LEVELS, 200)
    for letter, ax, (model, lines) in zip("ab", axes.flat, PANELS.items(), strict=True):
        shades = ax.contourf(side, side, field, LEVELS, cmap="Greys", norm=norm)
        _paths(ax, paths, [m for m in lines if m in shown])
        ax.set(xlabel="$w_1$", xlim=(LOW, HIGH), ylim=(LOW, HIGH), aspect="equal")
        ax.set_title(f"({letter}) Model {model}")
        ax.grid(False)
    axes[0, 0].set_ylabel("$w_2$")
    _pruned(axes[0, 0], paths)
    bar = figure.colorbar(shades, ax=axes, pad=0.02, aspect=28)
    bar.set_label("Loss")
    bar.set_ticks(LEVELS[::2], labels=[f"{level:.2f}" for level in LEVELS[::2]])
    bar.outline.set_linewidth(0.6)
    methods = [m for m in ("dense", "lth", "naive", "permuted") if m in map(LOOKS.get, shown)]
    places = [
        Line2D([], [], linestyle="", marker="o", mfc="white", mec="black", label="start"),
        Line2D([], [], linestyle="", marker="X", mfc="white", mec="black", label="end"),
    ]
    places.append(Line2D([], [], color="black", linestyle=":", linewidth=1, label="masking"))
    lines = [
        Line2D(
            [],
            [],
            color=style.LOOKS[m].color,
            linestyle=style.LOOKS[m].dash,
            linewidth=2,
            label=METHODS[m].title,
        )
        for m in methods
    ]
    style.frame(figure, "Two weights, $f(x) = \\sin(w_1 x) + \\sin(w_2 x)$", lines + places)
    return Drawing(figure, paths, _caption(name, paths))


def _paths(ax: Axes, paths: pd.DataFrame, models: list[str]) -> None:
    dense = paths[paths["model"] == models[0]][["w1", "w2"]].iloc[0]
    for model in models[1:]:  # the mask sets a weight of the same start to zero
        start = paths[paths["model"] == model][["w1", "w2"]].iloc[0]
        ax.plot(*zip(dense, start, strict=True), color="black", linestyle=":", linewidth=1)
    for model in models:
        path, look = paths[paths["model"] == model], style.LOOKS[LOOKS[model]]
        ax.plot(path["w1"], path["w2"], color="white", linewidth=3.4)
        ax.plot(path["w1"], path["w2"], color=look.color, linestyle=look.dash, linewidth=2)
        for place, marker in ((0, "o"), (-1, "X")):
            w = path[["w1", "w2"]].iloc[place]
            ax.plot(*w, marker, color=look.color, mec="black", mew=0.7, markersize=6.5, zorder=4)


def _pruned(ax: Axes, paths: pd.DataFrame) -> None:
    end = paths[paths["model"] == "pruned_a"][["w1", "w2"]].iloc[0]
    arrow = {"arrowstyle": "-", "lw": 0.7}
    ax.annotate("pruned", end, (12, 16), textcoords="offset points", arrowprops=arrow, fontsize=7.5)


def _caption(name: str, paths: pd.DataFrame) -> str:
    end = paths.groupby("model")["loss"].last()
    return (
        "Gradient descent on the mean squared error of f(x) = sin(w1 x) + sin(w2 x) to sin(2x); "
        "swapping the weights changes nothing, so the loss has equal basins at (2, 0) and (0, 2). "
        "(a) Dense A, whose smaller weight is pruned"
        f"{', and LTH, from the same start with that mask' * ('lth' in end)}; (b) dense B, which "
        "ends in the other basin, B with A's mask (naive), which gets stuck at loss "
        f"{end['naive']:.2f}, and B with the permuted mask, which reaches "
        f"{max(end['permuted'], 0):.2f}. Corresponds to {captions.number(name)} of the paper."
    )

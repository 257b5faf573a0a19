"""The procedure as a diagram: where the mask, the permutation and the weights go (Figure 2)."""

from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from maskalign import captions
from maskalign.figures import style
from maskalign.figures.style import Drawing, Sources
from maskalign.study import Study

HEIGHT = 0.4  # of a box, in inches like all coordinates


class Box(NamedTuple):
    """A box: centre, width, the two lines of its text, and the method that colours it."""

    x: float
    y: float
    width: float
    text: str
    small: str
    method: str = ""


class Arrow(NamedTuple):
    """An arrow along right-angled corners, and what happens there."""

    start: str
    end: str
    step: str
    corners: list[tuple[float, float]]
    method: str = ""


BOXES = {
    "A, epoch 0": Box(0.55, 2.5, 0.8, "$w_A(0)$", "random init"),
    "A, epoch k": Box(1.6, 2.5, 0.8, "$w_A(k)$", "epoch k"),
    "A, epoch T": Box(2.65, 2.5, 0.8, "$w_A(T)$", "dense A"),
    "B, epoch 0": Box(0.55, 0.5, 0.8, "$w_B(0)$", "random init"),
    "B, epoch k": Box(1.6, 0.5, 0.8, "$w_B(k)$", "epoch k"),
    "B, epoch T": Box(2.65, 0.5, 0.8, "$w_B(T)$", "dense B"),
    "permutation": Box(2.65, 1.5, 0.8, r"$\pi$", "permutation"),
    "mask": Box(3.9, 2.5, 0.8, "$m_A$", "mask"),
    "permuted mask": Box(3.9, 1.5, 0.96, r"$\pi(m_A)$", "permuted mask"),
    "LTH": Box(5.9, 2.5, 1.3, "LTH", "$w_A(k)$ with $m_A$", "lth"),
    "permuted": Box(5.9, 1.5, 1.3, "permuted", r"$w_B(k)$ with $\pi(m_A)$", "permuted"),
    "naive": Box(5.9, 0.5, 1.3, "naive", "$w_B(k)$ with $m_A$", "naive"),
}
ARROWS = [
    Arrow("A, epoch 0", "A, epoch k", "train", [(0.95, 2.5), (1.2, 2.5)]),
    Arrow("A, epoch k", "A, epoch T", "train", [(2.0, 2.5), (2.25, 2.5)]),
    Arrow("B, epoch 0", "B, epoch k", "train", [(0.95, 0.5), (1.2, 0.5)]),
    Arrow("B, epoch k", "B, epoch T", "train", [(2.0, 0.5), (2.25, 0.5)]),
    Arrow("A, epoch T", "permutation", "match", [(2.65, 2.3), (2.65, 1.7)]),
    Arrow("B, epoch T", "permutation", "match", [(2.65, 0.7), (2.65, 1.3)]),
    Arrow("A, epoch T", "mask", "IMP", [(3.05, 2.5), (3.5, 2.5)]),
    Arrow("mask", "permuted mask", "permute", [(3.9, 2.3), (3.9, 1.7)]),
    Arrow("permutation", "permuted mask", "permute", [(3.05, 1.5), (3.42, 1.5)]),
    Arrow("mask", "LTH", "mask", [(4.3, 2.5), (5.25, 2.5)], "lth"),
    Arrow("permuted mask", "permuted", "mask", [(4.38, 1.5), (5.25, 1.5)], "permuted"),
    Arrow("mask", "naive", "mask", [(4.3, 2.4), (4.6, 2.4), (4.6, 0.6), (5.25, 0.6)], "naive"),
    Arrow("A, epoch k", "LTH", "rewind", [(1.6, 2.7), (1.6, 2.9), (5.9, 2.9), (5.9, 2.7)], "lth"),
    Arrow(
        "B, epoch k",
        "naive",
        "rewind",
        [(1.54, 0.3), (1.54, 0.06), (5.9, 0.06), (5.9, 0.3)],
        "naive",
    ),
    Arrow(
        "B, epoch k",
        "permuted",
        "rewind",
        [(1.66, 0.3), (1.66, 0.15), (4.95, 0.15), (4.95, 1.4), (5.25, 1.4)],
        "permuted",
    ),
]
LABELS = [
    (3.275, 2.58, "IMP", "bottom"),
    (2.57, 2.0, "match", "center"),
    (3.82, 2.0, "permute", "center"),
    (3.1, 2.95, "rewind to epoch k, train sparse to epoch T", "bottom"),
    (3.1, 0.02, "rewind to epoch k, train sparse to epoch T", "top"),
]


def draw(study: Study, name: str, _: Sources) -> Drawing:
    """Draw the diagram; its table has one row an arrow."""
    figure, axes = style.canvas(1, 1, height=2.75, width=style.TEXT_WIDTH)
    ax = axes[0, 0]
    ax.set(xlim=(0.05, 6.65), ylim=(-0.2, 3.15), aspect="equal")
    ax.axis("off")
    for arrow in ARROWS:
        _arrow(ax, arrow)
    for box in BOXES.values():
        _box(ax, box)
    for x, y, text, vertical in LABELS:
        side = "right" if vertical == "center" else "center"
        ax.text(x, y, text, ha=side, va=vertical, fontsize=7, color="0.3")
    style.frame(figure, "A mask found on A, aligned to B")
    data = pd.DataFrame([(a.start, a.step, a.end) for a in ARROWS], columns=["from", "step", "to"])
    return Drawing(figure, data, _caption(name))


def _box(ax: Axes, box: Box) -> None:
    color = style.LOOKS[box.method].color if box.method else (0.93, 0.93, 0.93)
    corner = (box.x - box.width / 2, box.y - HEIGHT / 2)
    shape = "round,pad=0,rounding_size=0.06"
    ax.add_patch(
        FancyBboxPatch(corner, box.width, HEIGHT, boxstyle=shape, fc=color, ec="0.3", lw=0.7)
    )
    ax.text(box.x, box.y + 0.085, box.text, ha="center", va="center", fontsize=8.5)
    ax.text(box.x, box.y - 0.105, box.small, ha="center", va="center", fontsize=7)


def _arrow(ax: Axes, arrow: Arrow) -> None:
    color = style.LOOKS[arrow.method].color if arrow.method else "0.3"
    *before, last = arrow.corners
    xs, ys = zip(*before, strict=True)
    ax.plot(xs, ys, color=color, solid_capstyle="round", linewidth=1.3, zorder=0)
    tip = {"arrowstyle": "-|>", "color": color, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", last, before[-1], arrowprops=tip, zorder=0)


def _caption(name: str) -> str:
    return (
        "Two dense models A and B are trained from different random weights; iterative magnitude "
        "pruning (IMP) of A gives the mask m_A, and matching A to B gives the permutation π of "
        "A's units. Sparse training starts from the weights of epoch k: LTH is A with its own "
        "mask, naive is B with A's mask, permuted is B with the permuted mask. Corresponds to "
        f"{captions.number(name)} of the paper."
    )

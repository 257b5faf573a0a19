"""Figures of studies of any size, what is wrong with their texts, and the drawings to keep.

``python tests/unit/drawn.py`` draws the kept drawings anew, after a change that is meant.
"""

import functools
import itertools
from pathlib import Path

import synthetic
import yaml
from maskalign import figures
from maskalign.figures import style
from maskalign.methods import METHODS, trained
from maskalign.study import Study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

PAPER = Path(__file__).parents[2] / "config/paper.yaml"
KEPT = Path(__file__).with_name("drawings")
WIDTHS, EPOCHS = [1, 4, 8, 16], [0, 5, 10, 15, 20, 25, 50, 75, 100]
SPARSITIES, DATASETS = [0.8, 0.9, 0.95, 0.97], ["cifar10", "cifar100", "svhn"]
GAP = ["naive", "permuted"]
KINDS = {
    "figure_01": {"kind": "toy"},
    "figure_02": {"kind": "procedure"},
    "figure_03": {"kind": "interpolation", "metric": "loss"},
    "figure_04": {"kind": "imp"},
    "figure_05": {"kind": "rewind"},
    "figure_09": {"kind": "sparsity"},
    "figure_12": {"kind": "toy", "with_lth": True},
    "figure_13": {"kind": "matching"},
}
CONTROLLED = {"figure_14": {"kind": "methods"}, "figure_15": {"kind": "length"}}
SAVED = {"figure_14": (2, 2, 1, 1), "figure_15": (1, 2, 1, 1)}  # sizes of kept drawings
SLACK = 1.0  # pixels at 100 dpi


@functools.cache
def study(widths: int, epochs: int, sparsities: int, datasets: int) -> Study:
    """Return the paper's study with so many of each, and one figure of each kind."""
    config = yaml.safe_load(PAPER.read_text())
    chosen = WIDTHS[:widths], EPOCHS[:epochs], SPARSITIES[:sparsities], DATASETS[:datasets]
    widths, epochs, sparsities, datasets = chosen
    one = {"widths": widths[-1:], "sparsity": sparsities[0]}
    config["experiments"] = {
        name: {
            "dataset": name,
            "model": "resnet20",
            "training": "cifar",
            "widths": widths,
            "pairs": 2,
            "sparsities": sparsities,
            "rewind_epochs": epochs,
            "interpolation": {"widths": widths},
            "imp_barrier": one,
            "landscape": one | {"rewind_epoch": epochs[-1]},
            "matching_comparison": {"widths": widths, "rewind_epoch": epochs[-1]},
        }
        for name in datasets
    }
    every = [{"dataset": name, "model": "resnet20"} for name in datasets]
    shown = {name: {"shows": every[:1]} for name in KINDS} | {"figure_03": {"shows": every}}
    for name in ("figure_01", "figure_02", "figure_12"):
        shown[name] = {}
    config["artefacts"] = {"tables": {}, "figures": {k: v | shown[k] for k, v in KINDS.items()}}
    return Study(config)


@functools.cache
def controlled(widths: int, epochs: int, sparsities: int, datasets: int) -> Study:
    """Return a study of all methods, and of lengths and rates, of at most as many of each.

    It is a study of its own, so that the other figures' made-up results stay as they are.
    """
    config = yaml.safe_load(PAPER.read_text())
    cell = {"model": "resnet20", "training": "cifar", "pairs": 3}
    cell |= {"widths": WIDTHS[: min(widths, 3)], "sparsities": SPARSITIES[: min(sparsities, 2)]}
    cell |= {"rewind_epochs": EPOCHS[:epochs][-1:]}
    names = DATASETS[: min(datasets, 2)]
    config["experiments"] = {
        f"{name}{part}": {"dataset": name} | cell | more
        for name in names
        for part, more in {
            "": {"methods": trained(METHODS)},
            "-lengths": {"methods": ["lth", *GAP, "shuffled"], "lengths": [2, 4]},
            "-rates": {"methods": GAP, "lengths": [4], "rates": [0.5, 2]},
        }.items()
    }
    every = [{"dataset": name, "model": "resnet20"} for name in names]
    shown = {name: entry | {"shows": every} for name, entry in CONTROLLED.items()}
    config["artefacts"] = {"tables": {}, "figures": shown}
    return Study(config)


def study_of(name: str, *size: int) -> Study:
    """Return the study of a size that has a figure."""
    return (controlled if name in CONTROLLED else study)(*size)


@functools.cache
def sources(of: Study) -> figures.Sources:
    """Return made-up results of everything that a figure of a study may show."""
    return figures.Sources(synthetic.runs(of), synthetic.curves(of), synthetic.planes(of))


def drawing(of: Study, name: str) -> style.Drawing:
    """Return a figure, measured at 100 dpi."""
    drawn = figures.build(of, name, sources(of))
    FigureCanvasAgg(drawn.figure)
    return drawn


def misplaced(figure) -> list[tuple[str, ...]]:
    """Return the texts of a figure that its edge cuts off, and those that cover each other."""
    with style.styled():
        figure.draw_without_rendering()
    found, box, places = [], figure.bbox, []
    for text in texts(figure):
        place = text.get_window_extent()
        inside = place.x0 >= box.x0 - SLACK and place.x1 <= box.x1 + SLACK
        inside &= place.y0 >= box.y0 - SLACK and place.y1 <= box.y1 + SLACK
        if not inside:
            found.append((text.get_text(), "is cut off"))
        places.append((text.get_text(), place))
    for (text, a), (other, b) in itertools.combinations(places, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > SLACK and high > 2 * SLACK:  # descenders reach into the line below
            found.append((text, "covers", other))
    return found


def texts(figure) -> list[Text]:
    """Return the texts of a figure that are seen."""
    hidden = set()
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = sorted(limits)
            slack = 1e-9 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not ax.axison or not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {tick.label1, tick.label2}
    found = figure.findobj(Text)
    return [t for t in found if t.get_visible() and t.get_text().strip() and t not in hidden]


def save(name: str, folder: Path) -> Path:
    """Write a figure of a small study, of two of each or as SAVED says; return its file."""
    file = folder / f"{name}.png"
    with style.styled():
        drawing(study_of(name, *SAVED.get(name, (2, 2, 2, 2))), name).figure.savefig(file, dpi=50)
    return file


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for each in [*KINDS, *CONTROLLED]:
        print(save(each, KEPT))

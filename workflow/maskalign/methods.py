"""The methods: one entry each, which everything else reads.

An entry is data. It names its function by a dotted path, so that tables, figures and a parsing
Snakemake read it without torch, and only the job that trains imports it. A study adds methods of
its own under ``methods``. The definitions of the controls are in ``maskalign.controls``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

A, B = "a", "b"  # the two networks of a pair
RECIPE = "recipe"  # matched as the recipe says
Dash = str | tuple[float, ...]  # of Matplotlib, or lengths on and off in points


class Look(NamedTuple):
    """Colours, marker and dash of a method; the markers tell all methods apart without colour.

    ``light`` and ``dark`` are its colours on the page, in the light and the dark scheme.
    """

    color: str
    marker: str
    dash: Dash
    light: str
    dark: str


@dataclass(frozen=True)
class Method:
    """A kind of network that tables and figures compare.

    Attributes:
        name: in paths, studies and tables.
        title: in captions and legends.
        about: its mask, in a few words.
        look: how it is drawn.
        start: whose weights of epoch k its sparse training starts from; None if it trains densely
            or is a round of IMP.
        ticket: whose IMP mask it is made from.
        matched: whether the mask is permuted from A to B: by RECIPE, or by a named matching; None
            if it is not.
        function: dotted path of the function that makes the mask from the ticket, permuted if
            ``matched``; None takes it as it is.
        paper: whether it is one of the paper's.
    """

    name: str
    title: str
    about: str
    look: Look
    start: str | None = B
    ticket: str = A
    matched: str | None = None
    function: str | None = None
    paper: bool = False


_ALL = [
    Method(
        "dense",
        "dense",
        "no mask",
        Look("#4d4d4d", "", "--", "#2b2e35", "#e8e8e8"),
        start=None,
        paper=True,
    ),
    Method(
        "imp",
        "IMP",
        "the network that iterative magnitude pruning ends with",
        Look("#a6751c", "D", ":", "#a58a1c", "#f2e06a"),
        start=None,
        paper=True,
    ),
    Method(
        "lth",
        "LTH",
        "A's IMP mask on A",
        Look("#66c2a5", "o", "-", "#1a8f6f", "#66c2a5"),
        start=A,
        paper=True,
    ),
    Method(
        "naive",
        "naive",
        "A's IMP mask on B",
        Look("#fc8d62", "s", "-.", "#b8410a", "#fc8d62"),
        paper=True,
    ),
    Method(
        "permuted",
        "permuted",
        "A's IMP mask, permuted to match B",
        Look("#8da0cb", "^", "-", "#4258b8", "#9db0e2"),
        matched=RECIPE,
        paper=True,
    ),
    Method(
        "own",
        "own",
        "B's own IMP mask",
        Look("#1b6d4f", "P", (6, 2), "#0b5c43", "#9fe0cb"),
        ticket=B,
    ),
    Method(
        "activity",
        "activity",
        "A's IMP mask, permuted by mean and spread of the channels' activity alone",
        Look("#542788", "v", (4, 1.5), "#542788", "#c9a7ee"),
        matched="activity",
    ),
    Method(
        "permuted_fan",
        "permuted fan",
        "random, with the permuted mask's numbers of weights per output channel, input channel "
        "and kernel position",
        Look("#3d5a99", "<", (2, 1.2), "#2a4a93", "#a9c3f5"),
        matched=RECIPE,
        function="maskalign.controls:fan",
    ),
    Method(
        "fan",
        "fan",
        "random, with A's numbers of weights per output channel, input channel and kernel position",
        Look("#b35806", ">", (2, 1.2, 2, 1.2, 6, 1.2), "#8a4300", "#f0b27a"),
        function="maskalign.controls:fan",
    ),
    Method(
        "random_permutation",
        "random permutation",
        "A's IMP mask under a random permutation",
        Look("#c51b7d", "X", (1, 1), "#a0135f", "#f19ac9"),
        function="maskalign.controls:random_permutation",
    ),
    Method(
        "shuffled",
        "shuffled",
        "A's IMP mask, shuffled within each layer",
        Look("#7f3b08", "d", (8, 2, 1, 2), "#6b3207", "#d9a679"),
        function="maskalign.controls:shuffled",
    ),
    Method(
        "uniform",
        "uniform",
        "random, with the same sparsity in each layer",
        Look("#737373", "h", (3, 3), "#5c5c5c", "#bdbdbd"),
        function="maskalign.controls:uniform",
    ),
    Method(
        "erk",
        "ERK",
        "random, at Erdos-Renyi-kernel layer-wise sparsity",
        Look("#1f1f1f", "p", (1, 2.5), "#111111", "#f5f5f5"),
        function="maskalign.controls:erk",
    ),
]
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
# The paper's three masks: the methods of an experiment that names none.
MASKS = tuple(name for name, method in METHODS.items() if method.paper and method.start)
DASHES: dict[str, Dash] = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}


def of_study(config: dict[str, Any]) -> dict[str, Method]:
    """Return the methods that a study may use: METHODS, and those of its own ``methods``."""
    return METHODS | {name: _own(name, entry) for name, entry in config["methods"].items()}


def _own(name: str, entry: dict[str, Any]) -> Method:
    color = entry["color"]
    return Method(
        name,
        entry["title"] or name.replace("_", " "),
        entry["about"] or f"made by {entry['function']}",
        Look(color, entry["marker"], DASHES[entry["dash"]], color, color),
        start=entry["start"],
        ticket=entry["ticket"],
        matched=RECIPE if entry["permuted"] else None,
        function=entry["function"],
    )


def titles(methods: dict[str, Method]) -> dict[str, str]:
    """Return the title of each method by its name."""
    return {name: method.title for name, method in methods.items()}


def trained(methods: dict[str, Method]) -> list[str]:
    """Return the names of those methods that train under a mask, in their order."""
    return [name for name, method in methods.items() if method.start]


def ordered(methods: dict[str, Method], names: Iterable[str]) -> list[str]:
    """Return ``names``, each once, in the order in which tables and legends list methods."""
    wanted = set(names)
    return [name for name in methods if name in wanted]

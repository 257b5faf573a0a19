"""Pieces of the benchmark: their order, sizes and time limits. Each is a process of its own."""

from dataclasses import dataclass, replace
from typing import Any

from maskalign.bench import work

BFLOAT16, FLOAT32 = {"precision": "bfloat16"}, {"precision": "float32"}
GRAPH, COMPILE, TF32 = {"graph": True}, {"compile": True}, {"tf32": True}
# How the study's loop trains, most telling first, and compiled ones last, as they take the longest.
# The name is that of the table.
SETTINGS: dict[str, dict[str, Any]] = {
    "bfloat16, graph": BFLOAT16 | GRAPH,
    "float32": FLOAT32,
    "bfloat16": BFLOAT16,
    "TF32, graph": FLOAT32 | GRAPH | TF32,
    "float32, graph": FLOAT32 | GRAPH,
    "TF32": FLOAT32 | TF32,
    "bfloat16, graph, any order": BFLOAT16 | GRAPH | {"any_order": True},
    "bfloat16, graph, compiled": BFLOAT16 | GRAPH | COMPILE,
    "bfloat16, compiled": BFLOAT16 | COMPILE,
}
# For other networks: in wide ones launches matter less, and float32 is slow.
FEWER = ["bfloat16, graph", "float32", "bfloat16", "TF32", "bfloat16, graph, compiled"]
PROFILED = ["bfloat16, graph", "bfloat16", "float32"]  # and what is compiled


@dataclass(frozen=True)
class Sizes:
    """How much work a piece does.

    Attributes:
        images: training images of an epoch, by network; a quarter as many are evaluated.
        settings: names of ``SETTINGS``, by network.
        points: of a line, by network.
        tried: images that tell how many are matched, by network: on a GPU few measure launches.
        seconds: for which a setting's epochs are timed, at least.
        block: seconds of a reading, where what is measured is called many times.
        workers: of the textbook procedure's loader.
        at_once: trainings that share the device.
        side: of the square matrices that are multiplied.
        copied: bytes of the tensor that is copied.
        matched: seconds that the textbook procedure matches for.
        without: checks that are left out.
        batch, pixels: of ResNet50's step.
    """

    images: dict[str, int]
    settings: dict[str, list[str]]
    points: dict[str, int]
    tried: dict[str, int]
    seconds: float = 2.0
    block: float = 0.3
    workers: tuple[int, ...] = (0, 4, 8)
    at_once: tuple[int, ...] = (1, 2, 4, 8)
    side: int = 8192
    copied: int = 4 * 2**30
    matched: float = 4.0
    without: tuple[str, ...] = ()
    batch: int = 256
    pixels: int = 224


FULL = Sizes(
    images={
        "ResNet20 x1": 25_600,
        "ResNet20 x4": 25_600,
        "ResNet20 x16": 1_792,
        "VGG11 x1": 25_600,
    },
    settings={
        "ResNet20 x1": list(SETTINGS),
        "ResNet20 x4": FEWER,
        "ResNet20 x16": FEWER,
        "VGG11 x1": FEWER,
    },
    points={"ResNet20 x1": 11, "ResNet20 x16": 3},
    tried={"ResNet20 x1": 2560, "ResNet20 x16": 256},
)
TOY = Sizes(
    images={work.TOY: 256},
    settings={work.TOY: ["bfloat16, graph", "float32", "bfloat16, graph, compiled"]},
    points={work.TOY: 2},
    tried={work.TOY: 32},
    seconds=0.01,
    block=0.01,
    workers=(0, 1),
    at_once=(2,),
    side=256,
    copied=2**24,
    matched=0.05,
    without=("compiled as plain steps", "killed, to the same bits", "a group of one process"),
    batch=2,
    pixels=32,
)


@dataclass(frozen=True)
class Piece:
    """One process of the benchmark.

    Attributes:
        kind: a function of ``pieces.KINDS``.
        network: what it measures; empty where it measures none.
        seconds: that it may take at most, of the budget that is left.
    """

    kind: str
    network: str = ""
    seconds: float = 60.0

    @property
    def name(self) -> str:
        """Return the name by which the table and the command know it."""
        return f"{self.kind} {self.network}".strip()


# The most telling first: a run that is cut short has measured these.
PIECES = [
    Piece("ceilings", seconds=30),
    Piece("ours", "ResNet20 x1", 120),
    Piece("textbook", "ResNet20 x1", 60),
    Piece("checks", seconds=100),
    Piece("start", seconds=30),
    Piece("ours", "ResNet20 x16", 100),
    Piece("textbook", "ResNet20 x16", 60),
    Piece("step", "ResNet50 x1", 40),
    Piece("ours", "ResNet20 x4", 80),
    Piece("textbook", "ResNet20 x4", 60),
    Piece("at once", "ResNet20 x1", 80),
    Piece("analyses", "ResNet20 x1", 60),
    Piece("ours", "VGG11 x1", 80),
    Piece("textbook", "VGG11 x1", 60),
    Piece("analyses", "ResNet20 x16", 60),
    Piece("mps", "ResNet20 x1", 60),
    Piece("at once", "ResNet20 x4", 80),
]
TOY_PIECES = [
    replace(p, network=work.TOY if p.network == "ResNet20 x1" else p.network)
    for p in PIECES
    if p.network in ("", "ResNet20 x1", "ResNet50 x1") and p.kind != "mps"
]

"""Tables and figures of a study as its page shows them, read from the files of their rules."""

import base64
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from maskalign import captions, comparison_page, selection
from maskalign.comparison import COMPARED
from maskalign.reported import Paper
from maskalign.study import Study

DPI = 150
TRAINED = ("dense", "imp_round", "imp", "sparse")  # the stages of runs that train
LABELS = [
    "Model",
    "Accuracy",
    "At",
    "Sparsity (%)",
    "Method",
    "Matching",
]  # columns that name a row
# What a caption says is not there.
GAPS = re.compile(r"(?:Nothing of|Not run|\d+ diverged) .*?\.(?= [A-Z]|$)")


@dataclass(frozen=True)
class Image:
    """An image as a data URI, with its size in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Cells:
    """A grid of texts; ``labels`` is how many columns in front name the row."""

    head: list[str]
    rows: list[list[str]]
    labels: int = 1


@dataclass(frozen=True)
class Behind:
    """The runs behind the cells of a table or the points of a figure.

    Attributes:
        head: what tells the cells apart, such as ``width``, ``method``.
        rows: for each set of runs its values of ``head``, how many cells it is behind, and paths.
    """

    head: list[str]
    rows: list[tuple[list[str], int, list[str]]]


@dataclass
class Artefact:
    """A table or figure.

    Attributes:
        name: ``table_05``, ``figure_03_error``; also its anchor.
        number: as printed: ``Table 5``.
        code: short, for cross-references: ``T05``.
        what: what is shown, in a few words.
        caption: plain text, without the number.
        rule: the rule that made it.
        runs: paths of the runs it is made from.
        stages: how many of them are of each stage.
        files: title -> file, relative to the study's folder.
        behind: which runs are behind which cells; None if it needs no runs.
        paper: what the paper reports in this place, with ours beside it.
        compared: whether any of them is compared with ours.
        why: why the others are not, or why there are none.
        beside: names of tables that hold the numbers of a figure.
    """

    name: str
    number: str
    code: str
    what: str
    caption: str
    rule: str
    runs: list[str]
    stages: dict[str, int]
    files: dict[str, str]
    behind: Behind | None = None
    image: Image | None = None
    cells: Cells | None = None
    paper: list[tuple[str, Cells]] = field(default_factory=list)
    compared: bool = False
    why: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    @property
    def listed(self) -> bool:
        """Whether any of its runs trains, so that the page's list of runs has it."""
        return any(stage in TRAINED for stage in self.stages)

    @property
    def gaps(self) -> list[str]:
        """The sentences of the caption on what was not run or diverged."""
        return GAPS.findall(self.caption)


def figures(study: Study, folder: Path) -> list[Artefact]:
    """Return the study's figures."""
    found = []
    for name in study.config["artefacts"]["figures"]:
        text = (folder / f"figures/{name}.md").read_text(encoding="utf-8")
        files = {kind: f"figures/{name}.{kind.lower()}" for kind in ("CSV", "PDF", "PNG")}
        image = png(folder / f"figures/{name}.png")
        found.append(_artefact(study, folder, "figures", name, text, files, image=image))
    return found


def tables(study: Study, folder: Path, table: pd.DataFrame, paper: Paper) -> list[Artefact]:
    """Return the study's tables; ``table`` is comparison.csv."""
    found = []
    for name in study.config["artefacts"]["tables"]:
        text = (folder / f"tables/{name}.md").read_text(encoding="utf-8")
        kinds = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}
        files = {kind: f"tables/{name}.{suffix}" for kind, suffix in kinds.items()}
        made = _artefact(study, folder, "tables", name, text, files, cells=grid(text))
        _compare(study, made, table, paper)
        found.append(made)
    return found


def refer(study: Study, figures: list[Artefact], tables: list[Artefact]) -> None:
    """Name beside each curve of accuracies the tables that print the same models' accuracies."""
    every = study.config["artefacts"]

    def shown(kind: str, name: str) -> set[tuple[str, str, float | None]]:
        entry = every[kind][name]
        return {
            (s["dataset"], s["model"], w)
            for s in entry.get("shows", [])
            for w in s.get("widths", [None])
        }

    for figure in figures:
        if every["figures"][figure.name]["kind"] in ("rewind", "sparsity"):
            own = shown("figures", figure.name)
            figure.beside = [
                t.name
                for t in tables
                if every["tables"][t.name]["kind"] == "accuracy" and own & shown("tables", t.name)
            ]


def behind(cells: pd.DataFrame) -> Behind | None:
    """Return the runs behind the rows of a table's or figure's CSV file (column ``runs``)."""
    if "runs" not in cells:
        return None
    cells = cells[cells["runs"].notna()]
    groups = cells.groupby("runs", sort=False)
    numbers = ["mean", "std", "n", "diverged", "runs", "x", "y", "error", "place", "chance"]
    names = [c for c in cells if c not in numbers]
    # Columns that do not vary within any set of runs, but between them.
    head = [
        c
        for c in names
        if (groups[c].nunique(dropna=False) == 1).all() and cells[c].nunique(dropna=False) > 1
    ]
    firsts, counts = groups[head].first(), groups.size()
    texts = firsts.map(lambda v: "" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v))
    rows = [
        (list(text), int(counts[runs]), runs.split())
        for runs, text in zip(firsts.index, texts.itertuples(index=False, name=None), strict=True)
    ]
    return Behind(head, rows)


def png(file: Path) -> Image:
    """Return a PNG file as an image; ValueError, one line, if it is none."""
    content = file.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{file}: not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return Image(uri, round(width * 96 / DPI), round(height * 96 / DPI))


def grid(text: str) -> Cells:
    """Return the first table of a Markdown text; bold cells keep their asterisks."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    labels = next((i for i, name in enumerate(head) if name not in LABELS), 1)
    return Cells(head, rows, max(labels, 1))


def _artefact(
    study: Study, folder: Path, kind: str, name: str, text: str, files: dict, **content
) -> Artefact:
    """Return an artefact from the first line of its Markdown file, ``**Number.** caption``."""
    number, _, caption = text.splitlines()[0].removeprefix("**").partition(".** ")
    entry = study.config["artefacts"][kind][name]
    part, digits, *rest = name.split("_")
    sources = selection.sources(study, kind, name).values()
    runs = list(dict.fromkeys(f.rpartition("/")[0] for files in sources for f in files))
    cells = pd.read_csv(folder / files["CSV"])
    return Artefact(
        name=name,
        number=number,
        code="".join([part[0].upper(), digits, *rest]),
        what=captions.KINDS[entry["kind"]],
        caption=caption,
        rule=kind.removesuffix("s"),
        runs=runs,
        stages=Counter(study.run(path)["stage"] for path in runs),
        files=files,
        behind=behind(cells) if len(cells) else None,
        **content,
    )


def _compare(study: Study, made: Artefact, table: pd.DataFrame, paper: Paper) -> None:
    """Put what the paper reports beside a table, or why it cannot be compared."""
    if captions.is_extra(study, made.name):
        made.why = ["The paper has no such table."]
        return
    number = int(made.name.split("_")[1])
    for setting, _ in paper.settings():
        if setting.table != number:
            continue
        rows = table[selection.same(table, setting._asdict())]
        title = paper.title(setting)
        made.paper.append(_beside(title, rows))
        made.compared |= (rows["status"] == COMPARED).any()
        reasons = rows.loc[rows["status"] != COMPARED, ["status", "why"]].drop_duplicates()
        made.why += [
            f"{title}: " + ": ".join(part for part in reason if part) + "."
            for reason in reasons.itertuples(index=False, name=None)
        ]
    if not made.paper:
        made.why = ["It holds settings and no results, so nothing is compared."]


def _beside(title: str, rows: pd.DataFrame) -> tuple[str, Cells]:
    """Return ours beside the paper's where any are compared, or else the paper's, as it prints."""
    compared = rows[rows["status"] == COMPARED]
    cells = comparison_page.cells(rows if compared.empty else compared)
    axes = [name for name in ("t", "k", "Metric") if name in cells and cells[name].nunique() > 1]
    if len(compared) or not axes:
        return title, Cells(list(cells), cells.to_numpy().tolist(), 2)
    axis = axes[0]
    index = [name for name in ("S (%)", "Method", "k", "Metric") if name in cells and name != axis]
    heads = cells[axis] if axis == "Metric" else axis + " = " + cells[axis]
    heads = heads.where(cells[axis] != "", "reported")  # LTH and naive masks know no matching
    numbers = cells["Reported"].str.extract(r"^(?P<text>.*?)(?P<n> \(n = \d+\))?$")
    wide = cells.assign(text=numbers["text"], heads=heads).pivot(
        index=index, columns="heads", values="text"
    )
    order = pd.MultiIndex.from_frame(cells[index].drop_duplicates())
    order = order if len(index) > 1 else order.get_level_values(0)
    wide = wide.reindex(index=order, columns=heads.drop_duplicates()).fillna("").reset_index()
    counts = "".join(numbers["n"].dropna().unique())
    return f"{title}, as reported{counts}", Cells(list(wide), wide.to_numpy().tolist(), len(index))

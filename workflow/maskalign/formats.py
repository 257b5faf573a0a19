"""A finished table and the files it is written to: CSV, Markdown and LaTeX."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from maskalign.captions import TIMES, number
from maskalign.files import write_text

ABSENT = "\u2013"
LATEX = {
    "\\": r"\textbackslash{}",
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    ABSENT: "--",
    "π": r"$\pi$",
}


class Cell(NamedTuple):
    """A mean with its standard deviation; a NaN std is not shown, n = 0 means all diverged."""

    mean: float
    std: float = math.nan
    n: int = 1
    digits: int = 2
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: name of the artefact, such as ``table_05``.
        caption: plain text, without the number.
        cells: tidy and numeric, one row a cell.
        layout: as printed; the index has named levels, entries are Cell or text.
    """

    name: str
    caption: str
    cells: pd.DataFrame
    layout: pd.DataFrame


def write_csv(table: Table, path: str | Path) -> None:
    """Write the cells: one row a cell, with mean, std (empty for a single run) and n."""
    write_text(path, csv_text(table.cells))


def write_markdown(table: Table, path: str | Path) -> None:
    """Write caption and table; the best permuted value of a row is bold."""
    frame = table.layout.map(_markdown)
    grid = frame.reset_index().to_markdown(index=False, disable_numparse=True)
    write_text(path, f"**{number(table.name)}.** {table.caption}\n\n{grid}\n")


def write_latex(table: Table, path: str | Path) -> None:
    r"""Write a ``table`` environment for the package booktabs, with ``\label{tab:<name>}``."""
    frame = table.layout.map(_latex)
    levels = frame.index.nlevels
    frame = frame.reset_index().map(str)
    frame.iloc[:, :levels] = _without_repeats(frame.iloc[:, :levels].map(_escape))
    frame.columns = [_escape(column) for column in frame.columns]
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        caption=_escape(table.caption),
        label=f"tab:{table.name}",
        position="tb",
        position_float="centering",
        environment="table*" if frame.shape[1] > 6 else None,
        column_format="l" * levels + "r" * (frame.shape[1] - levels),
    )
    write_text(path, text.replace("\\centering", "\\centering\\footnotesize"))


def csv_text(frame: pd.DataFrame) -> str:
    """Return numeric data as CSV with eight significant digits; integers stay integers."""
    return frame.convert_dtypes().to_csv(index=False, float_format="%.8g", lineterminator="\n")


def _markdown(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return cell
    if not cell.n:
        return "diverged"
    text = f"{cell.mean:.{cell.digits}f}"
    if not math.isnan(cell.std):
        text += f" ± {cell.std:.{cell.digits}f}"
    return f"**{text}**" if cell.bold else text


def _latex(cell: Cell | str) -> str:
    if isinstance(cell, str) or not cell.n:
        return _escape(_markdown(cell))
    text = _escape(_markdown(cell._replace(bold=False)))
    return rf"\textbf{{{text}}}" if cell.bold else text


def _without_repeats(labels: pd.DataFrame) -> pd.DataFrame:
    """Return the labels, blank where they and all before them are those of the row above."""
    same = (labels == labels.shift()).cummin(axis=1)
    same.iloc[:, -1] = False
    return labels.mask(same, "")


def _escape(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in text)

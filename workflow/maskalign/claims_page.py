"""The page of the claims: where each holds, its tests, and the share of the gap that is closed."""

import math
from collections.abc import Iterable

import pandas as pd

from maskalign import convergence, gap, origin, verdicts
from maskalign.study import Study
from maskalign.units import CELL

LONGER = (
    "The verdicts above are of length 1. These are the same tests of the runs that train longer, "
    "at the recipe's learning rate. p-values are adjusted over the claims of a data set, model and "
    "length, the paper's claims and those beyond it apart."
)
TITLES = {"paper": "The paper's claims", "beyond": "Claims beyond the paper"}


def markdown(
    study: Study,
    table: pd.DataFrame,
    longer: pd.DataFrame,
    shares: pd.DataFrame,
    shares_longer: pd.DataFrame,
    left: pd.DataFrame,
    sources: Iterable[pd.DataFrame],
) -> str:
    """Return the page.

    Args:
        study: the study.
        table: what ``verdicts.judge`` returns.
        longer: what ``verdicts.judge_longer`` returns.
        shares: what ``gap.shares`` returns.
        shares_longer: what ``gap.shares_longer`` returns.
        left: what ``gap.left`` returns.
        sources: runs.csv and connectivity.csv. Below the title stands a warning if their rows have
            several result versions or another version than this code makes.
    """
    title = f"# Claims: study {study.name}, protocol {study.protocol}"
    lines = [title, "", *origin.paragraph(pd.concat(sources))]
    lines += [" ".join(str(verdicts.__doc__).split("\n\n", 1)[1].split()), ""]
    lines += [" ".join(str(convergence.__doc__).split("\n\n", 1)[1].split())]
    every = verdicts.overall(table)
    for family, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        lines += _head(["Claim", "Supported", "Not supported", "Undecided", "Could not be tested"])
        for row in every[every["family"] == family].itertuples():
            counts = f"{row.n_not_supported} | {row.n_undecided} | {row.n_untested}"
            lines.append(f"| {row.text} | **{row.supported}** | {counts} |")
        lines += ["", f"### {title} by data set and model", ""]
        lines += _tests(table[table["family"] == family])
    lines += [*_longer(longer), *_shares(shares, shares_longer), *_left(left)]
    return "\n".join(lines) + "\n"


def _tests(table: pd.DataFrame) -> list[str]:
    heads = ["Claim", "Data set, model", "Verdict", "Effect", "n", "Test", "p (Holm)"]
    lines = _head([*heads, "Why undecided", "Convergence", "Beside"])
    for row in table.itertuples():
        p = "" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}"
        effect = f"{row.effect}: {interval(row.mean, row.low, row.high)}"
        n = counted(row.n, row.planned, row.unit)
        cells = [row.claim, row.scope, row.verdict, effect, n, row.test, p, row.why]
        lines.append(f"| {' | '.join([*cells, row.convergence, row.beside])} |")
    return lines


def _longer(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    lines = ["", "## The claims at other lengths of sparse training", "", LONGER, ""]
    heads = ["Claim", "Data set, model", "Length", "Supported", "Effect", "n", "p (Holm)"]
    lines += _head([*heads, "Why undecided", "Convergence"])
    for row in table.itertuples():
        p = "" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}"
        effect = f"{row.effect}: {interval(row.mean, row.low, row.high)}"
        cells = [row.claim, row.scope, f"{row.length:g}", row.verdict, effect]
        cells += [counted(row.n, row.planned, row.unit), p, row.why, row.convergence]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _left(left: pd.DataFrame) -> list[str]:
    if left.empty:
        return []
    heads = ["Data set, model", "Longest length", "Gap at length 1 (points)"]
    heads += ["Gap at the longest (points)", "Share left (%)", "n", "Why none"]
    lines = ["", "## Share of the gap left after long training", ""]
    lines += [
        "The gap is permuted - naive with k > 0. At the longest length each is at its best rate, "
        "chosen from the same runs. The interval of the share is 95 %, by bootstrap over pairs.",
        "",
        *_head(heads),
    ]
    for row in left.itertuples():
        cells = [f"{row.dataset}, {row.model}", f"{row.length:g}"]
        cells += [interval(row.gap, row.gap_low, row.gap_high), interval(row.gap_longest)]
        cells += [gap.share_text(row.share, row.low, row.high), str(row.n), row.why]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shares(shares: pd.DataFrame, longer: pd.DataFrame) -> list[str]:
    lines = ["", "## Share of the gap closed", ""]
    lines += [" ".join(str(gap.__doc__).split("\n\n", 1)[1].split())]
    lines += [
        "A share is given where LTH - naive is above 0 with 95 %. Its interval is 95 %, by "
        "bootstrap over pairs; with few pairs it is too narrow. Each row is the mean over all "
        "cells with k > 0 that every pair has; shares.csv has every cell. A network that is not "
        "trained as LTH has no row.",
        "",
    ]
    heads = ["Data set, model", "Length", "LTH - naive (points)", "Share closed (%)", "n"]
    lines += _head([*heads, "Why none"])
    whole = shares[shares[CELL].isna().all(axis=1)].assign(length=1)
    every = pd.concat([whole, longer]) if len(longer) else whole
    for row in every.sort_values(["dataset", "model", "length"]).itertuples():
        cells = [f"{row.dataset}, {row.model}", f"{row.length:g}"]
        cells += [interval(row.gap, row.gap_low, row.gap_high)]
        cells += [gap.share_text(row.share, row.low, row.high), str(row.n), row.why]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def counted(n: int, planned: int, unit: str) -> str:
    """Return how many units count, and of how many if some do not: ``2 of 3 pairs``."""
    return f"{n} of {planned} {unit}s" if n < planned else f"{n} {unit}{'s' * (n != 1)}"


def interval(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a mean with its interval, where there is one, in print."""
    if math.isnan(mean):
        return "none"
    return f"{mean:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")

"""The share of the gap between LTH and naive that the permuted mask closes in the paper's tables.

The share has no unit (``maskalign.gap``), so it stands beside the study's whatever the data set and
network. The paper gives means with standard deviations and no single runs: its shares have no
interval, and whether LTH is above naive is Welch's 95 % interval. Runs of several rewind epochs
share their networks A and B, so the standard deviation of their mean is taken to be the mean of
theirs, the largest that it can be.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from maskalign import captions
from maskalign.claim import LEVEL
from maskalign.gap import NOT_ABOVE, share_text
from maskalign.reported import Paper, Setting
from maskalign.study import Study

NO_SPREAD = "no standard deviation is reported"
COLUMNS = [
    *(*Setting._fields, "sparsity", "rewind_epoch", "matching_epoch"),
    *("gap", "gap_low", "gap_high", "share", "why"),
]


def shares(paper: Paper) -> pd.DataFrame:
    """Return the paper's shares of test accuracy.

    Returns:
        One row (COLUMNS) per table, network, data set, sparsity and matching epoch with an empty
        rewind epoch, over the mean of all k > 0, and one row per rewind epoch. ``gap`` is LTH -
        naive in points with its 95 % interval; ``why`` says why there is no share.
    """
    rows = []
    for setting, cells in paper.settings():
        cells = cells[cells["metric"] == "accuracy"]
        if paper.kind(setting) == "diversity":
            continue
        for (sparsity, epoch), part in _joined(cells).groupby(
            ["sparsity", "matching_epoch"], dropna=False
        ):
            names = setting._asdict() | {"sparsity": sparsity, "matching_epoch": epoch}
            late = part[part["rewind_epoch"] > 0]
            rows += [names | _share(late)] if len(late) else []
            rows += [
                names | {"rewind_epoch": k} | _share(cell)
                for k, cell in part.groupby("rewind_epoch")
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def section(study: Study, study_shares: pd.DataFrame, paper: Paper) -> list[str]:
    """Return the lines of a page: the share by sparsity, of the paper and of the study.

    Args:
        study: the study.
        study_shares: what ``gap.shares`` returns.
        paper: the paper's numbers.
    """
    found: dict[tuple, dict[float, str]] = {}
    reported = shares(paper)
    for row in reported[reported["rewind_epoch"].isna()].to_dict("records"):
        title = paper.title(Setting(*(row[k] for k in Setting._fields)))
        if not math.isnan(row["matching_epoch"]):
            title += f", matched at epoch {row['matching_epoch']:g}"
        found.setdefault((title,), {})[row["sparsity"]] = share_text(row["share"])
    own = study_shares[study_shares["rewind_epoch"].isna() & study_shares["sparsity"].notna()]
    for row in own.to_dict("records"):
        model = f"{captions.model_title(study, row['model'])} {captions.times(row['width'])}"
        title = f"here: {model} on {captions.data_title(study, row['dataset'])}"
        key = (title, row["dataset"], row["model"])
        text = share_text(row["share"], row["low"], row["high"])
        found.setdefault(key, {})[row["sparsity"]] = text + f" (n = {row['n']})"
    levels = sorted({s for texts in found.values() for s in texts})
    heads = ["", *(f"S = {captions.percent(s)} %" for s in levels)]
    lines = [
        "",
        "## Share of the gap closed (%)",
        "",
        "(Mean permuted - mean naive) / (mean LTH - mean naive), each the mean over all rewind "
        "epochs k > 0. Ours have 95 % intervals by bootstrap over pairs, too narrow with few "
        "pairs. Networks, data sets, lengths of training and rewind epochs differ. A cell that "
        "was not run is empty. Why a cell says none, and the shares of single rewind epochs, "
        "stand in comparison_shares.csv and shares.csv.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for (title, *_), texts in found.items():
        lines.append(f"| {' | '.join([title, *(texts.get(s, '') for s in levels)])} |")
    return lines


def _joined(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell of the permuted mask, with LTH and naive of its S and k beside."""
    keys = ["sparsity", "rewind_epoch"]
    parts = {m: cells[cells["method"] == m] for m in ("permuted", "lth", "naive")}
    found = parts["permuted"][[*keys, "matching_epoch", "mean"]]
    for method in ("lth", "naive"):
        own = parts[method][[*keys, "mean", "std", "runs"]]
        found = found.merge(own, on=keys, suffixes=("", f"_{method}"))
    return found.rename(
        columns={"mean": "permuted", "std": "std_lth", "runs": "runs_lth"}
        | {"mean_lth": "lth", "mean_naive": "naive"}
    )


def _share(cells: pd.DataFrame) -> dict[str, Any]:
    """Return gap, its interval and share of the mean of some cells."""
    mean = cells.mean(numeric_only=True)
    gap = mean["lth"] - mean["naive"]
    parts = [mean[f"std_{m}"] ** 2 / mean[f"runs_{m}"] for m in ("lth", "naive")]
    freedoms = [mean[f"runs_{m}"] - 1 for m in ("lth", "naive")]
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = sum(parts) ** 2 / sum(p**2 / f for p, f in zip(parts, freedoms, strict=True))
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * math.sqrt(sum(parts))
    row = {"gap": gap, "gap_low": gap - half, "gap_high": gap + half, "share": math.nan, "why": ""}
    if math.isnan(half):
        return row | {"why": NO_SPREAD}
    if not gap > half:
        return row | {"why": NOT_ABOVE}
    return row | {"share": float((mean["permuted"] - mean["naive"]) / gap)}

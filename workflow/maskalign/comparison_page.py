"""The page of the comparison with the paper: counts by table, then the cells."""

import numpy as np
import pandas as pd

from maskalign import captions, comparison, origin, reported_gap, selection
from maskalign.cells import DIVERSITY
from maskalign.comparison import COMPARED, NOT_COMPARABLE, NOT_RUN, WHOLE, nothing, summary
from maskalign.methods import METHODS, titles
from maskalign.reported import Paper, Setting
from maskalign.study import Study

STUDY = ["study_dataset", "study_model"]


def markdown(
    study: Study, table: pd.DataFrame, shares: pd.DataFrame, paper: Paper, runs: pd.DataFrame
) -> str:
    """Return the comparison as a page: counts by table, then every cell that is compared.

    Args:
        study: the study.
        table: what ``comparison.compare`` returns.
        shares: what ``gap.shares`` returns.
        paper: the paper's numbers.
        runs: runs.csv.

    Below the title stands a warning if the runs behind the cells, rows of runs.csv, have several
    result versions or another version than this code makes.
    """
    lines = [f"# Comparison with the paper: study {study.name}, protocol {study.protocol}", ""]
    lines += origin.paragraph(origin.behind(table, runs))
    lines += [" ".join(str(comparison.__doc__).split("\n\n", 1)[1].split()), ""]
    if sentence := nothing(table):
        lines.append(f"**{sentence}**")
    if (table["status"] != NOT_COMPARABLE).any():
        lines += ["", *_counts(summary(table))] if sentence else _counts(summary(table))
        lines += _differences(study, table, paper)
    settings = {setting: _of(setting, table) for setting, _ in paper.settings()}
    for setting, rows in settings.items():
        for (dataset, model), part in rows[rows["status"] == COMPARED].groupby(STUDY, sort=False):
            of = rows[(rows["study_dataset"] == dataset) & (rows["study_model"] == model)]
            lines += ["", f"## {paper.title(setting)} (here {model} on {dataset})", ""]
            lines += _grid(part) + _left_out(of)
    lines += reported_gap.section(study, shares, paper)
    lines += _not_comparable(settings, paper)
    lines += ["", "## Notes on the reported numbers, which are kept as printed", ""]
    lines += [f"{i}. {_places(n)}: {n['text']}" for i, n in enumerate(paper.facts["notes"], 1)]
    lines += ["", *(f"- {text}" for text in paper.facts["remarks"])]
    return "\n".join(lines) + "\n"


def _of(setting: Setting, table: pd.DataFrame) -> pd.DataFrame:
    return table[selection.same(table, setting._asdict())]


def _counts(counts: pd.DataFrame) -> list[str]:
    lines = [
        "| Table | Cells | Compared | Not run | Not comparable | Judged | Inside 95 % "
        "| Mean difference of accuracies (points) |",
        "|---" * 8 + "|",
    ]
    total = counts.drop(columns=["table", "mean_difference"]).sum()
    rows = [*counts.to_dict("records"), {"table": "all", "mean_difference": np.nan} | dict(total)]
    for row in rows:
        mean = _signed(row["mean_difference"], 2)
        names = ("table", "cells", COMPARED, NOT_RUN, NOT_COMPARABLE, "judged", "inside")
        lines.append(f"| {' | '.join(str(row[k]) for k in names)} | {mean} |")
    return lines


def _differences(study: Study, table: pd.DataFrame, paper: Paper) -> list[str]:
    """Return what each comparable model's recipe has that the paper's has not."""
    found: dict[str, dict[str, None]] = {}
    for setting, _ in paper.settings():
        rows = _of(setting, table)
        for dataset, model in rows[STUDY].dropna().drop_duplicates().itertuples(index=False):
            texts = found.setdefault(f"{model} on {dataset}", {})
            shown = {"dataset": dataset, "model": model}
            texts |= dict.fromkeys(paper.differences(study, setting, shown))
    same = "recipe as in the paper's Tables 2 to 4"
    return [
        "",
        *(
            f"- {name}: " + (f"recipe differs from the paper's in: {'; '.join(t)}" if t else same)
            for name, t in found.items()
        ),
    ]


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of one setting as texts; columns that are empty are left out."""
    shown = pd.DataFrame(
        {
            "S (%)": rows["sparsity"].map(captions.percent),
            "Method": rows["method"].map(titles(METHODS)),
            "k": rows["rewind_epoch"].map(_epoch),
            "t": rows["matching_epoch"].map(_epoch),
            "Metric": [_metric(m) for m in rows["metric"]],
            "Ours": [_value(*v) for v in _columns(rows, "metric", "mean", "std", "n")],
            "Reported": [
                _value(*v)
                for v in _columns(rows, "metric", "reported_mean", "reported_std", "reported_n")
            ],
            "Difference": [
                _signed(d, _digits(m)) for m, d in _columns(rows, "metric", "difference")
            ],
            "95 % interval": [_interval(*v) for v in _columns(rows, "metric", "low", "high")],
            "Inside": rows["inside"].map({True: "yes", False: "no"}).fillna("").astype(str),
            "Note": rows["notes"],
        }
    )
    kept = shown.loc[:, (shown != "").any()]
    if rows["metric"].nunique() == 1:
        kept = kept.drop(columns="Metric")
    return kept


def _grid(rows: pd.DataFrame) -> list[str]:
    return cells(rows).to_markdown(index=False, disable_numparse=True).splitlines()


def _left_out(rows: pd.DataFrame) -> list[str]:
    lost = int((rows["why"] == "diverged").sum())
    texts = [f"{(rows['status'] == NOT_RUN).sum()} of {len(rows)} cells not run"]
    texts += [f"{lost} of them because every run diverged" if lost else ""]
    texts = [", ".join(t for t in texts if t)] if (rows["status"] == NOT_RUN).any() else []
    other = rows[rows["status"] == NOT_COMPARABLE]
    texts += [f"{len(part)} not comparable: {why}" for why, part in other.groupby("why")]
    some = int(rows.loc[rows["status"] == COMPARED, "diverged"].sum())
    texts += [f"{some} diverged run{'s' * (some > 1)} left out"] if some else []
    return ["", f"{'; '.join(texts)}."] if texts else []


def _not_comparable(settings: dict[Setting, pd.DataFrame], paper: Paper) -> list[str]:
    """Return why each setting is not compared at all."""
    lines = [
        f"- {paper.title(setting)}: {rows['why'].iloc[0]}."
        for setting, rows in settings.items()
        if rows["study_dataset"].isna().all()
    ]
    return ["", "## Not comparable", "", *lines] if lines else []


def _places(note: dict) -> str:
    """Return the tables that a note is about, as text."""
    return "Table " + ", ".join(dict.fromkeys(str(where["table"]) for where in note["cells"]))


def _columns(rows: pd.DataFrame, *names: str) -> zip:
    return zip(*(rows[name] for name in names), strict=True)


def _digits(metric: str) -> int:
    return DIVERSITY.get(metric, ("", 2))[1]


def _metric(metric: str) -> str:
    title = DIVERSITY.get(metric, (captions.METRIC_TITLES.get(metric, metric), 2))[0]
    return title[0].upper() + title[1:]


def _epoch(epoch: float) -> str:
    return "" if np.isnan(epoch) else f"{epoch:g}"


def _value(metric: str, mean: float, std: float, n: float) -> str:
    if np.isnan(mean):
        return ""
    digits = _digits(metric)
    spread = "" if np.isnan(std) else f" ± {std:.{digits}f}"
    counted = metric not in WHOLE and not np.isnan(n)
    return f"{mean:.{digits}f}{spread}" + f" (n = {n:g})" * counted


def _interval(metric: str, low: float, high: float) -> str:
    digits = _digits(metric)
    return "" if np.isnan(low) else f"[{_signed(low, digits)}, {_signed(high, digits)}]"


def _signed(value: float, digits: int) -> str:
    if np.isnan(value):
        return ""
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0 turns -0.0 into 0.0

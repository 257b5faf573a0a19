"""What the page says of a study in words and small tables: scale, verdicts, runs, recipes."""

import math
from collections import Counter
from typing import Any

import pandas as pd

from maskalign import captions, convergence, gap, selection, settings, verdicts
from maskalign.claims_page import TITLES, counted, interval
from maskalign.report import records
from maskalign.report.artefacts import TRAINED, Artefact, Cells
from maskalign.results import DIVERGED
from maskalign.study import Study

EXTRAS = ["early_matching", "matching_comparison", "interpolation", "imp_barrier"]
EXTRAS += ["landscape", "diversity", "diagnosis"]
ROOM = 1.08  # of an interval's drawing, beyond its farthest end


def scale(study: Study, runs: pd.DataFrame) -> dict[str, Any]:
    """Return how large the study is, in words."""
    every = study.config["experiments"].values()
    used = dict.fromkeys(e["dataset"] for e in every)
    nets: dict[str, dict[float, None]] = {}
    for e in every:
        widths = [w for part in (e, *(e[x] for x in EXTRAS if x in e)) for w in part["widths"]]
        nets.setdefault(captions.model_title(study, e["model"]), {}).update(dict.fromkeys(widths))
    trained = runs[runs["stage"].isin(TRAINED)]
    pairs = {(e["dataset"], e["model"], pair) for e in every for pair in selection.pairs(e)}
    return {
        "data": [captions.data_text(study, name) for name in used],
        "models": [f"{t} {', '.join(map(captions.times, sorted(w)))}" for t, w in nets.items()],
        "pairs": len(pairs),
        "trained": len(trained),
        "jobs": len(runs),
        "hours": runs["seconds"].sum() / 3600,
        "devices": list(dict.fromkeys(runs["device"].dropna())),
        "diverged": int((runs["status"] == DIVERGED).sum()),
    }


def claims(study: Study, table: pd.DataFrame) -> dict[str, Any]:
    """Return where each claim holds, with its tests by data set and model.

    An interval comes with its place in a drawing from 0 to 100, in which 0 is at 50.

    Args:
        study: the study.
        table: claims.csv.
    """
    table = _filled(table, "why", "convergence", "beside")
    margin, rows = study.config["claims"]["margin"], []
    for row in verdicts.overall(table).to_dict("records"):
        parts = table[table["claim"] == row["claim"]].to_dict("records")
        parts = [
            part
            | {"drawn": _drawn(part, margin)}
            | {"counted": counted(part["n"], part["planned"], part["unit"])}
            for part in parts
        ]
        rows.append(row | {"parts": parts})
    families = {
        name: {"title": title} | _counted([row for row in rows if row["family"] == name])
        for name, title in TITLES.items()
    }
    return {"families": families, "margin": margin}


def _counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of a family and in how many places its claims hold."""
    counts = Counter(row["held"] for row in rows)
    untested = counts.pop(verdicts.UNTESTED, 0)
    held = {k: counts[k] for k in verdicts.HELD if k != verdicts.UNTESTED}
    return {"rows": rows, "counts": held, "untested": untested}


def converged(study: Study, runs: pd.DataFrame) -> str:
    """Return what the page says of the convergence of all sparse training, in one sentence.

    Args:
        study: the study.
        runs: runs.csv.
    """
    cells = convergence.of_study(study, runs)
    if cells.empty:
        return ""
    return convergence.sentence(cells, int(cells["runs"].sum()))


def left(study: Study, table: pd.DataFrame) -> Cells:
    """Return the share of the gap that long training leaves, by data set and model.

    Args:
        study: the study.
        table: lengths.csv.
    """
    head = ["Data set", "Model", "Longest length", "Gap at length 1 (points)"]
    head += ["Gap at the longest (points)", "Share left (%)", "n", "Why none"]
    rows = [
        [
            captions.data_title(study, row["dataset"]),
            captions.model_title(study, row["model"]),
            f"{row['length']:g}",
            interval(row["gap"], row["gap_low"], row["gap_high"]),
            interval(row["gap_longest"]),
            gap.share_text(row["share"], row["low"], row["high"]),
            str(row["n"]),
            row["why"],
        ]
        for row in _filled(table, "why").to_dict("records")
    ]
    return Cells(head, rows, 2)


def longer(study: Study, table: pd.DataFrame) -> Cells:
    """Return the tests of claims at other lengths than 1.

    Args:
        study: the study.
        table: claims_by_length.csv.
    """
    head = ["Claim", "Data set", "Model", "Length", "Supported", "Effect", "n", "p (Holm)"]
    rows = []
    for row in _filled(table, "why", "convergence", "beside").to_dict("records"):
        dataset, model = row["scope"].split(", ")
        p = "" if math.isnan(row["p_holm"]) else f"{row['p_holm']:.2g}"
        rows.append(
            [
                row["claim"].replace("_", " "),
                captions.data_title(study, dataset),
                captions.model_title(study, model),
                f"{row['length']:g}",
                row["verdict"],
                f"{row['effect']}: {interval(row['mean'], row['low'], row['high'])}",
                counted(row["n"], row["planned"], row["unit"]),
                p,
                row["why"],
                row["convergence"],
            ]
        )
    return Cells([*head, "Undecided because", "Convergence"], rows, 1)


def shares(study: Study, table: pd.DataFrame, longer: pd.DataFrame) -> Cells:
    """Return the shares of the gap over all late cells, at every length, and by width and sparsity.

    Args:
        study: the study.
        table: shares.csv.
        longer: shares_by_length.csv.
    """
    head = [
        "Data set",
        "Model",
        "S (%)",
        "Length",
        "LTH - naive (points)",
        "Share closed (%)",
        "n",
        "Why none",
    ]
    rows = []
    table = table[table["rewind_epoch"].isna()].assign(length=1)
    if len(longer):
        table = pd.concat([table, longer]).sort_values(["dataset", "model"], kind="stable")
    for row in _filled(table, "why").to_dict("records"):
        whole = math.isnan(row["width"])
        width = "all widths" if whole else captions.times(row["width"])
        rows.append(
            [
                captions.data_title(study, row["dataset"]),
                f"{captions.model_title(study, row['model'])}, {width}",
                "all" if whole else captions.percent(row["sparsity"]),
                f"{row['length']:g}",
                interval(row["gap"], row["gap_low"], row["gap_high"]),
                gap.share_text(row["share"], row["low"], row["high"]),
                str(row["n"]),
                row["why"],
            ]
        )
    return Cells(head, rows, 2)


def _filled(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return a table that was read, with empty texts where columns of text are empty."""
    return table.astype(dict.fromkeys(names, object)).fillna(dict.fromkeys(names, ""))


def _drawn(row: dict[str, Any], margin: float) -> dict[str, float] | None:
    """Return where mean, ends of the interval and margin are drawn; None without a mean."""
    if math.isnan(row["mean"]):
        return None
    near = margin if "margin" in row["test"] else 0.0
    ends = [row["mean"], row["low"], row["high"], near]
    reach = ROOM * max((abs(v) for v in ends if not math.isnan(v)), default=0.0) or 1.0

    def at(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    drawn = {"mean": at(row["mean"]), "near": round(50 * near / reach, 2)}
    if not math.isnan(row["low"]):
        drawn |= {"low": at(row["low"]), "high": at(row["high"])}
    return drawn


def rows(study: Study, runs: pd.DataFrame, made: list[Artefact]) -> list[dict[str, Any]]:
    """Return the runs that train, one row each, with the tables and figures that show it."""
    shown: dict[str, list[Artefact]] = {}
    for artefact in made:
        for path in artefact.runs:
            shown.setdefault(path, []).append(artefact)
    return [
        run
        | {
            "data": captions.data_title(study, run["dataset"]),
            "net": captions.model_title(study, run["model"]),
            "label": study.methods[run["method"]].title,
            "matched": records.matched(run),
            "percent": "" if pd.isna(run["sparsity"]) else captions.percent(run["sparsity"]),
            "shown": [(a.code, a.name, a.number) for a in shown.get(run["path"], [])],
        }
        for run in runs[runs["stage"].isin(TRAINED)].to_dict("records")
    ]


def experiments(study: Study) -> Cells:
    """Return what each experiment asks for."""
    head = ["Experiment", "Data set", "Model", "Recipe", "Widths", "Pairs", "S (%)", "k"]
    head += ["Methods", "L", "Rate", "Also"]
    rows = [
        [
            name,
            captions.data_text(study, e["dataset"]),
            captions.model_title(study, e["model"]),
            e["training"],
            ", ".join(map(captions.times, e["widths"])),
            str(e["pairs"]),
            ", ".join(map(captions.percent, e["sparsities"])),
            ", ".join(map(str, e["rewind_epochs"])),
            ", ".join(study.methods[m].title for m in e["methods"]),
            *(", ".join(f"{x:g}" for x in e[axis]) for axis in ("lengths", "rates")),
            ", ".join(x.replace("_", " ") for x in EXTRAS if x in e),
        ]
        for name, e in study.config["experiments"].items()
    ]
    return Cells(head, rows)


def recipes(study: Study) -> Cells:
    """Return the hyperparameters of each recipe that an experiment uses."""
    names = list(dict.fromkeys(e["training"] for e in study.config["experiments"].values()))
    found = [settings.printed(study.config["training"][name]) for name in names]
    rows = []
    for lines in zip(*found, strict=True):
        kind, _, title, _ = lines[0]
        label = f"IMP: {title[0].lower()}{title[1:]}" if kind == "pruning" else title
        rows.append([label, *(value for *_, value in lines)])
    return Cells(["Hyperparameter", *names], rows)


def lost(study: Study, runs: pd.DataFrame) -> list[dict[str, str]]:
    """Return the given runs, those that diverged, in words."""
    return [
        {
            "stage": run["stage"],
            "path": run["path"],
            "of": f"{captions.model_title(study, run['model'])} {captions.times(run['width'])} on "
            f"{captions.data_title(study, run['dataset'])}",
            "title": records.title(study, run),
        }
        for run in runs.to_dict("records")
    ]

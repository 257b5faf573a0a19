"""The folder of a finished study, without running it: synthetic results, and what rules write."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import synthetic
from conftest import ROOT
from maskalign import (
    claims_page,
    comparison,
    comparison_page,
    cost,
    figures,
    forecast,
    formats,
    gap,
    reported,
    selection,
    tables,
    verdicts,
)
from maskalign.figures import comparison as comparison_figure
from maskalign.figures import style
from maskalign.report import REPORTED
from maskalign.results import TABLES, Record, write_rows
from maskalign.study import Study
from maskalign.units import Results

TRAINED = ("dense", "imp_round", "imp", "sparse")
RULES = ["dense", "imp_round", "imp", "match", "sparse", "interpolation", "imp_barrier"]
RULES += [
    "landscape",
    "diversity",
    "diagnosis",
    "table",
    "figure",
    "claims",
    "comparison",
    "forecast",
]


def write(study: Study, folder: Path, diverged: tuple[str, ...] = ()) -> Path:
    """Write all that the page of ``study`` shows to ``folder``; the paths given diverged."""
    rows = {
        "runs": synthetic.runs(study, diverged),
        "curves": synthetic.curves(study, diverged),
        "planes": synthetic.planes(study),
    }
    names = {"runs": "runs.csv", "curves": "connectivity.csv", "planes": "landscapes.csv"}
    for role, table in rows.items():
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        write_rows(folder / names[role], records, TABLES[role])
    read = {role: selection.read_rows(folder / name) for role, name in names.items()}
    for part in ("tables", "figures"):
        (folder / part).mkdir()
    for name in study.config["artefacts"]["tables"]:
        made, place = tables.build(study, name, read["runs"]), folder / "tables"
        formats.write_csv(made, place / f"{name}.csv")
        formats.write_markdown(made, place / f"{name}.md")
        formats.write_latex(made, place / f"{name}.tex")
    for name in study.config["artefacts"]["figures"]:
        kinds = {
            kind: str(folder / f"figures/{name}.{kind}") for kind in ("pdf", "png", "csv", "md")
        }
        figures.write(figures.build(study, name, figures.Sources(*read.values())), name, **kinds)
    results = Results(study, read["runs"], read["curves"])
    claims, shares = verdicts.judge(study, results), gap.shares(results)
    claims.to_csv(folder / "claims.csv", index=False)
    shares.to_csv(folder / "shares.csv", index=False)
    left = gap.left(results)
    left.to_csv(folder / "lengths.csv", index=False)
    longer = verdicts.judge_longer(study, results)
    longer.to_csv(folder / "claims_by_length.csv", index=False)
    more = gap.shares_longer(results)
    more.to_csv(folder / "shares_by_length.csv", index=False)
    page = claims_page.markdown(
        study, claims, longer, shares, more, left, [read["runs"], read["curves"]]
    )
    (folder / "claims.md").write_text(page)
    _compare(study, folder, read["runs"], shares)
    _forecast(study, folder)
    _record(study, folder, read["runs"], diverged)
    _graph(study, folder)
    return folder


def _compare(study: Study, folder: Path, runs: pd.DataFrame, shares: pd.DataFrame) -> None:
    paper = reported.read(*(ROOT / "config" / name for name in REPORTED))
    table = comparison.compare(study, runs, paper)
    (folder / "comparison.csv").write_text(formats.csv_text(table))
    page = comparison_page.markdown(study, table, shares, paper, runs)
    (folder / "comparison.md").write_text(page)
    figure = comparison_figure.draw(study, table, paper)
    style.save(figure, folder / "comparison.pdf", folder / "comparison.png")


def _forecast(study: Study, folder: Path) -> None:
    speeds = cost.Throughput([])
    found = forecast.forecast(study, speeds)
    forecast.summary(found).to_csv(folder / "forecast.csv", index=False)
    (folder / "forecast.md").write_text(forecast.page(study, found, speeds))


def _record(study: Study, folder: Path, runs: pd.DataFrame, diverged: Sequence[str]) -> None:
    """Write each run's record and, where it trains, its history."""
    for run in study.runs.to_dict("records"):
        place = folder / "runs" / run["path"]
        place.mkdir(parents=True)
        own = runs[selection.same(runs, {k: _plain(run[k]) for k in synthetic.IDENTITY})]
        record = Record(run["values"])
        record.status = "diverged" if run["path"] in diverged else "completed"
        for row in own.to_dict("records") if run["stage"] in TRAINED else []:
            record.add({row["metric"]: row["value"]}, split=row["split"])
        record.finish(place / "result.json")
        content = json.loads((place / "result.json").read_text())
        content["provenance"]["seconds"] = 36.0
        (place / "result.json").write_text(json.dumps(content))
        if run["stage"] in TRAINED:
            lines = ["epoch,lr,train_loss,test_loss,test_accuracy,test_top5_accuracy"]
            for epoch in range(1, 5):
                tested = "50,60,70" if epoch % 2 == 0 else ",,"
                loss = "inf" if run["path"] in diverged and epoch > 2 else 1 / epoch
                lines.append(f"{epoch},0.1,{loss},{tested}")
            (place / "history.csv").write_text("\n".join(lines) + "\n")


def _plain(value):
    return None if pd.isna(value) else value


def _graph(study: Study, folder: Path) -> None:
    """Write a graph of rules as Snakemake prints it: each needs those before it in a chain."""
    stages = {run["stage"] for run in study.runs.to_dict("records")}
    later = ["table", "figure", "claims", "comparison", "forecast"]
    names = [name for name in RULES if name in stages | {*later}]
    names = ["data", *names[: -len(later)], "runs", *later, "rulegraph", "report", "all"]
    number = {name: i for i, name in enumerate(names)}
    lines = [
        f'\t{i}[label = "{name}", color = "0.0 0.6 0.85", style="rounded"];'
        for name, i in number.items()
    ]
    pairs = [("data", "dense"), *((n, "runs") for n in names if n in stages)]
    pairs += [("dense", n) for n in names if n in stages - {"dense"}]
    pairs += [("runs", n) for n in later[:-1]]
    pairs += [(n, "report") for n in [*later, "rulegraph"]] + [("report", "all")]
    pairs += [("imp_round", "imp_round"), ("dense", "report")]
    lines += [f"\t{number[a]} -> {number[b]}" for a, b in pairs]
    (folder / "rulegraph.dot").write_text("digraph snakemake_dag {\n" + "\n".join(lines) + "\n}\n")

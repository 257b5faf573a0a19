"""The page of a study: one HTML file with everything in it, from the files of the other rules."""

from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from packaging.requirements import Requirement

from maskalign import captions, claims_page, comparison, origin, reported, selection
from maskalign.methods import METHODS, Dash, ordered, titles
from maskalign.report import artefacts, records, rules, summary
from maskalign.results import DIVERGED, provenance
from maskalign.study import Study

REPORTED = ("reported.csv", "reported_hyperparameters.csv", "reported.yaml")


def build(study: Study, folder: Path, root: Path) -> str:
    """Return the page.

    Args:
        study: the study.
        folder: its results: every file that the other rules make, below.
        root: the folder of Snakefile, workflow and config.

    Raises:
        OSError, ValueError: one line, if a file is not there or is not what its rule writes.
    """
    paper = reported.read(*(root / "config" / name for name in REPORTED))
    compared = pd.read_csv(folder / "comparison.csv", dtype={"why": str, "notes": str})
    compared[["why", "notes"]] = compared[["why", "notes"]].fillna("")
    figures = artefacts.figures(study, folder)
    tables = artefacts.tables(study, folder, compared, paper)
    artefacts.refer(study, figures, tables)
    runs = records.read(study, folder)
    needs = rules.edges((folder / "rulegraph.dot").read_text(encoding="utf-8"))
    every = rules.read(root, needs)
    points = selection.read_rows(folder / "connectivity.csv")
    made = [selection.read_rows(folder / name) for name in ("runs.csv", "landscapes.csv")]
    return _template(root).render(
        study=study,
        warning=origin.warning(pd.concat([*made, points])),
        scale=summary.scale(study, runs),
        about_longer=claims_page.LONGER,
        claims=summary.claims(study, pd.read_csv(folder / "claims.csv")),
        longer=summary.longer(study, pd.read_csv(folder / "claims_by_length.csv")),
        shares=summary.shares(
            study, *(pd.read_csv(folder / f"shares{name}.csv") for name in ("", "_by_length"))
        ),
        left=summary.left(study, pd.read_csv(folder / "lengths.csv")),
        convergence=summary.converged(study, made[0]),
        looks=_looks(study, runs),
        titles=titles(study.methods),
        figures=figures,
        tables=tables,
        comparison={
            "image": artefacts.png(folder / "comparison.png"),
            "nothing": comparison.nothing(compared),
            "summary": comparison.summary(compared).to_dict("records"),
            "about": " ".join(str(comparison.__doc__).split("\n\n", 1)[1].split()),
        },
        training=records.curves(study, runs, folder),
        barriers=records.barriers(study, points),
        runs=summary.rows(study, runs, [*tables, *figures]),
        experiments=summary.experiments(study),
        recipes=summary.recipes(study),
        lost=summary.lost(study, runs[runs["status"] == DIVERGED]),
        cost=records.cost(runs, pd.read_csv(folder / "forecast.csv")),
        machines=records.machines(runs).to_dict("records"),
        here=provenance(),
        versions=_versions(),
        graph=rules.draw(needs),
        rules=every,
        scripts={
            r.script: (root / r.script).read_text(encoding="utf-8") for r in every if r.script
        },
        numbers={a.name: a.number for a in [*tables, *figures]},
    )


def _looks(study: Study, runs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return title, colours and dash of every method that a curve of the page may show."""
    names = ordered(study.methods, [*METHODS, *runs["method"].dropna()])
    return {
        name: {
            "title": study.methods[name].title,
            "light": study.methods[name].look.light,
            "dark": study.methods[name].look.dark,
            "dash": _dashes(study.methods[name].look.dash),
        }
        for name in names
    }


def _dashes(dash: Dash) -> str:
    """Return the lengths of a dash as SVG has them."""
    known = {"-": "none", "--": "6 3", ":": "2 2", "-.": "7 2 2 2"}
    return known[dash] if isinstance(dash, str) else " ".join(f"{1.5 * x:g}" for x in dash)


def _template(root: Path) -> jinja2.Template:
    """Return the page's template; all that it prints is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root / "workflow/report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["absent"] = _absent
    environment.filters["times"] = captions.times
    return environment.get_template("page.html")


def _absent(value: Any, form: str = "{}") -> str:
    """Return a number in print; nothing where it is missing."""
    return "" if pd.isna(value) else form.format(value)


def _versions() -> dict[str, str]:
    """Return the versions of what the package needs, as installed here."""
    wanted = [Requirement(line) for line in metadata.requires("maskalign") or []]
    names = [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {name: metadata.version(name) for name in names}

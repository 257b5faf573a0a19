"""Which results a table or figure shows: the runs of independent pairs, and what was not run.

An experiment's pair p is (A, B) with seeds (2p, 2p + 1) and data order 0. Ensembles (Table 1) add
runs that share a mask with the first pair; they are no further pairs and never enter a mean here.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from maskalign import origin
from maskalign.methods import MASKS, RECIPE, A
from maskalign.plan import OTHER_MATCHING
from maskalign.study import Study

# Raised by hand when the content of what a rule writes changes, so that Snakemake makes it again.
VERSION = {
    "runs": 2,
    "tables": 7,
    "figures": 7,
    "claims": 6,
    "comparison": 5,
    "forecast": 1,
    "report": 6,
}
AXES = {"widths": "width", "sparsities": "sparsity", "rewind_epochs": "rewind_epoch"}
KEYS = [
    "width",
    "method",
    "mask_seed",
    "init_seed",
    "order_seed",
    "sparsity",
    "rewind_epoch",
    "matching_epoch",
    "matching_method",
    "length",
    "rate",
]

# Kinds of tables and figures that need no results.
SETTINGS = ["training", "pruning", "toy", "procedure"]

Selection = dict[str, Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class View:
    """The sparse runs of independent pairs that are looked at, beside the dense ones.

    Attributes:
        methods: their methods; None is all that the study trains.
        lengths, rates: their factors; None is all.
        early: whether they are the early-matching runs (Table 15) instead: permuted ones of every
            matching epoch, and the LTH and naive runs beside them.
    """

    methods: Sequence[str] | None = MASKS
    lengths: Sequence[float] | None = (1,)
    rates: Sequence[float] | None = (1,)
    early: bool = False


# The paper's masks, trained as the paper trains them; beside them all other methods; everything.
PAPER, EARLY, METHODS, EVERYTHING = View(), View(early=True), View(None), View(None, None, None)
# The view of each kind of table or figure that is not PAPER's. All kinds need the runs of twice the
# length too, which tell whether a cell is converged.
VIEWS = {"early_matching": EARLY, "methods": METHODS, "length": EVERYTHING}
TWICE = 2


@dataclass(frozen=True)
class Shown:
    """The results that a selection shows.

    Attributes:
        rows: rows of runs.csv of the independent pairs, diverged ones included.
        missing: values that the selection names and the study does not run, by axis: ``widths``,
            ``sparsities``, ``rewind_epochs``.
    """

    rows: pd.DataFrame
    missing: dict[str, list[float]]


def artefact(study: Study, kind: str, name: str) -> dict[str, Any]:
    """Return all of the configuration that ``tables`` or ``figures`` entry ``name`` depends on."""
    entry, config = study.config["artefacts"][kind][name], study.config
    shows = entry.get("shows", [])
    return {
        "version": VERSION[kind],
        "entry": entry,
        "methods": config["methods"],
        "margin": config["claims"]["margin"],
        "datasets": {s["dataset"]: config["datasets"][s["dataset"]] for s in shows},
        "models": {s["model"]: config["models"][s["model"]] for s in shows},
        "recipes": [study.recipes(s["dataset"], s["model"]) for s in shows],
        "experiments": [e for s in shows for e in experiments(study, s)],
    }


def compared(study: Study) -> dict[str, Any]:
    """Return all of the configuration that the comparison with the paper depends on."""
    parts = ("datasets", "models", "training", "experiments")
    return {"version": VERSION["comparison"], **{part: study.config[part] for part in parts}}


def sources(study: Study, kind: str, name: str) -> dict[str, list[str]]:
    """Return the files under results/<study>/runs that a table or figure is made from, by role.

    ``runs`` are records, ``curves`` and ``planes`` the points of lines and landscapes.
    """
    entry = study.config["artefacts"][kind][name]
    found: dict[str, dict[str, None]] = {}
    for s in entry.get("shows", []) if entry["kind"] not in SETTINGS else []:
        for role, paths in _needed(study, s, entry["kind"]).items():
            found.setdefault(role, {}).update(dict.fromkeys(paths))
    return {role: list(paths) for role, paths in found.items()}


def _needed(study: Study, s: Selection, kind: str) -> dict[str, list[str]]:
    def files(name: str, *paths: str) -> list[str]:
        return [f"{path}/{name}" for path in paths]

    def parents(path: str) -> list[str]:
        found = study.run(path)["parents"].values()
        return [p for of in found for p in ([of] if isinstance(of, str) else of)]

    if kind == "diversity":
        ensembles = study.selected(s, "diversity")
        members = [p for path in ensembles for p in parents(path)]
        return {"runs": files("result.json", *ensembles, *members)}
    if kind == "interpolation":
        lines = study.selected(s, "interpolation")
        own = [p for p in lines if _is_recipes(study, s, p)]
        return {"curves": files("curve.csv", *own)}
    if kind == "imp":
        lines, planes = study.selected(s, "imp_barrier"), study.selected(s, "landscape")
        return {"runs": files("result.json", *lines), "planes": files("grid.csv", *planes)}
    if kind == "matching":
        wanted, stages = set(_compared_matchings(study, s)), ["match", "interpolation", "sparse"]
    elif kind == "diagnosis":
        found = study.selected(s, "diagnosis")
        lines = [p for p in study.selected(s, "interpolation") if _is_recipes(study, s, p)]
        sparse = _runs(study, s, set(_identities(study, s, PAPER)), ["sparse"])
        return {"runs": files("result.json", *found, *lines, *(run["path"] for run in sparse))}
    else:
        view = VIEWS.get(kind, PAPER)
        wanted, stages = set(_identities(study, s, view)), ["dense", "sparse"]
        if view.lengths:
            later = _identities(study, s, replace(view, lengths=[TWICE], early=False))
            wanted |= {keys for keys in later if keys[KEYS.index("length")]}
    runs = _runs(study, s, wanted, stages)
    needed = {"runs": files("result.json", *(run["path"] for run in runs))}
    if kind == "matching":
        lines = [run["path"] for run in runs if run["stage"] == "interpolation"]
        needed["curves"] = files("curve.csv", *lines)
    return needed


def _runs(study: Study, s: Selection, wanted: set[tuple], stages: list[str]) -> list[dict]:
    return [
        run
        for run in map(study.run, study.selected(s, *stages))
        if tuple(run[k] for k in KEYS) in wanted and _is_shown(run, s)
    ]


def _is_recipes(study: Study, s: Selection, path: str) -> bool:
    """Return whether a line's networks are matched as the recipe of their selection says."""
    return study.run(path)["matching_method"] == matching(study, s)


def _is_shown(run: dict[str, Any], s: Selection) -> bool:
    """Return whether the selection's axes hold the run's values; a dense run has no sparsity."""
    return all(run[c] is None or run[c] in s[axis] for axis, c in AXES.items() if axis in s)


def read_rows(path: str | Path) -> pd.DataFrame:
    """Return runs.csv, connectivity.csv or landscapes.csv; empty fields are NaN."""
    return pd.read_csv(path)


def experiments(study: Study, selection: Selection) -> list[dict[str, Any]]:
    """Return the experiments that train the selection's model on its data set."""
    wanted = (selection["dataset"], selection["model"])
    every = study.config["experiments"].values()
    return [e for e in every if (e["dataset"], e["model"]) == wanted]


def matching(study: Study, selection: Selection) -> str | None:
    """Return how the recipe of a selection matches; all that trains one model matches alike."""
    recipes = study.recipes(selection["dataset"], selection["model"])
    return recipes[0]["matching"]["method"] if recipes else None


def pairs(experiment: dict[str, Any]) -> list[Pair]:
    """Return the seeds (A, B) of an experiment's independent pairs."""
    first = experiment["first_pair"]
    return [(2 * p, 2 * p + 1) for p in range(first, first + experiment["pairs"])]


def shown(
    study: Study,
    selection: Selection,
    runs: pd.DataFrame,
    metric: str,
    view: View = PAPER,
    split: str = "test",
) -> Shown:
    """Return one metric of dense and sparse runs of the independent pairs.

    Permuted runs are those matched by the recipe's method at the last epoch, unless the view is of
    early matching.

    Args:
        study: the study.
        selection: data set and model, perhaps widths, sparsities and rewind epochs.
        runs: runs.csv.
        metric: a name in the column ``metric``, such as ``accuracy`` (percent).
        view: the runs that are looked at.
        split: ``test`` or ``train``.
    """
    found = runs[(runs["metric"] == metric) & (runs["split"] == split)]
    return _pick(study, selection, found, _identities(study, selection, view))


def planned(study: Study, selection: Selection, view: View = EVERYTHING) -> pd.DataFrame:
    """Return the KEYS of the dense and sparse runs that the study plans for independent pairs.

    Permuted runs are those matched by the recipe's method at the last epoch; one row per run.
    """
    return _typed(_wanted(_identities(study, selection, view)))


def compared_matchings(study: Study, selection: Selection, rows: pd.DataFrame) -> Shown:
    """Return the rows of runs.csv or connectivity.csv that compare both ways of matching.

    These are all numbers of the matchings, of the lines from A to B, and of the LTH, naive and
    permuted runs of an experiment's ``matching_comparison``, of the independent pairs.
    """
    return _pick(study, selection, rows, _compared_matchings(study, selection))


def on_lines(study: Study, selection: Selection, rows: pd.DataFrame) -> Shown:
    """Return the rows of runs.csv or connectivity.csv that belong to the selection's lines.

    These are lines from A to B (methods ``naive`` and ``permuted``) and from A to its IMP rounds
    (``imp``), of the independent pairs, permuted as the recipe matches. A line with a diverged end
    has status ``diverged``.
    """
    allowed = {
        (float(width), float(a), float(end))
        for e in experiments(study, selection)
        for stage in ("interpolation", "imp_barrier")
        for width in e.get(stage, {}).get("widths", [])
        for a, b in pairs(e)
        for end in ([b] if stage == "interpolation" else [a])
    }
    found = _typed(of(study, selection, rows))
    own = found["matching_method"] == matching(study, selection)
    found = found[own | found["matching_method"].isna()]
    ends = zip(found["width"], found["mask_seed"], found["init_seed"], strict=True)
    found = found[pd.Series([end in allowed for end in ends], found.index, dtype=bool)]
    if "widths" in selection:
        found = found[found["width"].isin(selection["widths"])]
    return Shown(found, _missing({"widths": selection.get("widths", [])}, found))


def summarise(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return columns ``by``, mean, sample std (n - 1), n, diverged and runs, one row per group.

    Diverged values enter neither mean, std nor n; ``diverged`` counts them. The std of a single
    value is NaN. ``runs`` are the paths of all runs of the group, diverged ones included.
    """
    lost = rows["status"] == "diverged"
    kept = rows.assign(value=rows["value"].where(~lost), diverged=lost)
    groups = kept.groupby(by, dropna=False, as_index=False)
    return groups.agg(
        mean=("value", "mean"),
        std=("value", "std"),
        n=("value", "count"),
        diverged=("diverged", "sum"),
        runs=("path", origin.joined),
    )


def of(study: Study, selection: Selection, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the selection's model and data set under the study's protocol."""
    same = rows["protocol"] == study.protocol
    for column in ("dataset", "model"):
        same &= rows[column] == selection[column]
    return rows[same]


def same(rows: pd.DataFrame, values: dict[str, Any]) -> pd.Series:
    """Return, for each row, whether its columns have these values; None is an empty field."""
    hit = pd.Series(True, index=rows.index)
    for column, value in values.items():
        hit &= rows[column].isna() if value is None else rows[column] == value
    return hit


def values_of(selection: Selection, axis: str, rows: pd.DataFrame) -> list[float]:
    """Return the values of an axis that the selection names, or else those that were run."""
    return selection.get(axis) or sorted(rows[AXES[axis]].dropna().unique().tolist())


def _identities(study: Study, selection: Selection, view: View) -> Iterator[tuple]:
    """Yield the KEYS of the dense runs of independent pairs, and of the sparse ones of a view."""
    how = matching(study, selection)
    for e in experiments(study, selection):
        last = study.config["training"][e["training"]]["dense"]["epochs"]
        part = e.get("early_matching", {"widths": []}) if view.early else e
        rewinds = [part["rewind_epoch"]] if view.early and part["widths"] else e["rewind_epochs"]
        for width, (a, b) in itertools.product(part["widths"], pairs(e)):
            for seed in (a, b):
                yield width, "dense", None, seed, 0, *[None] * 6
            for name, s, k, *factors in _trained(study, e, view, rewinds):
                method = study.methods[name]
                ticket, init = (a if net == A else b for net in (method.ticket, method.start))
                epochs = [last] if method.matched else [None]
                if view.early and method.matched:
                    epochs = sorted({*part["matching_epochs"], last})
                by = how if method.matched == RECIPE else method.matched
                for epoch in epochs:
                    yield width, name, ticket, init, 0, s, k, epoch, by, *factors


def _trained(study: Study, e: dict[str, Any], view: View, rewinds: list[int]) -> Iterator[tuple]:
    """Yield method, sparsity, rewind epoch, length and rate of an experiment's runs in a view."""
    names = MASKS if view.early else e["methods"]
    if view.methods is not None:
        names = [name for name in names if name in view.methods]
    lengths, rates = ([1], [1]) if view.early else (e["lengths"], e["rates"])
    if view.lengths is not None:
        lengths = [x for x in lengths if x in view.lengths]
    if view.rates is not None:
        rates = [x for x in rates if x in view.rates]
    yield from itertools.product(names, e["sparsities"], rewinds, lengths, rates)


def _compared_matchings(study: Study, selection: Selection) -> Iterator[tuple]:
    """Yield the KEYS of what compares both ways of matching."""
    for e in experiments(study, selection):
        trained = e.get("matching_comparison", {"widths": []})
        last = study.config["training"][e["training"]]["dense"]["epochs"]
        for width, (a, b) in itertools.product(trained["widths"], pairs(e)):
            yield width, "naive", a, b, None, *[None] * 6
            for how in OTHER_MATCHING:
                yield width, None, a, b, None, None, None, last, how, None, None  # the matching
                for method in (None, "permuted"):  # the line's run and its rows
                    yield width, method, a, b, *[None] * 4, how, None, None
            k = trained["rewind_epoch"]
            for s in trained.get("sparsities") or e["sparsities"]:
                yield width, "lth", a, a, 0, s, k, None, None, 1, 1
                yield width, "naive", a, b, 0, s, k, None, None, 1, 1
                for how in OTHER_MATCHING:
                    yield width, "permuted", a, b, 0, s, k, last, how, 1, 1


def _pick(
    study: Study, selection: Selection, rows: pd.DataFrame, identities: Iterable[tuple]
) -> Shown:
    """Return the selection's rows with these KEYS, and what its axes name beside them.

    A row without a value on an axis, such as a dense run's sparsity, is not excluded by it.
    """
    found = _typed(_wanted(identities)).merge(_typed(of(study, selection, rows)), on=KEYS)
    for axis, column in AXES.items():
        if axis in selection:
            found = found[found[column].isin(selection[axis]) | found[column].isna()]
    return Shown(found, _missing(selection, found))


def _wanted(identities: Iterable[tuple]) -> pd.DataFrame:
    return pd.DataFrame(identities, columns=KEYS).drop_duplicates()


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with text in the key columns of methods, else numbers; NaN where empty."""
    text = ("method", "matching_method")
    return rows.astype({k: "str" if k in text else float for k in KEYS if k in rows})


def _missing(selection: Selection, rows: pd.DataFrame) -> dict[str, list[float]]:
    return {
        axis: [v for v in selection.get(axis, []) if v not in set(rows[column])]
        for axis, column in AXES.items()
    }

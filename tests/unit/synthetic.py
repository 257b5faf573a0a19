"""Results of a study without running it: seeded numbers, shaped as the paper's results are."""

import math

import numpy as np
import pandas as pd
from maskalign.results import TABLES
from maskalign.study import IDENTITY, Study

BONUS = {"dense": 4.0, "imp": 2.0, "lth": 2.0, "permuted": 0.8, "naive": 0.0}
CONTROLS = {"own": 1.9, "activity": 0.2, "permuted_fan": 0.1, "fan": -0.1, "shuffled": -0.5}
ENSEMBLES = list(BONUS)
BONUS |= CONTROLS | {"random_permutation": 0.0, "uniform": -0.8, "erk": -0.6}
MADE_OF_ENDS = ("match", "interpolation", "imp_barrier")
GROUPS = ["", ".first", ".second", ".last"]
ENSEMBLE = ["ensemble_accuracy", "disagreement", "kl", "js"]


def runs(study: Study, diverged: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return runs.csv of a study; the runs at the paths ``diverged`` have status diverged."""
    draw = np.random.default_rng(0)
    rows = []
    for run in study.runs.to_dict("records"):
        identity = {k: run[k] for k in IDENTITY} | _origin(run)
        status = _status(run, diverged)

        def add(split, metric, value, identity=identity, status=status, **where):
            scores = {"split": split, "metric": metric, "value": value, "status": status}
            rows.append(identity | where | scores)

        if run["stage"] in ("dense", "imp_round", "imp", "sparse"):
            accuracy = 1.0 if status == "diverged" else _accuracy(run, draw)
            add("test", "accuracy", accuracy)
            add("test", "top5_accuracy", (100 + accuracy) / 2)
            add("test", "loss", 1 - accuracy / 100)
            add("train", "loss", 0.9 - accuracy / 100)
        elif run["stage"] == "match":
            unpermuted = {"method": "naive", "matching_epoch": None, "matching_method": None}
            for where in [{}, unpermuted] if run["parents"]["beside"] else [{}]:
                add("train", "matched_correlation", draw.uniform(0.4, 0.6), **where)
                add("train", "weight_similarity", draw.uniform(0.2, 0.4), **where)
            for group in GROUPS if run["parents"]["beside"] else []:
                add("train", f"agreement{group}", draw.uniform(0.1, 0.9))
                if group:
                    add("train", f"channels{group}", 8)
        elif run["stage"] == "diversity":
            for method in ENSEMBLES:
                for metric in ENSEMBLE:
                    add("test", metric, draw.uniform(0.1, 0.9), method=method)
        elif run["stage"] == "diagnosis":
            for sparsity in run["values"]["sparsities"]:
                for method in run["values"]["masks"]:
                    where = {"sparsity": sparsity, "method": method}
                    add(None, "overlap", draw.uniform(0.2, 0.5), **where)
                    add(None, "expected_overlap", 0.2, **where)
            add("train", "assignment_margin", draw.uniform(0.0, 0.2))
            add("train", "first_choices", draw.uniform(0.5, 1.0))
        elif run["stage"] in ("interpolation", "imp_barrier"):
            for where, height in _lines(study, run):
                for correction, factor in (("none", 2.5), (_corrected(run), 1.0)):
                    for split, scale in (("test", 30), ("train", 20)):
                        add(split, f"error_barrier_{correction}", scale * factor * height, **where)
    return pd.DataFrame(rows, columns=TABLES["runs"])


def curves(study: Study, diverged: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return connectivity.csv of a study; lines with an end in ``diverged`` are marked so."""
    draw = np.random.default_rng(1)
    rows = []
    for run in study.runs.to_dict("records"):
        if run["stage"] not in ("interpolation", "imp_barrier"):
            continue
        for where, height in _lines(study, run):
            for correction, factor in (("none", 2.5), (_corrected(run), 1.0)):
                for alpha in np.linspace(0, 1, run["values"]["connectivity"]["points"]):
                    bump = 4 * alpha * (1 - alpha) * height * factor * draw.uniform(0.9, 1.1)
                    for split, level in (("train", 1), ("test", 5)):
                        identity = {k: run[k] for k in IDENTITY} | _origin(run) | where
                        place = {"alpha": alpha, "correction": correction, "split": split}
                        place["status"] = _status(run, diverged)
                        scores = {"loss": level / 25 + 2 * bump, "error": level + 30 * bump}
                        rows.append(identity | place | scores)
    return pd.DataFrame(rows, columns=TABLES["curves"])


def planes(study: Study) -> pd.DataFrame:
    """Return landscapes.csv of a study."""
    runs = [study.run(path) for path in study.paths("landscape")]
    rows = [
        plane().assign(**{k: run[k] for k in IDENTITY}, **_origin(run), status="completed")
        for run in runs
    ]
    return pd.concat(rows)[TABLES["planes"]] if rows else pd.DataFrame(columns=TABLES["planes"])


def plane(points: int = 9) -> pd.DataFrame:
    """Return a landscape: a dense model far from two near sparse ones."""
    marks = {"dense": (0.0, 0.0), "lth": (12.0, 0.0), "permuted": (8.0, 9.0)}

    def error(x: float, y: float) -> float:
        near = min(math.hypot(x - a, y - b) for a, b in marks.values())
        return 4 + 80 * (1 - math.exp(-((near / 6) ** 2)))

    places = [(x, y) for y in np.linspace(-4, 13, points) for x in np.linspace(-4, 16, points)]
    rows = [{"x": x, "y": y, "error": error(x, y)} for x, y in places]
    rows += [{"x": x, "y": y, "error": error(x, y), "mark": m} for m, (x, y) in marks.items()]
    return pd.DataFrame(rows)


def older(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """Return the rows with those of one run made by another version and commit."""
    mine = rows["path"] == path
    assert mine.any()
    rows = rows.copy()
    rows.loc[mine, "versions"] = rows.loc[mine, "versions"].str.replace(r"\d+", "7", regex=True)
    rows.loc[mine, "commit"] = "0123456789abcdef" + "-dirty"
    return rows


def _origin(run: dict) -> dict:
    """Return what made a run's rows, as if nothing was behind it."""
    versions = f"{run['stage']} {run['values']['version']}"
    return {"path": run["path"], "versions": versions, "commit": "c0ffee"}


def _accuracy(run: dict, draw: np.random.Generator) -> float:
    late = 1 - math.exp(-(0 if pd.isna(run["rewind_epoch"]) else run["rewind_epoch"]) / 3)
    loss = 0 if pd.isna(run["sparsity"]) else 6 * run["sparsity"]
    gain = BONUS.get(run["method"], 0.0) * (1 if run["method"] == "dense" else 0.2 + late)
    if not pd.isna(run["length"]):
        loss -= 1.5 * math.log2(run["length"]) - 0.5 * abs(math.log2(run["rate"]))
    return 88 + 2 * math.log2(run["width"] + 1) - loss + gain + draw.normal(0, 0.3)


def _status(run: dict, diverged: tuple[str, ...]) -> str:
    """Return the status of a run; a line or a matching has that of its ends."""
    ends = run["parents"].values() if run["stage"] in MADE_OF_ENDS else ()
    lost = {run["path"], *(end for end in ends if isinstance(end, str))} & {*diverged}
    return "diverged" if lost else "completed"


def _corrected(run: dict) -> str:
    return "repair" if run["model"].startswith("vgg") else "reset"


def _lines(study: Study, run: dict) -> list[tuple[dict, float]]:
    """Return what names each line of a run beside its identity, and the height of its barrier."""
    if run["stage"] == "interpolation":
        wide = 1 + math.log2(max(run["width"], 1))
        heights = {"naive": 1.0, "permuted": 0.6 / wide}
        how = {"naive": None, "permuted": run["matching_method"]}
        return [
            ({"method": m, "matching_method": how[m]}, heights[m]) for m in run["values"]["lines"]
        ]
    rounds = [study.run(path) for path in run["parents"]["rounds"]]
    return [
        ({"method": "imp", "sparsity": round(r["sparsity"], 6)}, 0.1 * (i + 1) / len(rounds))
        for i, r in enumerate(rounds)
    ]

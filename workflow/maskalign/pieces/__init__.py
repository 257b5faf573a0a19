"""A study in pieces: one pair of seeds each, run by itself, kept small, put together at the end.

A piece is all runs of one pair. It needs no file of another, so that a study can be run with little
or interrupted machine time, and on several machines. What is kept of it are numbers, not weights:

    results/studies/<study>/pair-<p>/records.json.gz      record of every run, by its path
                                     runs.csv.gz          one row per number
                                     connectivity.csv.gz  the points of its lines, if it has any
                                     landscapes.csv.gz    the points of its planes, if it has any
                                     histories.csv.gz     every epoch of every training
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskalign import results
from maskalign.files import atomic, read_json, write_text
from maskalign.study import PATHS, Study

FOLDER = Path("results/studies")
RECORDS = "records.json.gz"  # written last: a piece is whole if it is there
HISTORY, CURVE, GRID = "history.csv", "curve.csv", "grid.csv"
# The file of a run that is kept beside its record, by stage.
BESIDE = {
    **dict.fromkeys(["dense", "imp_round", "imp", "sparse"], HISTORY),
    **dict.fromkeys(["interpolation", "imp_barrier"], CURVE),
    "landscape": GRID,
}
# The table that holds such files, and their role in ``results.TABLES``.
TABLES = {
    HISTORY: ("histories.csv.gz", None),
    CURVE: ("connectivity.csv.gz", "curves"),
    GRID: ("landscapes.csv.gz", "planes"),
}
RUNS = "runs.csv.gz"

Row = dict[str, Any]


def pairs(study: Study) -> dict[int, list[str]]:
    """Return the paths of the runs of each pair of ``study``, in its order.

    Raises:
        ValueError: one line, if a run belongs to several pairs, as an ensemble does.
    """
    found: dict[int, list[str]] = {}
    for path in study.paths(*PATHS):
        run = study.run(path)
        needed = [study.run(parent) for parent in parents(run)]
        seeds = [run["mask_seed"], run["init_seed"], *(each["init_seed"] for each in needed)]
        own = {seed // 2 for seed in seeds if seed is not None}
        if len(own) != 1:
            raise ValueError(
                f"experiments.{run['owner']}: {path} belongs to several pairs of seeds, so "
                "this study cannot be run in pieces; leave diversity out"
            )
        found.setdefault(own.pop(), []).append(path)
    return dict(sorted(found.items()))


def folder(study: Study, pair: int) -> Path:
    """Return where the piece of a pair is kept."""
    return FOLDER / study.name / f"pair-{pair}"


def missing(study: Study) -> list[int]:
    """Return the pairs of ``study`` whose pieces are not there yet."""
    return [pair for pair in pairs(study) if not (folder(study, pair) / RECORDS).exists()]


def pack(study: Study, pair: int) -> Path:
    """Keep the finished runs of a pair, results/<study>/runs, as a piece; return its folder.

    The name of the machine is left out of the records.

    Raises:
        OSError, ValueError: one line, if a run is missing, or was made with other values.
    """
    paths, place = sorted(pairs(study)[pair]), folder(study, pair)
    at = {path: Path(study.runs_folder, path) for path in paths}
    records = {path: _nameless(read_json(where / "result.json")) for path, where in at.items()}
    for path, record in records.items():
        results.check(at[path] / "result.json", record, study.run(path)["values"])
    for name, (table, role) in TABLES.items():
        files = [at[path] / name for path in paths if BESIDE.get(_stage(study, path)) == name]
        if role:
            rows, columns = results.collect(role, files, study), results.TABLES[role]
        else:
            rows = list(_histories(files, study))
            columns = list(dict.fromkeys(key for row in rows for key in row))
        if files:
            _write(place / table, results.csv_text(rows, columns))
    _write(place / RUNS, _numbers(study, records))
    _write(place / RECORDS, json.dumps(records, indent=1) + "\n")
    return place


def unpack(study: Study, pair: int) -> None:
    """Put the files of a piece back to results/<study>/runs, without weights.

    A run that is there already stays as it is.

    Raises:
        OSError, ValueError: one line, if the piece is damaged or of other values than the study's,
            or if a run is there with other numbers.
    """
    place, paths = folder(study, pair), sorted(pairs(study)[pair])
    records = _read_records(place / RECORDS)
    if records.keys() != set(paths):
        path = min(records.keys() ^ set(paths))
        has, has_not = ("the study", "the piece") if path in paths else ("the piece", "the study")
        raise ValueError(f"{place}: {has} has run {path}, {has_not} has not")
    if _read(place / RUNS) != _numbers(study, records):
        raise ValueError(f"{place / RUNS}: has other numbers than {RECORDS}")
    files = _files(place)
    for path, record in records.items():
        where, name = Path(study.runs_folder, path), BESIDE.get(_stage(study, path))
        results.check(place / RECORDS, record, study.run(path)["values"])
        if name and path not in files[name]:
            raise ValueError(f"{place / TABLES[name][0]}: lacks run {path}")
        if (where / "result.json").exists():
            _compare(where / "result.json", record)
        if name and not (where / name).exists():
            write_text(where / name, files[name][path])
        if not (where / "result.json").exists():
            write_text(where / "result.json", json.dumps(record, indent=1) + "\n")


def parents(run: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of the runs that a run of a study needs."""
    for found in run["parents"].values():
        yield from [found] if isinstance(found, str) else found


def _stage(study: Study, path: str) -> str:
    return study.run(path)["stage"]


def _numbers(study: Study, records: dict[str, Any]) -> str:
    """Return runs.csv of these records; a plane has no row in it."""
    counted = {k: v for k, v in records.items() if _stage(study, k) != "landscape"}
    rows = [row for path in sorted(counted) for row in results.numbers(path, counted[path])]
    return results.csv_text(rows, results.TABLES["runs"])


def _histories(files: Iterable[Path], study: Study) -> Iterator[Row]:
    for file in files:
        path = file.parent.relative_to(study.runs_folder).as_posix()
        with file.open(encoding="utf-8", newline="") as lines:
            yield from ({"path": path} | row for row in csv.DictReader(lines))


def _files(place: Path) -> dict[str, dict[str, str]]:
    """Return the text of the files beside the records, by name and path, from a piece's tables."""
    found: dict[str, dict[str, str]] = {}
    for name, (table, _) in TABLES.items():
        found[name] = {}
        by_path: dict[str, list[Row]] = {}
        if (place / table).exists():
            for row in csv.DictReader(io.StringIO(_read(place / table))):
                by_path.setdefault(row["path"], []).append(row)
        for path, rows in by_path.items():
            columns = [k for k in rows[0] if k not in results.ORIGIN]
            if name == HISTORY:  # the tables of all runs together may have more columns
                columns = [k for k in columns if any(row[k] for row in rows)]
            kept = [{k: row[k] for k in columns} for row in rows]
            found[name][path] = results.csv_text(kept, columns)
    return found


def _nameless(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"provenance": record["provenance"] | {"host": ""}}


def _compare(file: Path, record: dict[str, Any]) -> None:
    there = read_json(file)
    if there["metrics"] != record["metrics"] or there["status"] != record["status"]:
        raise ValueError(
            f"{file}: has other numbers than the piece; move {file.parent} away, and start again"
        )


def _write(file: Path, text: str) -> None:
    with atomic(file) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def _read(file: Path) -> str:
    try:
        return gzip.decompress(file.read_bytes()).decode()
    except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(file, error) from None


def _read_records(file: Path) -> dict[str, Any]:
    try:
        return json.loads(_read(file))
    except json.JSONDecodeError as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file}: is damaged ({error}); restore it, or delete {file.parent} and run the piece again"
    )

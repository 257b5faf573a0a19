"""Result records: what a run found, of which values, on which machine; and their collection."""

import csv
import functools
import io
import platform
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskalign.files import REMEDY, read_json, sweep, write_json, write_text
from maskalign.identity import IDENTITY, flat, identity_of, values_hash

if TYPE_CHECKING:
    import pandas as pd

    from maskalign.study import Study

COLUMNS = [*IDENTITY, "split", "metric", "value", "status"]
CURVE_COLUMNS = [*IDENTITY, "alpha", "correction", "split", "loss", "error", "status"]
PLANE_COLUMNS = [*IDENTITY, "x", "y", "error", "mark", "status"]
COMPLETED, DIVERGED = "completed", "diverged"
# Every row names the path of its run, the versions of all stages behind it, and the commit.
ORIGIN = ["path", "versions", "commit"]
# What the collected tables are made of: runs.csv, connectivity.csv, landscapes.csv.
TABLES = {
    "runs": [*COLUMNS, *ORIGIN],
    "curves": [*CURVE_COLUMNS, *ORIGIN],
    "planes": [*PLANE_COLUMNS, *ORIGIN],
}

Versions = dict[str, list[int]]  # of stages; of each those that a result comes from, sorted


class Record:
    """Collects what a run found; ``finish`` writes it, as the run's last file.

    Attributes:
        identity: hash of the values that determine the run.
        status: ``completed``, or ``diverged`` if the run or anything it is made from diverged.
        versions: result versions of this run's stage and of all stages that it is made from.
        guard: raises if another job has taken the run over; to be called before a file is written.
    """

    def __init__(self, values: dict[str, Any]):
        """Begin the record of the run that ``values`` determine."""
        self.values = values
        self.identity = values_hash(values)
        self.status = COMPLETED
        self.versions: Versions = {values["stage"]: [values["version"]]}
        self.guard: Callable[[], None] = lambda: None
        self.metrics: list[dict[str, Any]] = []
        self._began = time.perf_counter()

    def add(self, scores: dict[str, float], **where) -> None:
        """Add metrics by name; ``where`` gives the split and what differs from the run."""
        self.metrics += [where | {"metric": name, "value": v} for name, v in scores.items()]

    def finish(self, path: str | Path, **more) -> None:
        """Write the record to ``path``, in the folder that is this run's alone."""
        content = {
            "run": identity_of(self.values),
            "stage": self.values["stage"],
            "status": self.status,
            "versions": self.versions,
            "metrics": self.metrics,
            **more,
            "values_hash": self.identity,
            "values": self.values,
            "provenance": provenance() | {"seconds": round(time.perf_counter() - self._began, 2)},
        }
        sweep(Path(path).parent)
        write_json(path, content)
        print(f"{self.status}: {len(self.metrics)} numbers in {path}")


def merged(*of: Versions) -> Versions:
    """Return all versions of every stage.

    >>> merged({"dense": [1]}, {"dense": [1, 2], "imp": [1]})
    {'dense': [1, 2], 'imp': [1]}
    """
    stages = sorted({stage for versions in of for stage in versions})
    return {stage: sorted({v for each in of for v in each.get(stage, [])}) for stage in stages}


def provenance() -> dict[str, Any]:
    """Return where and with what the current process runs."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


@functools.cache
def _commit() -> str | None:
    """Return the commit of this code; None without git, or where it is no checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    folder = Path(__file__).parent
    try:
        git = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    except OSError:
        return None
    return git.stdout.strip() or None


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    """Write rows as CSV, atomically; a missing value is an empty field."""
    write_text(path, csv_text(rows, columns))


def csv_text(rows: Iterable[dict[str, Any]], columns: list[str]) -> str:
    """Return rows as the text of a CSV file; a missing value is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def collect(role: str, files: Iterable[str | Path], study: "Study") -> list[dict[str, Any]]:
    """Return the rows of ``files``: of records (``runs``), of curves or of planes.

    A run of another result version is no error: its rows name their version (``origin.warning``).

    Raises:
        ValueError: one line, if a file is damaged, or its run was made with other values than those
            of ``study``.
    """
    rows = []
    for file in map(Path, files):
        record = read_json(file.with_name("result.json"))
        run = study.run(file.parent.relative_to(study.runs_folder).as_posix())
        check(file, record, run["values"])
        if role == "runs":
            rows += numbers(run["path"], record)
        else:
            origin = _origin(run["path"], record)
            with file.open(encoding="utf-8", newline="") as lines:
                rows += [row | origin for row in csv.DictReader(lines)]
    return rows


def numbers(path: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of runs.csv of the run at ``path``, from its record."""
    shared = identity_of(record["values"]) | {"status": record["status"]} | _origin(path, record)
    return [shared | metric for metric in record["metrics"]]


def _origin(path: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of ORIGIN; a record without ``versions`` knows its own alone."""
    own = {record["stage"]: [record["values"]["version"]]}
    versions = merged(record.get("versions", {}), own)
    text = ", ".join(f"{stage} {v}" for stage, every in versions.items() for v in every)
    return {"path": path, "versions": text, "commit": record["provenance"]["commit"]}


def check(file: Path, record: dict[str, Any], values: dict[str, Any]) -> None:
    """Raise ValueError, one line, if a run's ``record`` in ``file`` was made with other values.

    A run of another result version is no error.
    """
    values = values | {"version": record["values"].get("version")}
    if record["values_hash"] == values_hash(values):
        return
    made, wanted = flat(record["values"]), flat(values)
    key = min(k for k in made.keys() | wanted if made.get(k) != wanted.get(k))
    raise ValueError(
        f"{file}: was made with {key} {made.get(key)}, the study has {wanted.get(key)}; {REMEDY}"
    )


def frame(role: str, files: Iterable[str | Path], study: "Study") -> "pd.DataFrame":
    """Return the rows of ``files`` as they come back from runs.csv and its like."""
    import pandas as pd

    return pd.read_csv(io.StringIO(csv_text(collect(role, files, study), TABLES[role])))

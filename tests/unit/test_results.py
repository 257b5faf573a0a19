"""Collected are only whole records, made with the values that the study has."""

import copy
import csv
import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from maskalign import results
from maskalign.results import Record
from maskalign.study import Study

TINY = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Study(copy.deepcopy(TINY))


def finish(study, path):
    """Write the record of a run as its job does; return the file."""
    record = Record(study.run(path)["values"])
    record.add({"accuracy": 50.0}, split="test")
    file = f"{study.runs_folder}/{path}/result.json"
    record.finish(file)
    return file


def changed(**experiment):
    config = copy.deepcopy(TINY)
    config["experiments"]["residual"] |= experiment
    return Study(config)


def test_a_record_of_the_study_is_collected(study):
    file = finish(study, study.paths("dense")[0])
    (row,) = results.collect("runs", [file], study)
    assert (row["value"], row["status"], row["method"]) == (50.0, "completed", "dense")


def test_a_record_of_other_values_is_refused(study):
    path = next(p for p in study.paths("sparse") if "naive" in p)
    file = finish(study, path)
    config = copy.deepcopy(TINY)
    config["training"]["short"]["sparse"]["lr"] = 0.025
    with pytest.raises(ValueError) as error:
        results.collect("runs", [file], Study(config))
    assert str(error.value) == (
        f"{file}: was made with training.lr 0.05, the study has 0.025; "
        "delete it, and the next start makes it again"
    )


def test_points_of_a_run_of_other_values_are_refused(study, tmp_path):
    path = study.paths("interpolation")[0]
    curve = tmp_path / finish(study, path).replace("result.json", "curve.csv")
    results.write_rows(curve, [], results.CURVE_COLUMNS)
    relative = curve.relative_to(tmp_path)
    assert results.collect("curves", [relative], study) == []
    config = copy.deepcopy(TINY)
    config["training"]["short"]["connectivity"]["points"] = 5
    with pytest.raises(ValueError, match=r"made with connectivity\.points 3, the study has 5"):
        results.collect("curves", [relative], Study(config))


def test_a_narrower_study_shares_what_is_there(study):
    narrow = changed(pairs=1)
    shared = set(narrow.paths("dense", "sparse"))
    files = [finish(study, p) for p in study.paths("dense", "sparse") if p in shared]
    assert 0 < len(files) < len(study.paths("dense", "sparse"))
    assert len(results.collect("runs", files, narrow)) == len(files)


def test_half_a_record_is_refused(study):
    file = finish(study, study.paths("dense")[0])
    text = json.dumps({"run": {}})
    with open(file, "w") as half:  # noqa: PTH123
        half.write(text[:-4])
    with pytest.raises(ValueError, match=rf"{file}: is damaged"):
        results.collect("runs", [file], study)


def test_without_git_a_record_names_no_commit(monkeypatch):
    results._commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    try:
        assert results.provenance()["commit"] is None
    finally:
        results._commit.cache_clear()
    monkeypatch.undo()
    commit = results.provenance()["commit"]
    if Path(results.__file__).is_relative_to(ROOT):
        assert len(commit.removesuffix("-dirty")) == 40
    else:  # a copy of the package, outside of the checkout
        assert commit is None


def test_a_collected_row_has_its_own_status_or_else_that_of_its_run(study):
    """A run can be completed while a line or an ensemble in it has a diverged member."""
    path = study.paths("dense")[0]
    for status, own in (("completed", "diverged"), ("diverged", "completed")):
        record = Record(study.run(path)["values"])
        record.status = status
        record.add({"accuracy": 1.0}, split="test")
        record.add({"error_barrier": 2.0}, split="test", status=own)
        file = f"{study.runs_folder}/{path}/result.json"
        record.finish(file)
        rows = results.collect("runs", [file], study)
        assert [row["status"] for row in rows] == [status, own]


@pytest.mark.parametrize(
    ("factors", "expected"),
    [({}, ("1", "1")), ({"lengths": [2], "rates": [0.5]}, ("2", "0.5"))],
    ids=str,
)
def test_sparse_runs_have_a_length_and_a_rate_in_the_table(study, factors, expected):
    """Records from before there were lengths and rates too: their values name neither."""
    study = changed(**factors)
    path = next(p for p in study.paths("sparse") if "/naive/" in p)
    assert ("length" in study.run(path)["values"]) == bool(factors)
    files = [finish(study, p) for p in (path, study.paths("dense")[0], study.paths("imp")[0])]
    record = json.loads(Path(files[0]).read_text())
    assert (record["run"]["length"], record["run"]["rate"]) == tuple(map(float, expected))
    if not factors:
        del record["run"]["length"], record["run"]["rate"]
        Path(files[0]).write_text(json.dumps(record))
    results.write_rows("runs.csv", results.collect("runs", files, study), results.TABLES["runs"])
    with open("runs.csv", newline="") as lines:  # noqa: PTH123
        rows = [(row["length"], row["rate"]) for row in csv.DictReader(lines)]
    assert rows == [expected, ("", ""), ("", "")]

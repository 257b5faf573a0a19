"""A piece of a study is all runs of one pair, and gives back what it was made from."""

import copy
import gzip
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from maskalign import pieces
from maskalign.study import Study, read
from running import TINY

NUMBERS = ("result.json", "history.csv", "curve.csv", "grid.csv")


def config():
    """Return the tiny study without ensembles, which belong to no pair."""
    found = yaml.safe_load(TINY.read_text())
    del found["experiments"]["residual"]["diversity"], found["artefacts"]["tables"]["table_01"]
    return found


@pytest.fixture
def study():
    return Study(config())


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return a folder with the numbers of the runs, that no test changes."""
    folder = tmp_path_factory.mktemp("pieces")
    for path in Study(config()).runs["path"]:
        place = folder / "results/tiny/runs" / path
        place.mkdir(parents=True)
        for name in NUMBERS:
            if (file := tiny / "results/tiny/runs" / path / name).exists():
                shutil.copy2(file, place)
    return folder


@pytest.fixture
def packed(finished, study, tmp_path, monkeypatch):
    """Return a folder with the pieces of the study alone, the current one."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr(pieces, "FOLDER", tmp_path / "results/studies")
    places = [pieces.pack(study, pair) for pair in pieces.pairs(study)]
    assert places == [tmp_path / f"results/studies/tiny/pair-{pair}" for pair in (0, 1)]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unpack_all(study):
    for pair in pieces.pairs(study):
        pieces.unpack(study, pair)


def change(file, edit):
    """Apply ``edit`` to the text of a compressed file."""
    text = edit(gzip.decompress(file.read_bytes()).decode())
    file.write_bytes(gzip.compress(text.encode()))


def files(folder):
    runs = folder / "results/tiny/runs"
    return {file.relative_to(runs).as_posix(): file for file in runs.rglob("*") if file.is_file()}


def test_pairs_share_no_run_and_need_none_of_another(study):
    found = pieces.pairs(study)
    assert list(found) == [0, 1]
    assert sorted(path for paths in found.values() for path in paths) == sorted(study.runs["path"])
    for pair, paths in found.items():
        for path in paths:
            assert {*pieces.parents(study.run(path))} <= {*paths}
            seeds = {study.run(path)[k] for k in ("mask_seed", "init_seed")} - {None}
            assert seeds <= {2 * pair, 2 * pair + 1}


def test_a_study_with_ensembles_cannot_be_cut():
    whole = Study(yaml.safe_load(TINY.read_text()))
    line = r"^experiments\.residual: \S+ belongs to several pairs of seeds.*leave diversity out$"
    with pytest.raises(ValueError, match=line):
        pieces.pairs(whole)


def test_ensembles_of_one_pair_alone_are_refused_too():
    """A member whose seeds are those of a pair still belongs to an ensemble of several."""
    found = config()
    ensembles = {"widths": [1], "sparsity": 0.8, "rewind_epoch": 1, "members": 3}
    found["experiments"]["residual"]["diversity"] = ensembles
    with pytest.raises(ValueError, match="several pairs of seeds"):
        pieces.pairs(Study(found))


def test_what_was_packed_comes_back_to_the_byte_without_weights(packed, finished, study):
    unpack_all(study)
    back, before = files(packed), files(finished)
    assert back.keys() == before.keys()
    assert {Path(name).name for name in back} == {*NUMBERS}
    for name, file in back.items():
        if file.name == "result.json":
            old, new = (json.loads(f[name].read_text()) for f in (before, back))
            assert old["provenance"].pop("host")
            assert new["provenance"].pop("host") == ""
            assert new == old
        else:
            assert file.read_bytes() == before[name].read_bytes(), name


def test_packing_again_changes_no_byte(packed, finished, study, monkeypatch):
    kept = {f: f.read_bytes() for f in (packed / "results/studies").rglob("*.gz")}
    assert len(kept) == 9  # a plane is in the first pair alone
    monkeypatch.chdir(finished)
    for pair in pieces.pairs(study):
        pieces.pack(study, pair)
    assert {f: f.read_bytes() for f in kept} == kept


def test_another_order_of_experiments_is_the_same_study(packed):
    other = config()
    other["experiments"] = dict(reversed(other["experiments"].items()))
    unpack_all(Study(other))
    back = {Path(name).parent.as_posix() for name in files(packed)}
    assert back == {*Study(config()).runs["path"]}
    kept = {f: f.read_bytes() for f in (packed / "results/studies").rglob("*.gz")}
    for pair in (0, 1):
        pieces.pack(Study(other), pair)
    assert {f: f.read_bytes() for f in kept} == kept


def test_its_tables_are_those_of_the_study(packed, tiny, study):
    whole = pd.read_csv(tiny / "results/tiny/runs.csv")
    for pair, paths in pieces.pairs(study).items():
        own = pd.read_csv(pieces.folder(study, pair) / "runs.csv.gz")
        theirs = whole[whole["path"].isin(paths)]
        columns = [*theirs.columns]
        left, right = (t.sort_values(columns).reset_index(drop=True) for t in (own, theirs))
        pd.testing.assert_frame_equal(left, right, check_dtype=False)
        histories = pd.read_csv(pieces.folder(study, pair) / "histories.csv.gz")
        trained = {path for path in paths if study.run(path)["stage"] in ("dense", "sparse")}
        assert trained < {*histories["path"]}


def test_a_piece_is_missing_until_it_is_whole(packed, study):
    assert pieces.missing(study) == []
    (pieces.folder(study, 1) / pieces.RECORDS).unlink()
    assert pieces.missing(study) == [1]


def test_an_unfinished_pair_is_not_packed(finished, study, tmp_path, monkeypatch):
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    gone = Path(study.runs_folder, pieces.pairs(study)[1][-1], "result.json")
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=r"result\.json"):
        pieces.pack(study, 1)
    assert pieces.missing(study) == [0, 1]


def test_a_run_that_is_there_stays(packed, study):
    unpack_all(study)
    every = files(packed)
    before = {name: file.stat().st_mtime_ns for name, file in every.items()}
    unpack_all(study)
    assert {name: file.stat().st_mtime_ns for name, file in every.items()} == before


def test_a_run_with_other_numbers_stays_and_is_named(packed, study):
    unpack_all(study)
    file = Path(study.runs_folder, pieces.pairs(study)[0][0], "result.json")
    record = json.loads(file.read_text())
    record["metrics"][0]["value"] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"^results/tiny/runs/\S+: has other numbers than the p"):
        pieces.unpack(study, 0)
    assert json.loads(file.read_text()) == record


def test_a_piece_of_other_values_is_refused(packed):
    other = copy.deepcopy(config())
    other["training"]["short"]["sparse"]["lr"] = 0.06
    with pytest.raises(ValueError, match=r"was made with training\.lr 0\.05, the study has 0\.06"):
        unpack_all(Study(other))


def test_a_piece_of_other_runs_is_refused(packed):
    other = copy.deepcopy(config())
    other["experiments"]["controls"]["methods"].append("fan")
    with pytest.raises(ValueError, match=r"pair-0: the study has run \S+/fan/\S+, the piece has"):
        unpack_all(Study(other))


def test_a_table_with_other_numbers_than_the_records_is_refused(packed, study):
    place = pieces.folder(study, 0)
    change(place / "runs.csv.gz", lambda text: text.replace(",completed,", ",diverged,", 1))
    with pytest.raises(ValueError, match=r"pair-0/runs\.csv\.gz: has other numbers than records"):
        pieces.unpack(study, 0)


@pytest.mark.parametrize("name", [folder.name for folder in (ROOT / pieces.FOLDER).iterdir()])
def test_committed_pieces_are_of_their_study(name, tmp_path, monkeypatch):
    """They can be put back, come from a clean commit, and are small."""
    study = read([ROOT / f"config/{name}.yaml"])
    shutil.copytree(ROOT / pieces.FOLDER / name, tmp_path / pieces.FOLDER / name)
    monkeypatch.chdir(tmp_path)
    left = pieces.missing(study)
    whole = [pair for pair in pieces.pairs(study) if pair not in left]
    kept = {folder.name for folder in (tmp_path / pieces.FOLDER / name).iterdir()}
    assert kept == {f"pair-{pair}" for pair in whole}
    for pair in whole:
        pieces.unpack(study, pair)
    for file in Path(study.runs_folder).rglob("result.json"):
        assert re.fullmatch("[0-9a-f]{40}", json.loads(file.read_text())["provenance"]["commit"])
    files = [f for f in (tmp_path / pieces.FOLDER / name).rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 4e6 * len(whole) / len(pieces.pairs(study))


@pytest.mark.parametrize("name", ["histories.csv.gz", "connectivity.csv.gz", "landscapes.csv.gz"])
def test_a_lost_table_is_named_and_comes_back(packed, study, name):
    """Without it, Snakemake would train again to make the files that the table holds."""
    file = pieces.folder(study, 0) / name
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(ValueError, match=rf"pair-0/{name}: lacks run \S+$"):
        unpack_all(study)
    file.write_bytes(content)
    unpack_all(study)
    assert {Path(name).name for name in files(packed)} == {*NUMBERS}
    assert len([f for f in files(packed) if f.endswith("history.csv")]) == 41


@pytest.mark.parametrize("name", ["history.csv", "curve.csv", "grid.csv"])
def test_a_run_without_its_file_is_not_packed(finished, study, tmp_path, monkeypatch, name):
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    next(Path(study.runs_folder).rglob(name)).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        for pair in pieces.pairs(study):
            pieces.pack(study, pair)


def test_the_same_numbers_of_another_commit_are_no_other_numbers(packed, study):
    unpack_all(study)
    file = Path(study.runs_folder, pieces.pairs(study)[0][0], "result.json")
    record = json.loads(file.read_text())
    record["provenance"]["commit"] = "0" * 40
    file.write_text(json.dumps(record))
    unpack_all(study)
    assert json.loads(file.read_text()) == record


@pytest.mark.parametrize("name", ["records.json.gz", "runs.csv.gz", "histories.csv.gz"])
def test_a_damaged_file_is_named(packed, study, name):
    file = pieces.folder(study, 0) / name
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"pair-0/{name}: is damaged"):
        pieces.unpack(study, 0)
    file.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=rf"pair-0/{name}: is damaged"):
        pieces.unpack(study, 0)

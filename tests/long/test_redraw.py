"""Running a study piece by piece, and drawing it from the pieces, as a user does."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from maskalign import pieces
from maskalign.study import PATHS, Study
from running import copy_workflow, snakemake
from test_pieces import config

STUDY = {
    "study": "cut",
    "datasets": {"digits": {**config()["datasets"]["digits"], "train_images": 40}},
    "models": {"net": {"architecture": "vgg11", "options": {"plan": [4, "M", 4, "M"]}}},
    "training": {
        "short": {
            "batch_size": 20,
            "dense": {"epochs": 1, "lr": 0.01},
            "imp": {"epochs": 1, "lr": 0.01, "fraction": 0.5},
            "sparse": {"lr": 0.01},
        }
    },
    "experiments": {
        "one": {
            "dataset": "digits",
            "model": "net",
            "training": "short",
            "widths": [1],
            "pairs": 2,
            "first_pair": 3,
            "sparsities": [0.5],
            "rewind_epochs": [0],
            "methods": ["naive", "permuted"],
        }
    },
    "artefacts": {
        "tables": {
            "table_05": {"kind": "accuracy", "shows": [{"dataset": "digits", "model": "net"}]}
        },
        "figures": {"figure_01": {"kind": "toy"}},
    },
}


def command(folder, *arguments):
    """Run ``python -m maskalign.pieces`` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "maskalign.pieces", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
    )


def jobs_of(done):
    """Return the rules of the jobs that Snakemake ran."""
    found = re.findall(r"^(\w+) +\d+$", done.stdout + done.stderr, re.MULTILINE)
    assert "total" in found
    return {*found} - {"total"}


def drawn(folder, study):
    """Return the bytes of all that is drawn from a study's runs, but for logs and the page."""
    out = folder / "results" / study
    skipped = ("runs", "logs", "data", "state")
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file()
        and file.relative_to(out).parts[0] not in skipped
        # The forecast and the graph of rules are of the workflow, not of the runs.
        and file.name not in ("report.html", "forecast.csv", "forecast.md", "rulegraph.dot")
    }


def test_redrawing_makes_the_same_files_and_trains_nothing(tiny, tmp_path, monkeypatch):
    """The same study, once from its runs as they are and once from its pieces."""
    file = tmp_path / "cut.yaml"
    file.write_text(yaml.safe_dump(config()))
    whole, apart = tmp_path / "whole", tmp_path / "apart"
    for folder in (whole, apart):
        folder.mkdir()
        copy_workflow(folder)
    shutil.copytree(tiny / "results/tiny/runs", whole / "results/tiny/runs")
    done = snakemake(whole, "--configfile", str(file), "--cores", "2", "all")
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.chdir(whole)
    study = Study(config())
    for pair in pieces.pairs(study):
        pieces.pack(study, pair)
    shutil.copytree(whole / pieces.FOLDER, apart / pieces.FOLDER)
    for _ in range(2):  # again, though all of it is there
        done = command(apart, "redraw", file)
        assert done.returncode == 0, done.stderr[-2000:]
        before, now = drawn(whole, "tiny"), drawn(apart, "tiny")
        assert {"claims.md", "runs.csv", "comparison.csv", "lengths.csv"} < before.keys()
        assert len(before) > 60
        assert now.keys() == before.keys()
        assert [name for name in now if now[name] != before[name]] == []
        assert {"figure", "table", "claims", "report"} <= jobs_of(done)
        assert not jobs_of(done) & {"data", *PATHS}
        # As if another pair had been run here meanwhile: data that is newer than what was unpacked.
        for dataset in study.config["datasets"]:
            prepared = apart / f"results/tiny/data/{dataset}.safetensors"
            prepared.parent.mkdir(exist_ok=True)
            prepared.touch()
    assert not list((apart / "results/tiny/runs").rglob("*.safetensors"))
    page = (apart / "results/tiny/report.html").read_text(encoding="utf-8")
    assert page.count("mask-2") and page.count("mask-0")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a folder with the first of two pieces, and what the commands said."""
    folder = copy_workflow(tmp_path_factory.mktemp("next"))
    (folder / "cut.yaml").write_text(yaml.safe_dump(STUDY))
    early = command(folder, "redraw", "cut.yaml")
    return folder, early, command(folder, "next", "cut.yaml", "--cores", 2)


def test_the_next_piece_is_one_pair_and_nothing_else(run):
    folder, _, done = run
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pair 3 is kept in results/studies/cut/pair-3" in done.stdout
    assert "still to run: 4" in done.stdout
    assert [f.name for f in (folder / "results/studies/cut").iterdir()] == ["pair-3"]
    seeds = {path.name for path in folder.glob("results/cut/runs/paper/*/*/dense/*")}
    assert seeds == {"init-6", "init-7"}


def test_a_study_is_not_drawn_before_its_last_piece(run):
    folder, early, _ = run
    line = "redraw: results/studies/cut: pieces of pairs {} are not there; run them first (next)"
    assert (early.returncode, early.stderr.strip()) == (1, line.format("3, 4"))
    now = command(folder, "redraw", "cut.yaml")
    assert (now.returncode, now.stderr.strip()) == (1, line.format("4"))


def test_a_failed_piece_is_not_kept_and_goes_on(run):
    folder, _, _ = run
    blocked = folder / "results/cut/runs/paper/digits/net-x1/naive"
    other = blocked.with_name("moved")
    blocked.rename(other)
    blocked.write_text("no folder")
    failed = command(folder, "next", "cut.yaml", "--cores", 2)
    blocked.unlink()
    other.rename(blocked)
    assert failed.returncode != 0
    assert not (folder / "results/studies/cut/pair-4").exists()
    done = command(folder, "next", "cut.yaml", "--cores", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "it was the last one" in done.stdout
    again = command(folder, "next", "cut.yaml")
    assert again.stdout.strip() == "all pieces of study 'cut' are in results/studies/cut"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["next", "none.yaml"], "next: none.yaml: there is no such file"),
        (["next", ROOT / "config/demo.yaml"], "leave diversity out"),
        (["next", "cut.yaml", "--cores", "0"], "--cores 0 is not allowed, must be at least 1"),
        (["next", "cut.yaml", "--pair", "1"], "--pair goes with plan, and plan needs it"),
        (["plan", "cut.yaml"], "--pair goes with plan, and plan needs it"),
        (["plan", "cut.yaml", "--pair", "2"], "has no pair 2, must be one of 3, 4"),
        (["keep", "cut.yaml"], "--archive goes with keep, and keep needs it"),
        (["keep", "cut.yaml", "--archive", "cut.yaml"], "cut.yaml: is no archive of a plan's jobs"),
    ],
)
def test_a_wrong_call_ends_in_a_line(run, arguments, line):
    folder, _, _ = run
    done = command(folder, *arguments)
    assert done.returncode != 0
    assert line in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr

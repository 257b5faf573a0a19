"""Snakemake runs a job again for a raised version, and for no newer script."""

import collections
import re
import shutil

import pytest
from conftest import ROOT
from maskalign.versions import RESULT_VERSION
from running import TINY, snakemake

PROFILES = ["", "profiles/workstation", "slurm"]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return a folder with the finished tiny study and a copy of the workflow, to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("Snakefile", "config", "envs", "profiles", "slurm"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "workflow", folder / "workflow", copy_function=shutil.copy2)
    shutil.copytree(tiny / ".snakemake", folder / ".snakemake", symlinks=True)
    shutil.copytree(tiny / "results", folder / "results", copy_function=shutil.copy2)
    return folder


def planned(folder, *arguments):
    """Return how many jobs of each rule Snakemake plans."""
    done = snakemake(folder, "--configfile", str(TINY), "-n", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return collections.Counter({name: int(n) for name, n in counts})


@pytest.mark.parametrize("profile", PROFILES)
def test_touching_every_script_retrains_nothing(finished, profile):
    for script in (finished / "workflow/scripts").glob("*.py"):
        script.touch()
    jobs = planned(finished, "all", *(["--profile", profile] if profile else []))
    # The page shows the scripts, so it is made again. Two rules read files beside the workflow,
    # which this copy has at another place.
    again = {"report", "rulegraph", "comparison", "forecast"}
    assert jobs.keys() == again | {"all", "total"}


def test_a_raised_version_runs_its_stage_and_what_follows(finished, monkeypatch):
    file = finished / "workflow/maskalign/versions.py"
    text = file.read_text()
    now = f'"match": {RESULT_VERSION["match"]}'
    assert text.count(now) == 1
    monkeypatch.setenv("PYTHONPATH", str(finished / "workflow"))
    file.write_text(text.replace(now, '"match": 99'))
    try:
        jobs = planned(finished, "all")
    finally:
        file.write_text(text)
    assert jobs["match"] == len(list(finished.glob("results/tiny/runs/**/permutation.safetensors")))
    runs = finished.glob("results/tiny/runs/paper/*/*/*/sparsity-*/mask-*/result.json")
    matched = [run for run in runs if "_match-none" not in run.parent.name]
    assert jobs["sparse"] == len(matched) > 0
    assert jobs["diagnosis"] == 1
    assert jobs["interpolation"] > 0
    assert jobs["runs"] == 1
    assert not {"dense", "imp_round", "imp", "imp_barrier"} & jobs.keys()

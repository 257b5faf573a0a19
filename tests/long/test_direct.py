"""A plan run without Snakemake makes the same numbers, keeps its time, and goes on elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from maskalign import direct, pieces
from maskalign.pieces.plan import plan
from maskalign.study import Study
from test_pieces import config

# What the machine of a plan need not have.
ABSENT = ("snakemake", "pandas", "yaml", "matplotlib", "statsmodels", "jinja2", "rich")
NO_OTHERS = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"no module {{name}}")
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def study():
    return Study(config())


def run(folder, *arguments, wait=True, bare=True):
    """Run ``python -m maskalign.direct`` in a folder; if ``bare``, where less is installed."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site/sitecustomize.py").write_text(NO_OTHERS if bare else "")
    path = os.pathsep.join([str(folder / "site"), str(ROOT / "workflow")])
    process = subprocess.Popen(
        [sys.executable, "-m", "maskalign.direct", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    if not wait:
        return process
    text, _ = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, text)


def put(folder, content):
    """Write a plan to a new folder."""
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(content))
    return folder


def numbers(folder):
    """Return what was found: records without where they were made, and tables."""
    runs, found = folder / "results/tiny/runs", {}
    for file in [*runs.rglob("result.json"), *runs.rglob("*.csv")]:
        text = file.read_text()
        if file.name == "result.json":
            text = json.dumps({k: v for k, v in json.loads(text).items() if k != "provenance"})
        found[file.relative_to(runs).as_posix()] = text
    return found


def test_it_makes_the_numbers_that_snakemake_makes(tiny, study, tmp_path):
    """All stages of a piece: the same files from the same runs, to the last bit."""
    put(tmp_path, plan(study, [0, 1]))
    arguments = ("plan.json", "--archive", "all.tar.gz", "--jobs", "2")
    done = run(tmp_path, *arguments, bare=False)  # the package that holds MNIST needs pandas
    assert done.returncode == 0, done.stdout
    assert "jobs are done" in done.stdout.splitlines()[-1]
    theirs = numbers(tiny)
    mine = numbers(tmp_path)
    assert {Path(name).parent.as_posix() for name in mine} == {*study.runs["path"]}
    assert mine == {name: theirs[name] for name in mine}
    assert not list((tmp_path / "results/tiny/state").rglob("*.safetensors"))
    with tarfile.open(tmp_path / "all.tar.gz") as tar:
        held = {name.removeprefix("results/tiny/runs/") for name in tar.getnames()}
    assert held == mine.keys()  # nothing is left that would need weights


def test_an_archive_goes_on_where_time_was_up(study, tmp_path):
    whole = put(tmp_path / "whole", plan(study, [1]))
    assert run(whole, "plan.json", "--archive", "a.tar.gz", "--jobs", "2").returncode == 0
    first = put(tmp_path / "first", plan(study, [1]))
    two = ("--jobs", "2")  # of one thread each: sums round alike
    process = run(first, "plan.json", "--archive", "a.tar.gz", *two, wait=False)
    imp = first / "results/tiny/runs/paper/digits/resnet20-x1/imp/mask-2/round-1/result.json"
    wait_for(lambda: imp.exists())
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode != 0, text
    second = put(tmp_path / "second", plan(study, [1]))
    shutil.copy(first / "a.tar.gz", second)
    done = run(second, "plan.json", "--archive", "b.tar.gz", *two, "--resume", "a.tar.gz")
    assert done.returncode == 0, done.stdout
    ran = {line.split(":")[0] for line in done.stdout.splitlines()}
    kept = {p.parent.relative_to(first / "results/tiny/runs").as_posix() for p in [imp]}
    assert not kept & ran
    assert numbers(second) == numbers(whole)


def test_no_job_runs_after_the_budget(study, tmp_path):
    put(tmp_path, plan(study, [0, 1]))
    began = time.monotonic()
    done = run(tmp_path, "plan.json", "--archive", "a.tar.gz", "--budget", "5")
    assert time.monotonic() - began < 15
    assert done.returncode == 1
    assert "time is up" in done.stdout
    assert (tmp_path / "a.tar.gz").exists()


def test_a_failed_job_is_named_and_the_others_run(study, tmp_path):
    content = plan(study, [1])
    broken = next(j for j in content["jobs"] if "/naive/" in j["name"])
    broken["arguments"]["values"]["batch_size"] = 10**6
    put(tmp_path, content)
    done = run(tmp_path, "plan.json", "--archive", "a.tar.gz", "--jobs", "2")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert failed[0].startswith(f"FAILED: {broken['name']}: ValueError")
    assert len(numbers(tmp_path)) > 20
    log = tmp_path / failed[0].rsplit("log: ", 1)[1]
    assert "Traceback" in log.read_text()


def test_a_process_that_dies_takes_one_job_with_it(study, tmp_path):
    content = plan(study, [1])
    broken = next(j for j in content["jobs"] if "/naive/" in j["name"])
    broken["function"], broken["arguments"] = "os:_exit", {"status": 9}
    put(tmp_path, content)
    done = run(tmp_path, "plan.json", "--archive", "a.tar.gz")
    assert done.returncode == 1
    assert f"FAILED: {broken['name']}: its process ended with exit code 9" in done.stdout
    assert f"{len(content['jobs']) - 1} of {len(content['jobs'])} jobs are done" in done.stdout


def test_an_archive_becomes_a_piece(study, tmp_path, monkeypatch):
    from maskalign.pieces.__main__ import keep

    put(tmp_path, plan(study, [1]))
    run(tmp_path, "plan.json", "--archive", "a.tar.gz", "--jobs", "2")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["x"])
    assert keep(study, type("Options", (), {"archive": tmp_path / "a.tar.gz"})) == 0
    assert pieces.missing(study) == [0]


def test_the_study_for_a_gpu_is_cut_into_pieces():
    from maskalign.study import read

    gpu = read([ROOT / "config/fashion-gpu.yaml"])
    assert {len(paths) for paths in pieces.pairs(gpu).values()} == {len(pieces.pairs(gpu)[0])}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.json"], "No such file or directory: 'none.json'"),
        (["bad.json"], "bad.json: is no plan of jobs"),
        (["plan.json", "--jobs", "0"], "--jobs 0 is not allowed, must be at least 1"),
        (["plan.json", "--budget", "-3"], "--budget -3 is not allowed, must be at least 1"),
        (["plan.json", "--resume", "bad.json"], "bad.json: is no archive of a plan's jobs"),
        (["plan.json", "--resume", "evil.tar.gz"], "it holds evil.txt, which is no result"),
    ],
)
def test_a_wrong_call_ends_in_a_line(study, tmp_path, arguments, line):
    put(tmp_path, plan(study, [1]))
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "evil.txt").write_text("evil")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil.txt", "evil.txt")
    done = run(tmp_path, *arguments, "--archive", "a.tar.gz")
    assert done.returncode == 2
    assert line in done.stdout.splitlines()[-1]
    assert not (tmp_path / "a.tar.gz").exists()


def test_what_does_not_fit_is_left_out_and_made_again(tmp_path, monkeypatch):
    """Numbers first; weights that an unfinished job needs, as long as there is room."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(direct, "LIMIT", 1000)
    sizes = {"a/result.json": 300, "a/model.safetensors": 600, "a/mask.safetensors": 200}
    for name, size in sizes.items():
        file = Path("results/s/runs", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
    made = "results/s/runs/{}/result.json"
    first = {"needs": ["data"], "reads": [], "makes": made.format("a"), "state": []}
    reads = [f"results/s/runs/a/{name}.safetensors" for name in ("model", "mask")]
    second = {"needs": ["a"], "reads": reads, "makes": made.format("b"), "state": []}
    data = {"needs": [], "reads": [], "makes": "results/s/data/d.safetensors", "state": []}
    jobs = {"data": data, "a": first, "b": second}
    omitted = direct.archive(Path("a.tar.gz"), jobs, {"b"})
    assert omitted == [Path(reads[1])]
    assert Path("a.tar.gz").stat().st_size < 1200
    shutil.rmtree("results")
    direct.unpack(Path("a.tar.gz"))
    assert direct.unfinished(jobs) == {"data", "a", "b"}  # b lacks the mask of a
    Path(reads[1]).touch()
    assert direct.unfinished(jobs) == {"data", "b"}


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_chains_are_counted_in_epochs():
    jobs = {
        "dense": {"epochs": 4, "needs": []},
        "round": {"epochs": 1, "needs": ["dense"]},
        "sparse": {"epochs": 3, "needs": ["dense", "round"]},
        "line": {"epochs": 0, "needs": ["dense"]},
    }
    assert direct.chains(jobs) == {"dense": 8, "round": 4, "sparse": 3, "line": 0}


def test_a_plan_is_data(study):
    content = plan(study, [0])
    assert yaml.safe_load(json.dumps(content)) == content
    assert content["jobs"][0]["epochs"] == 0
    for job in content["jobs"]:
        own = {v for v in job["arguments"].values() if isinstance(v, str)}
        assert {*job["reads"]} <= own | {
            file for v in job["arguments"].values() if isinstance(v, list) for file in v
        }

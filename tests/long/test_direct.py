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

SLOW = """
import time
from maskalign import stages, training
training.CHECKPOINT_SECONDS = 0
def dense(**arguments):
    save = training._save
    def slowly(*given, **named):
        save(*given, **named)
        time.sleep(5)
    training._save = slowly
    stages.dense(**arguments)
"""
# A machine that runs a plan needs none of these packages.
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
    slow(first)
    process = run(first, "plan.json", "--archive", "a.tar.gz", *two, wait=False)
    stopped = "paper/digits/resnet20-x1/dense/init-2"
    wait_for(lambda: list((first / "results/tiny/state" / stopped).rglob("resume.safetensors")))
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode != 0, text
    assert f"{stopped}:" not in text
    second = put(tmp_path / "second", plan(study, [1]))
    shutil.copy(first / "a.tar.gz", second)
    done = run(second, "plan.json", "--archive", "b.tar.gz", *two, "--resume", "a.tar.gz")
    assert done.returncode == 0, done.stdout
    log = (second / f"results/tiny/logs/{stopped}.log").read_text()
    assert "going on from epoch" in log
    assert numbers(second) == numbers(whole)


def slow(folder):
    """Let the trainings of dense networks take long, and save all the time."""
    (folder / "slow.py").write_text(SLOW)
    content = json.loads((folder / "plan.json").read_text())
    for job in content["jobs"]:
        if job["function"] == "maskalign.stages:dense":
            job["function"] = "slow:dense"
    (folder / "plan.json").write_text(json.dumps(content))


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
        (
            ["plan.json", "--resume", "up.tar.gz"],
            "it holds results/tiny/../x.py, which is no result",
        ),
        (
            ["plan.json", "--resume", "evil.tar.gz"],
            "it holds evil.txt, which is no result of 'tiny'",
        ),
    ],
)
def test_a_wrong_call_ends_in_a_line(study, tmp_path, arguments, line):
    put(tmp_path, plan(study, [1]))
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "evil.txt").write_text("evil")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil.txt", "evil.txt")
    with tarfile.open(tmp_path / "up.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil.txt", "results/tiny/../x.py")
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
        if name.endswith("json"):
            file.write_text(json.dumps({"values_hash": "x", "more": "." * 250}))
    made = "results/s/runs/{}/result.json"
    first = {"needs": ["data"], "reads": [], "makes": made.format("a"), "state": [], "values": "x"}
    reads = [f"results/s/runs/a/{name}.safetensors" for name in ("model", "mask")]
    second = {"needs": ["a"], "reads": reads, "makes": made.format("b"), "state": [], "values": "x"}
    data = {"needs": [], "reads": [], "makes": "results/s/data/d.safetensors", "state": []}
    jobs = {"data": data, "a": first, "b": second}
    omitted = direct.archive(Path("a.tar.gz"), jobs, {"b"})
    assert omitted == [Path(reads[1])]
    assert Path("a.tar.gz").stat().st_size < 1200
    shutil.rmtree("results")
    direct.unpack(Path("a.tar.gz"), "s")
    assert direct.unfinished(jobs) == {"data", "a", "b"}  # b lacks the mask of a
    Path(reads[1]).touch()
    assert direct.unfinished(jobs) == {"data", "b"}


def test_a_checkpoint_that_did_not_fit_is_made_again(study, tmp_path, monkeypatch):
    """Though another one of its folder did."""
    monkeypatch.chdir(tmp_path)
    jobs = {job["name"]: job for job in plan(study, [1])["jobs"]}
    name = next(name for name in jobs if "/naive/" in name)
    (init,) = [n for n in jobs[name]["needs"] if "/dense/" in n]
    for job in jobs.values():
        done(job)
        for file in job["reads"]:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
    assert direct.unfinished(jobs) == set()
    Path(jobs[name]["makes"]).unlink()
    assert direct.unfinished(jobs) == {name}
    (checkpoint,) = [f for f in jobs[name]["reads"] if "checkpoints" in f]
    assert checkpoint.endswith("epoch-0000.safetensors")
    Path(checkpoint).rename(Path(checkpoint).with_name("epoch-0001.safetensors"))
    assert direct.unfinished(jobs) == {name, init}


def test_results_and_data_of_other_values_are_made_again(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = {job["name"]: job for job in plan(study, [1])["jobs"]}
    for job in jobs.values():
        done(job)
        for file in job["reads"]:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
    assert direct.unfinished(jobs) == set()
    data, run_ = (next(n for n in jobs if part in n) for part in ("data/digits", "/naive/"))
    done(jobs[data], "other")
    assert direct.unfinished(jobs) == {data}
    done(jobs[data])
    done(jobs[run_], "other")
    assert direct.unfinished(jobs) == {run_}


def done(job, values=None):
    """Let a job look done, with the values of its plan or with others."""
    made = Path(job["makes"])
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(json.dumps({"values_hash": values or job["values"]}))
    if made.name != direct.RECORD:
        direct.mark_of(job).write_text(values or job["values"])


def test_changed_data_is_prepared_and_trained_on_again(study, tmp_path):
    put(tmp_path, plan(study, [1]))
    arguments = ("plan.json", "--archive", "a.tar.gz", "--jobs", "2")
    assert run(tmp_path, *arguments).returncode == 0
    before = numbers(tmp_path)
    assert "0 of" in run(tmp_path, *arguments).stdout.splitlines()[0]
    other = config()
    other["datasets"]["digits"]["train_images"] = 140
    put(tmp_path, plan(Study(other), [1]))
    assert run(tmp_path, *arguments).returncode == 0
    fresh = put(tmp_path / "fresh", plan(Study(other), [1]))
    assert run(fresh, *arguments).returncode == 0
    assert numbers(tmp_path) == numbers(fresh) != before


def test_what_is_there_stays_when_an_archive_is_put_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    runs = ("results/tiny/runs/done", "results/tiny/runs/open")
    with tarfile.open("a.tar.gz", "w:gz") as tar:
        for run_ in runs:
            for name in ("result.json", "history.csv"):
                Path("old", name).write_text("archive")
                tar.add(f"old/{name}", f"{run_}/{name}")
    for run_, name in zip(runs, ("result.json", "history.csv"), strict=True):
        Path(run_).mkdir(parents=True)
        Path(run_, name).write_text("here")
    assert direct.unpack(Path("a.tar.gz"), "tiny") == 1
    assert [p.name for p in Path(runs[0]).iterdir()] == ["result.json"]
    assert Path(runs[0], "result.json").read_text() == "here"
    assert Path(runs[1], "result.json").read_text() == "archive"
    assert Path(runs[1], "history.csv").read_text() == "here"


def test_a_process_that_cannot_start_ends_the_run(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("no memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(direct.subprocess, "Popen", fails)
    jobs = {
        n: {
            "name": n,
            "needs": [],
            "reads": [],
            "makes": f"results/s/{n}",
            "state": [],
            "epochs": 1,
        }
        for n in ("a", "b", "c")
    }
    options = type("Options", (), {"jobs": 2, "budget": None, "archive": Path("a.tar.gz")})
    running = direct.Run(jobs, options)
    assert running.all() == 1
    assert running.failed == dict.fromkeys(jobs, "OSError: no memory")


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
        given = json.dumps([v for k, v in job["arguments"].items() if k not in ("values", "spec")])
        assert all(file in given or str(Path(file).parent) in given for file in job["reads"])
        others = {Path(n).as_posix() for n in job["needs"]}
        assert all(any(need in file for need in others) for file in job["reads"])

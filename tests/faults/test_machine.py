"""Faults of the machine: one clear line, a failed job, nothing lost, and the next start goes on."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from small import arguments, prepare, results, run

# A stage as the workflow's scripts run it; FAULT is Python that limits the process.
JOB = """
import json, os, resource, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from maskalign.job import job
stage, log, arguments = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
with job(SimpleNamespace(rule=stage, wildcards={}, log=[log], threads=1, resources={})):
    from maskalign import stages
    exec(os.environ.get("FAULT", ""))
    getattr(stages, stage)(**arguments)
"""
EPOCHS = 3

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def straight(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "dense"
    run(folder, "dense", out, EPOCHS)
    return results(out)


def job(folder: Path, out: Path, fault="", width=1, log=None, under=()):
    """Run dense training ``under`` a command, with a checkpoint after every step."""
    given = json.dumps(arguments(folder, "dense", out, EPOCHS, width))
    log = str(log or out.with_name("job.log"))
    return subprocess.run(
        [*under, sys.executable, "-c", JOB, str(ROOT / "workflow"), "dense", log, given],
        env=os.environ | {"FAULT": fault, "MASKALIGN_CHECKPOINT_SECONDS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def failed_with(done: subprocess.CompletedProcess, *parts: str) -> None:
    """Assert that a job failed with one line on stderr that has all ``parts``."""
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def goes_on(folder: Path, out: Path, straight: dict) -> str:
    """Assert that the next start ends with the undisturbed bits; return its log."""
    done = job(folder, out)
    assert done.returncode == 0, done.stderr
    assert results(out) == straight
    return out.with_name("job.log").read_text()


def test_a_file_that_grows_too_large(folder, straight, tmp_path):
    out = tmp_path / "dense"
    small = "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    failed_with(job(folder, out, fault=small), "File too large")
    assert not out.exists()
    goes_on(folder, out, straight)


def test_a_disk_that_fills_up_between_two_checkpoints(folder, straight, tmp_path):
    """The checkpoint before stays, and the next start goes on from it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=28k", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        out = tmp_path / "dense"
        log = folder / "full.log"
        failed_with(job(folder, out, log=log), "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
        assert "going on from epoch" in goes_on(folder, out, straight)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written(folder, straight, tmp_path):
    """Root, too, is bound by permissions here."""
    out = tmp_path / "runs" / "dense"
    out.parent.mkdir(mode=0o555)
    bound = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
    done = job(folder, out, log=tmp_path / "job.log", under=bound)
    failed_with(done, "PermissionError", str(out.parent))
    out.parent.chmod(0o755)
    goes_on(folder, out, straight)


def test_too_little_memory(folder, straight, tmp_path):
    """The limit is what the process has, and a little more."""
    little = (
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))"
    )
    out = tmp_path / "dense"
    failed_with(job(folder, out, fault=little, width=64), "memory")
    shutil.rmtree(tmp_path / "dense-state", ignore_errors=True)
    goes_on(folder, out, straight)


def test_a_damaged_data_file(folder, straight, tmp_path):
    there = tmp_path / "there"
    shutil.copytree(folder, there)
    file = there / "digits.safetensors"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    line = f"{file}: is damaged (checksum differs); delete it, and the next start makes it again"
    failed_with(job(there, tmp_path / "dense"), line)
    goes_on(folder, tmp_path / "dense", straight)


def test_a_clock_that_goes_backwards(folder, straight, tmp_path, monkeypatch):
    clock = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    out = tmp_path / "dense"
    run(folder, "dense", out, EPOCHS)
    assert results(out) == straight
    assert json.loads((out / "result.json").read_text())["provenance"]["seconds"] >= 0


def test_two_snakemakes_at_once(tmp_path):
    """The second ends with Snakemake's own words; the first is not disturbed."""
    for name in ("Snakefile", "workflow", "config", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    study = ["--configfile", str(ROOT / "tests/workflow/tiny.yaml"), "--cores", "1"]
    target = "results/tiny/runs/paper/digits/vgg11-x1/dense/init-0/result.json"
    command = [str(Path(sys.executable).with_name("snakemake")), target, *study]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        locks, deadline = tmp_path / ".snakemake/locks", time.monotonic() + 120
        while not (locks.is_dir() and any(locks.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert "Directory cannot be locked" in second.stderr
        assert first.wait(timeout=300) == 0, first.stderr.read()
        assert (tmp_path / target).exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            first.kill()
        first.stderr.close()


def test_a_figure_that_does_not_fit_on_the_disk(tmp_path):
    """What was there stays as it was."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from maskalign import figures\n"
        "from maskalign.study import load\n"
        "import yaml\n"
        "study = load(yaml.safe_load(Path(sys.argv[2]).read_text()))\n"
        "files = {k: f'{sys.argv[3]}/figure.{k}' for k in ('pdf', 'png', 'csv', 'md')}\n"
        "made = figures.build(study, 'figure_01', figures.Sources([], [], []))\n"
        "figures.write(made, 'figure_01', **files)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "figures.write(made, 'figure_01', **files)\n"
    )
    demo = str(ROOT / "config/demo.yaml")
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "workflow"), demo, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert sorted(f.suffix for f in tmp_path.iterdir()) == [".csv", ".md", ".pdf", ".png"]
    assert (tmp_path / "figure.pdf").read_bytes().rstrip().endswith(b"%%EOF")
    assert (tmp_path / "figure.png").read_bytes().endswith(b"IEND\xaeB`\x82")

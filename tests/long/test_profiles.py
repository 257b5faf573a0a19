"""The profiles, as users name them on the command line."""

import re

from running import TINY, copy_workflow, snakemake

MODEL = "results/tiny/runs/paper/digits/vgg11-x1/dense/init-{}/result.json"


def test_a_workstation_gives_each_job_a_gpu(tmp_path, monkeypatch):
    """Two made-up GPUs: two jobs at once, each with its own; the work itself runs on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("MASKALIGN_DEVICE", "cpu")
    folder = copy_workflow(tmp_path)
    arguments = ("--profile", "profiles/workstation", "--configfile", str(TINY))
    targets = [MODEL.format(seed) for seed in (0, 1)]
    done = snakemake(folder, *arguments, "--cores", "2", *targets)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"Provided resources: gpu=\D*2\b", done.stderr)
    logs = [p.read_text() for p in folder.glob("results/tiny/logs/**/dense/*.log")]
    assert len(logs) == 2
    assert all(re.search(r"^GPU [45]$", log, re.MULTILINE) for log in logs)


def test_a_job_that_asks_for_a_gpu_does_not_run_without_one(tmp_path, monkeypatch):
    """Not for weeks on the CPU of a node whose driver is broken."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    folder = copy_workflow(tmp_path)
    arguments = ("--profile", "profiles/workstation", "--configfile", str(TINY))
    done = snakemake(folder, *arguments, "--cores", "2", MODEL.format(0))
    assert done.returncode != 0
    said = re.search(r"^RuntimeError: this job asks for a GPU .*", done.stderr, re.MULTILINE)
    assert said, done.stderr[-2000:]
    assert "with MASKALIGN_DEVICE=cpu it runs on the CPU" in said[0]

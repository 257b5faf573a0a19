"""The profiles, as users name them on the command line."""

import re

from test_tiny import TINY, copy_workflow, snakemake

MODEL = "results/tiny/runs/paper/digits/vgg11-x1/dense/init-{}/result.json"


def test_a_workstation_gives_each_job_a_gpu(tmp_path, monkeypatch):
    """Two made-up GPUs: two jobs at once, each with its own; the work itself runs on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    folder = copy_workflow(tmp_path)
    arguments = ("--profile", "profiles/workstation", "--configfile", str(TINY))
    targets = [MODEL.format(seed) for seed in (0, 1)]
    done = snakemake(folder, *arguments, "--cores", "2", *targets)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"Provided resources: gpu=\D*2\b", done.stderr)
    logs = [p.read_text() for p in folder.glob("results/tiny/logs/**/dense/*.log")]
    assert len(logs) == 2
    assert all(re.match(r"GPU [45]\n", log) for log in logs)

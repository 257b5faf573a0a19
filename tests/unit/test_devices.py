"""Jobs of one machine spread over its GPUs; the lists of GPUs are made up."""

import inspect
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from maskalign import analyses, devices, stage, stages
from maskalign.checkpoint import save_tensors

JOB = """
import sys
from pathlib import Path
from maskalign import devices
print(",".join(devices.claim(int(sys.argv[1]), Path(sys.argv[2]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a job and returns it with the GPUs that it took."""
    jobs = []

    def run(visible: str, count: int = 1):
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count), str(tmp_path)],
            env=os.environ
            | {"CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": str(ROOT / "workflow")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        jobs.append(job)
        return job, job.stdout.readline().strip()

    yield run
    for job in jobs:
        job.kill()
        job.wait()


@pytest.mark.waits
def test_jobs_take_different_gpus_and_then_share_evenly(start):
    taken = [start("4,5,7")[1] for _ in range(6)]
    assert set(taken[:3]) == set(taken[3:]) == {"4", "5", "7"}


@pytest.mark.waits
def test_only_visible_gpus_are_taken(start):
    assert start("4,5")[1] == "4"
    assert start("5,6")[1] == "5"
    assert start("5,6")[1] == "6"


@pytest.mark.waits
def test_the_gpu_of_a_killed_job_is_free_again(start):
    jobs = [start("0,1,2") for _ in range(3)]
    jobs[1][0].kill()
    jobs[1][0].wait()
    assert start("0,1,2")[1] == jobs[1][1]


@pytest.mark.waits
def test_a_job_of_several_gpus_takes_free_ones(start):
    assert start("0,1,2,3")[1] == "0"
    assert start("0,1,2,3", count=2)[1] == "1,2"
    assert start("0,1,2,3", count=2)[1] == "3,0"


@pytest.mark.waits
def test_a_job_keeps_what_it_alone_can_see(start):
    assert start("2")[1] == "2"
    assert start("2")[1] == "2"
    assert start("1,3", count=2)[1] == "1,3"
    assert start("GPU-8f/1,GPU-9")[1] == "GPU-8f/1"


@pytest.mark.parametrize(
    ("named", "seen"),
    [("", []), ("-1", []), ("0,2", ["0", "2"]), ("1,-1,2", ["1"]), ("MIG-a/0/1", ["MIG-a/0/1"])],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(monkeypatch, named, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert devices.visible() == seen


def test_without_the_variable_the_driver_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert devices.visible() == []
    for name in ("0000:41:00.0", "0000:81:00.0"):
        (tmp_path / name).mkdir()
    assert devices.visible() == ["0", "1"]


def test_the_chosen_gpus_are_the_only_visible_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert devices.claim(1, tmp_path) == ["4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


FLAGS = [
    (torch.backends.cudnn, "allow_tf32", False),
    (torch.backends.cuda.matmul, "allow_tf32", False),
    (torch.backends.cudnn, "deterministic", True),
]


@pytest.fixture
def torchs_defaults():
    """Set the flags to the opposite of what a job wants, and then back."""
    before = [getattr(where, name) for where, name, _ in FLAGS]
    for where, name, wanted in FLAGS:
        setattr(where, name, not wanted)
    yield
    for (where, name, _), value in zip(FLAGS, before, strict=True):
        setattr(where, name, value)


def test_a_job_computes_float32_in_float32_and_in_one_order(tmp_path, torchs_defaults):
    tensors = {
        "train_images": torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        "test_images": torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        "train_labels": torch.arange(4),
        "test_labels": torch.arange(4),
    }
    save_tensors(tmp_path / "data.safetensors", tensors)
    values = {
        "stage": "dense",
        "version": 1,
        "width": 1,
        "data": {"mean": [0.5], "std": [0.5], "crop_padding": 1, "flip": False},
        "net": {"architecture": "vgg11", "options": {"plan": [4, "M"]}},
    }
    stage.begin(tmp_path / "data.safetensors", values)
    assert [getattr(where, name) for where, name, _ in FLAGS] == [wanted for *_, wanted in FLAGS]


JOBS = [stages.dense, stages.imp, stages.match, stages.sparse]
JOBS += [analyses.interpolation, analyses.imp_barrier, analyses.landscape, analyses.diversity]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_begins_so(job, monkeypatch):
    class BegunError(Exception):
        pass

    def begin(*arguments):
        raise BegunError

    for module in (stages, analyses):
        monkeypatch.setattr(module, "begin", begin)
    values = {"processes": 1, "b_epoch": 1, "start_epoch": 0, "dense": {"epochs": 1}}
    arguments = dict.fromkeys(inspect.signature(job).parameters, "file") | {"values": values}
    with pytest.raises(BegunError):
        job(**arguments)

"""A killed data-parallel job leaves no process behind, and goes on to the same bits."""

import signal
import time

import psutil
import pytest
from maskalign.checkpoint import load_tensors
from test_distributed import (  # noqa: F401
    FAULTY,
    alive,
    arguments,
    data,
    dense,
    on_the_cpu,
    same,
    start,
)

pytestmark = pytest.mark.waits


def test_a_killed_job_leaves_no_process_and_goes_on_to_the_same_bits(tmp_path, data):  # noqa: F811
    """Three processes: with two, no order of summing the gradients can be told from another."""
    job = arguments(tmp_path, data, FAULTY, 3)
    process = start(tmp_path, job, "slow")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("state/*/resume.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(children) == 3
    psutil.wait_procs(children, timeout=10)
    assert not alive(children)
    (file,) = tmp_path.glob("state/*/resume.safetensors")
    assert 0 < int(load_tensors(file)[1]["epoch"]) * 5 + int(load_tensors(file)[1]["step"]) < 10
    again = dense(tmp_path, data, FAULTY, 3)
    straight = dense(tmp_path / "straight", data, FAULTY, 3)
    same(again[0], straight[0])
    same(again[2], straight[2])
    assert again[1] == straight[1]

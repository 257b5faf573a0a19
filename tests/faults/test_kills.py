"""A training killed at any moment, however often, ends with the bits of the undisturbed one."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from maskalign import training
from small import prepare, results, run

pytestmark = pytest.mark.waits

KILLS = 50
# What Python reports before it touches a file; safetensors' own writing is not reported.
FILE_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.copytree"}
STAGES = ["dense", "imp", "sparse"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return prepare(tmp_path_factory.mktemp("kills"))


def start(work) -> int:
    """Run ``work`` in a process of its own and return its number; it exits with 0 or is killed."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            training.CHECKPOINT_SECONDS = 0.0  # a checkpoint after every step
            with Path(os.devnull).open("w") as sys.stdout:
                work()
            code = 0
        finally:
            os._exit(code)
    return process


def killed(process: int) -> bool:
    """Wait for a process and return whether it was killed; it must not fail otherwise."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def kill_after(process: int, seconds: float) -> None:
    """Kill a process once it has computed for ``seconds``, however busy the machine is."""
    child = psutil.Process(process)
    while child.status() != psutil.STATUS_ZOMBIE and sum(child.cpu_times()[:2]) < seconds:
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_fifty_times_at_random_moments(folder, tmp_path, stage):
    epochs, draw, kills = 400, random.Random(stage), 0
    assert not killed(start(lambda: run(folder, stage, tmp_path / "straight", epochs)))
    while True:
        process = start(lambda: run(folder, stage, tmp_path / "killed", epochs))
        if kills < KILLS:
            kill_after(process, draw.uniform(0.0, 0.12))
        if not killed(process):
            break
        kills += 1
    assert kills == KILLS, "the run ended before it was killed often enough; give it more epochs"
    assert results(tmp_path / "killed") == results(tmp_path / "straight")
    assert not (tmp_path / "killed-state").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_killed_before_every_single_change_of_a_file(folder, tmp_path, stage):
    """Of a checkpoint, between its rename and the next, of results, and while cleaning up."""

    def killed_at(event: int, out: Path):
        def work() -> None:
            left = event

            def hook(name: str, args: tuple) -> None:
                nonlocal left
                writes = name == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                if name in FILE_EVENTS or writes:
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1

            sys.addaudithook(hook)
            run(folder, stage, out, epochs=2)

        return killed(start(work))

    run(folder, stage, tmp_path / "straight", epochs=2)
    straight = results(tmp_path / "straight")
    event = 0
    while killed_at(event, tmp_path / str(event)):
        assert not killed(start(lambda at=event: run(folder, stage, tmp_path / str(at), 2)))
        assert results(tmp_path / str(event)) == straight, f"killed before file event {event}"
        event += 1
    assert event > 20

"""Images a second of training, the textbook procedure's and the study's: one process a measurement.

What is trained is sparse, as in most epochs of a study. An epoch counts whole: loading,
augmentation, every step, and evaluation as often as each does it.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from maskalign.bench import baseline, work
from maskalign.checkpoint import load_tensors
from maskalign.evaluation import evaluate
from maskalign.training import Plan, train

EPOCHS = 3  # the first warms up and is not counted
PATIENCE = 600.0  # seconds that the jobs of a group wait for each other
RATE = 0.01  # at which no network diverges, and ends, within them


def textbook(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the images a second of ``baseline.train`` with ``job["workers"]``."""
    tensors, _ = load_tensors(work.prepare(folder, job["images"]))
    loaders = baseline.loaders(tensors, work.SPEC, work.BATCH, job["workers"])
    ends: list[float] = []

    def end(accuracy: float) -> None:
        ends.append(time.perf_counter())

    model = work.build(job["network"])
    baseline.train(model, *loaders, EPOCHS, RATE, device, work.mask(model), after_epoch=end)
    images = len(loaders[0]) * work.BATCH
    return images * (EPOCHS - 1) / (ends[-1] - ends[0])


def ours(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the images a second of ``training.train`` in ``job["precision"]``.

    The other ones of ``job["jobs"]`` that are timed at once meet this one in the folder
    ``job["meeting"]`` when they have warmed up.
    """
    data = work.data(folder, job["images"], device)
    model = work.build(job["network"]).to(device, memory_format=torch.channels_last)
    ends: list[float] = []

    def end(epoch: int, weights: dict[str, torch.Tensor]) -> None:
        work.synchronize(device)
        if epoch == 1:
            _meet(Path(job["meeting"]), job["jobs"])
        ends.append(time.perf_counter())
        if epoch == EPOCHS:
            raise _Done

    # The last epoch of a run evaluates: it is not reached, and evaluation counts by its share.
    plan = Plan(
        epochs=EPOCHS + 1,
        lr=RATE,
        seed=("bench",),
        batch_size=work.BATCH,
        precision=job["precision"],
        compile=job["compile"],
        evaluate_every=EPOCHS + 1,
    )
    with tempfile.TemporaryDirectory() as state, contextlib.suppress(_Done):
        train(model, data, plan, Path(state), "bench", work.mask(model), end, log=lambda line: None)
    # ends: the start, then every epoch.
    epoch = (ends[EPOCHS] - ends[1]) / (EPOCHS - 1)
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        evaluate(model, data.test_batches())
        testing = time.perf_counter() - began
    images = data.steps(work.BATCH) * work.BATCH
    return images / (epoch + testing / work.EVALUATE_EVERY)


def _meet(folder: Path, jobs: int) -> None:
    """Wait until as many processes have come here; TimeoutError if one does not."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.iterdir())) < jobs:
        if time.monotonic() > deadline:
            raise TimeoutError(f"one of {jobs} jobs that are timed at once did not get ready")
        time.sleep(0.01)


def accuracy(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the test accuracy in percent after ``job["epochs"]`` epochs of seed ``job["seed"]``.

    ``job["procedure"]`` is ``textbook`` or ``ours``.
    """
    rate, epochs, seed = 0.08, job["epochs"], job["seed"]
    model = work.build(job["network"], seed)
    if job["procedure"] == "textbook":
        tensors, _ = load_tensors(work.prepare(folder, job["images"]))
        loaders = baseline.loaders(tensors, work.SPEC, work.BATCH, 0)
        return baseline.train(model, *loaders, epochs, rate, device, work.mask(model))
    data = work.data(folder, job["images"], device)
    plan = Plan(
        epochs=epochs,
        lr=rate,
        seed=("bench", seed),
        batch_size=work.BATCH,
        evaluate_every=epochs,
    )
    model = model.to(device, memory_format=torch.channels_last)
    mask = work.mask(model)
    with tempfile.TemporaryDirectory() as state:
        history = train(model, data, plan, Path(state), "bench", mask, log=lambda line: None)
    return history[-1]["test_accuracy"]


class _Done(Exception):  # noqa: N818 (not an error)
    pass

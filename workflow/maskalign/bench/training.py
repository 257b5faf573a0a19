"""Images a second of training, the textbook procedure's and the study's: one process a measurement.

What is trained is sparse, as in most epochs of a study. An epoch counts whole: loading,
augmentation, every step, and evaluation as often as each does it.
"""

import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from maskalign import devices
from maskalign import training as loop
from maskalign.bench import work
from maskalign.checkpoint import load_tensors
from maskalign.evaluation import evaluate
from maskalign.training import Plan, train

EPOCHS = 3  # the first warms up and is not counted
PATIENCE = 600.0  # seconds that the jobs of a group wait for each other
RATE = 0.01  # at which no network diverges
ENDLESS = 100_000  # epochs: none of them is the last, which would evaluate


def textbook(job: dict[str, Any], folder: Path, device: str) -> float:
    """Return the images a second of ``baseline.train`` with ``job["workers"]``."""
    from maskalign.bench import baseline  # imports torchvision, which takes as long as torch

    size = work.NETWORKS[job["network"]][2]
    file = work.prepare(folder, job["images"], size, job.get("made_up", False))
    loaders = baseline.loaders(load_tensors(file)[0], work.SPEC, work.BATCH, job["workers"])
    ends: list[float] = []

    def end(accuracy: float) -> None:
        ends.append(time.perf_counter())

    model = work.build(job["network"]).to(device)
    baseline.train(model, *loaders, EPOCHS, RATE, device, work.mask(model), after_epoch=end)
    images = len(loaders[0]) * work.BATCH
    return images * (EPOCHS - 1) / (ends[-1] - ends[0])


def ours(
    job: dict[str, Any],
    folder: Path,
    device: str,
    afterwards: Callable[[int], bool] | None = None,
) -> dict[str, float]:
    """Measure ``training.train`` on one network.

    The other ones of ``job["jobs"]`` that are timed at once meet this one in the folder
    ``job["meeting"]`` when they have warmed up.

    Args:
        job: ``network``, ``images`` and ``precision``; and if they are asked for, ``compile``,
            ``graph``, ``tf32`` (a GPU's float32 with rounded inputs), ``any_order`` (sums in
            cuDNN's own order), ``seconds`` (timed at least), ``jobs`` and ``meeting``.
        folder: for the data.
        device: where it trains.
        afterwards: called after every step, numbered from 0, that follows what is timed, until it
            returns False.

    Returns:
        ``images_s``, ``low`` and ``high``: images a second of the median, the slowest and the
        fastest epoch, each with its share of an evaluation; ``train_images_s`` and
        ``eval_images_s``: of training alone and of evaluation alone; ``step_ms``; ``epochs``: how
        many were timed; ``start_s``: what the first one, which is not, took longer.
    """
    devices.exact()
    if job.get("tf32"):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    if job.get("any_order"):
        torch.backends.cudnn.deterministic = False
    data = work.job_data(job, folder, device)
    model = work.build(job["network"]).to(device, memory_format=torch.channels_last)
    watch = _Watch(job, device, afterwards)
    plan = Plan(
        epochs=ENDLESS,
        lr=RATE,
        seed=("bench",),
        batch_size=work.BATCH,
        precision=job["precision"],
        compile=job.get("compile", False),
        graph=job.get("graph", False),
        evaluate_every=ENDLESS,
    )
    with tempfile.TemporaryDirectory() as state, contextlib.suppress(_Done), _no_checkpoints():
        mask = work.mask(model)
        train(model, data, plan, Path(state), "bench", mask, watch.end, log=_quiet, progress=watch)
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        evaluate(model, data.test_batches())
        testing = time.perf_counter() - began
    steps = data.steps(work.BATCH)
    images = steps * work.BATCH
    epochs = watch.epochs
    median = statistics.median(epochs)

    def speed(epoch: float) -> float:
        return images / (epoch + testing / work.EVALUATE_EVERY)

    return {
        "images_s": speed(median),
        "low": speed(max(epochs)),
        "high": speed(min(epochs)),
        "train_images_s": images / median,
        "eval_images_s": len(data.test_labels) / testing,
        "step_ms": 1000 * median / steps,
        "epochs": len(epochs),
        "start_s": watch.first - median,
    }


class _Watch:
    """Times epochs, and ends the training when enough are timed; in the place of its progress."""

    def __init__(self, job: dict[str, Any], device: str, afterwards: Callable[[int], bool] | None):
        self.job, self.device, self.afterwards = job, device, afterwards
        self.epochs: list[float] = []
        self.first = 0.0
        self._ends: list[float] = []
        self._step: int | None = None

    def end(self, epoch: int, weights: dict[str, torch.Tensor]) -> None:
        """Take the time after ``epoch`` epochs."""
        if self._step is not None:
            return
        work.synchronize(self.device)
        now = time.perf_counter()
        if epoch == 1:
            self.first = now - self._ends[0]
            if self.job.get("jobs", 1) > 1:
                _meet(Path(self.job["meeting"]), self.job["jobs"])
                now = time.perf_counter()
        if epoch > 1:
            self.epochs.append(now - self._ends[-1])
        self._ends.append(now)
        least = 1 if self.job.get("seconds") else EPOCHS - 1
        if len(self.epochs) >= least and sum(self.epochs) >= self.job.get("seconds", 0):
            if self.afterwards is None:
                raise _Done
            self._step = 0

    def update(self, epoch: float, images: int, accuracy: float | None) -> None:
        """Tell of every step after what is timed."""
        if self._step is not None:
            if not self.afterwards(self._step):
                raise _Done
            self._step += 1


@contextlib.contextmanager
def _no_checkpoints() -> Iterator[None]:
    """Let no checkpoint fall into what is timed: a run of the study writes one a minute."""
    before = loop.CHECKPOINT_SECONDS
    loop.CHECKPOINT_SECONDS = math.inf
    try:
        yield
    finally:
        loop.CHECKPOINT_SECONDS = before


def _quiet(line: str) -> None:
    pass


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
    from maskalign.bench import baseline

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
        history = train(model, data, plan, Path(state), "bench", mask, log=_quiet)
    return history[-1]["test_accuracy"]


class _Done(Exception):  # noqa: N818 (not an error)
    pass

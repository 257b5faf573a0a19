"""The one training loop: dense training, IMP fine-tuning and sparse training.

A run killed at any moment goes on from its last checkpoint and ends with the same bits, because
a checkpoint holds weights, momentum and position, and everything random is a function of position.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from maskalign import distributed
from maskalign.checkpoint import load_tensors, load_weights, save_tensors
from maskalign.data import Seed
from maskalign.evaluation import evaluate
from maskalign.progress import Progress
from maskalign.pruning import Mask, check_mask
from maskalign.step import GraphedStep, Step, multiply
from maskalign.wrapped import refuse_wrapped

# Between two checkpoints; ten times longer where writing is slow.
CHECKPOINT_SECONDS = float(os.environ.get("MASKALIGN_CHECKPOINT_SECONDS", "60"))
SLOW_WRITE_SECONDS = 2.0
FORMAT = "checkpoint 2"  # another version's checkpoints are not used


@dataclass(frozen=True)
class Plan:
    """What determines one training run, beside its first weights and its mask.

    ``epochs`` is the length of this run; ``seed`` names its stream of batch order and augmentation.
    """

    epochs: int
    lr: float
    seed: Seed
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    precision: str = "float32"
    compile: bool = False
    graph: bool = False
    evaluate_every: int = 1

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the rate of a step: linear warm-up, then cosine to 0 or a tenth per milestone.

        >>> plan = Plan(epochs=4, lr=0.1, seed=("doc",), warmup_epochs=1)
        >>> [round(plan.learning_rate(step, steps_per_epoch=2), 4) for step in range(8)]
        [0.05, 0.1, 0.1, 0.0933, 0.075, 0.05, 0.025, 0.0067]
        """
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "steps":
            return self.lr * 0.1 ** sum(step >= m * steps_per_epoch for m in self.milestones)
        progress = (step - warmup) / (self.epochs * steps_per_epoch - warmup)
        return self.lr * (1 + math.cos(math.pi * progress)) / 2


@dataclass
class Position:
    """Where a training run stands: completed epochs, steps of the current one, what came out."""

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    model: torch.nn.Module,
    data: Any,
    plan: Plan,
    state: Path,
    identity: str,
    mask: Mask | None = None,
    keep: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
    guard: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return its history, one entry an epoch.

    Data-parallel processes all call this. They share every batch and take the same steps; the first
    of them alone calls ``keep``, logs, evaluates and writes checkpoints.

    Args:
        model: the network with its first weights, on the device.
        data: a data set of ``maskalign.data``.
        plan: schedule and seeds.
        state: folder for the resume checkpoint; an interrupted run goes on from there.
        identity: hash of what determines the run; a checkpoint of another identity is not used.
        mask: masked weights are zero in every forward pass and at the end; None trains all.
        keep: called with (completed epochs, state_dict) at the start and after every epoch.
        guard: called before anything is written, and after every epoch; may raise to stop the run.
        log: receives one line an epoch.
        progress: is told after every step how far the run is.

    Returns:
        Entries with ``epoch`` (completed), ``lr``, mean ``train_loss`` and, where evaluated,
        ``test_loss``, ``test_accuracy`` and ``test_top5_accuracy``. The history of a run whose loss
        is not finite ends with that epoch.

    Raises:
        ValueError: one line, if torch has wrapped the network, the mask is not one of its
            parameters, a batch is larger than the data, or several processes are to compile or to
            record a graph.
    """
    refuse_wrapped(model)
    share = rank, processes = distributed.place()
    if processes > 1 and (plan.compile or plan.graph):
        raise ValueError(
            f"compile and graph are not allowed with {processes} processes: CUDA graphs fail there "
            "(PyTorch issue 139207)"
        )
    weights = list(model.parameters())
    # Zero momentum is what SGD begins with.
    momentum = [torch.zeros_like(w) if plan.momentum else None for w in weights]
    device = next(model.parameters()).device
    parameters = dict(model.named_parameters())
    check_mask(mask or {}, parameters)
    masked = [parameters[name] for name in mask or {}]
    # In the weights' own memory format, without which the products are taken one by one.
    masks = [torch.empty_like(parameters[name]).copy_(m) for name, m in (mask or {}).items()]
    identity = f"{FORMAT} {identity}"
    steps = data.steps(plan.batch_size)
    if not steps:
        raise ValueError(
            f"batch_size {plan.batch_size} is larger than the {data.train_samples} training images"
        )
    file = state / "resume.safetensors"
    total = torch.zeros((), dtype=torch.float64, device=device)
    if rank:  # the first process has number 0
        keep, guard, progress = None, lambda: None, None
    position = _resume(file, identity, model, momentum, total, log)
    multiply(masked, masks)
    network = distributed.replicate(model, data)
    if plan.compile:
        network = compiled(network, graphs=not plan.graph)
    bfloat16 = plan.precision == "bfloat16"
    rates = plan.momentum, plan.weight_decay
    step = Step(network, weights, momentum, masked, masks, total, *rates, bfloat16)
    if plan.graph:
        step = GraphedStep(step, device)
    if position.epoch == position.step == 0 and keep:
        keep(0, model.state_dict())
    interval, due = CHECKPOINT_SECONDS, time.monotonic() + CHECKPOINT_SECONDS
    if rank:
        due = math.inf

    # The loss is the same in all processes; the test loss is known to the first alone.
    while position.epoch < plan.epochs and math.isfinite(_last_loss(position)):
        model.train()
        began, first = time.perf_counter(), position.step
        where = plan.batch_size, plan.seed, position.epoch, position.step
        for x, y in data.train_batches(*where, share=share):
            rate = plan.learning_rate(position.epoch * steps + position.step, steps)
            step(x, y, rate)
            position.step += 1
            if progress:
                done = position.epoch + position.step / steps
                progress.update(done, steps * plan.batch_size, _last_accuracy(position))
            if time.monotonic() >= due and position.step < steps:
                began_writing = time.monotonic()
                guard()
                _save(file, identity, model, momentum, total, position)
                slow = time.monotonic() - began_writing > SLOW_WRITE_SECONDS
                interval = 10 * CHECKPOINT_SECONDS if slow else CHECKPOINT_SECONDS
                due = time.monotonic() + interval

        entry = {"epoch": position.epoch + 1, "lr": rate, "train_loss": float(total) / steps}
        speed = (steps - first) * plan.batch_size / (time.perf_counter() - began)
        last = position.epoch + 1 == plan.epochs or diverged([entry])
        if not rank and (last or (position.epoch + 1) % plan.evaluate_every == 0):
            scores = evaluate(model, data.test_batches())
            entry |= {f"test_{name}": value for name, value in scores.items()}
        position.history.append(entry)
        position.epoch, position.step = position.epoch + 1, 0
        total.zero_()
        log(_line(entry, plan.epochs, speed))
        guard()
        if keep:
            keep(position.epoch, model.state_dict())
        if time.monotonic() >= due:
            _save(file, identity, model, momentum, total, position)
            due = time.monotonic() + interval
    return position.history


def compiled(model: torch.nn.Module, graphs: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return ``model``, compiled at its first call.

    Args:
        model: the network.
        graphs: whether the compiler is asked for CUDA graphs of the forward and the backward pass;
            not where a graph of the whole step is recorded.
    """
    mode = "reduce-overhead" if graphs else "default"
    return torch.compile(model, mode=mode, dynamic=False)


def _last_loss(position: Position) -> float:
    return position.history[-1]["train_loss"] if position.history else 0.0


def _last_accuracy(position: Position) -> float | None:
    scores = (e["test_accuracy"] for e in reversed(position.history) if "test_accuracy" in e)
    return next(scores, None)


def diverged(history: list[dict[str, float]]) -> bool:
    """Return whether a history ends with a training or test loss that is not finite."""
    if not history:
        return False
    # The last step can spoil the weights after the last loss was taken.
    return not all(math.isfinite(history[-1].get(k, 0.0)) for k in ("train_loss", "test_loss"))


def _save(file: Path, identity, model, momentum, total, position: Position) -> None:
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"momentum.{i}": m for i, m in enumerate(momentum) if m is not None}
    metadata = {
        "identity": identity,
        "epoch": str(position.epoch),
        "step": str(position.step),
        "history": json.dumps(position.history),
    }
    save_tensors(file, tensors | {"total": total}, metadata, _previous(file))


def _previous(file: Path) -> Path:
    """Return where the checkpoint before ``file`` is kept, in case that one gets damaged."""
    return file.with_name(f"previous-{file.name}")


def _resume(file: Path, identity: str, model, momentum, total, log) -> Position:
    """Load the newest sound checkpoint of an interrupted run, if it has one of this identity."""
    for candidate in (file, _previous(file)):
        try:
            tensors, metadata = load_tensors(candidate, total.device)
        except FileNotFoundError:
            continue
        except ValueError as error:
            log(f"{error}")
            continue
        if metadata.get("identity") != identity:
            log(f"{candidate}: belongs to other values or another version")
            continue
        load_weights(model, _under("model.", tensors))
        for i, buffer in _under("momentum.", tensors).items():
            momentum[int(i)].copy_(buffer)
        total.copy_(tensors["total"])
        position = Position(
            int(metadata["epoch"]), int(metadata["step"]), json.loads(metadata["history"])
        )
        log(f"going on from epoch {position.epoch}, step {position.step}")
        return position
    if file.exists():
        log("no checkpoint of this run can be used: starting from the beginning")
    return Position()


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _line(entry: dict[str, float], epochs: int, speed: float) -> str:
    text = f"epoch {entry['epoch']}/{epochs}  train loss {entry['train_loss']:.4f}"
    if "test_accuracy" in entry:
        text += f"  test accuracy {entry['test_accuracy']:.2f} %"
    return f"{text}  {speed:.0f} images/s"


def history_rows(history: Iterable[dict[str, float]]) -> str:
    """Return a history as CSV text; epochs that were not evaluated leave their columns empty."""
    columns = ["epoch", "lr", "train_loss", "test_loss", "test_accuracy", "test_top5_accuracy"]
    lines = [",".join(str(entry.get(c, "")) for c in columns) for entry in history]
    return "\n".join([",".join(columns), *lines]) + "\n"

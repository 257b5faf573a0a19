"""Checks of a device against the CPU. A check raises AssertionError or returns its finding.

``make test-gpu`` runs them as tests: on a GPU where there is one; on the CPU everywhere, where each
but that of compiled steps is also seen to fail. The benchmark runs them as one of its pieces.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskalign import distributed, graph, matching, models, pruning, symmetry, training
from maskalign.bench import work
from maskalign.checkpoint import load_tensors, load_weights, save_tensors
from maskalign.data import ImageData, open_data
from maskalign.training import Plan, train

IMAGES = 512  # 8 steps an epoch
FEW = 64  # one step: after more, rounding has grown so far that float32 and TF32 look alike
PIXELS = 16
SPARSITY = 0.8
PLAN = Plan(epochs=2, lr=0.01, seed=("check",), batch_size=64, evaluate_every=2)
GRAPH = {"graph": True}
WAYS = {"plain": {}, "graph": GRAPH}
COMPILED = {"compiled": {"compile": True}, "graph, compiled": GRAPH | {"compile": True}}
# Relative distances of weights to float64 after one step, of six seeds on one and two CPU threads:
# float32 1e-7 to 2.2e-6, TF32 (its rounding imitated) 1.7e-5 to 2e-5, bfloat16 9e-5 to 1.2e-4.
FLOAT32 = 8e-6
BFLOAT16 = (4e-5, 5e-4)
ALIKE = 5e-3  # after 16 steps; between float32 on one and on two threads it is 1.5e-4
HALF = 0.01  # by which the training loss of bfloat16 may differ from that of float64, relatively
KILLED_AFTER = 6  # steps, at least
PATIENCE = 120.0  # seconds in which a process that is to be killed has come so far


def images(folder: Path, device: str, count: int = IMAGES) -> ImageData:
    """Return a small data set of made-up images."""
    file = work.prepare(folder, count, PIXELS, made_up=True)
    return open_data(file, work.SPEC, device)


def network(device: str, seed: int = 0) -> nn.Module:
    """Return a thin residual network with the weights of a seed."""
    torch.manual_seed(seed)
    shape = {"classes": work.CLASSES, "image_size": PIXELS, "in_channels": 3}
    model = models.build("resnet20", **shape, width=1, channels=8, blocks=[1, 1, 1])
    return model.to(device, memory_format=torch.channels_last)


def mask_of(model: nn.Module) -> pruning.Mask:
    """Return the mask of the largest weights of a network."""
    weights = model.state_dict()
    full = pruning.full_mask(weights, models.prunable(model))
    return pruning.prune(weights, full, SPARSITY)


def _quiet(line: str) -> None:
    pass


def trained(
    device: str, folder: Path, name: str, count: int = IMAGES, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the weights, on the CPU, and the history of a short sparse training on a device."""
    return _trained(device, folder, name, count, _quiet, options)


def _trained(device: str, folder: Path, name: str, count: int, log, options: dict[str, Any]):
    model = network(device)
    plan = replace(PLAN, **options)
    data, mask = images(folder, device, count), mask_of(model)
    history = train(model, data, plan, folder / name, "check", mask, log=log)
    return {k: v.detach().cpu() for k, v in model.state_dict().items()}, history


def _gone_on(device: str, folder: Path, name: str, options: dict[str, Any]):
    """Return what ``trained`` does of a run that goes on from a checkpoint."""
    said: list[str] = []
    found = _trained(device, folder, name, IMAGES, said.append, options)
    assert any(line.startswith("going on from") for line in said), f"{name}: it began anew"
    return found


class _Doubled(nn.Module):
    """A network in float64."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.double())


def reference(
    folder: Path, count: int = IMAGES, epochs: int = PLAN.epochs
) -> tuple[dict[str, Tensor], float]:
    """Return the weights and the last training loss of that training in float64, on the CPU."""
    model = network("cpu")
    mask = {f"inner.{k}": m for k, m in mask_of(model).items()}
    doubled, data = _Doubled(model), images(folder, "cpu", count)
    plan, state = replace(PLAN, epochs=epochs), folder / f"reference {count} {epochs}"
    history = train(doubled, data, plan, state, "check", mask, log=_quiet)
    return model.state_dict(), history[-1]["train_loss"]


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Return how far weights are from others, relative to their length; NaN is far."""
    keys = [k for k, v in wanted.items() if v.is_floating_point()]
    gap = sum(float((found[k].double() - wanted[k].double()).square().sum()) for k in keys)
    length = sum(float(wanted[k].double().square().sum()) for k in keys)
    ratio = (gap / length) ** 0.5
    return ratio if ratio == ratio else float("inf")


def as_on_the_cpu(device: str, folder: Path) -> str:
    """Check that a float32 step is as near to float64 on the device as on a CPU."""
    exact, _ = reference(folder, FEW, epochs=1)
    weights, _ = trained(device, folder, "device", FEW, epochs=1)
    gap = distance(weights, exact)
    assert gap <= FLOAT32, f"{gap:.1e} from float64 after a step, at most {FLOAT32:g} is allowed"
    return f"relative distance of weights to float64 after a step: {gap:.1e}"


def graphs_as_plain(device: str, folder: Path) -> str:
    """Check that replayed steps are those of the plain loop."""
    return _as_plain(device, folder, {"graph": GRAPH})


def compiled_as_plain(device: str, folder: Path) -> str:
    """Check that compiled steps are those of the plain loop."""
    return _as_plain(device, folder, COMPILED)


def _as_plain(device: str, folder: Path, ways: dict[str, dict[str, Any]]) -> str:
    plain, _ = trained(device, folder, "plain")
    found = {}
    for way, options in ways.items():
        found[way] = distance(trained(device, folder, way, **options)[0], plain)
        assert found[way] <= ALIKE, f"{way}: {found[way]:.2e} from the weights of plain steps"
    text = ", ".join(f"{way} {gap:.1e}" for way, gap in found.items())
    return f"relative distance of weights to plain steps after 16: {text}"


def half_precision(device: str, folder: Path) -> str:
    """Check that bfloat16 is as far from float64 as it should be, and trains to the same loss."""
    exact, _ = reference(folder, FEW, epochs=1)
    low, high = BFLOAT16
    weights, _ = trained(device, folder, "step", FEW, epochs=1, precision="bfloat16")
    gap = distance(weights, exact)
    assert low <= gap <= high, f"{gap:.1e} from float64 after a step, {low:g} to {high:g} expected"
    _, wanted = reference(folder)
    found = {}
    for way, options in WAYS.items():
        _, history = trained(device, folder, way, precision="bfloat16", **options)
        found[way] = history[-1]["train_loss"]
        near = abs(found[way] / wanted - 1) <= HALF
        assert near, f"{way}: training loss {found[way]:.4f}, float64 has {wanted:.4f}"
    text = ", ".join(f"{way} {loss:.4f}" for way, loss in found.items())
    return (
        f"relative distance of weights to float64 after a step: {gap:.1e}; training loss after "
        f"16: {text}, float64 {wanted:.4f}"
    )


def masks_exact(device: str, folder: Path) -> str:
    """Check that masked weights end as zeros, and that masks do not depend on the device."""
    model, here = network("cpu"), network(device)
    mask, other = mask_of(model), mask_of(here)
    assert all(torch.equal(m, other[k].cpu()) for k, m in mask.items()), "pruning differs"
    groups = graph.derive(model, torch.zeros(2, 3, PIXELS, PIXELS))
    permutations = symmetry.shuffled(groups, torch.Generator().manual_seed(1))
    moved = symmetry.permute(groups, permutations, mask)
    sent = {k: p.to(device) for k, p in permutations.items()}
    again = symmetry.permute(groups, sent, other)
    assert all(torch.equal(m, again[k].cpu()) for k, m in moved.items()), "permuting differs"
    for way, options in WAYS.items():
        for precision in ("float32", "bfloat16"):
            options = options | {"precision": precision}
            weights, _ = trained(device, folder, f"mask-{way}-{precision}", **options)
            for k, m in mask.items():
                assert not weights[k][~m].any(), f"{way}, {precision}: {k} has weights off its mask"
                assert weights[k][m].all(), f"{way}, {precision}: {k} has zeros on its mask"
    kept = sum(int(m.sum()) for m in mask.values())
    return f"{kept} weights kept, in {len(WAYS)} ways and two precisions"


def matching_as_on_the_cpu(device: str, folder: Path) -> str:
    """Check that a planted permutation is found on the device."""
    model = network("cpu")
    groups = graph.derive(model, torch.zeros(2, 3, PIXELS, PIXELS))
    planted = symmetry.shuffled(groups, torch.Generator().manual_seed(2))
    other = network("cpu")
    load_weights(other, symmetry.permute(groups, planted, model.state_dict()))
    data = images(folder, device)
    inputs = (x for x, _ in data.train_subset(None, ("check",), augment=False))
    a, b = (m.to(device).eval() for m in (model, other))
    found = matching.match_activations(matching.correlate(groups, a, b, inputs))
    for name, perm in planted.items():
        assert torch.equal(found[name].cpu(), perm), f"{name}: the planted permutation is not found"
    return f"{sum(map(len, planted.values()))} channels of {len(planted)} groups"


def resumed(device: str, folder: Path) -> str:
    """Check that an interrupted run goes on and ends with the same bits, however it trains."""
    for way, options in WAYS.items():
        for precision in ("float32", "bfloat16"):
            options = options | {"precision": precision}
            name = f"{way}, {precision}"
            straight, history = trained(device, folder, f"straight {name}", **options)
            with _checkpoints_at_every_step(), contextlib.suppress(_Interrupted):
                _interrupted(device, folder, f"resumed {name}", **options)
            weights, again = _gone_on(device, folder, f"resumed {name}", options)
            _same(name, weights, straight, again, history)
    return f"{2 * len(WAYS)} runs, to the bit"


def killed(device: str, folder: Path) -> str:
    """Check that a process that is killed, and its work gone on with, ends with the same bits."""
    straight, history = trained(device, folder, "straight", **GRAPH)
    code = (
        "import sys; from pathlib import Path\n"
        "from maskalign import devices, training\n"
        "from maskalign.bench.gpu import checks\n"
        "devices.exact(); training.CHECKPOINT_SECONDS = 0.0\n"
        "checks.slowly(sys.argv[1], Path(sys.argv[2]), 'killed')\n"
    )
    command = [sys.executable, "-c", code, device, str(folder)]
    # With as many threads as here, which decide how sums are split on a CPU.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    steps = PLAN.epochs * IMAGES // PLAN.batch_size
    process = subprocess.Popen(command, env=os.environ | threads, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(PATIENCE, process.kill)
    late.start()
    try:
        reached = 0
        while reached < KILLED_AFTER:
            line = process.stdout.readline()
            assert line, f"the process to be killed ended, or took {PATIENCE:g} s to start"
            reached = int(line)
    finally:
        late.cancel()
        process.kill()
        rest, _ = process.communicate()
    assert len(rest.split()) + reached < steps, "the process had ended"
    weights, again = _gone_on(device, folder, "killed", GRAPH)
    _same("killed", weights, straight, again, history)
    return f"killed after step {reached}, to the bit"


def slowly(device: str, folder: Path, name: str) -> None:
    """Train as ``trained`` does; print the number of every step and wait for the kill a moment."""
    model = network(device)
    data = images(folder, device)
    batches, taken = data.train_batches, itertools.count(1)

    def paused(*args, **kwargs):
        for batch in batches(*args, **kwargs):
            yield batch
            print(next(taken), flush=True)  # its step is taken, and its checkpoint written
            time.sleep(0.1)

    data.train_batches = paused
    plan = replace(PLAN, **GRAPH)
    train(model, data, plan, folder / name, "check", mask_of(model), log=_quiet)


def one_process_group(device: str, folder: Path) -> str:
    """Check that a group of one process (NCCL on a GPU, else gloo) trains as none does."""
    plain, history = trained(device, folder, "alone")
    order = {"device": device, "folder": str(folder), "file": str(folder / "group.safetensors")}
    distributed.launch("maskalign.bench.gpu.checks:in_a_group", order, processes=1)
    weights, about = load_tensors(folder / "group.safetensors")
    gap = distance(weights, plain)
    assert gap <= ALIKE, f"{about['backend']}: {gap:.2e} from the weights without a group"
    loss = json.loads(about["history"])[-1]["train_loss"]
    assert abs(loss - history[-1]["train_loss"]) <= 1e-3, f"training loss {loss:.5f}"
    return f"{about['backend']}: relative distance of weights {gap:.1e}"


def in_a_group(device: str, folder: str, file: str) -> None:
    """Train in the process group that there is, and write the weights."""
    from maskalign import devices

    devices.exact()
    weights, history = trained(device, Path(folder), "group")
    backend = torch.distributed.get_backend()
    distributed.leave()
    save_tensors(file, weights, {"backend": backend, "history": json.dumps(history)})


class _Interrupted(Exception):  # noqa: N818 (not an error)
    pass


def _interrupted(device: str, folder: Path, name: str, **options: Any) -> None:
    """Train until some steps into the second epoch."""
    model, data = network(device), images(folder, device)
    batches = data.train_batches

    def some(batch_size, seed, epoch, *args, **kwargs):
        for i, batch in enumerate(batches(batch_size, seed, epoch, *args, **kwargs)):
            if epoch == 1 and i == 5:
                raise _Interrupted
            yield batch

    data.train_batches = some
    plan = replace(PLAN, **options)
    train(model, data, plan, folder / name, "check", mask_of(model), log=_quiet)


@contextlib.contextmanager
def _checkpoints_at_every_step():
    before = training.CHECKPOINT_SECONDS
    training.CHECKPOINT_SECONDS = 0.0
    try:
        yield
    finally:
        training.CHECKPOINT_SECONDS = before


def _same(name: str, weights, wanted, history, expected) -> None:
    differ = [k for k, v in wanted.items() if not torch.equal(v, weights[k])]
    gap = distance(weights, wanted)
    assert not differ, f"{name}: {len(differ)} of {len(wanted)} tensors differ, by {gap:.1e}"
    assert history == expected, f"{name}: the histories differ"


CHECKS: dict[str, Callable[[str, Path], str]] = {
    "float32 as on the CPU": as_on_the_cpu,
    "graphs as plain steps": graphs_as_plain,
    "bfloat16 as float64": half_precision,
    "masks exact": masks_exact,
    "a planted permutation": matching_as_on_the_cpu,
    "resumed to the same bits": resumed,
    "killed, to the same bits": killed,
    "a group of one process": one_process_group,
    "compiled as plain steps": compiled_as_plain,  # half a minute of compiling
}

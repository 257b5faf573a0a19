"""The pieces of the benchmark: each measures in its own process and yields rows as it has them.

A row is the ``setting``, the ``measure``, its ``unit`` and ``value``, where there are several
readings the ``low`` and the ``high`` one and how many they are (``repeats``), and a ``note``.
"""

import contextlib
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from maskalign import devices, models
from maskalign.bench import processes, starting, work
from maskalign.bench.gpu.plan import PROFILED, SETTINGS, Sizes
from maskalign.step import WARM_UP, GraphedStep, Step

Row = dict[str, Any]
WINDOW = (4, 12)  # steps after the timed ones that are profiled: from and to
BLOCKS = 5  # readings of what is called many times


def row(setting: str, measure: str, unit: str, values: float | list[float], note: str = "") -> Row:
    """Return the median of readings as a row."""
    values = values if isinstance(values, list) else [values]
    found = {"setting": setting, "measure": measure, "unit": unit, "note": note}
    found["repeats"] = len(values)
    numbers = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return found | {k: f"{v:.5g}" for k, v in numbers.items()}


# -- the two ceilings ------------------------------------------------------------------------------


def ceilings(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield the rates of dense matrix products and of a copy: what this card can do at most."""
    side = sizes.side
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty(side, side, device=device, dtype=dtype)
        spent = _seconds(lambda x=a, y=b, z=out: torch.mm(x, y, out=z), device, sizes.block)
        rates = [2 * side**3 / s / 1e12 for s in spent]
        yield row(f"{name}, {side} x {side}", "dense rate", "TFLOP/s", rates)
    source = torch.empty(sizes.copied // 4, device=device).normal_()
    target = torch.empty_like(source)
    spent = _seconds(lambda: target.copy_(source), device, sizes.block)
    rates = [2 * sizes.copied / s / 1e12 for s in spent]
    yield row("bytes read and written", "copy bandwidth", "TB/s", rates)


def _seconds(call: Callable[[], Any], device: str, block: float) -> list[float]:
    """Return the seconds of a call, the mean of many in each of several blocks."""
    call()
    work.synchronize(device)
    began = time.perf_counter()
    call()
    work.synchronize(device)
    calls = max(1, round(block / (time.perf_counter() - began)))
    found = []
    for _ in range(BLOCKS):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        work.synchronize(device)
        found.append((time.perf_counter() - began) / calls)
    return found


# -- training --------------------------------------------------------------------------------------


def textbook(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield images per second of the textbook procedure, with torch's own flags."""
    from maskalign.bench import training

    for workers in sizes.workers:
        job = {"network": network, "images": sizes.images[network], "made_up": True}
        speed = training.textbook(job | {"workers": workers}, folder, device)
        yield row(f"textbook, {workers} workers", "training", "images/s", speed)


def ours(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield images per second of the study's loop in all settings, and where a step's time goes.

    Profiling slows what follows it, so it comes after what is timed; compiled settings, which would
    have to be compiled again, are profiled at once. A setting that fails does not keep the others
    from being measured; RuntimeError at the end.
    """
    yield row("", "operations", "MFLOP/image", _operations(network, device) / 1e6)
    failed = []
    asked = sizes.settings[network]
    compiled = [s for s in asked if "compile" in SETTINGS[s]]
    plain = [s for s in asked if s not in compiled]
    todo = [(_timed, s) for s in plain] + [(_timed_and_profiled, s) for s in compiled]
    todo += [(_profiled, s) for s in plain if s in PROFILED]
    for measure, setting in todo:
        try:
            yield from measure(network, setting, sizes, folder, device)
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{setting}: {type(error).__name__}: {' '.join(str(error).split())}")
    if failed:
        raise RuntimeError("; ".join(failed))


def _timed(
    network: str, setting: str, sizes: Sizes, folder: Path, device: str, profile: Any = None
) -> Iterator[Row]:
    from maskalign.bench import training

    cuda = torch.device(device).type == "cuda"
    gc.collect()
    if cuda:
        with contextlib.suppress(RuntimeError):  # after a recording that failed
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = {"network": network, "images": sizes.images[network], "made_up": True}
    job |= {"seconds": sizes.seconds} | SETTINGS[setting]
    found = training.ours(job, folder, device, profile and profile.step)
    speed = row(setting, "training", "images/s", found["images_s"])
    yield speed | {k: f"{found[k]:.5g}" for k in ("low", "high")} | {"repeats": found["epochs"]}
    yield row(setting, "training alone", "images/s", found["train_images_s"])
    yield row(setting, "evaluation", "images/s", found["eval_images_s"])
    yield row(setting, "step", "ms", found["step_ms"])
    yield row(setting, "first epoch's extra time", "s", found["start_s"])
    if cuda:
        peak = torch.cuda.max_memory_allocated() / 2**20
        yield row(setting, "device memory", "MiB", peak)


def _profiled(network: str, setting: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    profile = _Profile()
    once = replace(sizes, seconds=1e-6)  # one epoch before the profiled steps
    list(_timed(network, setting, once, folder, device, profile))
    yield from (row(setting, *measured) for measured in profile.counts())


def _timed_and_profiled(
    network: str, setting: str, sizes: Sizes, folder: Path, device: str
) -> Iterator[Row]:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    profile = _Profile()
    yield from _timed(network, setting, sizes, folder, device, profile)
    yield from (row(setting, *measured) for measured in profile.counts())
    skipped = counters["inductor"]["cudagraph_skips"]
    breaks = sum(counters["graph_break"].values())
    again = "" if counters["stats"]["unique_graphs"] == 1 else "it was compiled again"
    yield row(setting, "compiled graphs", "", counters["stats"]["unique_graphs"], again)
    yield row(setting, "graph breaks", "", breaks)
    yield row(setting, "skipped CUDA graphs", "", skipped)


class _Profile:
    """Counts the kernels of some steps, and the launches of CUDA graphs, by torch's profiler."""

    def __init__(self):
        self._steps = WINDOW[1] - WINDOW[0]
        self._profiler: Any = None

    def step(self, number: int) -> bool:
        """Take note of a step; whether more are wanted."""
        first, last = WINDOW
        if number == first:
            cuda = torch.profiler.ProfilerActivity.CUDA if torch.cuda.is_available() else None
            kinds = [k for k in (torch.profiler.ProfilerActivity.CPU, cuda) if k]
            if cuda:  # or the steps before, which are on their way, count too
                torch.cuda.synchronize()
            self._profiler = torch.profiler.profile(activities=kinds)
            self._profiler.__enter__()
        if number == last:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._profiler.__exit__(None, None, None)
        return number < last

    def counts(self) -> Iterator[tuple[str, str, float]]:
        """Yield (measure, unit, value) per step, of the device where there is one."""
        kernels = launches = graphs = calls = 0
        busy = 0.0
        for event in self._profiler.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                if not getattr(event, "is_user_annotation", False):
                    kernels += 1
                    busy += event.time_range.elapsed_us()
            else:
                launches += event.name in ("cudaLaunchKernel", "cuLaunchKernel")
                launches += event.name in ("cudaLaunchKernelExC", "cuLaunchKernelEx")
                graphs += event.name == "cudaGraphLaunch"
                calls += event.name.startswith("aten::")
        if torch.cuda.is_available():
            yield "kernels and copies", "per step", kernels / self._steps
            yield "kernel launches", "per step", launches / self._steps
            yield "graph launches", "per step", graphs / self._steps
            yield "device busy", "ms per step", busy / 1000 / self._steps
        else:
            yield "operations called", "per step", calls / self._steps


def _operations(network: str, device: str) -> float:
    """Return the floating-point operations of an image, forward and backward."""
    size = work.NETWORKS[network][2]
    model = work.build(network).to(device).train()
    x = torch.randn(8, 3, size, size, device=device)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return counter.get_total_flops() / len(x)


# -- several trainings -----------------------------------------------------------------------------


def at_once(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield images per second in sum of several trainings that share the device."""
    for jobs in sizes.at_once:
        yield _together(network, sizes, jobs, "")


def mps(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield the same through NVIDIA's multi-process service, in its default mode."""
    with _service(folder):
        for jobs in (n for n in sizes.at_once if n > 1):
            yield _together(network, sizes, jobs, ", MPS")


def _together(network: str, sizes: Sizes, jobs: int, how: str) -> Row:
    with tempfile.TemporaryDirectory() as meeting:
        job = {"network": network, "images": sizes.images[network], "made_up": True}
        job |= {"seconds": sizes.seconds, "jobs": jobs, "meeting": meeting}
        job |= SETTINGS["bfloat16, graph"]
        threads = max(1, (os.cpu_count() or 1) // jobs)
        started = [processes.start("ours", job, threads) for _ in range(jobs)]
        speeds = [found["images_s"] for found in processes.results(started)]
    name = f"bfloat16, graph, {jobs} at once{how}"
    return row(name, "training in sum", "images/s", sum(speeds))


class UnavailableError(RuntimeError):
    """This machine lacks the thing to measure; the run has not failed."""


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[None]:
    """Run the multi-process service; nothing of the card's settings is touched."""
    command = "nvidia-cuda-mps-control"
    if not shutil.which(command):
        raise UnavailableError(f"{command} is not installed")
    # In the foreground, so that it ends with this process however that ends.
    places = {"CUDA_MPS_PIPE_DIRECTORY": "pipe", "CUDA_MPS_LOG_DIRECTORY": "log"}
    for variable, name in places.items():
        (folder / name).mkdir()
        os.environ[variable] = str(folder / name)
    service = subprocess.Popen([command, "-f"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(2)
        if service.poll() is not None:
            raise UnavailableError(f"{command} ended with exit code {service.returncode}")
        yield
    finally:
        service.terminate()
        service.wait()


# -- the rest --------------------------------------------------------------------------------------


def start(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield the seconds of a job before its training runs: its process, and what a GPU adds."""
    job = "a training job without its training"
    yield row(job, "start", "s", starting.measure({"what": job}, folder, device))
    code = (
        "import sys, time, torch; began = time.perf_counter(); "
        "torch.zeros(1, device=sys.argv[1]); print(time.perf_counter() - began)"
    )
    command = [sys.executable, "-c", code, device]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    yield row("first tensor on the device", "start", "s", float(done.stdout))

    def spent(call: Callable[[], Any]) -> float:
        work.synchronize(device)
        began = time.perf_counter()
        call()
        work.synchronize(device)
        return time.perf_counter() - began

    name = next(iter(sizes.images))
    size = work.NETWORKS[name][2]
    model = work.build(name).to(device, memory_format=torch.channels_last)
    x = torch.randn(work.BATCH, 3, size, size, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(work.BATCH, device=device) % work.CLASSES
    take = GraphedStep(_step(model), torch.device(device))
    steps = [spent(lambda: take(x, y, 0.01)) for _ in range(WARM_UP + 2)]
    for what, seconds in (
        ("first step", steps[0]),
        ("second step", steps[1]),
        ("recording a graph, and its first replay", steps[WARM_UP]),
        ("a replay", steps[-1]),
    ):
        yield row(f"{what} of {name}, bfloat16", "start", "s", seconds)


def _step(model: torch.nn.Module) -> Step:
    """Return a step in bfloat16, of the whole network."""
    weights = list(model.parameters())
    momentum = [torch.zeros_like(w) for w in weights]
    total = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    return Step(model, weights, momentum, [], [], total, 0.9, 5e-4, bfloat16=True)


def analyses(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield seconds of matching and of one line, each beside what it is compared with."""
    from maskalign.bench import connectivity, matching

    devices.exact()
    job = {"network": network, "images": sizes.images[network], "made_up": True}
    asked = {"seconds": sizes.matched, "tried": sizes.tried[network]}
    found = matching.compare(job | asked, folder, device)
    note = f"{found['groups']} groups, {found['images']} images"
    yield row("matching", "all groups in one pass", "s", found["ours"], note)
    yield row("matching", "assignment alone", "s", found["assignment"])
    yield row("matching", "textbook, one pass per group", "s", found["textbook"], note)
    yield row("matching", "channels alike", "%", 100 * found["alike"])
    points = sizes.points[network]
    asked = {"points": points, "grid": 1, "analyses": ["line"]}
    line = connectivity.compare(job | asked, folder, device)["line"]
    note = f"{points} points, {job['images']} images"
    yield row("line", "errors with batch-norm reset", "s", line["ours"], note)
    yield row("line", "forward passes alone", "s", line["forward"])


def one_step(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield the time of one training step, plain and as a graph."""
    devices.exact()
    architecture, width, _, _ = work.NETWORKS[network]
    build = {"classes": 1000, "image_size": sizes.pixels, "in_channels": 3, "width": width}
    model = models.build(architecture, **build)
    model = model.to(device, memory_format=torch.channels_last).train()
    shape = sizes.batch, 3, sizes.pixels, sizes.pixels
    x = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(1000, (sizes.batch,), device=device)
    with FlopCounterMode(display=False) as counter:
        model(x[:2]).sum().backward()
    model.zero_grad()
    yield row("", "operations", "MFLOP/image", counter.get_total_flops() / 2e6)
    plain = _step(model)
    graphed = GraphedStep(plain, torch.device(device))
    for setting, take in (("bfloat16", plain), ("bfloat16, graph", graphed)):
        for _ in range(WARM_UP + 1):  # the last one records the graph
            take(x, y, 0.01)
        spent = _seconds(lambda take=take: take(x, y, 0.01), device, sizes.block)
        note = f"batch {sizes.batch}, {sizes.pixels} pixels"
        yield row(setting, "step", "ms", [1000 * s for s in spent], note)
        yield row(setting, "training alone", "images/s", [sizes.batch / s for s in spent])
    if torch.device(device).type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
        yield row("bfloat16, graph", "device memory", "MiB", peak)


def correctness(network: str, sizes: Sizes, folder: Path, device: str) -> Iterator[Row]:
    """Yield 1 for each check that holds and 0 for each that does not, with its finding."""
    from maskalign.bench.gpu import checks

    devices.exact()
    for name, check in checks.CHECKS.items():
        if name in sizes.without:
            continue
        (folder / name.replace(" ", "-")).mkdir()
        try:
            found, good = check(device, folder / name.replace(" ", "-")), 1
        except Exception as error:
            traceback.print_exc()
            found, good = " ".join(f"{type(error).__name__}: {error}".split()), 0
        yield row(name, "check", "holds", good, found)


KINDS: dict[str, Callable[[str, Sizes, Path, str], Iterator[Row]]] = {
    "ceilings": ceilings,
    "ours": ours,
    "textbook": textbook,
    "checks": correctness,
    "at once": at_once,
    "mps": mps,
    "start": start,
    "analyses": analyses,
    "step": one_step,
}

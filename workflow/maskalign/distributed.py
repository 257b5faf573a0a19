"""Data-parallel training: several processes of one job, each with its part of every batch.

The job starts the processes on its own machine, one GPU each where there are GPUs, and waits for
them. Every process runs the same stage; gradients are averaged by torch's DistributedDataParallel,
so that all take the same steps, and the first process alone writes, logs and evaluates. In an
ordinary job there is one process, and every function here does nothing.
"""

import contextlib
import datetime
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from maskalign import dotted

HOST = "127.0.0.1"
# The others wait while the first evaluates, however long; who dies is noticed by the job instead.
TIMEOUT = datetime.timedelta(days=7)


def data_parallel(stage: Callable[..., None]) -> Callable[..., None]:
    """Let a stage run in ``values["processes"]`` processes."""

    @functools.wraps(stage)
    def run(**arguments) -> None:
        processes = arguments["values"]["processes"]
        if processes == 1 or dist.is_initialized():
            stage(**arguments)
        else:
            launch(f"{stage.__module__}:{stage.__name__}", arguments, processes)

    return run


# -- what a process of the group calls; without a group it is the only one -------------------------


def place() -> tuple[int, int]:
    """Return the number of this process, from 0, and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def replicate(model: torch.nn.Module, data: Any) -> torch.nn.Module:
    """Return what to call instead of ``model``, so that backward passes average the gradients.

    Every process begins with the weights of the first. Batch norm normalises each process's part
    of a batch on its own; the running statistics are those of the first process, which every
    forward pass hands to the others.
    """
    if not dist.is_initialized():
        return model
    replica = torch.nn.parallel.DistributedDataParallel(model)
    # DistributedDataParallel orders the gradients anew after its first pass, which changes how sums
    # round. That pass is made here, or a resumed run would differ from an uninterrupted one.
    size, device = data.image_size, next(model.parameters()).device
    model.eval()
    replica(torch.zeros(2, data.channels, size, size, device=device)).sum().backward()
    model.zero_grad()
    return replica


def mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a detached scalar over the processes."""
    if dist.is_initialized():
        value = value / dist.get_world_size()
        dist.all_reduce(value)
    return value


def leave() -> None:
    """End every process but the first, which goes on alone."""
    if dist.is_initialized():
        rank = dist.get_rank()
        dist.barrier()
        dist.destroy_process_group()
        if rank:
            raise SystemExit(0)


# -- how the job starts the processes, and how they end --------------------------------------------


def launch(stage: str, arguments: dict[str, Any], processes: int) -> None:
    """Run a stage in new processes and wait for their end.

    Args:
        stage: dotted path of a function that ``data_parallel`` decorates.
        arguments: its arguments, of types that JSON knows.
        processes: how many; they share this process's threads.

    Raises:
        ValueError: if there are GPUs, but fewer than ``processes``.
        RuntimeError: one line, if a process fails. The others are killed.
    """
    environments = [_environment(rank, processes) for rank in range(processes)]
    store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)  # 0: any free port
    order = {"stage": stage, "arguments": arguments, "port": store.port, "processes": processes}
    team: list[subprocess.Popen] = []
    try:
        for rank, environment in enumerate(environments):
            command = [sys.executable, "-m", "maskalign.distributed"]
            # Its own process group, so that killing it takes its loader workers along.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env=environment, process_group=0
            )
            team.append(process)
            process.stdin.write(json.dumps(order | {"rank": rank}).encode() + b"\n")
            process.stdin.flush()  # and left open: it closes when this process ends
        codes: list[int | None] = [None]
        while None in codes and not any(codes):
            time.sleep(0.1)
            codes = [process.poll() for process in team]
        if any(codes):
            raise RuntimeError(_explain(codes, store))
    finally:
        for process in team:
            if process.returncode != 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdin.close()


def _environment(rank: int, processes: int) -> dict[str, str]:
    """Return the environment of one process: its GPU, its share of the threads, our modules."""
    own = {
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if count < processes:
            raise ValueError(f"processes: {processes} need a GPU each, but {count} can be seen")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank] if visible else str(rank)
    return os.environ | own


def _explain(codes: list[int | None], store: dist.Store) -> str:
    """Return why the group ended: who was killed, or else the first error reported."""
    for number, code in enumerate(codes, start=1):
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"training process {number} of {len(codes)} was killed by {name}"
    if store.check(["error"]):
        return store.get("error").decode()
    number, code = next((n, c) for n, c in enumerate(codes, start=1) if c)
    return f"training process {number} of {len(codes)} ended with exit code {code}"


def _work() -> None:
    """Run this process's part of the stage that the job asks for on standard input."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_job, daemon=True).start()
    rank, processes = order["rank"], order["processes"]
    if rank:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the first process tells what all do
    sys.stdout.reconfigure(line_buffering=True)
    store = dist.TCPStore(HOST, order["port"])
    try:
        gpu = torch.device("cuda", 0) if torch.cuda.is_available() else None
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=store,
            rank=rank,
            world_size=processes,
            timeout=TIMEOUT,
            device_id=gpu,
        )
        dotted.load(order["stage"])(**order["arguments"])
    except Exception as error:
        traceback.print_exc()
        where = f"training process {rank + 1} of {processes}"
        # The first report stands: what the others meet is that this process has gone.
        store.compare_set("error", "", f"{where}: {type(error).__name__}: {error}")
        sys.stderr.flush()
        os._exit(1)  # an orderly exit would wait for the others


def _end_with_the_job() -> None:
    """Kill this process and its loader workers once the job's process, however it ends, is gone."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _work()

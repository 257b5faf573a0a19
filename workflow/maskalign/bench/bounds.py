"""How near training comes to the arithmetic: its floating-point rate beside a dense product's."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from maskalign.bench import work

SIDE = 2048  # of the square matrices that are multiplied
WIDE = 256  # channels of the convolution
SECONDS = 2.0


def measure(job: dict[str, Any], folder: Path, device: str) -> dict[str, float]:
    """Return ``step`` and ``dense``, both in FLOP/s, and ``per_image``, the FLOPs of an image.

    A step is the forward and the backward pass of 128 images in ``job["precision"]``; dense is the
    better of a product of two large matrices and a wide convolution, in the same precision on the
    same threads.
    """
    dtype = getattr(torch, job["precision"])
    a = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    z = torch.randn(16, WIDE, 32, 32, device=device, dtype=dtype)
    z = z.to(memory_format=torch.channels_last)
    kernel = torch.randn(WIDE, WIDE, 3, 3, device=device, dtype=dtype)
    dense = max(
        2 * SIDE**3 / _seconds(lambda: a @ a, device),
        2 * 9 * WIDE * z.numel() / _seconds(lambda: F.conv2d(z, kernel, padding=1), device),
    )
    model = work.build(job["network"]).to(device, memory_format=torch.channels_last).train()
    x, y = next(work.data(folder, 512, device).train_batches(work.BATCH, ("bounds",), 0))

    def step() -> None:
        model.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype != x.dtype):
            loss = F.cross_entropy(model(x), y)
        loss.backward()

    with FlopCounterMode(display=False) as counter:
        step()
    flop = counter.get_total_flops()
    return {
        "step": flop / _seconds(step, device),
        "dense": dense,
        "per_image": flop / work.BATCH,
    }


def _seconds(call: Callable[[], Any], device: str) -> float:
    """Return the mean seconds of a call, repeated for some seconds after the first one."""
    call()
    work.synchronize(device)
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        call()
        calls += 1
    work.synchronize(device)
    return (time.perf_counter() - began) / calls

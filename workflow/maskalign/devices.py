"""Choose the GPUs of a job, as Snakemake only counts them, and set their arithmetic."""

import itertools
import os
import socket
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

DRIVER = Path("/proc/driver/nvidia/gpus")  # one entry a GPU
_held: list[FileLock] = []  # until this process ends, however it ends


def visible() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(i) for i in range(len(list(DRIVER.iterdir())))] if DRIVER.is_dir() else []
    # CUDA sees those before the first invalid name.
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), named.split(",")))


def claim(count: int, folder: Path | None = None) -> list[str]:
    """Keep ``count`` GPUs for this process, those that the fewest jobs use, and hide the others.

    Where no more GPUs are visible than are needed (Slurm shows a job only its own), all are taken
    as they are. Jobs of one user on one machine know of each other by locks, which end with their
    process. To be called before CUDA is used.

    Args:
        count: GPUs needed.
        folder: of the locks; one for each user in the system's folder for temporary files.

    Returns:
        The names of the GPUs, now also in CUDA_VISIBLE_DEVICES.
    """
    devices = visible()
    if len(devices) <= count:
        return devices
    folder = folder or Path(tempfile.gettempdir()) / f"maskalign-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    claimed: list[str] = []
    for place in itertools.count():  # jobs already on a GPU
        for device in devices:
            if len(claimed) == count:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claimed)
                return claimed
            lock = FileLock(folder / f"{device.replace('/', '_')}.{place}")
            if device not in claimed and _acquired(lock):
                claimed.append(device)
    raise AssertionError  # never: a place without jobs always comes


def require() -> None:
    """Raise RuntimeError, one line, if torch can use no GPU and MASKALIGN_DEVICE is not ``cpu``."""
    import torch

    if not torch.cuda.is_available() and os.environ.get("MASKALIGN_DEVICE") != "cpu":
        raise RuntimeError(
            f"this job asks for a GPU (resources: gpu), but torch {torch.__version__} can use none "
            f"on {socket.gethostname()}; with MASKALIGN_DEVICE=cpu it runs on the CPU"
        )


def exact() -> None:
    """Turn TF32 off and make cuDNN deterministic; nothing changes on a CPU.

    Without this, torch rounds the inputs of float32 convolutions to TF32 (10 bits of mantissa), and
    cuDNN may add in any order, so that a resumed run could not end with the same bits.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    _held.append(lock)
    return True

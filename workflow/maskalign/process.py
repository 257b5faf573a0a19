"""How a process that works on tensors treats memory: measured, and nothing changes a bit."""

import contextlib
import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
BYTES = 2**30


def settle() -> None:
    """Set garbage collection and malloc for this process; to be called before torch is imported.

    Importing torch makes some 100,000 objects that stay: to look among them for what can be freed
    would take a seventh of a job's start. Activations are freed and asked for again in every step:
    malloc would give them back to the system, which fills them with zeros each time.
    """
    gc.set_threshold(50_000, 20, 100)
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        malloc = ctypes.CDLL("libc.so.6")
        malloc.mallopt(M_TRIM_THRESHOLD, BYTES)
        malloc.mallopt(M_MMAP_THRESHOLD, BYTES)

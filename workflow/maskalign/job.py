"""What every job does before and after its work: threads, device, log."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from maskalign import devices


@contextlib.contextmanager
def job(log: str | Path, threads: int = 1, gpus: int = 0) -> Iterator[Callable[[str], None]]:
    """Run the body with ``threads`` threads, on ``gpus`` GPUs where there are any.

    Everything it prints goes to ``log``.

    Yields a function that writes text to the original stderr, among Snakemake's own output. An
    exception ends the process with exit code 1 and one line there that says what went wrong and
    where the log is; the log has the traceback.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch when it is imported
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    stderr = os.dup(2)
    with Path(log).open("w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            if gpus and (claimed := devices.claim(gpus)):
                print(f"GPU {', '.join(claimed)}")
            yield lambda text: os.write(stderr, f"{text}\n".encode())
        except Exception as error:
            traceback.print_exc(file=file)
            line = f"{type(error).__name__}: {' '.join(str(error).split())}; log: {log}\n"
            os.write(stderr, line.encode())
            raise SystemExit(1) from None

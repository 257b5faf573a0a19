"""What every job does before and after its work: threads, GPUs, log."""

import contextlib
import os
import pdb
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maskalign import devices, process


@contextlib.contextmanager
def job(snakemake: Any, gpus: int = 0) -> Iterator[Callable[[str], None]]:
    """Run the body as the job that ``snakemake`` describes, with its threads and its log.

    The log begins with the rule and what it is applied to, and ends with how long it took.

    It has ``gpus`` GPUs where there are any; a job whose resources ask for a GPU (``gpu``) does not
    run without one, unless MASKALIGN_DEVICE is ``cpu``. Everything it prints goes to its log.

    Yields a function that writes text to the original stderr, among Snakemake's own output. The
    process ends with the body, as a job is all that its process does. An
    exception ends the process with exit code 1 and one line there that says what went wrong and
    where the log is; the log has the traceback. ``breakpoint()`` stops in a debugger on the
    terminal.
    """
    os.environ["OMP_NUM_THREADS"] = str(snakemake.threads)  # read by torch when it is imported
    process.settle()
    log = snakemake.log[0]
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    stderr = os.dup(2)
    with Path(log).open("w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.breakpointhook = _debug
        began = time.perf_counter()
        try:
            applied = ", ".join(f"{k} {v}" for k, v in snakemake.wildcards.items())
            print(f"{snakemake.rule}: {applied}" if applied else snakemake.rule)
            if gpus and (claimed := devices.claim(gpus)):
                print(f"GPU {', '.join(claimed)}")
            if gpus and snakemake.resources.get("gpu"):
                devices.require()
            yield lambda text: os.write(stderr, f"{text}\n".encode())
            print(f"done in {time.perf_counter() - began:.1f} s")
        except Exception as error:
            traceback.print_exc(file=file)
            line = f"{type(error).__name__}: {' '.join(str(error).split())}; log: {log}\n"
            os.write(stderr, line.encode())
            raise SystemExit(1) from None
    # Taking Python and torch apart object by object would take another quarter of the start's time.
    os._exit(0)


def _debug() -> None:
    """Stop at the caller, in a debugger on the terminal, as output goes to the log."""
    # Left open, as the debugger goes on after this returns.
    keys, screen = (Path("/dev/tty").open(mode) for mode in "rw")  # noqa: SIM115
    pdb.Pdb(stdin=keys, stdout=screen).set_trace(sys._getframe(1))

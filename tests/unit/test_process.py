"""A settled process looks for no garbage among torch's objects, and keeps what it has freed."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
{settle}
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**22)  # 32 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
SETTLE = "from maskalign import process; process.settle()"


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_freed_memory_is_used_again():
    plain, settled = (int(run(FAULTS.format(settle=s))) for s in ("", SETTLE))
    assert settled < 100 < 10_000 < plain


def test_what_stays_is_not_looked_at_when_the_process_ends():
    code = (
        f"{SETTLE}; import atexit, gc, torch; print(gc.get_threshold()[0], gc.get_freeze_count())"
    )
    last = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 10_000));"
    threshold, frozen, at_end = run(f"{last} {code}").split()
    assert (int(threshold), int(frozen), at_end) == (50_000, 0, "True")

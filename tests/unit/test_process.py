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


JOB = """
import atexit
from types import SimpleNamespace
from maskalign.job import job
atexit.register(print, "taken apart")
what = {{"rule": "r", "log": [{log!r}], "threads": 1, "wildcards": {{}}, "resources": {{}}}}
with job(SimpleNamespace(**what)) as say:
    {body}
raise AssertionError("never reached")
"""


def test_a_job_ends_with_its_body_and_its_log_is_whole(tmp_path):
    log = tmp_path / "job.log"
    code = JOB.format(log=str(log), body="print('a line'); say('on the screen')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "on the screen\n")
    rule, line, end = log.read_text().splitlines()
    assert (rule, line) == ("r", "a line")
    assert end.startswith("done in ")


def test_a_failing_job_ends_with_one_line_and_exit_code_1(tmp_path):
    log = tmp_path / "job.log"
    code = JOB.format(log=str(log), body="raise ValueError('two', 'things')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"ValueError: ('two', 'things'); log: {log}\n"
    assert "Traceback" in log.read_text()

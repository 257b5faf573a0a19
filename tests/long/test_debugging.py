"""One script by itself, in the debugger of the terminal."""

import os
import pty
import shutil

import pytest
from conftest import ROOT
from running import SNAKEMAKE, TINY

FIGURE = "results/tiny/figures/figure_02"


@pytest.mark.waits
def test_a_breakpoint_in_one_job_is_answered_on_the_terminal(tmp_path):
    for name in ("Snakefile", "config", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    script = tmp_path / "workflow/scripts/figure.py"
    found = "config, name = study.load(snakemake.config), snakemake.wildcards.figure"
    text = script.read_text()
    assert found in text
    script.write_text(text.replace(found, f"{found}; breakpoint()"))
    target = ["--force", f"{FIGURE}.png", "--cores", "1", "--configfile", str(TINY)]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execv(SNAKEMAKE, [str(SNAKEMAKE), *target])
    os.write(terminal, b"p 'stopped at', name\nc\n")
    screen = b""
    while True:
        try:
            screen += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, screen.decode()
    assert "('stopped at', 'figure_02')" in screen.decode()
    assert (tmp_path / f"{FIGURE}.png").exists()
    assert "stopped at" not in (tmp_path / "results/tiny/logs/figures/figure_02.log").read_text()

"""Running the real workflow in a folder of its own, as a user does."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

TINY = ROOT / "tests/workflow/tiny.yaml"
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Snakemake in a copy of the workflow."""
    return subprocess.run(
        [SNAKEMAKE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def copy_workflow(folder: Path) -> Path:
    for name in ("Snakefile", "workflow", "config", "envs", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run_tiny(folder: Path, cores: int = 2) -> Path:
    """Run the tiny study in ``folder`` and return it."""
    done = snakemake(folder, "--configfile", str(TINY), "--cores", str(cores), "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder

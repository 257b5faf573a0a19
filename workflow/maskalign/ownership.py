"""One writer a run: after a killed Snakemake or a lost node, two jobs of it can live at once."""

import os
import socket
import time
from pathlib import Path

from maskalign.files import write_text


class OwnershipError(RuntimeError):
    """Another job has taken this run over."""


class Owner:
    """The job that may write a run's state and results: the one that started last.

    A job takes a run over by writing its name into the run's state folder; the job before it reads
    there that it has lost, and ends before it writes anything more.
    """

    def __init__(self, folder: Path):
        """Take over the run whose state is in ``folder``."""
        self.file = folder / "owner"
        self.name = f"{socket.gethostname()} process {os.getpid()} since {time.time_ns()}"
        write_text(self.file, self.name)

    def check(self) -> None:
        """Raise OwnershipError, one line, if the run has another owner or is finished."""
        try:
            owner = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            owner = "a job that has finished it"
        if owner != self.name:
            raise OwnershipError(
                f"this run was taken over by {owner}; nothing more is written here"
            )

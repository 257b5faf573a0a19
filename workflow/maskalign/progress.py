"""Where a running training stands: a small file that it replaces now and then."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from maskalign.files import write_json

SECONDS = 5.0  # between two updates
FILE = "progress.json"


class Progress:
    """Writes how far a training is to ``progress.json`` in its state folder.

    The file holds what ``about`` says, ``epochs`` and ``epoch`` (completed, with the fraction of
    the running one), ``images_s``, ``seconds_left``, ``test_accuracy`` (percent, null before the
    first evaluation), ``host``, ``pid`` and ``updated`` (Unix time). It goes with the state folder.
    """

    def __init__(self, folder: Path, about: dict[str, Any], epochs: int):
        self.file, self.about, self.epochs = folder / FILE, about, epochs
        self._written = -SECONDS
        self._mark: tuple[float, float] | None = None  # (time, epoch) where this process began

    def update(self, epoch: float, images_per_epoch: int, accuracy: float | None) -> None:
        """Say that ``epoch`` epochs are done, the running one counted by its fraction."""
        now = time.monotonic()
        # The folder is gone where another job has taken the run over and finished it.
        if now - self._written < SECONDS or not self.file.parent.exists():
            return
        began, first = self._mark = self._mark or (now, epoch)
        speed = (epoch - first) / (now - began) if epoch > first else None  # epochs a second
        content = self.about | {
            "epoch": round(epoch, 3),
            "epochs": self.epochs,
            "images_s": speed and round(speed * images_per_epoch),
            "seconds_left": speed and round((self.epochs - epoch) / speed),
            "test_accuracy": accuracy,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated": round(time.time()),
        }
        with contextlib.suppress(OSError):  # a full disk is the checkpoint's to tell
            write_json(self.file, content)
        self._written = now

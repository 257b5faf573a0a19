"""Files that are either whole or absent: written beside their place and renamed.

Every job imports this, so it imports little.
"""

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REMEDY = "delete it, and the next start makes it again"  # for a damaged file


@contextlib.contextmanager
def atomic(path: str | Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path``, on disk for good, when the block succeeds.

    What was at ``path`` is then kept as ``previous``, if that is given.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in ``folder``: files that never got their names."""
    for file in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+", file.name):
            file.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put a rename on disk for good."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: object, indent: int | None = 1) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; ValueError, one line, if it is not a whole one."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path}: is damaged ({error}); {REMEDY}") from None

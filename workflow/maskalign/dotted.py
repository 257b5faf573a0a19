"""A user's own functions, named by a dotted path such as ``mypackage.nets:wide``.

They are found among installed packages, on PYTHONPATH and in the folder where Snakemake is run.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WHERE = "installed packages, PYTHONPATH and the current folder are searched"


def locate(path: str) -> None:
    """Raise ValueError, one line, if the module of ``path`` does not exist; it is not imported."""
    module, _, _ = path.partition(":")
    with _current_folder():
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"no module '{error.name}'; {WHERE}") from None
    if found is None:
        raise ValueError(f"no module '{module}'; {WHERE}")


def load(path: str) -> Callable[..., Any]:
    """Return the function or class at ``path``; ValueError, one line, if there is none."""
    module, _, name = path.partition(":")
    with _current_folder():
        try:
            found = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise ValueError(f"{path}: no module '{error.name}'; {WHERE}") from None
        except AttributeError:
            raise ValueError(f"{path}: module {module} has no '{name}'") from None
    if not callable(found):
        raise ValueError(f"{path}: is no function or class")
    return found


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.pop()

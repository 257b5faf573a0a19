"""A user's own functions, named by a dotted path such as ``mypackage.nets:wide``.

They are found among installed packages, on PYTHONPATH and in the folder where Snakemake is run.
"""

import contextlib
import importlib
import importlib.util
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WHERE = "installed packages, PYTHONPATH and the current folder are searched"


def locate(path: str) -> None:
    """Raise ValueError, one line, if the module of ``path`` does not exist or lacks the name.

    The module is read and not imported, but the packages that it lies in are.
    """
    module, _, name = path.partition(":")
    with _current_folder():
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"no module '{error.name}'; {WHERE}") from None
        except (Exception, SystemExit) as error:  # whatever a user's package does
            parent = module.rpartition(".")[0] or module
            raise ValueError(f"{parent} cannot be imported ({_reason(error)})") from None
    if found is None:
        raise ValueError(f"no module '{module}'; {WHERE}")
    if found.has_location:
        source = _source(found.origin)
    else:  # a folder without __init__.py defines nothing; what is built in cannot be read
        source = None if found.submodule_search_locations is None else ""
    if source is not None and not _may_define(source, name, str(found.origin)):
        raise ValueError(f"module {module} has no '{name}'")


def _source(origin: str) -> str | None:
    """Return the text of a Python module; None if it is compiled."""
    if not origin.endswith(".py"):
        return None
    try:
        return Path(origin).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{origin} cannot be read ({_reason(error)})") from None


def _may_define(source: str, name: str, file: str) -> bool:
    """Return whether a module assigns or imports ``name``, or may do so in a way of its own."""
    try:
        symbols = symtable.symtable(source, file, "exec")
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{file} is no Python ({_reason(error)})") from None
    names = {s.get_name() for s in symbols.get_symbols() if s.is_assigned() or s.is_imported()}
    return name in names or "__getattr__" in names or "import *" in source or "globals()" in source


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


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
        except (Exception, SystemExit) as error:  # whatever a user's module does
            raise ValueError(f"{path}: {module} cannot be imported ({_reason(error)})") from error
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

"""The files of a study, checked before Snakemake reads them: one line says what is wrong with one.

Snakemake accepts keys that are given twice, and of a file that it cannot read it tells neither the
line nor the name. This module imports little, because the profile runs it at every start.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

SUFFIXES = [".yaml", ".yml", ".json"]
LARGEST = 100_000  # values in a file, aliases written out
FOREIGN = ["__use_yte__", "pathvars"]  # Snakemake acts on them before a study is looked at
TAG = "tag:yaml.org,2002:"
KINDS = ["str", "int", "float", "bool", "null", "seq", "map"]


def refuse_unreadable(arguments: Sequence[str]) -> None:
    """End the process in one line if a file that Snakemake's ``arguments`` name is no study.

    The line goes to stderr; the exit code is 1.
    """
    try:
        for file in named(arguments):
            check(Path(file))
    except ValueError as error:
        sys.exit(f"study error: {error}")


def named(arguments: Sequence[str]) -> list[str]:
    """Return the values of ``--configfile`` among command-line arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[], dest="files")
    try:
        return parser.parse_known_args(arguments)[0].files
    except argparse.ArgumentError:
        return []  # Snakemake says what is wrong with its options


def check(file: Path) -> None:
    """Raise ValueError, one line, if ``file`` is no mapping in YAML or JSON with unique keys."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "" if file.suffix in SUFFIXES else "; targets stand before --configfile or after --"
        raise ValueError(f"{file}: there is no such file{hint}") from None
    except OSError as error:
        raise ValueError(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start + 1} is not UTF-8 text") from None
    if not _is_json(text, file):
        _check_yaml(text, file)


def _is_json(text: str, file: Path) -> bool:
    """Return whether ``text`` is JSON, which Snakemake tries before YAML."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise _TwiceError(f"{file}: key {name!r} is given twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except _TwiceError as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        raise ValueError(f"{file}: is no mapping of keys to values")
    _refuse_foreign(value, file)
    return True


def _refuse_foreign(keys: Iterable[str], file: Path) -> None:
    for key in keys:
        if key in FOREIGN:
            raise ValueError(f"{file}: key '{key}' is Snakemake's and not a study's")


class _TwiceError(Exception):
    pass


def _check_yaml(text: str, file: Path) -> None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(f"{file}: is no mapping of keys to values")
        _Checker(file).check(root)
        _refuse_foreign((key.value for key, _ in root.value), file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"{file}{where}: {_line(what)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"character U+{error.character:04X} is not allowed"
        raise ValueError(f"{file}, line {line}: {what}") from None
    except RecursionError:
        raise ValueError(f"{file}: is nested too deeply") from None


class _Checker:
    """Refuses, in a tree of YAML, what is no text, number, truth value, null, list or mapping."""

    def __init__(self, file: Path):
        self.file, self.count = file, 0
        self.reader = yaml.constructor.SafeConstructor()

    def check(self, node: yaml.Node, above: tuple[int, ...] = ()) -> None:
        """Raise ValueError for what is wrong below ``node``, which lies in the nodes ``above``."""
        self.count += 1
        if self.count > LARGEST:
            raise ValueError(f"{self.file}: has more than {LARGEST:,} values, aliases written out")
        if id(node) in above:
            raise self._wrong(node, "an alias stands inside of what it names")
        kind = node.tag.removeprefix(TAG)
        if kind == "timestamp":
            raise self._wrong(node, f"{node.value} is read as a date; put it in quotes")
        if kind not in KINDS:
            raise self._wrong(node, f"tag {node.tag.replace(TAG, '!!')} is not allowed")
        below = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            for _, value in node.value:
                self.check(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self.check(value, below)
        else:
            try:
                self.reader.construct_object(node)
            except (ValueError, KeyError):
                shown = node.value if len(node.value) <= 60 else f"{node.value[:57]}..."
                raise self._wrong(node, f"{shown} cannot be read as {kind}") from None

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, value in node.value:
            if key.tag == f"{TAG}merge":
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                if not all(isinstance(part, yaml.MappingNode) for part in merged):
                    raise self._wrong(key, "<< must name a mapping")
            elif not isinstance(key, yaml.ScalarNode):
                raise self._wrong(key, "a key must be text")
            if key.value in seen:
                raise self._wrong(key, f"key {key.value!r} is given twice")
            seen.add(key.value)

    def _wrong(self, node: yaml.Node, what: str) -> ValueError:
        return ValueError(f"{self.file}, line {node.start_mark.line + 1}: {what}")


def _line(text: object) -> str:
    return " ".join(str(text).split())

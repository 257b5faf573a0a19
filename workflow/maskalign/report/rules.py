"""The workflow behind a study: its rules with their text and script, and the graph they form."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

# A rule and its name, with the rule that it takes over, and the comment above it.
RULE = re.compile(r"^(?:#.*\n)*(?:rule (\w+):|use rule (\w+) as (\w+) with:)\n", re.MULTILINE)
SCRIPT = re.compile(r'^    script:\s+"([^"]+)"', re.MULTILINE)
NODE, EDGE = re.compile(r'(\d+)\[label = "(\w+)'), re.compile(r"(\d+) -> (\d+)")
WIDTH, HEIGHT, GAP, ROW = 116, 30, 22, 64  # of a box, between boxes and from row to row, in px


@dataclass
class Rule:
    """A rule.

    Attributes:
        name: its name; ``rule-<name>`` is its anchor.
        file: where it is, relative to the root; ``line`` counts from 1.
        text: its text.
        script: its script, relative to the root; None where it only names targets.
        reads, read_by: the rules whose results it needs, and that need its own.
    """

    name: str
    file: str
    line: int
    text: str
    script: str | None
    reads: list[str] = field(default_factory=list)
    read_by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """A drawn graph: boxes (name, x, y of their middle) and the SVG paths of its edges."""

    boxes: list[tuple[str, float, float]]
    paths: list[str]
    width: float
    height: float


def ask(snakefile: str | Path, config: dict[str, Any]) -> str:
    """Return the graph of the rules that ``all`` needs under ``config``, in the dot language.

    Raises:
        ValueError: one line, Snakemake's own, if it cannot plan the study.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        # Under a name that no study has, it looks at no file that other jobs write meanwhile.
        json.dump(config | {"study": f"graph-{uuid.uuid4().hex}"}, file)
        file.flush()
        # The Snakemake that runs this job holds the lock.
        options = ["--nolock", "--forceall", "--workflow-profile", "none"]
        options += ["--snakefile", str(snakefile), "--configfile", file.name]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *options, "--rulegraph", "dot", "--", "all"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or "digraph" not in done.stdout:
        lines = done.stderr.strip().splitlines() or ["no graph"]
        raise ValueError(f"snakemake --rulegraph: {lines[-1]}")
    # Snakemake lists what a rule needs in any order.
    first, *graph, last = done.stdout[done.stdout.index("digraph") :].strip().splitlines()
    return "\n".join([first, *sorted(graph), last, ""])


def edges(dot: str) -> dict[str, set[str]]:
    """Return the rules that each rule of a graph in the dot language needs, but for itself."""
    names = dict(NODE.findall(dot))
    needs: dict[str, set[str]] = {name: set() for name in names.values()}
    for before, after in EDGE.findall(dot):
        if before != after:
            needs[names[after]].add(names[before])
    return needs


def read(root: Path, needs: dict[str, set[str]]) -> list[Rule]:
    """Return the rules of the graph in the order of the files below ``root``, each before its use.

    Raises:
        ValueError: one line, if a rule of the graph is in none of the files.
    """
    found: dict[str, Rule] = {}
    inherits: dict[str, str] = {}
    for file in [root / "Snakefile", *sorted((root / "workflow/rules").glob("*.smk"))]:
        text = file.read_text(encoding="utf-8")
        for match in RULE.finditer(text):
            plain, base, derived = match.groups()
            name = plain or derived
            end = re.compile(r"^\S", re.MULTILINE).search(text, match.end())
            body = text[match.start() : end.start() if end else None].rstrip()
            line = text.count("\n", 0, match.start()) + 1
            script = SCRIPT.search(body)
            path = f"workflow/{script.group(1).removeprefix('../')}" if script else None
            found[name] = Rule(name, str(file.relative_to(root)), line, body, path)
            if base:
                inherits[name] = base
    for name, base in inherits.items():
        found[name].script = found[name].script or found[base].script
    if missing := sorted(needs.keys() - found.keys()):
        raise ValueError(f"{root / 'workflow/rules'}: no file has rule '{missing[0]}'")
    order = list(TopologicalSorter({k: sorted(v) for k, v in needs.items()}).static_order())
    for name in order:
        found[name].reads = sorted(needs[name], key=order.index)
        found[name].read_by = [other for other in order if name in needs[other]]
    return [found[name] for name in order]


def draw(needs: dict[str, set[str]]) -> Drawing:
    """Lay the graph out in rows from top to bottom, without edges that others imply."""
    order = list(TopologicalSorter({k: sorted(v) for k, v in needs.items()}).static_order())
    above: dict[str, set[str]] = {}
    level: dict[str, int] = {}
    for name in order:
        above[name] = needs[name].union(*(above[n] for n in needs[name]))
        level[name] = 1 + max((level[n] for n in needs[name]), default=-1)
    kept = {n: needs[n] - set().union(*(above[m] for m in needs[n])) for n in order}
    for name in reversed(order):  # what starts nothing above stands right before its first use
        uses = [level[other] for other in order if name in kept[other]]
        if not needs[name] and uses:
            level[name] = min(uses) - 1
    # An edge over several rows passes each of them at a place of its own.
    links: list[tuple[Any, Any]] = []
    chains: list[list[Any]] = []
    rows: list[list[Any]] = [[] for _ in range(1 + max(level.values()))]
    for name in order:
        rows[level[name]].append(name)
    for name in order:
        for before in sorted(kept[name], key=order.index):
            chain = [before]
            for row in range(level[before] + 1, level[name]):
                chain.append((before, name, row))
                rows[row].append(chain[-1])
            chains.append([*chain, name])
            links += itertools.pairwise(chains[-1])
    _untangle(rows, links)
    place = _place(rows, links)
    paths = [_path([place[node] for node in chain]) for chain in chains]
    boxes = [(name, *place[name]) for name in order]
    width = max(x for x, _ in place.values()) + WIDTH / 2 + 1
    return Drawing(boxes, paths, width, (len(rows) - 1) * ROW + HEIGHT + 2)


def _untangle(rows: list[list[Any]], links: list[tuple[Any, Any]]) -> None:
    """Order each row by the mean place of its neighbours, down and up again, a few times."""
    for sweep in range(8):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            at = {node: i for other in rows for i, node in enumerate(other)}

            def mean(node, at=at, down=down):
                pairs = links if down else [(b, a) for a, b in links]
                beside = [at[a] for a, b in pairs if b == node]
                return sum(beside) / len(beside) if beside else at[node]

            row.sort(key=mean)


def _place(rows: list[list[Any]], links: list[tuple[Any, Any]]) -> dict[Any, tuple[float, float]]:
    """Return the middle of every node: near the mean of its neighbours, none over another."""
    size = {node: WIDTH if isinstance(node, str) else GAP for row in rows for node in row}
    x: dict[Any, float] = {}
    for row in rows:
        left = 0.0
        for node in row:
            x[node] = left + size[node] / 2
            left += size[node] + GAP
    for _ in range(20):
        for row in rows:
            want = {}
            for node in row:
                beside = [x[a] for a, b in links if b == node] + [
                    x[b] for a, b in links if a == node
                ]
                want[node] = sum(beside) / len(beside) if beside else x[node]
            x |= _apart(row, want, size)
    least = min(x[node] - size[node] / 2 for node in x)
    return {
        node: (round(x[node] - least + 1, 1), i * ROW + HEIGHT / 2 + 1)
        for i, row in enumerate(rows)
        for node in row
    }


def _apart(row: list[Any], want: dict[Any, float], size: dict[Any, float]) -> dict[Any, float]:
    """Return places near the wanted ones at which no two nodes of a row meet."""
    right, left = [], []
    for places, nodes, sign in ((right, row, 1), (left, row[::-1], -1)):
        last = None
        for node in nodes:
            at = want[node]
            if last is not None:
                limit = places[-1] + sign * ((size[last] + size[node]) / 2 + GAP)
                at = max(at, limit) if sign > 0 else min(at, limit)
            places.append(at)
            last = node
    return {n: (a + b) / 2 for n, a, b in zip(row, right, left[::-1], strict=True)}


def _path(points: list[tuple[float, float]]) -> str:
    """Return a smooth SVG path through the points, from box to box."""
    points = [(points[0][0], points[0][1] + HEIGHT / 2), *points[1:]]
    points[-1] = (points[-1][0], points[-1][1] - HEIGHT / 2)
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x, y), (a, b) in itertools.pairwise(points):
        middle = (y + b) / 2
        text += f"C{x:g} {middle:g} {a:g} {middle:g} {a:g} {b:g}"
    return text

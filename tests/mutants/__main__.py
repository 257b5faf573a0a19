"""Break the package at one place at a time and require that a test fails.

``make test-mutants`` runs every row of ``mutants.yaml``. docs/testing.md says how a row is added
and how the report is read.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.yaml")
UNIT = ROOT / "tests/unit"
SOURCE = ROOT / "workflow"
KILLED, SURVIVED, ERROR = "killed", "SURVIVED", "ERROR"
PASSED, FAILED, NOTHING, TOO_LONG = 0, 1, 5, -1  # pytest's exit codes, and one for the time limit


@dataclass(frozen=True)
class Mutant:
    """One row of the table: in ``module``, ``pattern`` is replaced by ``replacement``."""

    name: str
    module: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class Run:
    """One run of pytest: exit code, seconds, first failing test if there is one, last line."""

    code: int
    seconds: float
    test: str | None
    said: str


def read(table: Path = TABLE) -> list[Mutant]:
    """Return the rows of the table."""
    modules = yaml.safe_load(table.read_text())
    return [Mutant(module=module, **row) for module, rows in modules.items() for row in rows]


def chosen(mutants: list[Mutant], only: list[str]) -> list[Mutant]:
    """Return the mutants whose module or name is in ``only``; ValueError if a word fits none."""
    unknown = set(only) - {m.module for m in mutants} - {m.name for m in mutants}
    if unknown:
        raise ValueError(f"neither a module nor a mutant of the table: {', '.join(unknown)}")
    return [m for m in mutants if not only or {m.module, m.name} & set(only)]


def mutated(mutant: Mutant, text: str) -> str:
    """Return a module's ``text`` with the mutation; ValueError if the row does not fit it."""
    count = text.count(mutant.pattern)
    if count != 1:
        raise ValueError(f"the pattern occurs {count} times in {mutant.module}.py, not once")
    if mutant.replacement == mutant.pattern:
        raise ValueError("the replacement equals the pattern")
    changed = text.replace(mutant.pattern, mutant.replacement)
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text))
    except SyntaxError as error:
        raise ValueError(f"the mutated file does not compile: {error}") from None
    if same:
        raise ValueError("the mutation changes no code")
    return changed


def importers(module: str, folder: Path = UNIT) -> list[Path]:
    """Return the test modules in ``folder`` that import ``maskalign.<module>`` themselves.

    For a module of a subpackage, such as ``figures/imp``, importing the subpackage counts.
    """
    parts = module.split("/")
    wanted = {".".join(["maskalign", *parts[:depth]]) for depth in range(1, len(parts) + 1)}
    found = []
    for file in sorted(folder.glob("test_*.py")):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if wanted & names:
            found.append(file)
    return found


def pytest(copy: Path, files: list[Path], limit: float) -> Run:
    """Run test files against the package in ``copy`` until the first test fails."""
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not waits"]
    options += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    options += [f"--basetemp={tempfile.mkdtemp(dir=copy)}"]
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / "hypothesis"),
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *map(str, files)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that the tests' own processes end with it
    )
    try:
        output, _ = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Run(TOO_LONG, limit, None, f"time limit of {limit:.0f} s")
    # A test's line has "::"; the line of a file that cannot be collected has none.
    test = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(\S*::\S+)", output, re.MULTILINE)
    last = (output.strip().splitlines() or ["no output"])[-1]
    return Run(code, time.monotonic() - began, test and test[1].removeprefix("::"), last)


def verdict(run: Run) -> tuple[str, str]:
    """Return what a run against a mutated package means, and what is printed beside it."""
    if run.code == PASSED:
        return SURVIVED, "no test failed"
    if run.code == TOO_LONG:
        return KILLED, f"by the {run.said}"
    if run.code == FAILED and run.test:
        return KILLED, f"by {run.test}"
    return ERROR, f"pytest ended with code {run.code} and no failed test: {run.said}"


def label(file: Path, copy: Path) -> str:
    """Return the name of a test file, or the path of a module of the package in ``copy``."""
    package = copy / "maskalign"
    return file.relative_to(package).as_posix() if file.is_relative_to(package) else file.name


class Trial:
    """Mutants, each tried on a copy of the package below a temporary ``folder``."""

    def __init__(self, folder: Path, source: Path = SOURCE, unit: Path = UNIT):
        self.folder, self.source, self.unit = folder, source, unit
        self.seconds: dict[str, float] = {}  # by label, against the unmutated package

    def files(self, module: str, copy: Path) -> list[Path]:
        """Return the files with tests of a module: its own doctests and its importers."""
        return [copy / f"maskalign/{module}.py", *importers(module, self.unit)]

    def copied(self, name: str) -> Path:
        """Return a new copy of the package."""
        copy = self.folder / name
        shutil.copytree(self.source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        return copy

    def baseline(self, file: Path, copy: Path) -> str:
        """Time one file against the unmutated package; return what is wrong, or nothing."""
        run = pytest(copy, [file], limit=1200)
        if run.code == PASSED:
            self.seconds[label(file, copy)] = run.seconds
        passed = run.code in (PASSED, NOTHING)
        return "" if passed else f"{label(file, copy)}: {run.test or run.said}"

    def attempt(self, mutant: Mutant) -> tuple[str, str, float]:
        """Try one mutant; return its verdict, what is printed beside it, and the seconds."""
        copy = self.copied(mutant.name)
        try:
            file = copy / f"maskalign/{mutant.module}.py"
            file.write_text(mutated(mutant, file.read_text()))
            if not importers(mutant.module, self.unit):
                raise ValueError(f"no test module imports {mutant.module}")
            seconds = {
                f: self.seconds[label(f, copy)]
                for f in self.files(mutant.module, copy)
                if label(f, copy) in self.seconds
            }
            if not seconds:
                raise ValueError(f"no test of {mutant.module} is selected")
            # The module's own tests most likely fail; of the others the quickest come first.
            own = {f"{mutant.module}.py", f"test_{mutant.module.split('/')[0]}.py"}
            files = sorted(seconds, key=lambda f: (label(f, copy) not in own, seconds[f]))
            run = pytest(copy, files, 60 + 3 * sum(seconds.values()))
            return *verdict(run), run.seconds
        except ValueError as error:
            return ERROR, str(error), 0.0
        finally:
            shutil.rmtree(copy)


def report(mutants: list[Mutant], jobs: int, trial: Trial) -> int:
    """Try all mutants, ``jobs`` at once; print the report and return the exit code."""
    began = time.monotonic()
    plain = trial.copied("unmutated")
    files = {f: None for m in {m.module: m for m in mutants} for f in trial.files(m, plain)}
    with ThreadPoolExecutor(jobs) as pool:
        broken = [b for b in pool.map(lambda f: trial.baseline(f, plain), files) if b]
        if broken:
            print("without a mutation, tests fail:", *broken, sep="\n")
            return 1
        for name, seconds in sorted(trial.seconds.items(), key=lambda item: item[1]):
            print(f"unmutated  {name}  {seconds:.0f} s", flush=True)
        counts: Counter[str] = Counter()
        for mutant, found in zip(mutants, pool.map(trial.attempt, mutants), strict=True):
            outcome, said, seconds = found
            counts[outcome] += 1
            name = f"{mutant.module}  {mutant.name}"
            print(f"{outcome:8}  {name}  {seconds:.0f} s  {said}", flush=True)
    minutes = (time.monotonic() - began) / 60
    numbers = [f"{counts[o]} {word}" for o, word in SUMMARY.items()]
    print(f"{len(mutants)} mutants: {', '.join(numbers)}; {minutes:.1f} minutes")
    return int(counts[KILLED] < len(mutants))


SUMMARY = {KILLED: "killed", SURVIVED: "survived", ERROR: "errors"}


def main() -> int:
    """Read the command line and try what it chooses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="modules or names of mutants; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants tried at once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            return report(chosen(read(), arguments.only), arguments.jobs, Trial(Path(folder)))
        except ValueError as error:
            parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())

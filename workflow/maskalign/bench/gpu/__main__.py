"""make bench-gpu: training, analyses and correctness on a GPU, within a budget of seconds.

Every row is written as soon as it is measured: to a table and a page named after the device, and
to the table of throughput from which the forecast counts GPU-hours. No network is needed, and no
Snakemake.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER, THROUGHPUT = Path("results/benchmarks"), Path("config/throughput.csv")
BUDGET = 480.0  # seconds
LEAST = 15.0  # seconds; no piece starts with less time left
BEGAN = time.monotonic()
ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
UNAVAILABLE = "maskalign.bench.gpu.pieces.UnavailableError"
ALSO = ("dense rate", "copy bandwidth", "training in sum")  # shown below the short table
TOO_LATE = "the budget was spent"


def main() -> int:
    """Measure all pieces, or those that are named; 1 if one fails or a check does not hold."""
    parser = argparse.ArgumentParser(prog="python -m maskalign.bench.gpu", description=__doc__)
    from maskalign.bench.gpu import plan

    every = ", ".join(f"'{p.name}'" for p in plan.PIECES)
    parser.add_argument("pieces", nargs="*", help=f"only these of {every}")
    time_help = f"of the whole run, {BUDGET:g} by default"
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help=time_help)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write everything there")
    parser.add_argument("--commit", help="to be named, if the folder is no git checkout")
    parser.add_argument("--toy", action="store_true", help="small sizes, also on a CPU; with --out")
    parser.add_argument("--piece", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.piece:
        _measure(options.piece, options.toy)
        return 0
    from maskalign import cost

    pieces = plan.TOY_PIECES if options.toy else plan.PIECES
    names = [p.name for p in pieces]
    if unknown := [p for p in options.pieces if p not in names]:
        parser.error(f"unknown piece '{unknown[0]}', must be one of {', '.join(names)}")
    if options.toy and not options.out:
        parser.error("--toy needs --out: what it measures is no benchmark")
    if options.budget < LEAST:
        parser.error(f"--budget {options.budget:g} is not allowed, must be at least {LEAST:g}")
    if not options.toy and not _has_gpu():
        parser.error("torch can use no GPU here; --toy --out FOLDER runs small sizes on the CPU")
    try:
        cost.Throughput([f for f in _throughputs(options) if f.exists()])
    except ValueError as error:
        parser.error(str(error))
    chosen = [p for p in pieces if not options.pieces or p.name in options.pieces]
    # As an exception, so that the running piece is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return Run(options).all(chosen)


def _throughputs(options: argparse.Namespace) -> list[Path]:
    """Return the tables of throughput that a run reads; the last one is what it writes."""
    own = [options.out / "throughput.csv"] if options.out else []
    return [*([] if options.toy else [THROUGHPUT]), *own]


class Run:
    """One run of the benchmark: its budget, its table and what it has seen."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.deadline = BEGAN + options.budget
        self.rows: list[dict[str, Any]] = []
        self.missing: dict[str, str] = {}
        self.file: Path | None = None
        self.throughput = _throughputs(options)[-1]

    def all(self, pieces: list[Any]) -> int:
        """Measure the pieces in their order; return the exit code."""
        from maskalign.bench.gpu import table

        for piece in pieces:
            left = self.deadline - time.monotonic()
            why = TOO_LATE
            if left >= LEAST:
                why = self._run(piece, min(piece.seconds, left))
            if self.file:
                self._add_throughput()
            if why:
                self.missing[piece.name] = why
                print(f"{piece.name}: not measured ({why})", flush=True)
        if self.file:
            self._write()
        mine = [r for r in self.rows if r["began"] == self.began]
        wrong = [r for r in mine if r["unit"] == "holds" and float(r["value"]) != 1]
        print("", *table.short(mine + table.derive(mine)), sep="\n")
        for r in mine:
            if r["measure"] in ALSO:
                value = f"{table.plain(r['value'])} {r['unit']}"
                print(f"{r['network']} {r['setting']}: {value}".strip())
        for r in wrong:
            print(f"FAILED: {r['setting']} ({r['note']})")
        for name, why in self.missing.items():
            print(f"not measured: {name} ({why})")
        if self.file:
            print(f"written: {self.file}, {self.file.with_suffix('.md')}, {self.throughput}")
        fine = TOO_LATE, UNAVAILABLE
        failed = [why for why in self.missing.values() if not why.startswith(fine)]
        return int(bool(wrong or failed or not mine))

    def _run(self, piece: Any, seconds: float) -> str:
        """Measure a piece in a process; return why it did not end well, else nothing."""
        began = time.monotonic()
        rows, why = 0, ""
        with tempfile.TemporaryFile("w+") as errors:
            for row in _rows(piece.name, self.options.toy, seconds, errors):
                if "about" in row:
                    self._meet(row["about"])
                elif "ended" in row:
                    why = self._why(row["ended"], piece.seconds, errors)
                else:
                    self._add(piece, row)
                    rows += 1
            self._log(piece, errors)
        if not why:
            print(f"{piece.name}: done in {time.monotonic() - began:.0f} s", flush=True)
        return why or ("" if rows else "it reported no reading")

    def _why(self, code: int | None, seconds: float, errors: Any) -> str:
        """Return why a piece's process ended: its last error, or that its time was over."""
        if code is None:
            late = time.monotonic() >= self.deadline
            return TOO_LATE if late else f"it took more than {seconds:.0f} s"
        errors.seek(0)
        said = errors.read().strip().splitlines()
        named = [line for line in said if ERROR.match(line)]
        return (named or said or [f"exit code {code}"])[-1]

    def _log(self, piece: Any, errors: Any) -> None:
        """Keep what a piece's process wrote to stderr, beside the table."""
        errors.seek(0)
        if self.file and (text := errors.read()):
            with self.file.with_suffix(".log").open("a", encoding="utf-8") as log:
                log.write(f"== {piece.name}, {self.began}\n{text}")

    def _meet(self, about: dict[str, Any]) -> None:
        """Learn where and with what this runs; read what was measured there before."""
        from maskalign.bench.gpu import table

        commit = self.options.commit or about["commit"] or ""
        dirty = "-dirty" if commit.endswith("-dirty") else ""
        self.about = about | {"commit": f"{commit[:12]}{dirty}", "began": self.began}
        if self.file is None:
            name = re.sub(r"\W+", "-", about["device"]).strip("-").lower()
            folder = self.options.out or FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            self.file = folder / f"{name}.csv"
            self.rows = table.read(self.file)
            shipped = _throughputs(self.options)[0]
            if shipped.exists() and not self.throughput.exists():
                self.throughput.write_bytes(shipped.read_bytes())

    def _add(self, piece: Any, row: dict[str, Any]) -> None:
        from maskalign.bench.gpu import table

        row = self.about | {"piece": piece.name, "network": piece.network} | row
        self.rows = table.add(self.rows, row)
        self._write()
        where = f"{piece.name}: {row['setting']}" if row["setting"] else piece.name
        print(f"{where}: {row['measure']} {row['value']} {row['unit']}".strip(), flush=True)

    def _write(self) -> None:
        from maskalign.bench.gpu import table

        table.write(self.file, self.rows, self.missing)

    def _add_throughput(self) -> None:
        from maskalign.bench.gpu import table

        mine = [r for r in self.rows if r["began"] == self.began]
        table.add_throughput(self.throughput, mine)


def _rows(name: str, toy: bool, seconds: float, errors: Any) -> Iterator[dict[str, Any]]:
    """Yield what a piece's process prints; if it fails or is too slow, its exit code or None."""
    command = [sys.executable, "-m", "maskalign.bench.gpu", "--piece", name]
    scratch = tempfile.TemporaryDirectory(prefix="maskalign-gpu-")  # a killed piece removes nothing
    process = subprocess.Popen(
        [*command, *(["--toy"] if toy else [])],
        env=os.environ | {"TMPDIR": scratch.name},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        process_group=0,  # so that all of its processes end with it
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for line in process.stdout:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # cut off, or a library's own word
                row = line
            if isinstance(row, dict):
                yield row
            else:
                print(line, end="", file=sys.stderr)
        code = process.wait()
    finally:
        timer.cancel()
        with contextlib.suppress(ProcessLookupError):  # whatever it has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        scratch.cleanup()
    if late.is_set() or code:
        yield {"ended": None if late.is_set() else code}


def _measure(name: str, toy: bool) -> None:
    """Measure a piece in this process and print its rows."""
    from maskalign.bench.gpu import plan

    pieces = plan.TOY_PIECES if toy else plan.PIECES
    piece = next(p for p in pieces if p.name == name)
    if piece.kind != "textbook":
        from maskalign import process

        process.settle()
    import torch

    from maskalign.bench.gpu import pieces as measurements
    from maskalign.results import provenance
    from maskalign.throughput import device_name

    cuda = torch.cuda.is_available()
    about = provenance()
    facts = {
        "device": device_name(),
        "driver": _driver() if cuda else "",
        "torch": about["torch"],
        "cuda": torch.version.cuda or "",
        "python": about["python"],
        "commit": about["commit"],
        "threads": about["threads"],
    }
    print(json.dumps({"about": facts}), flush=True)
    sizes = plan.TOY if toy else plan.FULL
    with tempfile.TemporaryDirectory() as folder:
        measure = measurements.KINDS[piece.kind]
        device = "cuda" if cuda else "cpu"
        for row in measure(piece.network, sizes, Path(folder), device):
            peak = {"memory_mib": provenance()["peak_memory_mib"]}
            print(json.dumps(row | peak), flush=True)


def _has_gpu() -> bool:
    """Return whether torch can use a GPU, asked in another process: asking takes memory on it."""
    asking = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asking], check=False).returncode == 0


def _driver() -> str:
    """Return the version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.split("\n")[0].strip()


if __name__ == "__main__":
    sys.exit(main())

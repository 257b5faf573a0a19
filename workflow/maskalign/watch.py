"""What a person wants to know of a study that is running, here or on a cluster.

    python -m maskalign.watch config/demo.yaml

Reads the runs' records and the progress files of running trainings, and nothing else: it may be
started and stopped at any time, on any machine that sees the results folder.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from maskalign.progress import FILE
from maskalign.study import Study, read

SILENT = 120.0  # seconds after which a training that says nothing is shown as silent


def stages(study: Study) -> dict[str, tuple[int, int]]:
    """Return for each stage the number of runs that are finished, and of all."""
    found: dict[str, tuple[int, int]] = {}
    for path in study.runs["path"]:
        stage = study.run(path)["stage"].removesuffix("_round")
        done, runs = found.get(stage, (0, 0))
        finished = Path(study.runs_folder, path, "result.json").exists()
        found[stage] = done + finished, runs + 1
    return found


def running(study: Study) -> list[dict[str, Any]]:
    """Return the progress of the trainings that have begun and not ended, the first one first."""
    found = []
    for file in sorted(Path("results", study.name, "state").rglob(FILE)):
        try:
            found.append(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # it ended just now
            continue
    return found


def name(run: dict[str, Any]) -> str:
    """Return what a person calls a run."""
    parts = [run["method"] or run["stage"], f"{run['model']} x{run['width']:g} on {run['dataset']}"]
    if run["sparsity"] is not None:
        parts.append(f"S {run['sparsity']:.3g}")
    if run["rewind_epoch"] is not None:
        parts.append(f"k {run['rewind_epoch']}")
    seeds = [run[k] for k in ("mask_seed", "init_seed") if run[k] is not None]
    return ", ".join([*parts, "seeds " + "-".join(str(s) for s in dict.fromkeys(seeds))])


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them."""
    if seconds is None:
        return "?"
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def state(run: dict[str, Any], now: float) -> list[str]:
    """Return how a run stands: epochs, speed, last accuracy, time left or silence, machine."""
    quiet = now - run["updated"]
    accuracy, speed = run["test_accuracy"], run["images_s"]
    left = duration(run["seconds_left"])
    return [
        f"{run['epoch']:.1f} / {run['epochs']}",
        f"{speed:,} images/s" if speed else "",
        "" if accuracy is None else f"{accuracy:.2f} %",
        f"{left} left" if quiet < SILENT else f"silent for {duration(quiet)}",
        run["host"],
    ]


def lines(study: Study) -> list[str]:
    """Return the state of a study as plain lines."""
    counts = ", ".join(f"{stage} {done}/{runs}" for stage, (done, runs) in stages(study).items())
    now = time.time()
    found = [f"{time.strftime('%H:%M:%S')}  {study.name}: {counts}"]
    return found + [
        "  " + ", ".join(filter(None, [name(run), *state(run, now)])) for run in running(study)
    ]


def page(study: Study) -> Group:
    """Return the state of a study as tables for a terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"study {study.name}", title_justify="left")
    for head in ("stage", "runs", ""):
        table.add_column(head, justify="right" if head == "runs" else "left")
    for stage, (done, runs) in stages(study).items():
        table.add_row(stage, f"{done} / {runs}", ProgressBar(total=runs, completed=done, width=40))
    now, found = time.time(), running(study)
    jobs = Table(box=None, padding=(0, 2, 0, 0), title="running now", title_justify="left")
    for head in ("training", "epoch", "speed", "test accuracy", "time", "on"):
        jobs.add_column(head, justify="left" if head in ("training", "on") else "right")
    for run in found:
        jobs.add_row(name(run), *state(run, now))
    return Group(table, "", jobs if found else "no training is running")


def main(arguments: list[str] | None = None) -> None:
    """Show a study until interrupted: a live page in a terminal, else lines."""
    parser = argparse.ArgumentParser(prog="python -m maskalign.watch", description="Watch a study.")
    parser.add_argument("configfile", nargs="+", type=Path, help="the study, as for --configfile")
    parser.add_argument("--once", action="store_true", help="show it once and end")
    parser.add_argument("--every", type=float, default=None, help="seconds between two looks")
    options = parser.parse_args(arguments)
    try:
        study = read(options.configfile)
    except (OSError, ValueError) as error:
        sys.exit(f"study error: {error}")
    console = Console()
    if options.once or not console.is_terminal:
        while True:
            print("\n".join(lines(study)), flush=True)
            if options.once:
                return
            time.sleep(options.every or 30)
    with Live(page(study), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(options.every or 2)
            live.update(page(study), refresh=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

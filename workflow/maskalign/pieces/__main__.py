"""Run the next piece of a study, or draw a study from all of its pieces.

    python -m maskalign.pieces next config/fashion.yaml
    python -m maskalign.pieces redraw config/fashion.yaml

Where Snakemake is not installed, maskalign.direct runs a piece from a plan of its jobs:

    python -m maskalign.pieces plan config/fashion-gpu.yaml --pair 0 > plan.json
    python -m maskalign.direct plan.json --archive pair-0.tar.gz
    python -m maskalign.pieces keep config/fashion-gpu.yaml --archive pair-0.tar.gz
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from maskalign import direct, pieces
from maskalign.pieces import plan
from maskalign.study import Study, read

# All that is drawn from the records of runs, and drawn anew however new it is.
DRAWN = ["runs", "table", "figure", "claims", "comparison", "report"]
# The other rules that redrawing needs.
ALSO_NEEDED = ["all", "all_tables", "all_figures", "forecast", "rulegraph"]


def main() -> int:
    """Run the command that was given; return its exit code."""
    about, example = str(__doc__).split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="python -m maskalign.pieces",
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("study", nargs="+", metavar="FILE", help="as after --configfile")
    parser.add_argument("--pair", type=int, nargs="+", metavar="P", help="pairs of a plan")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="of direct, to be kept")
    cores = "processor cores, all by default"
    parser.add_argument("--cores", type=int, default=os.cpu_count(), metavar="N", help=cores)
    options = parser.parse_args()
    if options.cores < 1:
        parser.error(f"--cores {options.cores} is not allowed, must be at least 1")
    for name, command in (("pair", "plan"), ("archive", "keep")):
        if (getattr(options, name) is None) == (options.command == command):
            parser.error(f"--{name} goes with {command}, and {command} needs it")
    try:
        return COMMANDS[options.command](read(options.study), options)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.command}: {' '.join(str(error).split())}")


def run_next(study: Study, options: argparse.Namespace) -> int:
    """Run the first pair that has no piece yet, and keep it."""
    left = pieces.missing(study)
    if not left:
        print(f"all pieces of study '{study.name}' are in {pieces.FOLDER / study.name}")
        return 0
    pair, *later = left
    paths = pieces.pairs(study)[pair]
    print(f"pair {pair}: {len(paths)} runs", flush=True)
    records = [f"{study.runs_folder}/{path}/result.json" for path in paths]
    if code := _snakemake(options, "--", *records):
        return code
    _say(pair, pieces.pack(study, pair))
    print(f"still to run: {', '.join(map(str, later))}" if later else "it was the last one")
    return 0


def redraw(study: Study, options: argparse.Namespace) -> int:
    """Make every table and figure, the claims and the page from the pieces; train nothing."""
    if left := pieces.missing(study):
        raise ValueError(
            f"{pieces.FOLDER / study.name}: pieces of pairs {', '.join(map(str, left))} are not "
            "there; run them first (next)"
        )
    _unpack(study)
    # Newer data, such as that of a pair that was run here since, must train no run again.
    rules = ["--forcerun", *DRAWN, "--allowed-rules", *DRAWN, *ALSO_NEEDED]
    code = _snakemake(options, *rules, "--", "all")
    _unpack(study)  # they are still what they were
    return code


def _unpack(study: Study) -> None:
    for pair in pieces.pairs(study):
        pieces.unpack(study, pair)


def write_plan(study: Study, options: argparse.Namespace) -> int:
    """Print the jobs of the pairs that were asked for, as JSON."""
    print(json.dumps(plan.plan(study, options.pair), indent=1))
    return 0


def keep(study: Study, options: argparse.Namespace) -> int:
    """Keep the pairs that an archive completes."""
    new = direct.unpack(options.archive, study.name)
    print(f"{options.archive}: {new} files that were not there")
    left = pieces.missing(study)
    for pair, paths in pieces.pairs(study).items():
        done = sum(Path(study.runs_folder, path, direct.RECORD).exists() for path in paths)
        if pair not in left:
            print(f"pair {pair} has its piece in {pieces.folder(study, pair)}")
        elif done == len(paths):
            _say(pair, pieces.pack(study, pair))
        elif done:
            print(f"pair {pair}: {done} of {len(paths)} runs are there; go on with --resume")
    return 0


def _say(pair: int, place: Path) -> None:
    size = sum(file.stat().st_size for file in place.iterdir()) / 1024
    print(f"pair {pair} is kept in {place} ({size:.0f} KiB)")


def _snakemake(options: argparse.Namespace, *arguments: str) -> int:
    command = [sys.executable, "-m", "snakemake", "--cores", str(options.cores)]
    command += ["--max-jobs-per-timespan", "1000/10s", "--rerun-incomplete"]
    command += ["--configfile", *options.study]
    with subprocess.Popen([*command, *arguments]) as child:
        # It ends in its own way, or its folder would stay locked. Ctrl-C reaches it by itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


COMMANDS = {"next": run_next, "redraw": redraw, "plan": write_plan, "keep": keep}

if __name__ == "__main__":
    sys.exit(main())

"""Run a plan of jobs on this machine within a budget of time, without Snakemake.

    python -m maskalign.pieces plan config/fashion-gpu.yaml --pair 0 > plan.json
    python -m maskalign.direct plan.json --budget 480 --jobs 4 --archive pair-0.tar.gz

Several processes share the GPU, or the cores; each runs one job after another. What is done is not
done again, and an interrupted training goes on where it was. The archive, written anew whenever a
job ends, holds records, histories and curves of finished jobs, and what is needed to go on
elsewhere, as far as it fits into 16 MB: ``--resume ARCHIVE``. Needs torch, numpy, scipy and
safetensors, and torchvision to prepare published data.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskalign.files import atomic

BEGAN = time.monotonic()
LIMIT = 16_000_000  # bytes of an archive
RECORD = "result.json"
NUMBERS = (".json", ".csv")  # files that are kept of every finished run

Job = dict[str, Any]


def main() -> int:
    """Run the plan; 0 if all of it is done."""
    about, example = str(__doc__).split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="python -m maskalign.direct",
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="made by python -m maskalign.pieces plan")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="stop after this time")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at once, 1 by default")
    parser.add_argument("--archive", type=Path, required=True, metavar="FILE", help="a .tar.gz")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from this archive")
    options = parser.parse_args()
    for name, least in (("jobs", 1), ("budget", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} {value:g} is not allowed, must be at least {least}")
    try:
        study, jobs = read(options.plan)
        if options.resume:
            unpack(options.resume, study)
    except (OSError, ValueError, tarfile.TarError) as error:
        parser.error(" ".join(str(error).split()))
    # As an exception, so that running jobs are ended and the archive is written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return Run(jobs, options).all()


def read(file: Path) -> tuple[str, dict[str, Job]]:
    """Return the study of a plan, and its jobs by name, each after those that it needs.

    Raises:
        ValueError: one line, if the file is no plan.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        study, jobs = content["study"], {job["name"]: job for job in content["jobs"]}
        known: set[str] = set()
        for name, job in jobs.items():
            if late := set(job["needs"]) - known:
                raise ValueError(f"{name} comes before {min(late)}, which it needs")
            known.add(name)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: is no plan of jobs ({error})") from None
    return study, jobs


class Run:
    """A plan that is being run: which jobs are done, running and left."""

    def __init__(self, jobs: dict[str, Job], options: argparse.Namespace):
        """Find out what is done."""
        self.jobs, self.options = jobs, options
        self.left = unfinished(jobs)
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self.lock = threading.Condition()
        self.workers: set[Worker] = set()
        self.chains = chains(jobs)
        self.ending = False

    def all(self) -> int:
        """Run what is left, as far as the time goes; return the exit code."""
        print(f"{len(self.left)} of {len(self.jobs)} jobs to do", flush=True)
        threads = [threading.Thread(target=self._work) for _ in range(self.options.jobs)]
        try:
            for thread in threads:
                thread.start()
            self._wait(threads)
        finally:
            with self.lock:
                self.ending = True
                self.lock.notify_all()
                workers = list(self.workers)
            for worker in workers:
                worker.kill()
            for thread in threads:
                if thread.ident:
                    thread.join()
            self._archive()
        for name, why in self.failed.items():
            print(f"FAILED: {name}: {why}")
        done = len(self.jobs) - len(self.left)
        print(f"{done} of {len(self.jobs)} jobs are done, {time.monotonic() - BEGAN:.0f} s")
        return 1 if self.left else 0

    def _wait(self, threads: list[threading.Thread]) -> None:
        """Wait until all jobs are done or time is up; write the archive when one has ended."""
        end = None if self.options.budget is None else BEGAN + self.options.budget
        archived = len(self.left)
        while any(thread.is_alive() for thread in threads):
            if end is not None and time.monotonic() > end:
                print("time is up", flush=True)
                return
            with self.lock:
                self.lock.wait(timeout=1)
                left = len(self.left)
            if left != archived:
                self._archive()
                archived = left

    def _work(self) -> None:
        """Run jobs in a process of its own, until none is left for it."""
        worker = None
        while (job := self._next()) is not None:
            began = time.monotonic()
            try:
                worker = worker or self._start()
                why = worker.run(job)
            except (OSError, ValueError) as error:  # no process could be started, or no answer read
                why = f"{type(error).__name__}: {error}"
            with self.lock:
                if worker and worker.process.poll() is not None:  # it died of this job
                    self.workers.discard(worker)
                    worker = None
                self.running.discard(job["name"])
                if why is None:
                    self.left.discard(job["name"])
                    print(f"{job['name']}: {time.monotonic() - began:.1f} s", flush=True)
                elif not self.ending:
                    self.failed[job["name"]] = why
                self.lock.notify_all()
        if worker:
            worker.end()

    def _start(self) -> "Worker":
        with self.lock:
            worker = Worker(self.options.jobs)
            self.workers.add(worker)
            if self.ending:
                worker.kill()
        return worker

    def _next(self) -> Job | None:
        """Return a job whose needs are done, after waiting for one; None at the end."""
        with self.lock:
            while not self.ending:
                waiting = self.left - self.running - self.failed.keys()
                ready = [name for name in waiting if not self.left & {*self.jobs[name]["needs"]}]
                if ready:
                    # First what the most epochs wait for, one after another.
                    chosen = max(sorted(ready), key=self.chains.__getitem__)
                    self.running.add(chosen)
                    # Until it is made again, nothing may take the job for done.
                    Path(self.jobs[chosen]["makes"]).unlink(missing_ok=True)
                    return self.jobs[chosen]
                if not self.running:
                    return None  # what is left needs a job that failed
                self.lock.wait()
        return None

    def _archive(self) -> None:
        with self.lock:
            left = set(self.left)
        omitted = archive(self.options.archive, self.jobs, left)
        if omitted:
            print(f"{len(omitted)} files did not fit into the archive; their jobs run again")


def chains(jobs: dict[str, Job]) -> dict[str, int]:
    """Return the epochs from the start of each job to the end of the longest chain after it.

    >>> chains({"a": {"epochs": 2, "needs": []}, "b": {"epochs": 5, "needs": ["a"]}})
    {'a': 7, 'b': 5}
    """
    after = dict.fromkeys(jobs, 0)
    for name, job in reversed(jobs.items()):
        after[name] += job["epochs"]
        for need in job["needs"]:
            after[need] = max(after[need], after[name])
    return after


def unfinished(jobs: dict[str, Job]) -> set[str]:
    """Return the jobs to run: those not done, and before them those whose files they lack.

    A job is done if its record is there and was made with the values of the plan.
    """
    left = {name for name, job in jobs.items() if not _done(job)}
    for name, job in reversed(jobs.items()):
        for need in job["needs"] if name in left else ():
            made = Path(jobs[need]["makes"])
            lacks = [f for f in map(Path, job["reads"]) if made.parent in f.parents]
            if not made.exists() or not all(file.exists() for file in lacks):
                left.add(need)
    return left


def _done(job: Job) -> bool:
    made = Path(job["makes"])
    if not made.exists():
        return False
    if made.name == RECORD:
        with contextlib.suppress(ValueError, KeyError, OSError):
            return json.loads(made.read_text(encoding="utf-8"))["values_hash"] == job["values"]
        return False
    mark = mark_of(job)
    return mark.exists() and mark.read_text(encoding="utf-8") == job["values"]


def mark_of(job: Job) -> Path:
    """Return the file that says of what values prepared data was made."""
    return Path(f"{job['makes']}.values")


def archive(file: Path, jobs: dict[str, Job], left: set[str]) -> list[Path]:
    """Write the archive; return the files that are needed to go on and did not fit into it.

    Prepared data is not kept.
    """
    total, omitted = 0, []
    with atomic(file) as temporary, tarfile.open(temporary, "w:gz") as tar:
        for path in _kept(jobs, left):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # a job that is running has done with it
                continue
            if total + len(content) > LIMIT:
                omitted.append(path)
                continue
            total += len(content)
            entry = tarfile.TarInfo(path.as_posix())
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return omitted


def _kept(jobs: dict[str, Job], left: set[str]) -> Iterator[Path]:
    """Yield the files of an archive, the most important first."""
    runs = {name: job for name, job in jobs.items() if job["needs"]}
    for name, job in runs.items():
        if name not in left:
            yield from (f for f in _listed(Path(job["makes"]).parent) if f.suffix in NUMBERS)
    wanted: dict[Path, None] = {}
    for name, job in runs.items():
        if name in left:
            wanted |= dict.fromkeys(map(Path, job["reads"]))
    for name, job in runs.items():
        if name in left:
            wanted |= {file: None for folder in job["state"] for file in _listed(Path(folder))}
    yield from wanted


def _listed(folder: Path) -> list[Path]:
    """Return the files below a folder that running jobs change, without temporary ones."""
    found = []
    for place, folders, names in os.walk(folder):  # passes over what is gone
        folders.sort()
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return found


def unpack(file: Path, study: str) -> int:
    """Put the files of an archive where they were, below the current folder; return how many.

    A file that is there stays, and so does a run that is finished there.

    Raises:
        ValueError: one line, if the file is no whole archive of the study's results.
    """
    try:
        with tarfile.open(file) as tar:
            members = tar.getmembers()
            for member in members:
                parts = Path(member.name).parts
                if parts[:2] != ("results", study) or ".." in parts or not member.isfile():
                    raise ValueError(f"it holds {member.name}, which is no result of '{study}'")
            places = {Path(m.name): m for m in members}
            finished = {p.parent for p in places if (p.parent / RECORD).exists()}
            new = [m for p, m in places.items() if p.parent not in finished and not p.exists()]
            tar.extractall(members=new, filter="data")
    except (EOFError, ValueError, tarfile.TarError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file}: is no archive of a plan's jobs ({why})") from None
    return len(new)


class Worker:
    """A process that has torch imported, and runs one job after another."""

    def __init__(self, jobs: int):
        """Start it with its share of the cores."""
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maskalign.direct_job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads},
        )

    def run(self, job: Job) -> str | None:
        """Run a job; return why it failed, or None."""
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            return f"its process ended with exit code {self.process.wait()}"
        return json.loads(answer)["failed"]

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def end(self) -> None:
        """Let it end by itself."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    sys.exit(main())

"""A process of ``maskalign.direct``: reads jobs, one line of JSON each, and runs them in turn.

It answers each with a line, ``{"failed": null}`` or why it failed; what a job prints goes to its
log, results/<study>/logs/<run>.log.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from maskalign import process
from maskalign.direct import mark_of
from maskalign.files import write_text


def main() -> None:
    """Run jobs until there are no more."""
    process.settle()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        job = json.loads(line)
        answers.write(json.dumps({"failed": run(job)}) + "\n")
        answers.flush()


def run(job: dict[str, Any]) -> str | None:
    """Run a job; return why it failed, in one line, or None."""
    log = log_of(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            _call(job)
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {' '.join(str(error).split())}; log: {log}"
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return None


def log_of(job: dict[str, Any]) -> Path:
    """Return the file of a job's log."""
    results, study = Path(job["makes"]).parts[:2]
    return Path(results, study, "logs", f"{job['name'].removeprefix(f'{results}/{study}/')}.log")


def _call(job: dict[str, Any]) -> None:
    from maskalign import dotted

    arguments = dict(job["arguments"])
    if "out" in arguments:  # prepared data
        arguments |= {name: Path(arguments[name]) for name in ("out", "root")}
    dotted.load(job["function"])(**arguments)
    if "out" in arguments:
        write_text(mark_of(job), job["values"])


if __name__ == "__main__":
    main()

"""What a job asks a cluster for: time and memory, from the forecast of its run."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskalign import cost
from maskalign.study import PATHS, Study

SHORTEST = 10  # minutes; queues look at limits only every half minute
SNAKEMAKE_MIB = 500  # of the two Snakemake processes that run beside a job on a cluster


class Requests:
    """Time and memory of the jobs of a study.

    They follow from what was measured on this cluster (``results/throughput.csv``), or else from
    the slowest GPU that was measured elsewhere; ``jobs.device`` names another one. A job whose
    network was never measured asks for ``jobs.minutes`` and ``jobs.memory_mib``.
    """

    def __init__(self, study: Study, shipped: Path, measured: Path):
        """Read the tables; ValueError, one line, if one is not a throughput table."""
        self.study, self.how = study, study.config["jobs"]
        own = cost.Throughput([measured] if measured.exists() else [])
        every = cost.Throughput([shipped])
        gpus = [d for d in every.devices if not d.startswith("CPU")]
        every.rows |= own.rows
        self.throughput = every
        if self.how["device"]:
            if self.how["device"] not in every.devices:
                raise ValueError(
                    f"jobs.device: '{self.how['device']}' is in neither {shipped} nor {measured}, "
                    f"must be one of {', '.join(every.devices) or 'those measured, so far none'}"
                )
            self.devices = [self.how["device"]]
        else:
            self.devices = own.devices or gpus

    def minutes(self, stage: str) -> Callable[[Any, int], int]:
        """Return a resource function: ``jobs.factor`` times the forecast, more in each attempt."""

        def ask(wildcards: Any, attempt: int) -> int:
            run = self._run(stage, wildcards)
            counts = cost.images(run["values"]["data"])
            found = []
            if counts:
                needed = cost.of(run, counts)
                found = [self.throughput.seconds(d, run, needed) for d in self.devices]
            seconds = max((s for s in found if s is not None), default=None)
            if seconds is None:
                return attempt * self.how["minutes"]
            return attempt * max(SHORTEST, math.ceil(self.how["factor"] * seconds / 60))

        return ask

    def memory(self, stage: str) -> Callable[[Any, int], int]:
        """Return a resource function: the measured peak and half of it, in MiB."""

        def ask(wildcards: Any, attempt: int) -> int:
            run = self._run(stage, wildcards)
            rows = [self.throughput.find(d, run["values"]) for d in self.devices]
            peak = max((float(row["memory_mib"]) for row in rows if row), default=None)
            asked = self.how["memory_mib"] if peak is None else math.ceil(1.5 * peak)
            return attempt * asked + SNAKEMAKE_MIB

        return ask

    def _run(self, stage: str, wildcards: Any) -> cost.Run:
        return self.study.run(PATHS[stage].format(**dict(wildcards.items())))

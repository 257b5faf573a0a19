"""The stages of the benchmark: each yields the rows of its table as they are measured.

Each takes the number of cores, the file of the table and the names of the networks to measure.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import scipy.stats

from maskalign.bench import growth, precision, starting, work
from maskalign.bench.processes import REPEATS, result, results, spread, start

Row = dict[str, Any]
WORKERS = (0, 1, 2)
SEEDS = range(10)
SECONDS = 60  # that the textbook procedure matches for
CHANNELS = 2048  # of the widest groups of ResNet50
ACCURACY = work.job("ResNet20 x1", epochs=10)


def training(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Images a second of every network in every setting, the settings taking turns."""
    for name in _trained(networks):
        found: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            for workers in WORKERS:
                run = start("textbook", work.job(name, workers=workers), cores)
                found.setdefault(f"textbook, {workers} workers", []).append(result(run))
            for setting, (options, jobs, threads) in settings(cores).items():
                with tempfile.TemporaryDirectory() as meeting:
                    job = work.job(name, **options, meeting=meeting, jobs=jobs)
                    together = [start("ours", job, threads) for _ in range(jobs)]
                    speeds = results(together)
                found.setdefault(setting, []).append(sum(s["images_s"] for s in speeds))
        textbook = {k: statistics.median(v) for k, v in found.items() if k.startswith("textbook")}
        best = max(textbook, key=textbook.get)
        for setting, values in found.items():
            yield {
                "network": name,
                "setting": setting,
                "unit": "images/s",
                **spread(values),
                "baseline": f"{textbook[best]:.4g}",
                "baseline_setting": best,
                "ratio": f"{statistics.median(values) / textbook[best]:.3g}",
            }


def settings(cores: int) -> dict[str, tuple[dict[str, Any], int, int]]:
    """Return how the study's loop is timed: of each setting the options, jobs, threads a job."""
    found = {}
    for kind in ("float32", "bfloat16"):
        options = {"precision": kind}
        found[f"{kind}, {cores} jobs of 1 thread"] = options, cores, 1
        found[f"{kind}, 1 job of {cores} threads"] = options, 1, cores
    return found


def accuracy(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Test accuracy of the same seeds in the study's loop and in the textbook procedure."""
    found = {}
    for procedure in ("ours", "textbook"):
        jobs = [ACCURACY | {"procedure": procedure, "seed": seed} for seed in SEEDS]
        found[procedure] = [result(start("accuracy", job, cores)) for job in jobs]
    gaps = [x - y for x, y in zip(found["ours"], found["textbook"], strict=True)]
    low, high = scipy.stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    change = f"{statistics.mean(gaps):+.2f} [{low:+.2f}, {high:+.2f}] points"
    yield {
        "network": ACCURACY["network"],
        "setting": f"float32, {len(SEEDS)} seeds: {change} to the textbook",
        **_accuracies(found["ours"], found["textbook"], "textbook"),
    }


def precisions(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Test accuracy of all that a study trains, in bfloat16 and in float32."""
    for found in precision.differences(precision.run(cores)):
        change = f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] points"
        yield {
            "network": found["network"],
            "setting": f"{found['method']} in bfloat16: {change} to float32",
            **_accuracies(found["bfloat16"], found["float32"], "float32"),
        }


def bounds(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Floating-point rate of forward and backward passes beside that of dense products."""
    for name in _trained(networks):
        for kind in ("float32", "bfloat16"):
            job = work.job(name, precision=kind)
            found = [result(start("bounds", job, 1)) for _ in range(REPEATS)]
            share = [100 * f["step"] / f["dense"] for f in found]
            million = found[0]["per_image"] / 1e6
            yield {
                "network": name,
                "setting": f"{kind}, 1 thread; {million:.0f} MFLOP an image",
                "unit": "% of the dense rate",
                **spread(share),
                "baseline": f"{statistics.median(f['dense'] for f in found) / 1e9:.4g}",
                "baseline_setting": "GFLOP/s: a matrix product or a wide convolution",
            }


def matching(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Seconds of matching two networks; the ratio is taken within each repetition."""
    for name in networks:
        job = work.job(name, seconds=SECONDS)
        found = [result(start("matching", job, cores)) for _ in range(REPEATS)]
        images, assignment = (
            statistics.median(f[k] for f in found) for k in ("images", "assignment")
        )
        alike = min(f["alike"] for f in found)
        yield {
            "network": name,
            "setting": f"{found[0]['groups']} groups in one pass over {images:.0f} images; "
            f"{assignment:.2g} s of it assign; {100 * alike:.4g} % of channels alike",
            "unit": "s",
            **_beside(found, "textbook"),
            "baseline_setting": "textbook, a pass a group",
        }
    seconds = [result(start("assignment", {"channels": CHANNELS}, 1)) for _ in range(REPEATS)]
    setting = f"assignment of {CHANNELS:,} channels"
    yield {"network": "", "setting": setting, "unit": "s", **spread(seconds)}


def connectivity(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Seconds of the analyses beside the forward passes that they must do."""
    for name in _trained(networks):
        job = work.job(name, points=11, grid=4)
        runs = [result(start("connectivity", job, cores)) for _ in range(REPEATS)]
        for analysis in runs[0]:
            found = [run[analysis] for run in runs]
            yield {
                "network": name,
                "setting": analysis,
                "unit": "s",
                **_beside(found, "forward"),
                "baseline_setting": "forward passes alone",
            }


def starting_up(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Seconds before work begins."""
    for what in starting.COMMANDS:
        found = [result(start("starting", {"what": what}, 1)) for _ in range(REPEATS)]
        yield {"network": "", "setting": what, "unit": "s", **spread(found)}


def growing(cores: int, file: Path, networks: list[str]) -> Iterator[Row]:
    """Fitted exponents of cost against width, images and runs; a plot beside the table."""
    drawn = {}
    for name, (what, _, places, expected) in growth.SERIES.items():
        tries = []
        for _ in range(REPEATS):
            jobs = {at: {"series": name, "at": at} for at in places}
            tries.append({at: result(start("growth", job, cores)) for at, job in jobs.items()})
        drawn[name] = {at: statistics.median(t[at] for t in tries) for at in places}
        yield {
            "network": growth.NETWORK if name != "planning" else "",
            "setting": f"{name} against {what}, {places[0]:g} to {places[-1]:g}",
            "unit": "exponent",
            **spread([growth.exponent(t) for t in tries]),
            "baseline": f"{expected:g}",
            "baseline_setting": "arithmetic",
        }
    growth.draw(drawn, file.stem, file.with_name(f"{file.stem}-growth.png"))


def _trained(networks: list[str]) -> list[str]:
    return [name for name in networks if name not in work.MATCHED_ONLY]


def _accuracies(ours: list[float], others: list[float], setting: str) -> Row:
    """Return the spread of accuracies in percent about their mean, beside another mean."""
    return {
        "unit": "% accuracy",
        **spread(ours),
        "value": f"{statistics.mean(ours):.4g}",
        "baseline": f"{statistics.mean(others):.4g}",
        "baseline_setting": setting,
    }


def _beside(found: list[dict[str, float]], other: str) -> Row:
    """Return the spread of ``ours``, the median of ``other``, and the median ratio of both.

    Above 1, ``ours`` is the faster one.
    """
    return spread([f["ours"] for f in found]) | {
        "baseline": f"{statistics.median(f[other] for f in found):.4g}",
        "ratio": f"{statistics.median(f[other] / f['ours'] for f in found):.3g}",
    }


STAGES: dict[str, Callable[[int, Path, list[str]], Iterator[Row]]] = {
    "training": training,
    "accuracy": accuracy,
    "precision": precisions,
    "bounds": bounds,
    "matching": matching,
    "connectivity": connectivity,
    "starting": starting_up,
    "growth": growing,
}

"""A table of a few numbers of every stage: results do not change without a word.

``golden.csv`` holds losses and norms after some training steps, for each stage and kind of data,
under the stage's ``RESULT_VERSION``. ``make golden`` writes it anew. It refuses numbers that have
changed while the version has not.
"""

import csv
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from chain import LAST, LEVELS, A, B, Chain, record, tensors
from maskalign.files import write_text
from maskalign.versions import RESULT_VERSION

TABLE = Path(__file__).with_name("golden.csv")
COLUMNS = ["stage", "data", "version", "measure", "value"]
# Each kind of data with the network that is trained on it. One pass makes at most 5 steps.
KINDS = {
    "arrays": (
        "resnet",
        {
            "source": "digits",
            "image_size": 8,
            "train_images": 100,
            "test_images": 80,
            "compose": 1,
            "mean": [0.3],
            "std": [0.38],
            "crop_padding": 1,
            "flip": True,
        },
    ),
    "pairs": (
        "vgg",
        {
            "source": "mnist5k",
            "image_size": 10,
            "train_images": 100,
            "test_images": 80,
            "compose": 2,
            "mean": [0.13, 0.13],
            "std": [0.29, 0.29],
            "crop_padding": 1,
            "flip": False,
        },
    ),
    "files": (
        "vgg",
        {
            "source": "mnist5k-folder",
            "image_size": 12,
            "train_images": 60,
            "test_images": 40,
            "compose": 1,
            "mean": [0.13],
            "std": [0.29],
            "crop_scale": [0.6, 1.0],
            "crop_padding": 0,
            "flip": True,
        },
    ),
}
VERSIONS = dict(RESULT_VERSION)
# The stages from which a stage's numbers follow.
FOLLOWS = {
    "data": (),
    "dense": ("data",),
    "imp_round": ("data", "dense"),
    "imp": ("data", "dense", "imp_round"),
    "match": ("data", "dense"),
    "sparse": ("data", "dense", "imp_round", "imp", "match"),
    "interpolation": ("data", "dense", "match"),
    "imp_barrier": ("data", "dense", "imp_round", "imp"),
    "landscape": ("data", "dense", "imp_round", "imp", "match", "sparse"),
    "diversity": ("data", "dense", "imp_round", "imp", "match", "sparse"),
    "diagnosis": ("data", "dense", "imp_round", "imp", "match"),
}
# Rounding differs between machines. It moves a number by less than a thousandth, or a number near
# zero by less than a ten-thousandth; of counted images, weights or channels, it may move a few.
RELATIVE, ABSOLUTE = 1e-3, 1e-4
COUNTED = {"error": 2.0, "ensemble_accuracy": 4.0, "disagreement": 0.04}
COUNTED |= {"overlap": 0.01, "expected_overlap": 0.01, "first_choices": 0.1}

Numbers = dict[str, float]  # by measure


def measure(kind: str, folder: Path) -> dict[str, Numbers]:
    """Run the whole method on one kind of data in ``folder``; return each stage's numbers."""
    net, spec = KINDS[kind]
    chain = Chain(folder, net, spec)
    return {stage: dict(_MEASURES[stage](chain)) for stage in FOLLOWS}


Found = Iterator[tuple[str, float]]


def _data(chain: Chain) -> Found:
    """Yield sums over the images as they are prepared, and as they are seen in training."""
    parts = {
        "train": chain.images.train_subset(None, ("golden",), augment=False),
        "augmented": chain.images.train_batches(20, ("golden",), epoch=1),
        "test": chain.images.test_batches(),
    }
    for part, batches in parts.items():
        images, labels = zip(*batches, strict=True)
        x, y = torch.cat(images).double(), torch.cat(labels)
        # Weighted by place, so that another order and a mirrored image have other sums.
        across = torch.linspace(1, 2, x.shape[-1], dtype=torch.float64)
        yield f"{part}.mean", x.mean().item()
        yield f"{part}.square", x.square().mean().item()
        yield f"{part}.across", (x * across).mean().item()
        yield f"{part}.down", (x * across[:, None]).mean().item()
        yield f"{part}.labels", (y * torch.arange(1, len(y) + 1)).sum().item()


def _training(out: Path, start: dict[str, torch.Tensor]) -> Found:
    """Yield the losses of a training run, the norm of its weights, and how far they have moved."""
    history = pd.read_csv(out / "history.csv")
    for row in history.itertuples():
        yield f"train_loss_{row.epoch}", row.train_loss
    yield "test_loss", history.test_loss.iloc[-1]
    end = tensors(out / "model.safetensors")
    every = [k for k in end if not k.endswith("tracked")]
    weights = [k for k in every if "running" not in k]
    yield "norm", sum(end[k].double().square().sum() for k in every).sqrt().item()
    yield "moved", sum((end[k] - start[k]).double().square().sum() for k in weights).sqrt().item()


def _dense(chain: Chain) -> Found:
    yield from _training(chain.dense(A), chain.network(A).state_dict())


def _round(*numbers: int) -> Callable[[Chain], Found]:
    def found(chain: Chain) -> Found:
        for number in numbers:
            before, out = chain.imp(number - 1) if number > 1 else chain.dense(A), chain.imp(number)
            mask = tensors(out / "mask.safetensors")
            start = tensors(before / "model.safetensors")
            for name, value in _training(out, start):
                yield f"round_{number}.{name}", value
            yield f"round_{number}.kept", float(sum(m.sum() for m in mask.values()))

    return found


def _match(chain: Chain) -> Found:
    for method, epoch in (("activations", LAST), ("activations", 1), ("weights", LAST)):
        out = chain.match(method, epoch)
        for m in record(out)["metrics"]:
            if "method" not in m and m["metric"] in ("matched_correlation", "weight_similarity"):
                yield f"{method}_{epoch}.{m['metric']}", m["value"]
        # Where two channels are alike, rounding decides; a stem of few channels has none.
        first, perm = next(iter(sorted(tensors(out / "permutation.safetensors").items())))
        assert len(perm) <= 8, first
        yield f"{method}_{epoch}.stem", float(sum(i * p for i, p in enumerate(perm.tolist(), 1)))


def _sparse(chain: Chain) -> Found:
    for method, init in (("lth", A), ("naive", B), ("permuted", B)):
        for k in (0, 1):
            start = tensors(chain.dense(init) / f"checkpoints/epoch-{k:04d}.safetensors")
            for name, value in _training(chain.sparse(method, k), start):
                yield f"{method}_{k}.{name}", value


def _lines(out: Path, by: str) -> Found:
    """Yield the losses in the middle of the lines, and their barriers."""
    rows = pd.read_csv(out / "curve.csv").query("alpha == 0.5")
    for i, row in enumerate(rows.itertuples()):
        yield f"{i}.{getattr(row, by)}.{row.split}.{row.correction}", row.loss
    for i, m in enumerate(record(out)["metrics"]):
        if m["metric"].startswith("loss"):
            yield f"barrier_{i}.{m[by]}.{m['split']}.{m['metric']}", m["value"]


def _interpolation(chain: Chain) -> Found:
    yield from _lines(chain.interpolation(), "method")


def _imp_barrier(chain: Chain) -> Found:
    yield from _lines(chain.imp_barrier(), "sparsity")


def _landscape(chain: Chain) -> Found:
    rows = pd.read_csv(chain.landscape() / "grid.csv")
    for row in rows[rows.mark.notna()].itertuples():
        yield f"{row.mark}.x", row.x
        yield f"{row.mark}.y", row.y
    yield "last.x", rows[rows.mark.isna()].x.iloc[-1]
    yield "last.y", rows[rows.mark.isna()].y.iloc[-1]
    yield "mean.error", rows.error.mean()


def _diversity(chain: Chain) -> Found:
    for m in record(chain.diversity())["metrics"]:
        yield f"{m['method']}.{m['metric']}", m["value"]


def _diagnosis(chain: Chain) -> Found:
    for m in record(chain.diagnosis())["metrics"]:
        if "fan" in m.get("method", "") or m.get("method") == "permuted":
            continue  # one weight or channel that rounding moves changes these masks altogether
        where = [m[k] for k in ("method", "sparsity") if k in m]
        yield ".".join(map(str, [*where, m["metric"]])), m["value"]


_MEASURES = {
    "data": _data,
    "dense": _dense,
    "imp_round": _round(1, 2),
    "imp": _round(max(LEVELS)),
    "match": _match,
    "sparse": _sparse,
    "interpolation": _interpolation,
    "imp_barrier": _imp_barrier,
    "landscape": _landscape,
    "diversity": _diversity,
    "diagnosis": _diagnosis,
}


# -- the table -------------------------------------------------------------------------------------

Table = dict[tuple[str, str], tuple[int, Numbers]]  # (stage, kind) -> (version, numbers)


def read(path: Path = TABLE) -> Table:
    """Return the committed table; it is empty where there is none."""
    table: Table = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                where = row["stage"], row["data"]
                _, numbers = table.setdefault(where, (int(row["version"]), {}))
                numbers[row["measure"]] = float(row["value"])
    return table


def write(found: dict[str, dict[str, Numbers]], path: Path = TABLE) -> None:
    """Write the numbers of each kind and stage, under the versions of the code."""
    rows = [
        f"{stage},{kind},{VERSIONS[stage]},{name},{value:.7g}"
        for stage in FOLLOWS
        for kind, stages in found.items()
        for name, value in stages[stage].items()
    ]
    write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")


def differences(before: Numbers, now: Numbers) -> list[str]:
    """Return in words the numbers that are no longer what they were."""
    names = [f"{k} is gone" for k in before if k not in now]
    names += [f"{k} is new" for k in now if k not in before]
    for k in before.keys() & now.keys():
        allowed = COUNTED.get(k.rsplit(".", 1)[-1], max(RELATIVE * abs(before[k]), ABSOLUTE))
        if not abs(now[k] - before[k]) <= allowed:
            names.append(f"{k} was {before[k]:.7g}, is {now[k]:.7g}")
    return sorted(names)


def problems(table: Table, kind: str, now: dict[str, Numbers]) -> list[str]:
    """Return one line per stage whose numbers changed on their own, with the version as it was.

    A change that follows from a stage before, or from its raised version, is not named.
    """
    changed: dict[str, list[str]] = {}
    raised = {s for (s, k), (version, _) in table.items() if k == kind and version != VERSIONS[s]}
    for stage, numbers in now.items():
        if (stage, kind) not in table or raised & {stage, *FOLLOWS[stage]}:
            continue
        if words := differences(table[stage, kind][1], numbers):
            changed[stage] = words
    return [
        f"stage {stage}, data {kind}: {words[0]} ({len(words)} of {len(now[stage])} numbers "
        f"changed); if that is meant, raise RESULT_VERSION['{stage}'] in "
        "workflow/maskalign/versions.py, then `make golden`"
        for stage, words in changed.items()
        if not changed.keys() & set(FOLLOWS[stage])
    ]


def outdated(table: Table) -> list[str]:
    """Return one line per stage and kind of which the table has another version, or nothing."""
    lines = []
    for stage, kind in [(s, k) for s in FOLLOWS for k in KINDS]:
        version = table.get((stage, kind), (None,))[0]
        if version != VERSIONS[stage]:
            lines.append(
                f"stage {stage}, data {kind}: the table has version {version}, the code has "
                f"{VERSIONS[stage]}; `make golden` writes the table anew"
            )
    return lines


def main() -> None:
    """Write the table, unless numbers changed whose version was not raised."""
    torch.set_num_threads(1)
    table, found = read(), {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = measure(kind, Path(folder))
    refused = [line for kind in KINDS for line in problems(table, kind, found[kind])]
    if refused:
        sys.exit(f"golden: {refused[0]}")
    write(found)
    print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()

"""What must fit together in a study whose values are each allowed: sizes, schedules, rounds, paths.

Torch is not imported: of a network, only the widths of its layers are counted.
"""

import math
from collections.abc import Iterator
from typing import Any

from maskalign import cost

ROUNDS = 1000  # most rounds of pruning to one sparsity
DIGITS = 6  # significant digits that a number has in a path
GRAY_OR_COLOUR = (1, 3)  # channels of image files
# What a figure can draw, of the kinds that leave a choice.
METRICS = {
    "interpolation": ["loss", "error"],
    "rewind": ["accuracy", "top5_accuracy", "loss"],
    "sparsity": ["accuracy", "top5_accuracy", "loss"],
}
VGG11 = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]  # models.VGG11's plan
CHANNELS = {"resnet20": 16, "resnet50": 64}  # of the first stage at width 1

Config = dict[str, Any]


def problems(config: Config) -> Iterator[str]:
    """Yield one line for everything in a valid configuration that does not fit together."""
    for name, recipe in config["training"].items():
        yield from _recipe(f"training.{name}", recipe)
    for name, dataset in config["datasets"].items():
        yield from _dataset(f"datasets.{name}", dataset)
    for name, experiment in config["experiments"].items():
        yield from _experiment(f"experiments.{name}", experiment, config)
    yield from _masks(config["experiments"])
    for name, figure in config["artefacts"]["figures"].items():
        allowed = METRICS.get(figure["kind"], [figure["metric"]])
        if figure["metric"] not in allowed:
            yield (
                f"artefacts.figures.{name}.metric: '{figure['metric']}' is not allowed, must be "
                f"one of {', '.join(allowed)} in a figure of kind {figure['kind']}"
            )


def _recipe(key: str, recipe: Config) -> Iterator[str]:
    # torch's CUDA graphs under DistributedDataParallel are known to fail (PyTorch issue 139207).
    for name in ("compile", "graph"):
        if recipe.get(name) and recipe["processes"] > 1:
            yield (
                f"{key}.{name}: true is not allowed with {key}.processes, now "
                f"{recipe['processes']}; must be false, or processes 1"
            )
    last = recipe["dense"]["epochs"]
    for part in ("dense", "sparse"):
        for value in recipe[part]["milestones"]:
            if value >= last:
                yield (
                    f"{key}.{part}.milestones: {value} is not allowed, must be below "
                    f"{key}.dense.epochs, now {last}"
                )
        if recipe[part]["warmup_epochs"] >= last:
            yield (
                f"{key}.{part}.warmup_epochs: {recipe[part]['warmup_epochs']} is not allowed, must "
                f"be below {key}.dense.epochs, now {last}"
            )


def _dataset(key: str, dataset: Config) -> Iterator[str]:
    low, high = dataset["crop_scale"]
    if low > high:
        yield f"{key}.crop_scale: {[low, high]} is not allowed, the smallest share comes first"
    source, channels = dataset["source"], len(dataset["mean"])
    if source in ("imagenet", "imagefolder", "mnist5k-folder") and channels not in GRAY_OR_COLOUR:
        yield f"{key}.mean: must have 1 or 3 entries, one a channel of gray or coloured images"
    if source in cost.IMAGES and dataset["compose"] == 1:
        for part, most in zip(("train_images", "test_images"), cost.IMAGES[source], strict=True):
            if (dataset[part] or 0) > most:
                yield (
                    f"{key}.{part}: {dataset[part]} is not allowed, must be at most {most}, which "
                    f"{source} has"
                )


def _experiment(key: str, experiment: Config, config: Config) -> Iterator[str]:
    recipe = config["training"][experiment["training"]]
    counts = cost.images(config["datasets"][experiment["dataset"]])
    if counts and recipe["batch_size"] > counts[0]:
        yield (
            f"training.{experiment['training']}.batch_size: {recipe['batch_size']} is not allowed, "
            f"must be at most {counts[0]}, the training images of datasets.{experiment['dataset']}"
        )
    warmup = recipe["sparse"]["warmup_epochs"]
    for where, k in _every(experiment, "rewind_epochs", "rewind_epoch"):
        left = recipe["dense"]["epochs"] - k
        if warmup >= left:
            yield (
                f"training.{experiment['training']}.sparse.warmup_epochs: {warmup} is not allowed, "
                f"must be below the {left} epochs that remain after {key}.{where}, now {k}"
            )
    for where, length in _every(experiment, "lengths"):
        yield from _digits(f"{key}.{where}", length)
        for k in experiment["rewind_epochs"]:
            epochs = length * (recipe["dense"]["epochs"] - k)
            if epochs < 1 or not math.isclose(epochs, round(epochs)):
                yield (
                    f"{key}.{where}: {length} is not allowed, must make a whole number of epochs "
                    f"of the {recipe['dense']['epochs'] - k} after rewind epoch {k}"
                )
    for where, rate in _every(experiment, "rates"):
        yield from _digits(f"{key}.{where}", rate)
    for where, sparsity in _every(experiment, "sparsities", "sparsity"):
        yield from _digits(f"{key}.{where}", sparsity)
        rounds = math.log1p(-sparsity) / math.log1p(-recipe["imp"]["fraction"])
        if rounds > ROUNDS:
            yield (
                f"training.{experiment['training']}.imp.fraction: {recipe['imp']['fraction']} is "
                f"not allowed, takes more than {ROUNDS} rounds to {key}.{where}, now {sparsity}"
            )
    model = config["models"][experiment["model"]]
    for where, width in _every(experiment, "widths", "width"):
        yield from _digits(f"{key}.{where}", width)
        if not _channels(model, width):
            yield (
                f"{key}.{where}: {width} is not allowed, leaves models.{experiment['model']} a "
                "layer without channels"
            )
    size = config["datasets"][experiment["dataset"]]["image_size"]
    poolings = _plan(model).count("M")
    if size >> poolings == 0:
        yield (
            f"datasets.{experiment['dataset']}.image_size: {size} is not allowed, must be at least "
            f"{2**poolings}, as models.{experiment['model']} halves images {poolings} times"
        )


def _masks(experiments: Config) -> Iterator[str]:
    """Complain of masks of one data set and model whose ensembles share seeds, but not all.

    The claims on diversity take masks to be independent.
    """
    known: dict[tuple, tuple[int, int, str]] = {}
    for name, e in experiments.items():
        ensembles = e.get("diversity")
        if not ensembles:
            continue
        for first, last in mask_seeds(e["first_pair"], ensembles["masks"], ensembles["members"]):
            for (dataset, model, _), (a, b, other) in known.items():
                if (dataset, model) == (e["dataset"], e["model"]) and a != first <= b and a <= last:
                    yield (
                        f"experiments.{name}.first_pair: {e['first_pair']} is not allowed, its "
                        f"ensembles share seeds with another mask's of experiments.{other}; must "
                        "be the same pair or further away"
                    )
                    return
            known[e["dataset"], e["model"], first] = first, last, name


def mask_seeds(first_pair: int, masks: int, members: int) -> list[tuple[int, int]]:
    """Return the first and last seed of each mask's ensembles; the first is that of the mask."""
    pairs_of_one = math.ceil((members + 1) / 2)  # whose seeds are those of one mask
    firsts = [2 * (first_pair + pairs_of_one * mask) for mask in range(masks)]
    return [(first, first + members) for first in firsts]


def _every(experiment: Config, *names: str) -> Iterator[tuple[str, float]]:
    """Yield (key, value) of all numbers under these names, in an experiment and its parts."""
    parts = {"": experiment} | {f"{k}.": v for k, v in experiment.items() if isinstance(v, dict)}
    for prefix, part in parts.items():
        for name in names:
            values = part.get(name, [])
            for i, value in enumerate(values if isinstance(values, list) else []):
                yield f"{prefix}{name}[{i}]", value
            if not isinstance(values, list):
                yield f"{prefix}{name}", values


def _digits(key: str, value: float) -> Iterator[str]:
    """Complain of a number that another one would share its path with."""
    if float(format(value, f".{DIGITS}g")) != value:
        yield f"{key}: {value} is not allowed, must have at most {DIGITS} significant digits"


def _plan(model: Config) -> list[int | str]:
    return model["options"].get("plan", VGG11) if model["architecture"] == "vgg11" else []


def _channels(model: Config, width: float) -> int:
    """Return the channels of a network's thinnest layer; 1 where only the network knows."""
    kind = model["architecture"]
    if kind == "vgg11":
        return min((round(c * width) for c in _plan(model) if c != "M"), default=1)
    channels = model["options"].get("channels", CHANNELS.get(kind, 0))
    if kind == "resnet20":
        return round(channels * width)
    # torchvision's bottlenecks: the first stage has 64 planes at full size.
    return int(channels * round(64 * width) / 64) if kind == "resnet50" else 1

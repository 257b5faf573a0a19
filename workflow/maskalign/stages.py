"""The stages of a study, from files to files: each function is one job of the workflow."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from maskalign import connectivity, graph, matching, models, pruning, symmetry
from maskalign.checkpoint import digest, load_tensors, read_metadata, save_tensors, write_text
from maskalign.data import open_data
from maskalign.distributed import data_parallel, leave, place
from maskalign.diversity import diversity as compare
from maskalign.evaluation import evaluate, predict
from maskalign.identity import IDENTITY
from maskalign.ownership import Owner
from maskalign.plan import OTHER_MATCHING
from maskalign.results import (
    COMPLETED,
    CURVE_COLUMNS,
    DIVERGED,
    PLANE_COLUMNS,
    Record,
    write_rows,
)
from maskalign.seeds import derive, generator
from maskalign.training import Plan, diverged, history_rows, train

Values = dict[str, Any]


@data_parallel
def dense(
    data: str, values: Values, state: str, model: str, checkpoints: str, history: str, result: str
):
    """Train a dense model; keep it at its end and, in a folder, at ``values["keep_epochs"]``."""
    record, images, net = _begin(data, values)
    kept = _resume_folder(state, record) / "kept"
    kept.mkdir(parents=True, exist_ok=True)

    def keep(epoch: int, weights: dict[str, torch.Tensor]) -> None:
        if epoch in values["keep_epochs"]:
            save_tensors(_checkpoint(kept, epoch), weights)

    log = _train(record, net, images, values, state, values["training"]["epochs"], keep=keep)
    for epoch in values["keep_epochs"]:
        if epoch >= log[-1]["epoch"]:  # a diverged run ended here; what would follow is marked
            _save(record, _checkpoint(kept, epoch), net.state_dict())
    shutil.copytree(kept, checkpoints, dirs_exist_ok=True)
    _save(record, model, net.state_dict())
    _finish(record, log, state, history, result)


@data_parallel
def imp(
    data: str,
    values: Values,
    start: str,
    start_mask: str | None,
    state: str,
    model: str,
    mask: str,
    history: str,
    result: str,
):
    """Prune ``start`` to ``values["sparsity"]`` and fine-tune: one round of IMP.

    ``start`` and ``start_mask`` come from the round before; the dense model has no mask.
    """
    record, images, net = _begin(data, values, start, start_mask)
    weights = _load(start, net)
    if start_mask:
        before = _load(start_mask, net)
    else:
        before = pruning.full_mask(weights, models.prunable(net, values["net"]["unprunable"]))
    ones = pruning.prune(weights, before, values["sparsity"])
    net.load_state_dict(weights)
    log = _train(record, net, images, values, state, values["training"]["epochs"], ones)
    _save(record, model, net.state_dict())
    _save(record, mask, ones)
    _finish(record, log, state, history, result, sparsity_reached=pruning.sparsity_of(ones))


def match(
    data: str,
    values: Values,
    a: str,
    b: str,
    b_checkpoints: str,
    beside: str | None,
    permutation: str,
    result: str,
):
    """Find the permutation that aligns dense model ``a`` to ``b``, or to b at an earlier epoch.

    What either way of matching raises is recorded for both. ``beside`` is the permutation found the
    other way, with which this one is compared.
    """
    if values["b_epoch"] < values["dense"]["epochs"]:
        b = _checkpoint(b_checkpoints, values["b_epoch"])
    record, images, model_a = _begin(data, values, a, b)
    _, _, model_b = _begin(data, values)
    model_a.load_state_dict(_load(a, model_a))
    model_b.load_state_dict(_load(b, model_b))
    groups, how = _symmetry(model_a, images), values["matching"]
    seed = ("match", values["mask_seed"], values["init_seed"])
    inputs = (x for x, _ in images.train_subset(how["images"], seed, how["augment"]))
    correlations = matching.correlate(groups, model_a, model_b, inputs, how["measure"])
    states = model_a.state_dict(), model_b.state_dict()
    if how["method"] == "activations":
        found = matching.match_activations(correlations)
    else:
        found = matching.match_weights(groups, *states, generator(*seed))

    def objectives(permutations: symmetry.Permutations) -> dict[str, float]:
        scores = matching.matched_correlation(correlations, permutations).values()
        return {
            "matched_correlation": sum(scores) / len(scores),
            "weight_similarity": matching.weight_similarity(groups, permutations, *states),
        }

    record.add(objectives(found), split="train")
    if beside:
        unpermuted = {"method": "naive", "matching_epoch": None, "matching_method": None}
        record.add(objectives(symmetry.identity(groups)), split="train", **unpermuted)
        both = {how["method"]: found, OTHER_MATCHING[how["method"]]: load_tensors(beside)[0]}
        record.add(_agreement(matching.agreement(correlations, **both)), split="train")
    _save(record, permutation, found)
    record.finish(result)


@data_parallel
def sparse(
    data: str,
    values: Values,
    checkpoints: str,
    mask: str,
    permutation: str | None,
    state: str,
    model: str,
    history: str,
    result: str,
):
    """Train from a dense run's rewind checkpoint under ``mask``, permuted by ``permutation``."""
    start = _checkpoint(checkpoints, values["start_epoch"])
    record, images, net = _begin(data, values, start, mask, permutation)
    net.load_state_dict(_load(start, net))
    ones = _load(mask, net)
    if permutation:
        ones = symmetry.permute(_symmetry(net, images), _load(permutation, net), ones)
    epochs = values["dense"]["epochs"] - values["rewind_epoch"]
    log = _train(record, net, images, values, state, epochs, ones)
    _save(record, model, net.state_dict())
    _finish(record, log, state, history, result, sparsity_reached=pruning.sparsity_of(ones))


def interpolation(data: str, values: Values, a: str, b: str, permutation: str, curve: str, result):
    """Interpolate between permuted A and B, and between A and B, as ``values["lines"]`` say."""
    record, images, model = _begin(data, values, a, b, permutation)
    a, b, perm = (_load(file, model) for file in (a, b, permutation))
    groups = _symmetry(model, images)
    rows = []
    for method in values["lines"]:
        start, where = a, {"method": method, "matching_method": None}
        if method == "permuted":
            start = symmetry.permute(groups, perm, a)
            where["matching_method"] = values["matching_method"]
        rows += _line(record, model, groups, images, values, start, b, **where)
    write_rows(curve, rows, CURVE_COLUMNS)
    record.finish(result)


def imp_barrier(
    data: str, values: Values, start: str, rounds: list[str], masks: list[str], curve: str, result
):
    """Interpolate between the dense model and the model of every IMP round."""
    record, images, model = _begin(data, values, start)
    weights, groups = _load(start, model), _symmetry(model, images)
    rows = []
    for file, mask in zip(rounds, masks, strict=True):
        end = _load(file, model)
        reached = pruning.sparsity_of(_load(mask, model))
        status = _status(start, file)
        where = {"method": "imp", "sparsity": round(reached, 6), "status": status}
        rows += _line(record, model, groups, images, values, weights, end, **where)
    write_rows(curve, rows, CURVE_COLUMNS)
    record.finish(result)


def landscape(
    data: str, values: Values, a: str, lth: str, permuted: str, permutation: str, grid: str, result
):
    """Evaluate the 0-1 loss over the plane of permuted A, permuted LTH and permuted solution."""
    record, images, model = _begin(data, values, a, lth, permuted, permutation)
    groups, perm = _symmetry(model, images), _load(permutation, model)
    origin, first = (symmetry.permute(groups, perm, _load(file, model)) for file in (a, lth))
    second = _load(permuted, model)
    how = values["connectivity"]
    xs, ys, marks, at = connectivity.plane(origin, first, second, how["grid"])

    def error(weights: dict[str, torch.Tensor]) -> float:
        model.load_state_dict(weights)
        if connectivity.has_batch_norm(model):
            connectivity.reset_batch_norm(model, _reset_inputs(images, values)())
        return 100 - evaluate(model, images.test_batches())["accuracy"]

    rows = [{"x": float(x), "y": float(y), "error": error(at(x, y))} for y in ys for x in xs]
    names = {"origin": "dense", "first": "lth", "second": "permuted"}
    for mark, (x, y) in marks.items():
        rows.append({"x": x, "y": y, "error": error(at(x, y)), "mark": names[mark]})
    run = {k: values.get(k) for k in IDENTITY} | {"status": record.status}
    write_rows(grid, [run | row for row in rows], PLANE_COLUMNS)
    record.finish(result)


def diversity(data: str, values: Values, members: dict[str, list[str]], result: str):
    """Compare the outputs of each method's ensemble; ``members`` are model files per method."""
    record, images, model = _begin(data, values)
    for method, files in members.items():
        outputs = []
        for file in files:
            model.load_state_dict(_load(file, model))
            logits, labels = predict(model, images.test_batches())
            outputs.append(logits.cpu())
        where = {"method": method, "split": "test", "status": _status(*files)}
        record.add(compare(torch.stack(outputs), labels.cpu()), **where)
    record.finish(result)


# -- what the stages share -------------------------------------------------------------------------


def _begin(
    data: str, values: Values, *made_from: str | Path | None
) -> tuple[Record, Any, torch.nn.Module]:
    """Return a fresh record, the data set on the device, and the initialised network.

    The run is diverged from the start if any of the files that it is made from is marked so.
    """
    record = Record(values)
    record.status = _status(*made_from)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = open_data(data, values["data"], device)
    torch.manual_seed(derive("init", values.get("init_seed", 0)))
    net = values["net"]
    model = models.build(
        net["architecture"],
        classes=images.classes,
        image_size=images.image_size,
        in_channels=images.channels,
        width=values["width"],
        **net["options"],
    )
    return record, images, model.to(device, memory_format=torch.channels_last)


def _checkpoint(folder: str | Path, epoch: int) -> Path:
    """Return the file of a dense run's checkpoint after ``epoch`` completed epochs."""
    return Path(folder) / f"epoch-{epoch:04d}.safetensors"


def _status(*files: str | Path | None) -> str:
    """Return the status of what is made from ``files``, which carry that of their run."""
    found = {read_metadata(file).get("status") for file in files if file}
    return DIVERGED if DIVERGED in found else COMPLETED


def _save(record: Record, file: str | Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors that carry the status of their run to all that is made from them."""
    record.guard()
    save_tensors(file, tensors, {"status": record.status})


def _load(file: str | Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return load_tensors(file, next(model.parameters()).device)[0]


def _symmetry(model: torch.nn.Module, images) -> symmetry.Symmetry:
    example = torch.zeros(2, images.channels, images.image_size, images.image_size)
    return graph.derive(model, example.to(next(model.parameters()).device))


def _agreement(counts: dict[str, matching.Agreement]) -> dict[str, float]:
    """Return the share of channels that two matchings assign alike, of all and of each group.

    Beside a group's share stands its number of channels: by chance the share is one over it.
    """
    found = {}
    for name, (alike, compared, channels) in counts.items():
        if compared:
            found |= {f"agreement.{name}": alike / compared, f"channels.{name}": channels}
    compared = sum(count.compared for count in counts.values())
    alike = sum(count.alike for count in counts.values())
    return ({"agreement": alike / compared} if compared else {}) | found


def _train(
    record: Record, model, images, values: Values, state: str, epochs: int, mask=None, keep=None
) -> list[dict[str, float]]:
    """Train by the stage's part of the recipe, whatever it leaves open by the shared part.

    A run that is made from a diverged one is evaluated as it is. Of data-parallel processes, only
    the first returns.
    """
    recipe = values | values["training"]
    options = {k: recipe[k] for k in _PLAN_KEYS if k in recipe}
    stage = (values["stage"], values.get("round", 0))
    seed = (*stage, values["init_seed"], values["order_seed"])
    plan = Plan(epochs=epochs, seed=seed, **options)
    print(f"{values['stage']}: {values['model']} x{values['width']:g} on {values['dataset']}")
    if record.status == DIVERGED:
        leave()
        print("not trained: a run that this one is made from has diverged")
        scores = evaluate(model, images.test_batches())
        entry = {"epoch": 0, "train_loss": math.nan}
        return [entry | {f"test_{name}": value for name, value in scores.items()}]
    folder = _resume_folder(state, record)
    if place()[0] == 0:
        record.guard = Owner(folder).check
    # Another start than that of an interrupted run, though of equal values, begins afresh.
    start = f"{record.identity}-{digest(model.state_dict())}-{digest(mask or {})}"
    log = train(model, images, plan, folder, start, mask, keep, record.guard)
    leave()
    record.status = DIVERGED if diverged(log) else COMPLETED
    return log


def _resume_folder(state: str, record: Record) -> Path:
    """Return the folder of a run's resume state; a run of other values has another folder."""
    return Path(state) / record.identity


_PLAN_KEYS = [
    "lr",
    "schedule",
    "warmup_epochs",
    "milestones",
    "momentum",
    "weight_decay",
    "batch_size",
    "precision",
    "evaluate_every",
]


def _finish(record: Record, log, state: str, history: str, result: str, **more) -> None:
    """Write a training run's history and record, then forget its resume state."""
    record.guard()
    last = log[-1]
    scores = {k.removeprefix("test_"): v for k, v in last.items() if k.startswith("test_")}
    record.add(scores, split="test")
    record.add({"loss": last["train_loss"]}, split="train")
    write_text(history, history_rows(log))
    record.finish(result, **more)
    shutil.rmtree(state, ignore_errors=True)
    print(f"{record.status}: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))


def _reset_inputs(images, values: Values) -> Callable:
    """Return a function that yields the augmented training inputs for resetting statistics."""
    count = values["connectivity"]["reset_images"]
    return lambda: (x for x, _ in images.train_subset(count, ("reset",), augment=True))


def _line(record: Record, model, groups, images, values: Values, a, b, **where) -> list[dict]:
    """Evaluate the line from a to b; record its barriers and return its rows."""
    how = values["connectivity"]
    alphas = torch.linspace(0, 1, how["points"], dtype=torch.float64).tolist()

    def scores(net: torch.nn.Module) -> list[dict[str, Any]]:
        train_images = images.train_subset(how["train_images"], ("curve",), augment=False)
        found = {"train": evaluate(net, train_images), "test": evaluate(net, images.test_batches())}
        return [
            {"split": split, "loss": s["loss"], "error": 100 - s["accuracy"]}
            for split, s in found.items()
        ]

    inputs = _reset_inputs(images, values)
    rows = connectivity.path(model, a, b, alphas, inputs, scores, groups.hidden_layers)
    for correction in sorted({r["correction"] for r in rows}):
        for split in ("train", "test"):
            part = [r for r in rows if (r["correction"], r["split"]) == (correction, split)]
            barriers = {
                f"{m}_barrier_{correction}": connectivity.barrier(alphas, [r[m] for r in part])
                for m in ("loss", "error")
            }
            record.add(barriers, split=split, **where)
    run = {k: values.get(k) for k in IDENTITY} | {"status": record.status}
    return [run | where | row for row in rows]

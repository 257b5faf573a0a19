"""The stages that make models, masks and permutations: each function is one job of the workflow."""

import json
import math
import shutil
from pathlib import Path

import torch

from maskalign import cost, matching, models, pruning, symmetry
from maskalign.checkpoint import digest, load_tensors, load_weights
from maskalign.connectivity import networks
from maskalign.distributed import data_parallel, leave, place
from maskalign.evaluation import evaluate
from maskalign.files import write_text
from maskalign.identity import identity_of
from maskalign.ownership import Owner
from maskalign.plan import OTHER_MATCHING
from maskalign.progress import Progress
from maskalign.results import COMPLETED, DIVERGED, Record
from maskalign.seeds import generator
from maskalign.stage import Values, begin, checkpoint, control, load, save, symmetry_of
from maskalign.training import Plan, diverged, history_rows, train


@data_parallel
def dense(
    data: str, values: Values, state: str, model: str, checkpoints: str, history: str, result: str
):
    """Train a dense model; keep it at its end and, in a folder, at ``values["keep_epochs"]``."""
    record, images, net = begin(data, values)
    kept = _resume_folder(state, record) / "kept"
    kept.mkdir(parents=True, exist_ok=True)

    def keep(epoch: int, weights: dict[str, torch.Tensor]) -> None:
        if epoch in values["keep_epochs"]:
            save(record, checkpoint(kept, epoch), weights)

    log = _train(record, net, images, values, state, values["training"]["epochs"], keep=keep)
    for epoch in values["keep_epochs"]:
        if epoch >= log[-1]["epoch"]:  # a diverged run ended here; what would follow is marked
            save(record, checkpoint(kept, epoch), net.state_dict())
    shutil.copytree(kept, checkpoints, dirs_exist_ok=True)
    save(record, model, net.state_dict())
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
    record, images, net = begin(data, values, start, start_mask)
    weights = load(start, net)
    if start_mask:
        before = load(start_mask, net)
    else:
        before = pruning.full_mask(weights, models.prunable(net, values["net"]["unprunable"]))
    pruned = pruning.prune(weights, before, values["sparsity"])
    load_weights(net, weights)
    log = _train(record, net, images, values, state, values["training"]["epochs"], pruned)
    save(record, model, net.state_dict())
    save(record, mask, pruned)
    _finish(record, log, state, history, result, sparsity_reached=pruning.sparsity_of(pruned))


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

    Both objectives (activation correlation, weight similarity) are recorded for the permutation,
    by whichever method it is found. ``beside`` is the permutation found by the other of the methods
    ``activations`` and ``weights``, with which this one is compared; the method ``activity`` is
    compared with none.
    """
    if values["b_epoch"] < values["dense"]["epochs"]:
        b = checkpoint(b_checkpoints, values["b_epoch"])
    record, images, net = begin(data, values, a, b, beside)
    model_a, model_b = networks(net, (load(file, net) for file in (a, b)))
    groups, how = symmetry_of(net, images), values["matching"]
    seed = ("match", values["mask_seed"], values["init_seed"])
    inputs = (x for x, _ in images.train_subset(how["images"], seed, how["augment"]))
    observed = matching.observe(groups, model_a, model_b, inputs, how["measure"])
    correlations = matching.correlations_of(observed)
    states = model_a.state_dict(), model_b.state_dict()
    if how["method"] == "activations":
        found = matching.match_activations(correlations)
    elif how["method"] == "activity":
        found = matching.match_activity(observed)
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
    save(record, permutation, found)
    record.finish(result)


@data_parallel
def sparse(
    data: str,
    values: Values,
    checkpoints: str,
    imp_mask: str,
    permutation: str | None,
    state: str,
    model: str,
    mask: str,
    history: str,
    result: str,
):
    """Train from a dense run's rewind checkpoint under a mask.

    The mask is ``imp_mask``, permuted by ``permutation`` if that is given, or what the function
    ``values["mask_function"]`` makes of it; it is written to ``mask`` as it was applied. Training
    takes ``values["length"]`` times the epochs that remain, at ``values["rate"]`` times the rate.
    """
    start = checkpoint(checkpoints, values["start_epoch"])
    record, images, net = begin(data, values, start, imp_mask, permutation)
    load_weights(net, load(start, net))
    applied = load(imp_mask, net)
    if permutation:
        applied = symmetry.permute(symmetry_of(net, images), load(permutation, net), applied)
    applied = control(values, values["method"], values.get("mask_function"), applied, net, images)
    values = values | {"training": _stretched(values)}
    log = _train(record, net, images, values, state, cost.sparse_epochs(values), applied)
    save(record, model, net.state_dict())
    save(record, mask, applied)
    _finish(record, log, state, history, result, sparsity_reached=pruning.sparsity_of(applied))


def _stretched(values: Values) -> Values:
    """Return the recipe of sparse training with its schedule as long and its rate as high."""
    recipe, length = values | values["training"], values.get("length", 1)
    longer = {"lr": recipe["lr"] * values.get("rate", 1)}
    if "warmup_epochs" in recipe:
        longer["warmup_epochs"] = recipe["warmup_epochs"] * length
    if "milestones" in recipe:
        longer["milestones"] = [epoch * length for epoch in recipe["milestones"]]
    return values["training"] | longer


# -- what the trainings share ----------------------------------------------------------------------


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
    if record.status == DIVERGED:
        leave()
        print("not trained: a run that this one is made from has diverged")
        scores = evaluate(model, images.test_batches())
        entry = {"epoch": 0, "train_loss": math.nan}
        return [entry | {f"test_{name}": value for name, value in scores.items()}]
    folder = _resume_folder(state, record)
    if place()[0] == 0:
        record.guard = Owner(folder).check
    # Another start than that of an interrupted run, though of equal values, begins afresh; so does
    # a run whose data was prepared by another version.
    start = f"{record.identity}-{digest(model.state_dict())}-{digest(mask or {})}"
    start += f"-{json.dumps(record.versions)}"
    progress = Progress(folder, {"stage": values["stage"]} | identity_of(values), epochs)
    log = train(
        model, images, plan, folder, start, mask, keep, guard=record.guard, progress=progress
    )
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
    "compile",
    "graph",
    "evaluate_every",
]


def _finish(record: Record, log, state: str, history: str, result: str, **more) -> None:
    """Write a training run's history and record, then forget its resume state."""
    record.guard()
    last = log[-1]
    scores = {k.removeprefix("test_"): v for k, v in last.items() if k.startswith("test_")}
    print(", ".join(f"test {k} {v:.4g}" for k, v in scores.items()))
    record.add(scores, split="test")
    record.add({"loss": last["train_loss"]}, split="train")
    write_text(history, history_rows(log))
    record.finish(result, **more)
    shutil.rmtree(state, ignore_errors=True)


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

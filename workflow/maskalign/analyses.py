"""The stages that compare finished models: each function is one job of the workflow."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from maskalign import connectivity, matching, pruning, symmetry
from maskalign.diversity import diversity as compare
from maskalign.evaluation import evaluate_each, predict
from maskalign.identity import IDENTITY
from maskalign.overlap import expected_overlap, overlap
from maskalign.results import CURVE_COLUMNS, PLANE_COLUMNS, Record, merged, write_rows
from maskalign.stage import (
    Values,
    begin,
    control,
    load,
    status_of,
    symmetry_of,
    versions_of,
)


def interpolation(data: str, values: Values, a: str, b: str, permutation: str, curve: str, result):
    """Interpolate between permuted A and B, and between A and B, as ``values["lines"]`` say."""
    record, images, model = begin(data, values, a, b, permutation)
    a, b, perm = (load(file, model) for file in (a, b, permutation))
    groups = symmetry_of(model, images)
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
    record, images, model = begin(data, values, start)
    record.versions = merged(record.versions, versions_of(*rounds, *masks))
    weights, groups = load(start, model), symmetry_of(model, images)
    rows = []
    for file, mask in zip(rounds, masks, strict=True):
        end = load(file, model)
        reached = pruning.sparsity_of(load(mask, model))
        status = status_of(start, file)
        where = {"method": "imp", "sparsity": round(reached, 6), "status": status}
        rows += _line(record, model, groups, images, values, weights, end, **where)
    write_rows(curve, rows, CURVE_COLUMNS)
    record.finish(result)


def landscape(
    data: str, values: Values, a: str, lth: str, permuted: str, permutation: str, grid: str, result
):
    """Evaluate the 0-1 loss over the plane of permuted A, permuted LTH and permuted solution."""
    record, images, model = begin(data, values, a, lth, permuted, permutation)
    groups, perm = symmetry_of(model, images), load(permutation, model)
    origin, first = (symmetry.permute(groups, perm, load(file, model)) for file in (a, lth))
    second = load(permuted, model)
    how = values["connectivity"]
    xs, ys, marks, at = connectivity.plane(origin, first, second, how["grid"])

    def errors(nets: list[torch.nn.Module]) -> list[float]:
        return [100 - s["accuracy"] for s in evaluate_each(nets, images.test_batches())]

    names = {"origin": "dense", "first": "lth", "second": "permuted"}
    rows = [{"x": float(x), "y": float(y)} for y in ys for x in xs]
    rows += [{"x": x, "y": y, "mark": names[mark]} for mark, (x, y) in marks.items()]
    states = [functools.partial(at, row["x"], row["y"]) for row in rows]
    found = connectivity.surface(model, states, _reset_inputs(images, values), errors)
    rows = [row | {"error": error} for row, error in zip(rows, found, strict=True)]
    run = {k: values.get(k) for k in IDENTITY} | {"status": record.status}
    write_rows(grid, [run | row for row in rows], PLANE_COLUMNS)
    record.finish(result)


def diversity(data: str, values: Values, members: dict[str, list[str]], result: str):
    """Compare the outputs of each method's ensemble; ``members`` are model files per method."""
    record, images, model = begin(data, values)
    for method, files in members.items():
        nets = connectivity.networks(model, (load(file, model) for file in files))
        logits, labels = predict(nets, images.test_batches())
        record.versions = merged(record.versions, versions_of(*files))
        where = {"method": method, "split": "test", "status": status_of(*files)}
        record.add(compare(logits, labels), **where)
    record.finish(result)


def diagnosis(
    data: str,
    values: Values,
    a: str,
    b: str,
    permutation: str,
    masks: list[str],
    own: list[str],
    result: str,
):
    """Compare masks made from A's with B's own, and record the margins of the matching.

    Nothing is trained. ``masks`` are A's and ``own`` B's, one for each of
    ``values["sparsities"]``; ``values["masks"]`` says how each method makes its mask.
    """
    record, images, model = begin(data, values, a, b, permutation, *masks, *own)
    groups, perm = symmetry_of(model, images), load(permutation, model)
    for sparsity, of_a, of_b in zip(values["sparsities"], masks, own, strict=True):
        ticket, target = load(of_a, model), load(of_b, model)
        at = values | {"sparsity": sparsity}
        for method, made in values["masks"].items():
            mask = symmetry.permute(groups, perm, ticket) if made["permuted"] else ticket
            mask = control(at, method, made["mask_function"], mask, model, images)
            scores = {
                "overlap": overlap(mask, target),
                "expected_overlap": expected_overlap(mask, target),
            }
            record.add(scores, method=method, sparsity=sparsity)
    how = values["matching"]
    seed = ("match", values["mask_seed"], values["init_seed"])
    inputs = (x for x, _ in images.train_subset(how["images"], seed, how["augment"]))
    both = connectivity.networks(model, (load(file, model) for file in (a, b)))
    found = matching.correlate(groups, *both, inputs, how["measure"])
    margins = torch.cat(list(matching.assignment_margins(found, perm).values()))
    margins = margins[~margins.isnan()]
    scores = {
        "assignment_margin": margins.mean(),
        "first_choices": (margins > 0).double().mean(),
    }
    record.add({name: float(value) for name, value in scores.items()}, split="train")
    record.finish(result)


def _reset_inputs(images, values: Values) -> Callable:
    """Return a function that yields the augmented training inputs for resetting statistics."""
    count, size = values["connectivity"]["reset_images"], images.reset_batch
    return lambda: (x for x, _ in images.train_subset(count, ("reset",), True, size))


def _line(record: Record, model, groups, images, values: Values, a, b, **where) -> list[dict]:
    """Evaluate the line from a to b; record its barriers and return its rows."""
    how = values["connectivity"]
    alphas = torch.linspace(0, 1, how["points"], dtype=torch.float64).tolist()

    def scores(nets: list[torch.nn.Module]) -> list[list[dict[str, Any]]]:
        splits = {
            "train": images.train_subset(how["train_images"], ("curve",), augment=False),
            "test": images.test_batches(),
        }
        found = [evaluate_each(nets, batches) for batches in splits.values()]
        return [
            [
                {"split": split, "loss": s["loss"], "error": 100 - s["accuracy"]}
                for split, s in zip(splits, of_net, strict=True)
            ]
            for of_net in zip(*found, strict=True)
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

"""The runs that one experiment asks for, each with the runs that it needs.

A run that is needed twice is added twice under the same path; the study keeps it once.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

from maskalign.limits import mask_seeds
from maskalign.methods import MASKS, RECIPE, A, Method
from maskalign.references import keep_epochs

Add = Callable[..., str]  # (experiment, stage, values, parents, **fields) -> path


# The two ways of matching that are compared, each with the other.
OTHER_MATCHING = {"activations": "weights", "weights": "activations"}

# What determines the results of a stage: the part of the recipe by which it trains, if it trains,
# and the parts behind what it is given.
PARTS = ("dense", "imp", "sparse", "matching", "connectivity")
NEEDS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "dense": ("dense", ()),
    "imp_round": ("imp", ("dense",)),
    "imp": ("imp", ("dense",)),
    "match": (None, ("dense", "matching")),
    "sparse": ("sparse", ("dense", "imp")),
    "permuted": ("sparse", ("dense", "imp", "matching")),
    "interpolation": (None, ("dense", "matching", "connectivity")),
    "imp_barrier": (None, ("dense", "imp", "connectivity")),
    "landscape": (None, PARTS),
    "diversity": (None, ("dense", "imp", "sparse", "matching")),
    "diagnosis": (None, ("dense", "imp", "matching")),
}


# The methods whose masks are compared with B's own without training.
DIAGNOSED = ("naive", "permuted", "permuted_fan", "fan", "shuffled")

# How near a whole round must come to a target sparsity to stand for it.
TOLERANCE = {"paper": 0.0, "released": 0.005}


class Plan:
    """The runs of one experiment, each with the runs that it needs."""

    def __init__(self, config: dict[str, Any], name: str, methods: dict[str, Method], add: Add):
        """Plan experiment ``name`` of a study's ``config``, to be handed to ``add`` run by run."""
        self.methods = methods
        self.experiment = experiment = config["experiments"][name]
        self.put_run = functools.partial(add, name)
        self.recipe = dict(config["training"][experiment["training"]])
        self.protocol = config["protocol"]
        # The rounds say what they prune to, whichever tolerance chose them.
        self.tolerance = self.recipe["imp"]["tolerance"]
        if self.tolerance is None:
            self.tolerance = TOLERANCE[self.protocol]
        self.recipe["imp"] = _without(self.recipe["imp"], "tolerance")
        self.last = self.recipe["dense"]["epochs"]
        self.matching = self.recipe["matching"]["method"]
        self.shared = {
            "data": data_values(config["datasets"][experiment["dataset"]]),
            "net": _without(config["models"][experiment["model"]], "title"),
            **_without(self.recipe, "keep_epochs", *PARTS),
        }
        self.keep_epochs = [self.completed(e) for e in keep_epochs(config, experiment["training"])]

    def completed(self, epoch: int) -> int:
        """Return the completed epochs of the checkpoint that the protocol calls ``epoch``."""
        return epoch if self.protocol == "paper" else min(epoch + 1, self.last)

    def add(self) -> None:
        """Add everything that the experiment asks for to its study."""
        e = self.experiment
        for width in e["widths"]:
            for a, b in self.pairs():
                self.dense(width, b)
                for sparsity in e["sparsities"]:
                    axes = (e["rewind_epochs"], e["methods"], e["lengths"], e["rates"])
                    for k, method, length, rate in itertools.product(*axes):
                        factors = {"length": _plain(length), "rate": _plain(rate)}
                        self.sparse(width, a, b, sparsity, method, k, **factors)
        self.early_matching(**e.get("early_matching", {"widths": []}))
        self.matching_comparison(**e.get("matching_comparison", {"widths": []}))
        self.interpolation(**e.get("interpolation", {"widths": []}))
        self.imp_barrier(**e.get("imp_barrier", {"widths": []}))
        self.landscape(**e.get("landscape", {"widths": []}))
        self.diversity(**e.get("diversity", {"widths": []}))
        self.diagnosis(**e.get("diagnosis", {"widths": []}))

    def pairs(self) -> list[tuple[int, int]]:
        """Return the seeds of A and B of each pair; no two pairs share a model."""
        first = self.experiment["first_pair"]
        return [(2 * p, 2 * p + 1) for p in range(first, first + self.experiment["pairs"])]

    def put(
        self, stage: str, width: float, parents=None, *, method=None, values=None, **fields
    ) -> str:
        """Add a run of this experiment, with its parents by role; return its path.

        ``values`` are what determines this run beside its names and its part of the recipe.
        """
        permuted = stage == "sparse" and fields["matching_method"] is not None
        trained_by, behind = NEEDS["permuted" if permuted else stage]
        values = self.shared | {part: self.recipe[part] for part in behind} | (values or {})
        if trained_by:
            values["training"] = self.recipe[trained_by]
        if how := fields.get("matching_method"):
            values["matching"] = self.recipe["matching"] | {"method": how}
        if stage == "dense":
            values["keep_epochs"] = self.keep_epochs
        fields |= {"dataset": self.experiment["dataset"], "model": self.experiment["model"]}
        fields |= {"width": width, "method": method}
        return self.put_run(stage, values, parents or {}, **fields)

    def dense(self, width: float, seed: int) -> str:
        """Add a dense model; it depends on nothing but its seed."""
        return self.put("dense", width, method="dense", init_seed=seed, order_seed=0)

    def rounds(self, width: float, seed: int, sparsity: float) -> list[str]:
        """Add the chain of IMP rounds of model ``seed`` up to ``sparsity``; return its paths.

        A shortened round ends it on the target, unless the round before comes near enough.
        """
        dense, chain = self.dense(width, seed), []
        names = {"method": "imp", "mask_seed": seed, "init_seed": seed, "order_seed": 0}
        levels = full_rounds(sparsity, self.recipe["imp"]["fraction"])
        whole = len(levels)
        if not levels or levels[-1] < sparsity - self.tolerance:
            levels.append(sparsity)
        for r, level in enumerate(levels, start=1):
            stage = "imp_round" if r <= whole else "imp"
            names |= {"round": r, "sparsity": level}
            parents = {
                "before": chain[-1] if chain else dense,
                "before_mask": chain[-1] if chain else [],
            }
            chain.append(self.put(stage, width, parents, **names))
        return chain

    def match(self, width: float, a: int, b: int, epoch=None, how: str | None = None) -> str:
        """Add the matching of A to B, at the last epoch and by the recipe's method by default.

        The other of the two methods that are compared is given the recipe's permutation.
        """
        epoch, how = self.last if epoch is None else epoch, how or self.matching
        parents = {"a": self.dense(width, a), "b": self.dense(width, b)}
        compared = how == OTHER_MATCHING[self.matching]
        parents["beside"] = self.match(width, a, b, epoch) if compared else []
        values = {"b_epoch": self.completed(epoch)}
        names = {"mask_seed": a, "init_seed": b, "matching_epoch": epoch, "matching_method": how}
        return self.put("match", width, parents, values=values, **names)

    def sparse(
        self,
        width: float,
        a: int,
        b: int,
        sparsity: float,
        name: str,
        k: int,
        epoch: int | None = None,
        order: int = 0,
        how: str | None = None,
        length: float = 1,
        rate: float = 1,
    ) -> str:
        """Add one sparse training by the method ``name``; a permuted mask is matched at ``epoch``.

        A method that is matched by the recipe is matched by ``how``, if that is given.
        """
        method = self.methods[name]
        ticket, init = (a if net == A else b for net in (method.ticket, method.start))
        parents = {
            "init": self.dense(width, init),
            "mask": self.rounds(width, ticket, sparsity)[-1],
            "match": [],
        }
        names = {"mask_seed": ticket, "init_seed": init, "order_seed": order, "sparsity": sparsity}
        names |= {"method": name, "rewind_epoch": k, "length": length, "rate": rate}
        names |= {"matching_epoch": None, "matching_method": None}
        if method.matched:
            how = (how or self.matching) if method.matched == RECIPE else method.matched
            parents["match"] = self.match(width, a, b, epoch, how)
            names["matching_epoch"] = self.last if epoch is None else epoch
            names["matching_method"] = how
        values = {"start_epoch": self.completed(k)}
        if method.function:
            values["mask_function"] = method.function
        return self.put("sparse", width, parents, values=values, **names)

    def early_matching(self, widths, rewind_epoch=0, matching_epochs=()) -> None:
        """Add what Table 15 compares: permuted masks from a B that is still training."""
        for width in widths:
            for a, b in self.pairs():
                for sparsity in self.experiment["sparsities"]:
                    for method in MASKS:
                        self.sparse(width, a, b, sparsity, method, rewind_epoch)
                    for t in matching_epochs:
                        self.sparse(width, a, b, sparsity, "permuted", rewind_epoch, epoch=t)

    def matching_comparison(self, widths, rewind_epoch=0, sparsities=()) -> None:
        """Add both ways of matching beside each other: lines from A to B and permuted masks."""
        other = OTHER_MATCHING[self.matching]
        for width in widths:
            for a, b in self.pairs():
                for how in (self.matching, other):
                    self.lines(width, a, b, how)
                for sparsity in sparsities or self.experiment["sparsities"]:
                    for method in MASKS:
                        self.sparse(width, a, b, sparsity, method, rewind_epoch)
                    self.sparse(width, a, b, sparsity, "permuted", rewind_epoch, how=other)

    def interpolation(self, widths) -> None:
        """Add the lines from A to B of Figure 3."""
        for width in widths:
            for a, b in self.pairs():
                self.lines(width, a, b, self.matching)

    def lines(self, width: float, a: int, b: int, how: str) -> str:
        """Add the line from permuted A to B and, with the recipe's matching, that from A to B."""
        parents = {
            "a": self.dense(width, a),
            "b": self.dense(width, b),
            "match": self.match(width, a, b, how=how),
        }
        values = {"lines": ["naive"] * (how == self.matching) + ["permuted"]}
        names = {"mask_seed": a, "init_seed": b, "matching_method": how}
        return self.put("interpolation", width, parents, values=values, **names)

    def imp_barrier(self, widths, sparsity=0.0) -> None:
        """Add the lines from the dense A to its IMP rounds of Figure 4a."""
        for width in widths:
            for a, _ in self.pairs():
                rounds = self.rounds(width, a, sparsity)
                parents = {"start": self.dense(width, a), "rounds": rounds}
                names = {"mask_seed": a, "init_seed": a, "sparsity": sparsity}
                self.put("imp_barrier", width, parents, **names)

    def landscape(self, widths, sparsity=0.0, rewind_epoch=0) -> None:
        """Add the plane through the solutions of the first pair."""
        a, b = self.pairs()[0]
        for width in widths:
            parents = {
                "a": self.dense(width, a),
                "match": self.match(width, a, b),
                "lth": self.sparse(width, a, b, sparsity, "lth", rewind_epoch),
                "permuted": self.sparse(width, a, b, sparsity, "permuted", rewind_epoch),
            }
            names = {"mask_seed": a, "init_seed": b, "rewind_epoch": rewind_epoch}
            names |= {"sparsity": sparsity, "matching_method": self.matching}
            self.put("landscape", width, parents, **names)

    def diversity(self, widths, sparsity=0.0, rewind_epoch=0, members=0, masks=0) -> None:
        """Add the ensembles of Table 1: of each mask, the networks that it makes of other inits."""
        seeds = mask_seeds(self.experiment["first_pair"], masks, members)
        for (a, _), width in itertools.product(seeds, widths):
            self.ensembles(width, a, sparsity, rewind_epoch, members)

    def diagnosis(self, widths, sparsities=()) -> None:
        """Add what the masks of each pair say without training: overlaps, margins of matching."""
        sparsities = sparsities or self.experiment["sparsities"]
        masks = {
            name: {"permuted": bool(m.matched), "mask_function": m.function}
            for name, m in self.methods.items()
            if name in DIAGNOSED
        }
        for width in widths:
            for a, b in self.pairs():
                parents = {
                    "a": self.dense(width, a),
                    "b": self.dense(width, b),
                    "match": self.match(width, a, b),
                    "masks": [self.rounds(width, a, s)[-1] for s in sparsities],
                    "own": [self.rounds(width, b, s)[-1] for s in sparsities],
                }
                names = {"mask_seed": a, "init_seed": b, "matching_method": self.matching}
                values = {"sparsities": list(sparsities), "masks": masks}
                self.put("diagnosis", width, parents, values=values, **names)

    def ensembles(self, width, a: int, sparsity, k: int, members: int) -> str:
        """Add the ensembles of the mask of ``a``, with seeds from a to a + members."""
        seeds, others = range(a, a + members), range(a + 1, a + 1 + members)

        def sparse(method: str, b: int, order: int = 0) -> str:
            return self.sparse(width, a, b, sparsity, method, k, order=order)

        parents = {
            "dense": [self.dense(width, seed) for seed in seeds],
            "imp": [self.rounds(width, seed, sparsity)[-1] for seed in seeds],
            "lth": [sparse("lth", a, order) for order in range(members)],
            "permuted": [sparse("permuted", b) for b in others],
            "naive": [sparse("naive", b) for b in others],
        }
        names = {"mask_seed": a, "sparsity": sparsity, "rewind_epoch": k}
        return self.put("diversity", width, parents, **names)


def full_rounds(sparsity: float, fraction: float) -> list[float]:
    """Return the sparsities of the whole IMP rounds before the last one, which lands on target.

    Each round masks ``fraction`` of what remains: round r ends at 1 - (1 - fraction)**r. Rounds
    that would reach the target are left to the shortened last round (SPEC, method 2).
    """
    keep = math.log1p(-sparsity) / math.log1p(-fraction)
    return [1 - (1 - fraction) ** r for r in range(1, math.ceil(keep - 1e-9))]


def data_values(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return what determines a prepared data set; where a published one lies does not."""
    names = ["title", "stands_for"]
    if dataset["source"] != "imagefolder":
        names.append("path")
    return _without(dataset, *names)


def _plain(number: float) -> float:
    """Return a whole number as an integer, so that 2 and 2.0 are one value."""
    return int(number) if number == int(number) else number


def _without(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in table.items() if k not in keys}

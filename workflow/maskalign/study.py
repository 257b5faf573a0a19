"""A study: one configuration, validated, and the table of runs that it asks for.

This is the only module that knows the shape of the configuration. It imports neither torch nor
Snakemake, because every Snakemake process, also each job on a cluster, parses it anew.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from maskalign.identity import IDENTITY
from maskalign.schema import StudyError, keep_epochs, refuse_duplicate_keys, validate

# What a run is called on disk. The rules use the same templates with wildcards.
MODEL_PATH = "{protocol}/{dataset}/{model}-x{width}"
_PAIR = "mask-{mask_seed}_init-{init_seed}"
PATHS = {
    "dense": MODEL_PATH + "/dense/init-{init_seed}",
    "imp_round": MODEL_PATH + "/imp/mask-{mask_seed}/round-{round}",
    "imp": MODEL_PATH + "/imp/mask-{mask_seed}/sparsity-{sparsity}",
    "match": MODEL_PATH + "/match/" + _PAIR + "_epoch-{matching_epoch}",
    "sparse": MODEL_PATH
    + "/{method}/sparsity-{sparsity}/"
    + _PAIR
    + "_order-{order_seed}_rewind-{rewind_epoch}_match-{matching_epoch}",
    "interpolation": MODEL_PATH + "/interpolation/" + _PAIR,
    "imp_barrier": MODEL_PATH + "/imp_barrier/mask-{mask_seed}_sparsity-{sparsity}",
    "landscape": MODEL_PATH + "/landscape/" + _PAIR + "_sparsity-{sparsity}_rewind-{rewind_epoch}",
    "diversity": MODEL_PATH + "/diversity/sparsity-{sparsity}_rewind-{rewind_epoch}",
}
# Raised by hand when a stage's results change, so that Snakemake runs it again.
RESULT_VERSION = dict.fromkeys(PATHS, 1)

NO_EPOCH = "none"  # matching epoch, in a path, of a run that needs no permutation


class Study:
    """A validated study and its runs.

    Attributes:
        config: the configuration with every default filled in.
        runs: one row a run, with columns ``stage``, ``path``, ``round``, those of ``IDENTITY`` and
            ``values``, the resolved values that determine the run, and ``parents``, the paths of
            the runs that it needs, by role.
    """

    def __init__(self, config: dict[str, Any]):
        """Validate ``config``; raise StudyError, one line, when it is not a study."""
        self.config = validate(config)
        self.name = self.config["study"]
        self.protocol = self.config["protocol"]
        self._runs: dict[str, dict[str, Any]] = {}
        for name, experiment in self.config["experiments"].items():
            _Plan(self, name, experiment).add()
        self.runs = pd.DataFrame(self._runs.values())

    # -- what the rules ask ------------------------------------------------------------------

    def values(self, stage: str) -> Callable[[Any], dict[str, Any]]:
        """Return a params function: wildcards of a run of ``stage`` to its resolved values."""

        def resolve(wildcards) -> dict[str, Any]:
            return self.run(PATHS[stage].format(**dict(wildcards.items())))["values"]

        return resolve

    def run(self, path: str) -> dict[str, Any]:
        """Return the run stored at ``path``; raise StudyError when the study has no such run."""
        try:
            return self._runs[path]
        except KeyError:
            raise StudyError(f"{path}: study '{self.name}' has no such run") from None

    def paths(self, *stages: str) -> list[str]:
        """Return the paths of all runs of the given stages, in the order of the study."""
        return [r["path"] for r in self._runs.values() if r["stage"] in stages]

    def selected(self, selection: dict[str, Any], *stages: str) -> list[str]:
        """Return the paths of the runs of ``stages`` that a table's or figure's selection shows."""
        widths = selection.get("widths")
        return [
            r["path"]
            for r in self._runs.values()
            if r["stage"] in stages
            and (r["dataset"], r["model"]) == (selection["dataset"], selection["model"])
            and (widths is None or r["width"] in widths)
        ]

    def recipes(self, dataset: str, model: str) -> list[dict[str, Any]]:
        """Return the distinct training recipes with which ``model`` is trained on ``dataset``."""
        names = {
            e["training"]: None
            for e in self.config["experiments"].values()
            if (e["dataset"], e["model"]) == (dataset, model)
        }
        return [self.config["training"][name] for name in names]

    # -- how the table of runs is made ---------------------------------------------------------

    def add(
        self, owner: str, stage: str, values: dict[str, Any], parents: dict[str, Any], **fields
    ) -> str:
        """Add one run, unless it is there, and return its path.

        Raises:
            StudyError: if an experiment before asked for the same path with other values.
        """
        fields = dict.fromkeys([*IDENTITY, "round"]) | fields | {"protocol": self.protocol}
        path = PATHS[stage].format(**{k: _text(v) for k, v in fields.items()})
        identity = {"version": RESULT_VERSION[stage], "stage": stage}
        resolved = identity | {k: v for k, v in fields.items() if v is not None} | values
        known = self._runs.get(path)
        if known is None:
            row = fields | {"stage": stage, "path": path, "owner": owner}
            self._runs[path] = row | {"values": resolved, "parents": parents}
        elif known["values"] != resolved:
            different = sorted(
                k
                for k in known["values"].keys() | resolved
                if known["values"].get(k) != resolved.get(k)
            )
            raise StudyError(
                f"experiments.{owner}: same runs as experiments.{known['owner']} but other "
                f"values of {', '.join(different)}; give the model or the data set another name"
            )
        return path


class _Plan:
    """The runs of one experiment, each with the runs that it needs."""

    def __init__(self, study: Study, name: str, experiment: dict[str, Any]):
        config = study.config
        self.study = study
        self.name = name
        self.experiment = experiment
        self.recipe = config["training"][experiment["training"]]
        data = _without(config["datasets"][experiment["dataset"]], "title", "stands_for")
        model = _without(config["models"][experiment["model"]], "title")
        stages = ("dense", "imp", "sparse", "matching", "connectivity", "keep_epochs")
        shared = _without(self.recipe, *stages)
        base = {"data": data, "net": model, **shared}
        keep = keep_epochs(config, experiment["training"])
        self.of = {"dense": base | {"training": self.recipe["dense"], "keep_epochs": keep}}
        dense = base | {"dense": self.recipe["dense"]}
        self.of["imp_round"] = self.of["imp"] = dense | {"training": self.recipe["imp"]}
        self.of["match"] = dense | {"matching": self.recipe["matching"]}
        sparse = dense | {"imp": self.recipe["imp"]}
        self.of["lth"] = self.of["naive"] = sparse | {"training": self.recipe["sparse"]}
        self.of["permuted"] = self.of["naive"] | {"matching": self.recipe["matching"]}
        everything = self.of["permuted"] | {"connectivity": self.recipe["connectivity"]}
        self.of["interpolation"] = self.of["match"] | {"connectivity": self.recipe["connectivity"]}
        self.of["imp_barrier"] = self.of["landscape"] = everything
        self.of["diversity"] = self.of["permuted"]

    def add(self) -> None:
        """Add everything that the experiment asks for to its study."""
        e = self.experiment
        for width in e["widths"]:
            for a, b in self.pairs():
                self.dense(width, b)
                for sparsity in e["sparsities"]:
                    for k in e["rewind_epochs"]:
                        for method in e["methods"]:
                            self.sparse(width, a, b, sparsity, method, k)
        self.early_matching(**e.get("early_matching", {"widths": []}))
        self.interpolation(**e.get("interpolation", {"widths": []}))
        self.imp_barrier(**e.get("imp_barrier", {"widths": []}))
        self.landscape(**e.get("landscape", {"widths": []}))
        self.diversity(**e.get("diversity", {"widths": []}))

    def pairs(self) -> list[tuple[int, int]]:
        """Return the seeds of A and B of each pair; no two pairs share a model."""
        first = self.experiment["first_pair"]
        return [(2 * p, 2 * p + 1) for p in range(first, first + self.experiment["pairs"])]

    def put(self, stage: str, width: float, parents=None, *, method=None, **fields) -> str:
        """Add a run of this experiment, with its parents by role; return its path."""
        values = self.of[method if stage == "sparse" else stage]
        fields |= {"dataset": self.experiment["dataset"], "model": self.experiment["model"]}
        fields |= {"width": width, "method": method}
        return self.study.add(self.name, stage, values, parents or {}, **fields)

    def dense(self, width: float, seed: int) -> str:
        return self.put("dense", width, method="dense", init_seed=seed, order_seed=0)

    def rounds(self, width: float, seed: int, sparsity: float) -> list[str]:
        """Add the chain of IMP rounds of model ``seed`` up to ``sparsity``; return its paths."""
        dense, chain = self.dense(width, seed), []
        names = {"method": "imp", "mask_seed": seed, "init_seed": seed, "order_seed": 0}
        levels = [*full_rounds(sparsity, self.recipe["imp"]["fraction"]), sparsity]
        for r, level in enumerate(levels, start=1):
            stage = "imp" if r == len(levels) else "imp_round"
            names |= {"round": r, "sparsity": level}
            parents = {
                "before": chain[-1] if chain else dense,
                "before_mask": chain[-1] if chain else [],
            }
            chain.append(self.put(stage, width, parents, **names))
        return chain

    def match(self, width: float, a: int, b: int, epoch: int | None = None) -> str:
        """Add the matching of A to B, at the last epoch by default."""
        epoch = self.recipe["dense"]["epochs"] if epoch is None else epoch
        parents = {"a": self.dense(width, a), "b": self.dense(width, b)}
        return self.put("match", width, parents, mask_seed=a, init_seed=b, matching_epoch=epoch)

    def sparse(
        self, width, a: int, b: int, sparsity, method: str, k: int, epoch=None, order: int = 0
    ) -> str:
        """Add one sparse training with the mask of ``a``; LTH starts from ``a`` itself."""
        init = a if method == "lth" else b
        parents = {
            "init": self.dense(width, init),
            "mask": self.rounds(width, a, sparsity)[-1],
            "match": self.match(width, a, b, epoch) if method == "permuted" else None,
        }
        names = {"mask_seed": a, "init_seed": init, "order_seed": order, "sparsity": sparsity}
        if method == "permuted":
            names["matching_epoch"] = self.study.run(parents["match"])["matching_epoch"]
        return self.put("sparse", width, parents, method=method, rewind_epoch=k, **names)

    def early_matching(self, widths, rewind_epoch=0, matching_epochs=()) -> None:
        for width in widths:
            for a, b in self.pairs():
                for sparsity in self.experiment["sparsities"]:
                    for method in ("lth", "naive", "permuted"):
                        self.sparse(width, a, b, sparsity, method, rewind_epoch)
                    for t in matching_epochs:
                        self.sparse(width, a, b, sparsity, "permuted", rewind_epoch, epoch=t)

    def interpolation(self, widths) -> None:
        for width in widths:
            for a, b in self.pairs():
                match = self.match(width, a, b)
                parents = self.study.run(match)["parents"] | {"match": match}
                self.put("interpolation", width, parents, mask_seed=a, init_seed=b)

    def imp_barrier(self, widths, sparsity=0.0) -> None:
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
            self.put("landscape", width, parents, sparsity=sparsity, **names)

    def diversity(self, widths, sparsity=0.0, rewind_epoch=0, members=0) -> None:
        """Add the ensembles of Table 1: one mask, that of A of the first pair, and other inits."""
        a = self.pairs()[0][0]
        seeds, others = range(a, a + members), range(a + 1, a + 1 + members)

        def sparse(method: str, b: int, order: int = 0) -> str:
            return self.sparse(width, a, b, sparsity, method, rewind_epoch, order=order)

        for width in widths:
            parents = {
                "dense": [self.dense(width, seed) for seed in seeds],
                "imp": [self.rounds(width, seed, sparsity)[-1] for seed in seeds],
                "lth": [sparse("lth", a, order) for order in range(members)],
                "permuted": [sparse("permuted", b) for b in others],
                "naive": [sparse("naive", b) for b in others],
            }
            names = {"mask_seed": a, "sparsity": sparsity, "rewind_epoch": rewind_epoch}
            self.put("diversity", width, parents, **names)


def load(config: dict[str, Any], files: Iterable[str | Path] = ()) -> Study:
    """Return the study of a configuration that Snakemake has merged from ``files``.

    Raises:
        StudyError: one line that names the key and what is allowed.
    """
    for file in files:
        refuse_duplicate_keys(Path(file))
    return Study(config)


def full_rounds(sparsity: float, fraction: float) -> list[float]:
    """Return the sparsities of the whole IMP rounds before the last one, which lands on target.

    Each round masks ``fraction`` of what remains: round r ends at 1 - (1 - fraction)**r. Rounds
    that would reach the target are left to the shortened last round (SPEC, method 2).
    """
    keep = math.log1p(-sparsity) / math.log1p(-fraction)
    return [1 - (1 - fraction) ** r for r in range(1, math.ceil(keep - 1e-9))]


def _without(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in table.items() if k not in keys}


def _text(value: Any) -> str:
    """Return a value as it stands in a path."""
    if value is None:
        return NO_EPOCH
    return format(value, "g") if isinstance(value, float) else str(value)

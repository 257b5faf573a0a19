"""The whole method on a tiny network: every stage is called as its job calls it.

A ``Chain`` runs each stage once, when a test first asks for it. Values and files are written out
here instead of taken from the study's plan: tests then see what a stage does with its arguments.
"""

import json
from pathlib import Path
from typing import Any

import torch
from maskalign import analyses, models, sources, stages
from maskalign.checkpoint import load_tensors
from maskalign.data import open_data
from maskalign.methods import METHODS, RECIPE
from maskalign.seeds import derive
from maskalign.versions import RESULT_VERSION

A, B = 4, 7  # init seeds
LAST = 3  # epochs of dense training
KEPT = [0, 1, 2, LAST]
BATCH = 20
LEVELS = {1: 0.3, 2: 0.5, 3: 0.6}  # sparsity after each IMP round

DATA = {
    "source": "digits",
    "image_size": 8,
    "train_images": 160,
    "test_images": 80,
    "compose": 1,
    "mean": [0.3],
    "std": [0.38],
    "crop_padding": 1,
    "flip": True,
}
NETS = {
    "resnet": {
        "architecture": "resnet20",
        "options": {"blocks": [1, 1], "channels": 4},
        "unprunable": ["*shortcut*"],
    },
    "vgg": {"architecture": "vgg11", "options": {"plan": [6, "M", 8]}, "unprunable": []},
    "versioned": {"architecture": "nets:Versioned", "options": {}, "unprunable": []},
    "resnet50": {
        "architecture": "resnet50",
        "options": {"layers": [1, 1, 1, 1], "channels": 4},
        "unprunable": ["*downsample*"],
    },
}
# Every part of the recipe differs from the others, so that a stage that trains by the wrong part
# ends with other weights.
TRAINING = {
    "dense": {"epochs": LAST, "lr": 0.05, "schedule": "cosine"},
    "imp": {"epochs": 1, "lr": 0.01, "schedule": "cosine", "momentum": 0.0, "weight_decay": 0.0},
    "sparse": {"lr": 0.03, "schedule": "cosine"},
}
SHARED = {"momentum": 0.8, "weight_decay": 0.002}
MATCHING = {"measure": "all", "images": 60, "augment": True}
CONNECTIVITY = {"points": 3, "reset_images": 60, "train_images": 100, "grid": 3}


class Chain:
    """All runs of one tiny network, in one folder; each method returns the folder of its run."""

    def __init__(self, folder: Path, net: str = "resnet", spec: dict[str, Any] = DATA):
        self.folder, self.net, self.spec = folder, net, spec
        suffix = "json" if spec["source"].endswith("folder") else "safetensors"
        self.data = folder / f"images.{suffix}"
        sources.prepare(spec, self.data)
        self.images = open_data(self.data, spec)

    def values(self, stage: str, part: str | None = None, **more) -> dict[str, Any]:
        """Return the resolved values of a run of ``stage``, trained by ``part`` of the recipe."""
        found = {
            "stage": stage,
            "version": RESULT_VERSION[stage],
            "protocol": "paper",
            "dataset": self.spec["source"],
            "model": self.net,
            "width": 1,
            "data": self.spec,
            "net": NETS[self.net],
            "batch_size": BATCH,
            "processes": 1,
            "precision": "float32",
            "evaluate_every": 1,
            "dense": {"epochs": LAST, "lr": 0.5},
            "imp": {"epochs": 2, "lr": 0.6},
            "sparse": {"lr": 0.7},
            "order_seed": 0,
        }
        training = {"training": dict(TRAINING[part])} if part else {}
        return found | SHARED | training | more

    def once(self, function, name: str, arguments: dict[str, Any]) -> Path:
        """Run a stage, unless it has run, and return its folder."""
        out = self.folder / name
        if not (out / "result.json").exists():
            function(**arguments | outputs(function.__name__, out), data=str(self.data))
        return out

    def dense(self, seed: int) -> Path:
        return self.once(stages.dense, f"dense-{seed}", self.dense_arguments(seed))

    def dense_arguments(self, seed: int, **more) -> dict[str, Any]:
        about = {"method": "dense", "init_seed": seed, "keep_epochs": KEPT} | more
        return {"values": self.values("dense", "dense", **about)}

    def imp(self, number: int, seed: int = A) -> Path:
        return self.once(stages.imp, f"imp-{number}-{seed}", self.imp_arguments(number, seed))

    def imp_arguments(self, number: int, seed: int = A, **more) -> dict[str, Any]:
        about = {
            "method": "imp",
            "mask_seed": seed,
            "init_seed": seed,
            "round": number,
            "sparsity": LEVELS[number],
        }
        before = self.imp(number - 1, seed) if number > 1 else self.dense(seed)
        stage = "imp" if number == max(LEVELS) else "imp_round"
        return {
            "values": self.values(stage, "imp", **about | more),
            "start": str(before / "model.safetensors"),
            "start_mask": str(before / "mask.safetensors") if number > 1 else None,
        }

    def match(self, method: str = "activations", epoch: int = LAST) -> Path:
        name = f"match-{method}-{epoch}"
        return self.once(stages.match, name, self.match_arguments(method, epoch))

    def match_arguments(self, method="activations", epoch=LAST, **matching) -> dict[str, Any]:
        """Return the arguments of a matching; that by weights is compared with that before it."""
        about = {
            "method": None,
            "mask_seed": A,
            "init_seed": B,
            "b_epoch": epoch,
            "matching": MATCHING | {"method": method} | matching,
            "matching_method": method,
            "matching_epoch": epoch,
        }
        compared = self.match() / "permutation.safetensors" if method == "weights" else None
        return {
            "values": self.values("match", **about),
            "a": str(self.dense(A) / "model.safetensors"),
            "b": str(self.dense(B) / "model.safetensors"),
            "b_checkpoints": str(self.dense(B) / "checkpoints"),
            "beside": compared and str(compared),
        }

    def sparse(self, method: str, k: int = 0, order: int = 0) -> Path:
        name = f"{method}-{k}-{order}"
        arguments = self.sparse_arguments(method, k, order_seed=order)
        return self.once(stages.sparse, name, arguments)

    def sparse_arguments(self, method: str, k: int = 0, **more) -> dict[str, Any]:
        entry = METHODS[method]
        init, ticket = ({"a": A, "b": B}[net] for net in (entry.start, entry.ticket))
        about = {
            "method": method,
            "mask_seed": ticket,
            "init_seed": init,
            "sparsity": LEVELS[3],
            "rewind_epoch": k,
            "start_epoch": k,
        }
        if entry.function:
            about["mask_function"] = entry.function
        found = {
            "values": self.values("sparse", "sparse", **about | more),
            "checkpoints": str(self.dense(init) / "checkpoints"),
            "imp_mask": str(self.imp(3, ticket) / "mask.safetensors"),
            "permutation": None,
        }
        if entry.matched:
            how = "activations" if entry.matched == RECIPE else entry.matched
            found["permutation"] = str(self.match(how) / "permutation.safetensors")
        return found

    def interpolation(self) -> Path:
        arguments = self.interpolation_arguments()
        return self.once(analyses.interpolation, "interpolation", arguments)

    def interpolation_arguments(self, **more) -> dict[str, Any]:
        about = {
            "mask_seed": A,
            "init_seed": B,
            "matching_method": "activations",
            "lines": ["naive", "permuted"],
            "connectivity": CONNECTIVITY,
        }
        return {
            "values": self.values("interpolation", **about | more),
            "a": str(self.dense(A) / "model.safetensors"),
            "b": str(self.dense(B) / "model.safetensors"),
            "permutation": str(self.match() / "permutation.safetensors"),
        }

    def imp_barrier(self) -> Path:
        return self.once(analyses.imp_barrier, "imp_barrier", self.imp_barrier_arguments())

    def imp_barrier_arguments(self) -> dict[str, Any]:
        about = {"mask_seed": A, "init_seed": A, "connectivity": CONNECTIVITY}
        return {
            "values": self.values("imp_barrier", sparsity=LEVELS[3], **about),
            "start": str(self.dense(A) / "model.safetensors"),
            "rounds": [str(self.imp(r) / "model.safetensors") for r in LEVELS],
            "masks": [str(self.imp(r) / "mask.safetensors") for r in LEVELS],
        }

    def landscape(self) -> Path:
        return self.once(analyses.landscape, "landscape", self.landscape_arguments())

    def landscape_arguments(self) -> dict[str, Any]:
        about = {
            "mask_seed": A,
            "init_seed": B,
            "sparsity": LEVELS[3],
            "rewind_epoch": 0,
            "matching_method": "activations",
            "connectivity": CONNECTIVITY,
        }
        return {
            "values": self.values("landscape", **about),
            "a": str(self.dense(A) / "model.safetensors"),
            "lth": str(self.sparse("lth") / "model.safetensors"),
            "permuted": str(self.sparse("permuted") / "model.safetensors"),
            "permutation": str(self.match() / "permutation.safetensors"),
        }

    def diversity(self) -> Path:
        return self.once(analyses.diversity, "diversity", self.diversity_arguments())

    def diversity_arguments(self) -> dict[str, Any]:
        """Return the arguments for ensembles of two, of which no two methods share a model."""
        runs = {
            "dense": [self.dense(A), self.dense(B)],
            "imp": [self.imp(2), self.imp(3)],
            "lth": [self.sparse("lth"), self.sparse("lth", order=1)],
            "permuted": [self.sparse("permuted"), self.sparse("permuted", k=1)],
            "naive": [self.sparse("naive"), self.sparse("naive", k=1)],
        }
        members = {m: [str(run / "model.safetensors") for run in of] for m, of in runs.items()}
        about = {"mask_seed": A, "sparsity": LEVELS[3], "rewind_epoch": 0}
        return {"values": self.values("diversity", **about), "members": members}

    def diagnosis(self) -> Path:
        return self.once(analyses.diagnosis, "diagnosis", self.diagnosis_arguments())

    def diagnosis_arguments(self, **more) -> dict[str, Any]:
        """Return the arguments for the masks of the last two rounds."""
        function = "maskalign.controls:"
        about = {
            "mask_seed": A,
            "init_seed": B,
            "matching_method": "activations",
            "matching": MATCHING | {"method": "activations"},
            "sparsities": [LEVELS[2], LEVELS[3]],
            "masks": {
                "naive": {"permuted": False, "mask_function": None},
                "permuted": {"permuted": True, "mask_function": None},
                "permuted_fan": {"permuted": True, "mask_function": f"{function}fan"},
                "fan": {"permuted": False, "mask_function": f"{function}fan"},
                "shuffled": {"permuted": False, "mask_function": f"{function}shuffled"},
            },
        }
        return {
            "values": self.values("diagnosis", **about | more),
            "a": str(self.dense(A) / "model.safetensors"),
            "b": str(self.dense(B) / "model.safetensors"),
            "permutation": str(self.match() / "permutation.safetensors"),
            "masks": [str(self.imp(r, A) / "mask.safetensors") for r in (2, 3)],
            "own": [str(self.imp(r, B) / "mask.safetensors") for r in (2, 3)],
        }

    def network(self, weights: dict[str, torch.Tensor] | Path | int) -> torch.nn.Module:
        """Return a network with given weights, those of a file, or those of an init seed."""
        if isinstance(weights, int):
            torch.manual_seed(derive("init", weights))
        net = models.build(
            NETS[self.net]["architecture"],
            classes=self.images.classes,
            image_size=self.images.image_size,
            in_channels=self.images.channels,
            width=1,
            **NETS[self.net]["options"],
        )
        if not isinstance(weights, int):
            net.load_state_dict(tensors(weights) if isinstance(weights, Path) else weights)
        return net.to(memory_format=torch.channels_last)  # rounds as the stages do


def outputs(stage: str, out: Path) -> dict[str, str]:
    """Return the output arguments of a stage, as files in ``out``."""
    trained = {"model": "model.safetensors", "history": "history.csv", "state": "state"}
    files = {
        "dense": trained | {"checkpoints": "checkpoints"},
        "imp": trained | {"mask": "mask.safetensors"},
        "sparse": trained | {"mask": "mask.safetensors"},
        "match": {"permutation": "permutation.safetensors"},
        "interpolation": {"curve": "curve.csv"},
        "imp_barrier": {"curve": "curve.csv"},
        "landscape": {"grid": "grid.csv"},
        "diversity": {},
        "diagnosis": {},
    }[stage]
    return {name: str(out / file) for name, file in files.items()} | {
        "result": str(out / "result.json")
    }


def tensors(file: Path | str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file."""
    return load_tensors(file)[0]


def record(out: Path) -> dict[str, Any]:
    """Return the record of a run."""
    return json.loads((out / "result.json").read_text())

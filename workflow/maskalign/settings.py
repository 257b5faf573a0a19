"""Tables of hyperparameters, written from the configuration that ran (Tables 2 to 4)."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from maskalign import captions
from maskalign.study import Study

Recipe = dict[str, Any]


def training(study: Study, entry: dict[str, Any], _: object = None):
    """Tables 2 and 3: dense and sparse training; see ``tables.build``."""
    return _table(study, entry, "dense and sparse training", _training)


def pruning(study: Study, entry: dict[str, Any], _: object = None):
    """Table 4: iterative magnitude pruning; see ``tables.build``."""
    return _table(study, entry, "iterative magnitude pruning (IMP)", _pruning)


def printed(recipe: Recipe) -> list[tuple[str, str, str, str]]:
    """Return (kind of table, name in the CSV, title, value as printed) of all of a recipe."""
    return [
        (kind, name, title, _plain(value))
        for kind, values in (("training", _training), ("pruning", _pruning))
        for (name, title), value in values(recipe).items()
    ]


def _training(r: Recipe) -> dict[tuple[str, str], Any]:
    """Return values by name in the CSV and title in print."""
    dense, sparse = r["dense"], r["sparse"]
    return {
        ("optimizer", "Optimizer"): "SGD",
        ("momentum", "Momentum"): r["momentum"],
        ("dense_lr", "Dense learning rate"): dense["lr"],
        ("sparse_lr", "Sparse learning rate"): sparse["lr"],
        ("weight_decay", "Weight decay"): r["weight_decay"],
        ("batch_size", "Batch size"): r["batch_size"],
        ("epochs", "Epochs T"): dense["epochs"],
        ("dense_schedule", "Dense schedule"): _schedule(dense),
        ("sparse_schedule", "Sparse schedule"): _schedule(sparse),
        ("dense_warmup_epochs", "Dense warm-up (epochs)"): dense["warmup_epochs"],
        ("sparse_warmup_epochs", "Sparse warm-up (epochs)"): sparse["warmup_epochs"],
    }


def _pruning(r: Recipe) -> dict[tuple[str, str], Any]:
    imp = r["imp"]
    return {
        ("train_epochs_per_prune", "Epochs per round"): imp["epochs"],
        ("pruning_lr", "Learning rate"): imp["lr"],
        ("fraction", "Pruned per round (share of what remains)"): imp["fraction"],
        ("schedule", "Schedule within a round"): _schedule(imp),
        ("momentum", "Momentum"): imp["momentum"],
        ("weight_decay", "Weight decay"): imp["weight_decay"],
    }


def _table(study: Study, entry: dict[str, Any], what: str, values: Callable):
    rows, columns, titles = [], {}, {}
    for s in entry["shows"]:
        model = captions.model_title(study, s["model"])
        head = f"{model}, {captions.data_title(study, s['dataset'])}"
        recipes = study.recipes(s["dataset"], s["model"])
        for i, recipe in enumerate(recipes, start=1):
            which = f", recipe {i}" if len(recipes) > 1 else ""
            found = values(recipe)
            columns[head + which] = [_plain(v) for v in found.values()]
            titles = [title for _, title in found]
            where = {"dataset": s["dataset"], "model": s["model"], "recipe": i}
            rows += [where | {"name": name, "value": _plain(v)} for (name, _), v in found.items()]
    layout = pd.DataFrame(columns, index=pd.Index(titles, name="Hyperparameter"))
    text = [
        f"Hyperparameters of {what} of {captions.subject(study, entry['shows'])}, written from "
        f"the configuration that ran (protocol {study.protocol})."
    ]
    return text, pd.DataFrame(rows), layout


def _schedule(part: dict[str, Any]) -> str:
    steps = " ".join(map(str, part.get("milestones", [])))
    return "cosine to 0" if part["schedule"] == "cosine" else f"divided by 10 at {steps or 'none'}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else format(value, "g")

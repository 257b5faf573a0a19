"""What the paper reports, and whether what a study trains is what the paper trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from maskalign import captions, selection, settings
from maskalign.captions import PAPER_MODELS
from maskalign.selection import Selection
from maskalign.study import Study

# Names in reported.csv that differ from those in runs.csv.
METRICS = {"test_accuracy": "accuracy", "top1": "accuracy", "top5": "top5_accuracy"}
PRINTED_IN = {2: "training", 3: "training", 4: "pruning"}  # table: kind of table


class Setting(NamedTuple):
    """What part of a table is about: ``model`` is an architecture, ``dataset`` a source."""

    table: int
    model: str
    width: float
    dataset: str


@dataclass(frozen=True)
class Paper:
    """The paper's numbers and what determines them.

    Attributes:
        cells: reported.csv with metrics named as in runs.csv, and ``runs`` (NaN where not said),
            ``notes`` (numbers of the notes, from 1) and ``judged`` beside each cell.
        hyperparameters: Tables 2 to 4: table, model, dataset, name, value (text).
        facts: reported.yaml.
    """

    cells: pd.DataFrame
    hyperparameters: pd.DataFrame
    facts: dict[str, Any]

    def settings(self) -> Iterator[tuple[Setting, pd.DataFrame]]:
        """Yield each setting with its cells, in the order of the tables."""
        for key, cells in self.cells.groupby(list(Setting._fields), sort=False):
            yield Setting(*key), cells

    def kind(self, setting: Setting) -> str:
        """Return the kind of a setting's table: accuracy, early_matching or diversity."""
        return self.facts["tables"][setting.table]["kind"]

    def title(self, setting: Setting) -> str:
        """Return a setting's table, model and data set as a heading names them."""
        return f"Table {setting.table}, {self.subject(setting)}"

    def subject(self, setting: Setting) -> str:
        """Return a setting's model and data set."""
        model = f"{PAPER_MODELS[setting.model]} {captions.times(setting.width)}"
        return f"{model} on {self.facts['datasets'][setting.dataset]['title']}"

    def comparable(self, study: Study, setting: Setting) -> list[Selection]:
        """Return what the study trains that is the setting; it may be under several names."""
        return [
            {"dataset": dataset, "model": model, "widths": [setting.width]}
            for dataset, model in _trained(study)
            if not self.obstacles(study, setting, dataset, model)
        ]

    def obstacles(self, study: Study, setting: Setting, dataset: str, model: str) -> list[str]:
        """Return why ``model`` on ``dataset`` is not the setting; empty when it is."""
        fact, title = self.facts["datasets"][setting.dataset], captions.model_title(study, model)
        data, net = study.config["datasets"][dataset], study.config["models"][model]
        found = []
        if data["source"] != setting.dataset:
            other = f"{captions.data_title(study, dataset)} (source {data['source']})"
            found.append(f"{fact['title']} is stood in for by {other}")
        if data["image_size"] != fact["image_size"]:
            found.append(f"images of {data['image_size']} pixels, the paper's {fact['image_size']}")
        for part in ("train", "test"):
            if data[f"{part}_images"] is not None:
                found.append(f"only {data[f'{part}_images']} {part} images")
        if data["compose"] != 1:
            found.append(f"{data['compose']} images in one sample")
        if net["architecture"] != setting.model:
            found.append(f"{title} is not {PAPER_MODELS[setting.model]}")
        if net["options"]:
            found.append(f"{title} has its own {', '.join(net['options'])}")
        epochs = float(self._printed(setting)["training", "epochs"])
        for recipe in _recipes(study, dataset, model, setting.width):
            if recipe["dense"]["epochs"] != epochs:
                found.append(f"T = {recipe['dense']['epochs']} epochs, the paper's {epochs:g}")
        return list(dict.fromkeys(found))

    def why_not(self, study: Study, setting: Setting) -> str:
        """Return why nothing that the study trains is the setting, as one sentence's middle."""
        title = self.facts["datasets"][setting.dataset]["title"]
        every = study.config["datasets"]
        near = [
            (dataset, model)
            for dataset, model in _trained(study)
            if every[dataset]["source"] == setting.dataset or every[dataset]["stands_for"] == title
        ]
        if not near:
            return f"the study has neither {title} nor a data set that stands in for it"
        architectures = study.config["models"]
        same = [(d, m) for d, m in near if architectures[m]["architecture"] == setting.model]
        if not same:
            return f"the study trains no {PAPER_MODELS[setting.model]} on {title} or its stand-in"
        texts = ["; ".join(self.obstacles(study, setting, d, m)) for d, m in same]
        return "; or ".join(dict.fromkeys(texts))

    def differences(self, study: Study, setting: Setting, shown: Selection) -> list[str]:
        """Return in what recipe and preparation differ from the paper's where both are known."""
        dataset, model = shown["dataset"], shown["model"]
        paper, found = self._printed(setting), []
        for recipe in _recipes(study, dataset, model, setting.width):
            for kind, name, title, ours in settings.printed(recipe):
                theirs = paper.get((kind, name), ours)
                if not _equal(ours, theirs):
                    where = "IMP " if kind == "pruning" else ""
                    label = title[0].lower() + title[1:]
                    found.append(f"{where}{label} {ours} (the paper's {theirs})")
        data = study.config["datasets"][dataset]
        for name, theirs in self.facts["datasets"][setting.dataset]["preparation"].items():
            if data.get(name) != theirs:
                found.append(f"{name} {data.get(name)} (the paper's {theirs})")
        return list(dict.fromkeys(found))

    def _printed(self, setting: Setting) -> dict[tuple[str, str], str]:
        """Return the paper's hyperparameters by kind of table and name."""
        dataset = self.facts["datasets"][setting.dataset].get("hyperparameters", setting.dataset)
        rows = self.hyperparameters
        rows = rows[(rows["model"] == setting.model) & (rows["dataset"] == dataset)]
        found = {(PRINTED_IN[r.table], r.name): r.value for r in rows.itertuples(index=False)}
        for kind, values in self.facts["recipe"].items():
            found |= {(kind, name): str(value) for name, value in values.items()}
        return found


def read(cells: str | Path, hyperparameters: str | Path, facts: str | Path) -> Paper:
    """Return the paper's numbers from reported.csv, reported_hyperparameters.csv, reported.yaml.

    Raises:
        ValueError: one line, if reported.csv has a table or data set that reported.yaml lacks.
    """
    known = yaml.safe_load(Path(facts).read_text(encoding="utf-8"))
    table = pd.read_csv(cells).sort_values("table", kind="stable", ignore_index=True)
    for column, part in (("table", "tables"), ("dataset", "datasets")):
        if missing := sorted(set(table[column]) - set(known[part])):
            raise ValueError(f"{facts}: {part} has no entry for {missing[0]}, which {cells} has")
    table["metric"] = table["metric"].replace(METRICS)
    table["runs"] = table["table"].map(lambda t: known["tables"][t]["runs"]).astype(float)
    rows = table.to_dict("records")
    notes = [[i for i, note in enumerate(known["notes"], 1) if _noted(note, r)] for r in rows]
    table["notes"] = [" ".join(map(str, found)) for found in notes]
    judged = [note.get("judged", True) for note in known["notes"]]
    table["judged"] = [all(judged[i - 1] for i in found) for found in notes]
    return Paper(table, pd.read_csv(hyperparameters, dtype={"value": str}), known)


def _noted(note: dict[str, Any], row: dict[str, Any]) -> bool:
    """Return whether a note is about a cell."""

    def holds(column: str, wanted: Any) -> bool:
        return row[column] in (wanted if isinstance(wanted, list) else [wanted])

    return any(all(holds(*item) for item in where.items()) for where in note["cells"])


def _trained(study: Study) -> list[tuple[str, str]]:
    every = study.config["experiments"].values()
    return list(dict.fromkeys((e["dataset"], e["model"]) for e in every))


def _recipes(study: Study, dataset: str, model: str, width: float) -> list[dict[str, Any]]:
    """Return the recipes by which the model is trained at this width, or else at any."""
    found = {}
    for e in selection.experiments(study, {"dataset": dataset, "model": model}):
        parts = [e, *(e.get(part, {"widths": []}) for part in ("early_matching", "diversity"))]
        if any(width in part["widths"] for part in parts):
            found[e["training"]] = study.config["training"][e["training"]]
    return list(found.values()) or study.recipes(dataset, model)


def _equal(ours: str, theirs: str) -> bool:
    try:
        return math.isclose(float(ours), float(theirs))
    except ValueError:
        return ours == theirs

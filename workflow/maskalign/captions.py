"""Captions: what a table or figure shows, of what, over how many runs, and what is not there."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from maskalign import paper
from maskalign.selection import Selection
from maskalign.study import Study

METRIC_TITLES = {
    "accuracy": "test accuracy (%)",
    "top5_accuracy": "top-5 test accuracy (%)",
    "loss": "test loss",
    "error": "test error (%)",
}
KINDS = {
    "accuracy": "test accuracy by sparsity and rewind epoch",
    "early_matching": "test accuracy by the epoch of matching",
    "diversity": "ensembles and their diversity",
    "training": "hyperparameters of training",
    "pruning": "hyperparameters of pruning",
    "toy": "a mask and its permutation on two weights",
    "procedure": "the procedure",
    "interpolation": "interpolation between two dense models",
    "imp": "iterative magnitude pruning and the loss landscape",
    "rewind": "test accuracy against the rewind epoch",
    "sparsity": "test accuracy against the sparsity",
    "matching": "matching by activations and by weights",
    "methods": "test accuracy of every method",
    "diagnosis": "masks and matchings without training",
    "length": "test accuracy against the length of sparse training",
}
# Kinds beyond the paper are extras by any name.
EXTRAS = ["matching", "methods", "diagnosis", "length"]
TIMES = "\u00d7"
NOT_RUN = "not run at this scale"
NOT_GIVEN = "not run: the data was not given"
PAPER_MODELS = {"resnet20": "ResNet20", "vgg11": "VGG11", "resnet50": "ResNet50"}


def number(name: str) -> str:
    """Return an artefact's name as the paper prints it: ``figure_03_error`` is Figure 3 (error)."""
    kind, digits, *rest = name.split("_")
    return f"{kind.capitalize()} {int(digits)}" + (f" ({' '.join(rest)})" if rest else "")


def data_title(study: Study, dataset: str) -> str:
    """Return a data set's title, or its name when it has none."""
    return study.config["datasets"][dataset]["title"] or dataset


def model_title(study: Study, model: str) -> str:
    """Return a model's title, or its name when it has none."""
    return study.config["models"][model]["title"] or model


def data_text(study: Study, dataset: str) -> str:
    """Return a data set's title and, where it stands in for another one, for which."""
    other = study.config["datasets"][dataset]["stands_for"]
    return data_title(study, dataset) + (f" (stands in for {other})" if other else "")


def times(width: float) -> str:
    """Return a width factor as it is printed behind a model's name."""
    return f"{TIMES}{width:g}"


def heading(study: Study, selection: Selection) -> str:
    """Return the data set and model of a selection, as a figure's title names them."""
    return f"{data_text(study, selection['dataset'])}, {model_title(study, selection['model'])}"


def subject(study: Study, selections: Iterable[Selection]) -> str:
    """Return the models, widths and data sets of the selections, as a caption names them."""
    return _and(
        f"{model_title(study, s['model'])}{_widths(_one_width(study, s))}"
        f" on {data_text(study, s['dataset'])}"
        for s in selections
    )


def conditions(study: Study, selections: list[Selection]) -> str:
    """Return sentences with protocol, T, IMP fraction, models' options, and data not given."""
    models: dict[str, dict[str, None]] = {}
    for s in selections:
        for r in study.recipes(s["dataset"], s["model"]):
            text = f"T = {r['dense']['epochs']} epochs and "
            text += (
                f"{percent(r['imp']['fraction'])} % of the remaining weights pruned per IMP round"
            )
            models.setdefault(text, {})[model_title(study, s["model"])] = None
    parts = list(models)
    if len(models) > 1:
        parts = [f"{text} for {_and(titles)}" for text, titles in models.items()]
    parts += _models(study, selections)
    return join(f"Protocol {study.protocol}; {'; '.join(parts)}.", left_out(study, selections))


def in_paper(study: Study, name: str) -> str:
    """Return a sentence that says what the paper shows in this place, if anything."""
    if is_extra(study, name):
        return "An extra: the paper has nothing of the kind."
    where = f"{number(name)} of the {'rebuttal' if name in paper.REBUTTAL else 'paper'}"
    shown = paper.SHOWN.get(name)
    return f"{where} shows {shown}." if shown else f"Corresponds to {where}."


def is_extra(study: Study, name: str) -> bool:
    """Return whether an artefact is beyond the paper, by its number or its kind."""
    part, digits = name.split("_")[:2]
    entry = study.config["artefacts"][f"{part}s"][name]
    return int(digits) > paper.LAST[part] or entry["kind"] in EXTRAS


def about(study: Study, kind: str, name: str) -> str:
    """Return one line on an artefact for the report, before its results are known."""
    entry = study.config["artefacts"][kind][name]
    shows = entry.get("shows")
    what = KINDS[entry["kind"]]
    return join(
        f"{number(name)}. {what[0].upper()}{what[1:]}"
        + (f", {subject(study, shows)}, protocol {study.protocol}." if shows else "."),
        left_out(study, shows or []),
        in_paper(study, name),
    )


def nothing(study: Study, name: str, selections: Iterable[Selection]) -> str:
    """Return the caption of an artefact of which nothing was run."""
    selections = list(selections)
    reason = left_out(study, selections)
    return join(
        f"Nothing of {subject(study, selections)} was run{'' if reason else ' at this scale'}.",
        reason,
        in_paper(study, name),
    )


def left_out(study: Study, selections: Iterable[Selection]) -> str:
    """Return a sentence on the data sets that were not given, or nothing."""
    keys = {
        data_title(study, s["dataset"]): f"datasets.{s['dataset']}.path"
        for s in selections
        if absence(study, s) == NOT_GIVEN
    }
    texts = [f"{title} ({key})" for title, key in keys.items()]
    return f"Not run, as its data was not given: {_and(texts)}." if texts else ""


def absence(study: Study, selection: Selection) -> str:
    """Return why nothing of a selection was run."""
    key = f"datasets.{selection['dataset']}.path"
    return NOT_GIVEN if key in study.left_out.values() else NOT_RUN


def exceptions(missing: dict[str, list[float]], diverged: int = 0) -> str:
    """Return a sentence on what the study does not run and on diverged runs, or nothing."""
    parts = []
    if absent := not_run(missing):
        parts.append(absent)
    if diverged:
        parts.append(f"{diverged} diverged run{'s' * (diverged > 1)} left out")
    return f"{'; '.join(parts)}." if parts else ""


def not_run(missing: dict[str, list[float]]) -> str:
    """Return what a selection names but the study does not run, or nothing."""
    return not_run_text([text] if (text := gaps(missing)) else [])


def not_run_text(texts: Iterable[str]) -> str:
    """Return the lists of ``gaps`` as one text, or nothing."""
    text = "; ".join(texts)
    return f"{NOT_RUN[0].upper()}{NOT_RUN[1:]}: {text}" if text else ""


def gaps(missing: dict[str, list[float]]) -> str:
    """Return the values of each axis that were not run, as a list."""
    texts = {
        "widths": lambda v: ", ".join(map(times, v)),
        "sparsities": lambda v: f"S = {', '.join(percent(x) for x in v)} %",
        "rewind_epochs": lambda v: f"k = {', '.join(f'{x:g}' for x in v)}",
    }
    return "; ".join(texts[axis](values) for axis, values in missing.items() if values)


def counted(numbers: pd.Series, unit: str) -> str:
    """Return how many runs a mean is over: ``n = 3 pairs``, or a range where cells differ."""
    if numbers.empty:
        return f"n = 0 {unit}s"
    low, high = int(numbers.min()), int(numbers.max())
    text = f"{high} {unit}{'s' * (high != 1)}"
    return f"n = {text}" if low == high else f"n = {low} to {text}"


def spread(numbers: pd.Series, unit: str) -> str:
    """Return what a cell or line is: a mean with its std, or single runs without one."""
    if numbers.max() == 1:
        return f"a single {unit} (n = 1), so no standard deviation"
    return f"mean ± sample standard deviation over {counted(numbers, unit)}"


def join(*sentences: str) -> str:
    """Return the sentences that say something, as one text."""
    return " ".join(s for s in sentences if s)


def percent(share: float) -> str:
    """Return a share as percent, without needless digits: 0.875 is 87.5."""
    return f"{100 * share:.4g}"


def _models(study: Study, selections: list[Selection]) -> list[str]:
    """Return what each model is, where options set it apart from its architecture."""
    data = {s["model"]: s["dataset"] for s in selections}
    titles = [model_title(study, model) for model in data]
    texts = []
    for model, title in zip(data, titles, strict=True):
        entry = study.config["models"][model]
        known = PAPER_MODELS.get(entry["architecture"], entry["architecture"])
        options = ", ".join(f"{k} = {_plain(v)}" for k, v in entry["options"].items())
        where = f" on {data_title(study, data[model])}" if titles.count(title) > 1 else ""
        texts += [f"{title}{where} is {known} with {options}"] if options else []
    return texts


def _widths(selection: Selection) -> str:
    widths = selection.get("widths")
    return " " + _and(map(times, widths)) if widths else ""


def _one_width(study: Study, selection: Selection) -> Selection:
    """Return a selection that names its width where the study has only one."""
    run = {study.run(path)["width"] for path in study.selected(selection, "dense")}
    return {"widths": sorted(run)} | selection if len(run) == 1 else selection


def _plain(value: Any) -> str:
    return f"[{' '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _and(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last

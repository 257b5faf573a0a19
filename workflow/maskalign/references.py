"""What a schema cannot say of a study: names and epochs that must exist, parts that must fit."""

from typing import Any

from maskalign import dotted, methods

# Channels of an image of each source that has a fixed number.
CHANNELS = {"cifar10": 3, "cifar100": 3, "svhn": 3, "fashion": 1, "mnist5k": 1, "digits": 1}
FOLDERS = ["imagenet", "imagefolder", "mnist5k-folder"]  # sources that are folders of image files
PACKAGED = ["mnist5k", "digits", "mnist5k-folder"]  # sources that packages carry
GIVEN = ["imagenet", "imagefolder"]  # sources that only the user can give


class StudyError(ValueError):
    """A configuration that is not a study; the message is one line for the user."""


def keep_epochs(config: dict[str, Any], recipe: str) -> list[int]:
    """Return the epochs before the last at which ``recipe`` keeps a dense checkpoint."""
    asked = config["training"][recipe]["keep_epochs"]
    last = config["training"][recipe]["dense"]["epochs"]
    if asked is not None:
        return sorted({*asked} - {last})
    early = {
        epoch
        for e in config["experiments"].values()
        if e["training"] == recipe and "early_matching" in e
        for epoch in e["early_matching"]["matching_epochs"]
    }
    return sorted({*range(0, last // 2 + 1, 5), *early} - {last})


def check(config: dict[str, Any]) -> None:
    """Raise StudyError, one line, for what a complete ``config`` names and does not have."""
    for name, recipe in config["training"].items():
        if recipe["batch_size"] % recipe["processes"]:
            raise StudyError(
                f"training.{name}.batch_size: {recipe['batch_size']} is not allowed, must be "
                f"divisible by training.{name}.processes, now {recipe['processes']}"
            )
        last = recipe["dense"]["epochs"]
        for epoch in recipe["keep_epochs"] or []:
            if epoch > last:
                raise StudyError(
                    f"training.{name}.keep_epochs: {epoch} is beyond the {last} dense epochs"
                )
    for name, model in config["models"].items():
        if ":" in model["architecture"]:
            try:
                dotted.locate(model["architecture"])
            except ValueError as error:
                raise StudyError(f"models.{name}.architecture: {error}") from None
    _check_methods(config)
    for name, dataset in config["datasets"].items():
        _check_dataset(f"datasets.{name}", dataset)
    for name, experiment in config["experiments"].items():
        key = f"experiments.{name}"
        for part, table in (("dataset", "datasets"), ("model", "models"), ("training", "training")):
            _known(f"{key}.{part}", experiment[part], config[table])
        last = config["training"][experiment["training"]]["dense"]["epochs"]
        kept = keep_epochs(config, experiment["training"])
        for where, epochs, latest in _epochs(experiment):
            for epoch in epochs:
                limit = last - 1 if latest == "before" else last
                if epoch > limit:
                    raise StudyError(
                        f"{key}.{where}: {epoch} is not allowed, must be at most {limit} "
                        f"(training.{experiment['training']}.dense.epochs is {last})"
                    )
                if epoch not in (*kept, last):
                    raise StudyError(
                        f"{key}.{where}: no checkpoint is kept at epoch {epoch}; add it to "
                        f"training.{experiment['training']}.keep_epochs, now {kept}"
                    )
    _check_matching(config)
    _check_artefacts(config)


def _check_methods(config: dict[str, Any]) -> None:
    for name, method in config["methods"].items():
        if name in methods.METHODS:
            raise StudyError(f"methods.{name}: the library has a method of this name, use another")
        if method["permuted"] and method["ticket"] == methods.B:
            raise StudyError(
                f"methods.{name}.permuted: true is not allowed with ticket b, as A is matched to B"
            )
        if method["permuted"] and method["start"] == methods.A:
            raise StudyError(
                f"methods.{name}.permuted: true is not allowed with start a, as A is matched to B"
            )
        if "$" in method["title"]:
            raise StudyError(f"methods.{name}.title: '$' is not allowed, figures read it as maths")
        try:
            dotted.locate(method["function"])
        except ValueError as error:
            raise StudyError(f"methods.{name}.function: {error}") from None
    titles: dict[str, str] = {}
    for name, method in methods.of_study(config).items():
        if (other := titles.setdefault(method.title, name)) != name:
            raise StudyError(
                f"methods.{name}.title: '{method.title}' is the title of method {other} too, must "
                "be another"
            )
    known = dict.fromkeys(methods.trained(methods.of_study(config)))
    for name, experiment in config["experiments"].items():
        for i, method in enumerate(experiment["methods"]):
            _known(f"experiments.{name}.methods[{i}]", method, known)


def _check_matching(config: dict[str, Any]) -> None:
    """Refuse two ways of matching where tables and figures show one."""
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for name, e in config["experiments"].items():
        method = config["training"][e["training"]]["matching"]["method"]
        other, before = known.setdefault((e["dataset"], e["model"]), (name, method))
        if method != before:
            raise StudyError(
                f"training.{e['training']}.matching.method: {method} is not allowed, as "
                f"experiments.{other} matches {e['model']} on {e['dataset']} by {before}; use "
                "matching_comparison, or give the model another name"
            )


def _check_dataset(key: str, dataset: dict[str, Any]) -> None:
    if len(dataset["mean"]) != len(dataset["std"]):
        raise StudyError(f"{key}.std: must have as many entries as {key}.mean")
    source, channels = dataset["source"], len(dataset["mean"])
    if source in PACKAGED and dataset["path"] is not None:
        raise StudyError(f"{key}.path: must be null, as {source} comes with a package")
    expected = CHANNELS.get(source, channels) * dataset["compose"]
    if source in CHANNELS and channels != expected:
        raise StudyError(f"{key}.mean: must have {expected} entries, one a channel")
    if source in FOLDERS and (dataset["compose"] != 1 or dataset["crop_padding"]):
        raise StudyError(
            f"{key}: compose and crop_padding are not for image folders, whose training images "
            "are cropped at random sizes"
        )


def _epochs(experiment: dict[str, Any]):
    """Yield (key, epochs, 'before' or 'until' the last dense epoch) for all epochs of one."""
    yield "rewind_epochs", experiment["rewind_epochs"], "before"
    for part in ("early_matching", "matching_comparison", "diversity", "landscape"):
        if part in experiment:
            yield f"{part}.rewind_epoch", [experiment[part]["rewind_epoch"]], "before"
    if "early_matching" in experiment:
        matching = experiment["early_matching"]["matching_epochs"]
        yield "early_matching.matching_epochs", matching, "until"


def _check_artefacts(config: dict[str, Any]) -> None:
    trained = {(e["dataset"], e["model"]) for e in config["experiments"].values()}
    for part in ("tables", "figures"):
        for name, artefact in config["artefacts"].get(part, {}).items():
            key = f"artefacts.{part}.{name}"
            if artefact["kind"] in ("toy", "procedure"):
                continue
            if "shows" not in artefact:
                raise StudyError(f"{key}: key 'shows' is missing")
            for i, selection in enumerate(artefact["shows"]):
                _known(f"{key}.shows[{i}].dataset", selection["dataset"], config["datasets"])
                _known(f"{key}.shows[{i}].model", selection["model"], config["models"])
                if (selection["dataset"], selection["model"]) not in trained:
                    raise StudyError(
                        f"{key}.shows[{i}]: no experiment trains {selection['model']} "
                        f"on {selection['dataset']}"
                    )


def _known(key: str, name: str, table: dict[str, Any]) -> None:
    if name not in table:
        raise StudyError(f"{key}: '{name}' is not defined, must be one of {', '.join(table)}")

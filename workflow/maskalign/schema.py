"""Validation of a study's configuration: every complaint is one line that names the key."""

import contextlib
import copy
import functools
import math
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from maskalign import dotted

SCHEMA = Path(__file__).parents[1] / "schemas" / "study.schema.yaml"
PROTOCOLS = ["paper", "released"]
# Channels of an image of each source that has a fixed number.
CHANNELS = {"cifar10": 3, "cifar100": 3, "svhn": 3, "fashion": 1, "mnist5k": 1, "digits": 1}
FOLDERS = ["imagenet", "imagefolder", "mnist5k-folder"]  # sources that are folders of image files
PACKAGED = ["mnist5k", "digits", "mnist5k-folder"]  # sources that packages carry
GIVEN = ["imagenet", "imagefolder"]  # sources that only the user can give


class StudyError(ValueError):
    """A configuration that is not a study; the message is one line for the user."""


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with every default filled in, and its recipes as its protocol has them.

    Raises:
        StudyError: one line that names the key, the value and what is allowed.
    """
    chosen = config.get("protocol", PROTOCOLS[0])
    # The recipes must be right under both protocols, whichever runs; the chosen one speaks first.
    protocols = [chosen, *(p for p in PROTOCOLS if p != chosen)]
    readings = [_complete(_under(p, config), _schema()) for p in protocols]
    for reading in readings:
        errors = list(_validator().iter_errors(reading))
        if errors:
            raise StudyError(_explain(min(errors, key=lambda e: (len(e.path), str(list(e.path))))))
        _check_references(reading)
    return readings[0]


def refuse_duplicate_keys(file: Path) -> None:
    """Raise StudyError if a mapping of a YAML file names a key twice, which YAML readers accept."""
    try:
        with file.open(encoding="utf-8") as stream:
            yaml.load(stream, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise StudyError(f"{file}: {' '.join(str(error).split())}") from None


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


def _under(protocol: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``config`` whose recipes are those of ``protocol``."""
    config = copy.deepcopy(dict(config))
    recipes = config.get("training")
    for name, recipe in recipes.items() if isinstance(recipes, dict) else ():
        if isinstance(recipe, dict) and isinstance(recipe.get("released", {}), dict):
            changes = recipe.pop("released", {})
            recipes[name] = _merged(recipe, changes) if protocol == "released" else recipe
    return config


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {k: _merged(base.get(k), v) for k, v in changes.items()}


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, with duplicate keys refused."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise StudyError(
                    f"{self.name}, line {key.start_mark.line + 1}: key '{name}' is given twice"
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


@functools.cache
def _schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


@functools.cache
def _validator() -> jsonschema.protocols.Validator:
    base = jsonschema.Draft202012Validator

    def finite(checker, value) -> bool:
        return base.TYPE_CHECKER.is_type(value, "number") and math.isfinite(value)

    types = base.TYPE_CHECKER.redefine("number", finite)
    return jsonschema.validators.extend(base, type_checker=types)(_schema())


def _complete(value: Any, schema: dict[str, Any]) -> Any:
    """Return ``value`` with defaults filled in and numbers that are written as text read.

    Snakemake hands over nested values of ``--config`` as text, and YAML reads 5e-4 as text.
    """
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]] | schema
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties")
    if isinstance(value, dict):
        defaults = {k: copy.deepcopy(s["default"]) for k, s in properties.items() if "default" in s}
        known = {k: properties.get(k, others if isinstance(others, dict) else {}) for k in value}
        value = {k: _complete(v, known[k]) for k, v in value.items()}
        missing = {k: _complete(v, properties[k]) for k, v in defaults.items() if k not in value}
        return value | missing
    if isinstance(value, list):
        return [_complete(item, schema.get("items", {})) for item in value]
    if isinstance(value, str):
        return _read(value, schema.get("type", "string"))
    return value


def _read(text: str, kinds: str | list[str]) -> Any:
    """Return the number, truth value or null that ``text`` means where no text is allowed."""
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "string" in kinds:
        return text
    words = {"null": {"null": None}, "boolean": {"true": True, "false": False}}
    for kind in kinds:
        if text.lower() in words.get(kind, {}):
            return words[kind][text.lower()]
    for kind, convert in (("integer", int), ("number", int), ("number", float)):
        with contextlib.suppress(ValueError):
            if kind in kinds:
                return convert(text)
    return text


def _explain(error: jsonschema.ValidationError) -> str:
    """Return one line for one violation of the schema."""
    key = _key(error.absolute_path)
    rule, value, allowed = error.validator, error.instance, error.validator_value
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    match rule:
        case "additionalProperties":
            known = error.schema.get("properties", {})
            extra = ", ".join(sorted(repr(k) for k in value if k not in known))
            return f"{key}: unknown key {extra}; allowed are {', '.join(known)}"
        case "required":
            missing = [k for k in allowed if k not in value]
            return f"{key}: key '{missing[0]}' is missing"
        case "type":
            kinds = [allowed] if isinstance(allowed, str) else allowed
            return f"{key}: {shown} is not allowed, must be {' or '.join(kinds)}"
        case "enum":
            return f"{key}: {shown} is not allowed, must be one of {', '.join(map(str, allowed))}"
        case "minItems" | "minProperties" | "minLength":
            return f"{key}: must not be empty"
        case "uniqueItems":
            return f"{key}: {shown} names a value twice"
        case "exclusiveMinimum" | "exclusiveMaximum" | "minimum" | "maximum":
            return f"{key}: {shown} is not allowed, must be {_bounds(error.schema)}"
        case "pattern" | "maxLength":
            text = error.schema.get("description", f"must match {error.schema.get('pattern')}")
            return f"{key}: {shown} is not allowed; {text}"
        case _:
            return f"{key}: {' '.join(error.message.split())}"


def _key(path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "study file"


def _bounds(schema: dict[str, Any]) -> str:
    signs = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    return " and ".join(f"{sign} {schema[rule]}" for rule, sign in signs.items() if rule in schema)


# -- what a schema cannot say: names and epochs that must exist ----------------------------------


def _check_references(config: dict[str, Any]) -> None:
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

"""Validation of a study's configuration: every complaint is one line that names the key."""

import contextlib
import copy
import difflib
import functools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from maskalign import limits, references
from maskalign.references import StudyError

SCHEMA = Path(__file__).parents[1] / "schemas" / "study.schema.yaml"
PROTOCOLS = ["paper", "released"]


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with every default filled in, and its recipes as its protocol has them.

    Raises:
        StudyError: one line that names the key, the value and what is allowed.
    """
    _refuse_unwritable(config, ())
    chosen = config.get("protocol", PROTOCOLS[0])
    # The recipes must be right under both protocols, whichever runs; the chosen one speaks first.
    protocols = [chosen, *(p for p in PROTOCOLS if p != chosen)]
    readings = [_options_read(_complete(_under(p, config), _schema())) for p in protocols]
    for reading in readings:
        _check_schema(_validator(), reading, ())
        _check_options(reading["models"])
        references.check(reading)
        for problem in limits.problems(reading):
            raise StudyError(problem)
    return readings[0]


def _check_schema(validator: jsonschema.protocols.Validator, value: Any, key: Iterable) -> None:
    """Raise StudyError for the violation of the schema that lies highest in ``value``."""
    errors = list(validator.iter_errors(value))
    if errors:
        worst = min(errors, key=lambda e: (len(e.path), str(list(e.path))))
        raise StudyError(_explain(worst, _key((*key, *worst.path))))


def _check_options(models: dict[str, Any]) -> None:
    """Check the options of the library's own architectures."""
    for name, model in models.items():
        _refuse_unwritable(model["options"], ("models", name, "options"))
        schema = _schema()["$defs"]["options"].get(model["architecture"])
        if schema:
            key = ("models", name, "options")
            _check_schema(_validator().evolve(schema=schema), model["options"], key)


def _refuse_unwritable(value: Any, key: tuple) -> None:
    """Refuse what records, as JSON, cannot hold: dates, keys that are no text, inf and NaN."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise StudyError(f"{_key(key)}: key {_shown(name)} is not allowed, must be text")
            _refuse_unwritable(inner, (*key, name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _refuse_unwritable(inner, (*key, i))
    elif isinstance(value, int | float) and not _finite(value):
        raise StudyError(f"{_key(key)}: {_shown(value)} is not allowed, must be a finite number")
    elif not isinstance(value, str | int | float | None):
        raise StudyError(
            f"{_key(key)}: {_shown(value)} is not allowed, must be text, a number, true, false, "
            "null, a list or a mapping"
        )


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer above all floats
        return False


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


@functools.cache
def _schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


@functools.cache
def _validator() -> jsonschema.protocols.Validator:
    base = jsonschema.Draft202012Validator

    def finite(checker, value) -> bool:
        return base.TYPE_CHECKER.is_type(value, "number") and _finite(value)

    def whole(checker, value) -> bool:  # JSON schema takes 2.0 for an integer
        return isinstance(value, int) and finite(checker, value)

    def match(validator, pattern, value, schema):  # "$" would let a last line break through
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield jsonschema.ValidationError("")

    types = base.TYPE_CHECKER.redefine_many({"number": finite, "integer": whole})
    return jsonschema.validators.extend(base, {"pattern": match}, type_checker=types)(_schema())


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


def _options_read(config: dict[str, Any]) -> dict[str, Any]:
    """Read numbers and truth values among the models' options, of which no schema says the type."""
    models = config.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        if isinstance(model, dict) and isinstance(model.get("options"), dict):
            model["options"] = _numbers(model["options"])
    return config


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return _read(value, ["number", "boolean", "null"]) if isinstance(value, str) else value


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


def _explain(error: jsonschema.ValidationError, key: str) -> str:
    """Return one line for one violation of the schema, at ``key``."""
    rule, value, allowed = error.validator, error.instance, error.validator_value
    shown, schema = _shown(value), error.schema
    match rule:
        case "additionalProperties":
            known = schema.get("properties", {})
            extra = sorted(k for k in value if k not in known)
            near = nearest(extra[0], known)
            names = ", ".join(map(repr, extra))
            return f"{key}: unknown key {names}{near}; allowed are {', '.join(known)}"
        case "required":
            missing = [k for k in allowed if k not in value]
            return f"{key}: key '{missing[0]}' is missing"
        case "type":
            kinds = [allowed] if isinstance(allowed, str) else allowed
            return f"{key}: {shown} is not allowed, must be {' or '.join(kinds)}"
        case "enum":
            return f"{key}: {shown} is not allowed, must be one of {', '.join(map(str, allowed))}"
        case "minItems" | "maxItems" if schema.get("maxItems", 1) > 1:
            fewest, most = schema.get("minItems", 0), schema["maxItems"]
            count = most if fewest == most else f"{fewest} to {most}"
            return f"{key}: {shown} is not allowed, must have {count} entries"
        case "minItems" | "minProperties" | "minLength":
            return f"{key}: must not be empty"
        case "uniqueItems":
            return f"{key}: {shown} names a value twice"
        case "exclusiveMinimum" | "exclusiveMaximum" | "minimum" | "maximum":
            return f"{key}: {shown} is not allowed, must be {_bounds(schema)}"
        case "maxLength":
            return f"{key}: {shown} is not allowed, must have at most {allowed} characters"
        case "pattern":
            said = f"; {schema['description']}" if "description" in schema else ""
            text = f", {schema['$comment']}" if "$comment" in schema else said
            # Letters that look like others are written out.
            return f"{key}: {_shown(value, ascii)} is not allowed{text}"
        case "not":
            text = schema.get("$comment", "results/ holds something else of that name")
            return f"{key}: {shown} is not allowed; {text}"
        case _:
            return f"{key}: {' '.join(error.message.split())}"


def nearest(name: Any, known: Iterable[Any]) -> str:
    """Return " (did you mean '...'?)" with the known name most like ``name``, or nothing."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _shown(value: Any, write=repr) -> str:
    """Return a value as a line of at most 60 characters."""
    try:
        text = write(value)
    except ValueError:  # Python writes no integers of thousands of digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= 60 else text[:57] + "..."


def _key(path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        plain = isinstance(part, str) and part.isprintable()
        text += f"[{part}]" if isinstance(part, int) else f".{part if plain else _shown(part)}"
    return text.lstrip(".") or "study file"


def _bounds(schema: dict[str, Any]) -> str:
    signs = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    return " and ".join(f"{sign} {schema[rule]}" for rule, sign in signs.items() if rule in schema)

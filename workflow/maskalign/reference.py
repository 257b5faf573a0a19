"""The reference of a study's keys, written from the schema: ``python -m maskalign.reference``."""

from typing import Any

import yaml

from maskalign.schema import SCHEMA

INTRODUCTION = """\
# Studies

A study is one YAML file; `snakemake all --configfile config/<study>.yaml` runs it, and without
`--configfile` the demo is run. This page is made from `workflow/schemas/study.schema.yaml` by
`make reference`.

Keys given with `--config` or in a second `--configfile` are merged into the first, so a part of a
study is run by overriding:

```
snakemake -n all --configfile config/demo.yaml --config 'experiments={cifar10: {widths: [1]}}'
```

A study that is wrong ends in one line that names the key, before anything runs.
"""


def reference() -> str:
    """Return the page as Markdown, one section a mapping and one row a key."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    sections = [INTRODUCTION, _section("The file", schema, schema)]
    sections += [_section(title, schema["$defs"][name], schema) for name, title in TITLES.items()]
    return "\n".join(sections)


TITLES = {
    "dataset": "A data set: `datasets.<name>`",
    "model": "A model: `models.<name>`",
    "method": "A method of your own: `methods.<name>`",
    "recipe": "A training recipe: `training.<name>`",
    "experiment": "An experiment: `experiments.<name>`",
    "table": "A table: `artefacts.tables.<table_NN>`",
    "figure": "A figure: `artefacts.figures.<figure_NN>`",
    "selection": "What a table or figure shows: an entry of `shows`",
}


def _section(title: str, part: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = "\n".join(_rows("", part, schema))
    return f"## {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n{rows}\n"


def _rows(prefix: str, part: dict[str, Any], schema: dict[str, Any]):
    required = part.get("required", [])
    for name, entry in part["properties"].items():
        entry = _resolve(entry, schema)
        default = f"`{_show(entry['default'])}`" if "default" in entry else ""
        if name in required:
            default = "required"
        text = entry.get("description", "").replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_kind(entry, schema)} | {default} | {text} |"
        if entry.get("type") == "object" and "properties" in entry:
            yield from _rows(f"{prefix}{name}.", entry, schema)


def _resolve(entry: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; what is said beside it comes first."""
    if "$ref" not in entry:
        return entry
    target = schema["$defs"][entry["$ref"].rsplit("/", 1)[1]]
    return _resolve(target, schema) | {k: v for k, v in entry.items() if k != "$ref"}


def _kind(entry: dict[str, Any], schema: dict[str, Any]) -> str:
    if "enum" in entry:
        return " \\| ".join(f"`{_show(v)}`" for v in entry["enum"])
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    text = " or ".join(kinds)
    if "array" in kinds and "items" in entry:
        items = _resolve(entry["items"], schema)
        inner = _kind(items, schema) if "properties" not in items else "selection"
        text = text.replace("array", f"list of {inner}")
    return text + _limits(entry)


def _limits(entry: dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    found = [f"{sign} {entry[rule]}" for rule, sign in signs.items() if rule in entry]
    return f" {', '.join(found)}" if found else ""


def _show(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


if __name__ == "__main__":
    print(reference(), end="")

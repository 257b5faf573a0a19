"""What can be asked for on the command line: rules, and the files of a study."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskalign.study import PATHS, Study


def is_command_line(arguments: Sequence[str]) -> bool:
    """Return whether these are the arguments of a ``snakemake`` that a user has typed."""
    return "snakemake" in Path(arguments[0]).parts[-2:]


def refuse_unknown(study: Study, targets: Iterable[str], rules: Iterable[Any]) -> None:
    """Raise ValueError, one line, for the first target that the study has not.

    Args:
        study: the study.
        targets: names of rules and files, as given to Snakemake.
        rules: Snakemake's rules, all of the workflow.
    """
    rules = {rule.name: rule for rule in rules}
    for target in targets:
        if target in rules:
            if rules[target].has_wildcards():
                raise ValueError(_many(study, target, rules))
        elif not _is_made(study, target, rules.values()) and not os.path.exists(target):  # noqa: PTH110 (no name is too long for it)
            raise ValueError(_unknown(study, target, rules))


def _is_made(study: Study, target: str, rules: Iterable[Any]) -> bool:
    """Return whether a rule makes file ``target`` and, if it is a run's, the study has that run."""
    file = os.path.normpath(target)
    for rule in rules:
        if rule.is_producer(file):
            if rule.name not in PATHS:
                return True
            wildcards = rule.get_wildcards(file)
            try:
                study.run(PATHS[rule.name].format(**wildcards))
            except ValueError:
                continue
            return True
    return False


def _many(study: Study, rule: str, rules: dict[str, Any]) -> str:
    example = next((f for f in _files(study, rules) if rules[rule].is_producer(f)), None)
    such = f", such as {example}" if example else ""
    return f"target '{rule}': this rule makes many files; name those you want{such}"


def _unknown(study: Study, target: str, rules: dict[str, Any]) -> str:
    named = [name for name, rule in rules.items() if not rule.has_wildcards()]
    out, parts = f"results/{study.name}/", Path(os.path.normpath(target)).parts
    if parts[:1] == ("results",) and len(parts) > 2 and parts[1] != study.name:
        return (
            f"target {target[:200]!r}: is not of study '{study.name}', whose files are in {out}; "
            "another study is named by --configfile"
        )
    known = _files(study, rules) if len(parts) > 1 else named
    # Long paths differ little from each other, so only the nearest of many counts.
    near = difflib.get_close_matches(os.path.normpath(target), known, n=1, cutoff=0.7)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"target {target[:200]!r}: study '{study.name}' has no such target{hint}; it has "
        f"{', '.join(sorted(named))} and files in {out}"
    )


def _files(study: Study, rules: dict[str, Any]) -> list[str]:
    """Return the files that the rules make for the study, without those of its runs' insides."""
    artefacts = study.config["artefacts"]
    values = [{"figure": name} for name in artefacts["figures"]]
    values += [{"table": name} for name in artefacts["tables"]]
    values += [{"dataset": name} for name in study.config["datasets"]]
    files = []
    for rule in rules.values():
        if rule.name in PATHS:
            continue
        wanted = [v for v in values if v.keys() == rule.wildcard_names] or [{}]
        if rule.wildcard_names == wanted[0].keys():
            made = [str(o.apply_wildcards(v)) for o in rule.output for v in wanted]
            files += [file for file in made if rule.is_producer(file)]
    for stage, paths in ((stage, study.paths(stage)) for stage in PATHS if stage in rules):
        names = [Path(str(output)).name for output in rules[stage].output]
        files += [f"results/{study.name}/runs/{path}/{name}" for path in paths for name in names]
    return files

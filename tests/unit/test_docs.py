"""The pages of documentation name rules, scripts, functions and files that exist."""

import importlib
import re

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STAGES = "".join(f.read_text() for f in sorted((ROOT / "docs/stages").glob("*.md")))
RULES = "".join(f.read_text() for f in sorted((ROOT / "workflow/rules").glob("*.smk")))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_rule_and_script_has_its_place():
    rules = re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", RULES, re.MULTILINE)
    assert len(rules) > 15
    for rule in rules:
        assert rule.startswith("all_") or f"`{rule}`" in STAGES, rule
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        assert f"({'../' * 2}workflow/scripts/{script.name})" in STAGES, script.name


def test_functions_and_modules_exist():
    names = sorted(set(re.findall(r"`(maskalign(?:\.\w+)+)`", STAGES)))
    assert len(names) > 20
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, function = name.rsplit(".", 1)
            assert hasattr(importlib.import_module(module), function), name


def test_quoted_error_lines_are_those_of_the_code():
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    table = page.split("| line begins with |")[1].split("\n\n")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    files = [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]
    code = "".join(f.read_text() for f in sorted(files))
    assert len(quoted) == table.count("| `") > 5
    for line in quoted:
        if "No space left" in line or "Directory cannot" in line:
            continue  # the system's and Snakemake's own
        name, *parts = re.split(r": |\.\.\.|experiments\.x\S*|'x'|data/", line)
        assert name in code
        assert all(part.strip() in code for part in parts), line

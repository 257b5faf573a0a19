"""Every rule whose script asks for GPUs is given them by the profiles."""

import re

import pytest
from conftest import ROOT

PROFILES = {"slurm/profile.yaml": {"throughput"}, "profiles/workstation/profile.yaml": set()}


def rules_that_ask():
    """Return the rules whose script hands a number of GPUs to ``job``."""
    found = set()
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        text = file.read_text(encoding="utf-8")
        inherits = dict(re.findall(r"^use rule (\w+) as (\w+)", text, re.MULTILINE))
        for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", text, re.MULTILINE):
            for script in re.findall(r"scripts/(\w+)\.py", body):
                code = (ROOT / f"workflow/scripts/{script}.py").read_text(encoding="utf-8")
                if re.search(r"job\(snakemake, (?:gpus|\w)", code):
                    found |= {rule, inherits.get(rule, rule)}
    return found - {"throughput"}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profile_gives_gpus_to_the_rules_that_ask(profile):
    text = (ROOT / profile).read_text(encoding="utf-8")
    listed = set(re.findall(r'"(\w+)"', re.search(r"JOBS = \[(.*?)\]", text).group(1)))
    assert len(rules_that_ask()) > 8
    assert listed == rules_that_ask() | PROFILES[profile]

"""The lock, the conda environment and the package agree on what is installed."""

import re
import tomllib

import yaml
from conftest import ROOT

LOCK = (ROOT / "envs/requirements.lock").read_text()


def test_conda_pins_what_the_lock_pins():
    conda = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    (pins,) = [part["pip"] for part in conda["dependencies"] if isinstance(part, dict)]
    for pin in pins:
        assert re.search(rf"^{re.escape(pin.replace(' ', ''))}[ ;\\]", LOCK, re.MULTILINE), pin


def test_conda_has_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.match(r"[\w-]+", d).group() for d in project["dependencies"]}
    conda = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    (pins,) = [part["pip"] for part in conda["dependencies"] if isinstance(part, dict)]
    assert {pin.split()[0] for pin in pins} == direct


def test_every_package_of_the_lock_has_hashes_and_no_host_is_named():
    packages = re.findall(r"^\S+==", LOCK, re.MULTILINE)
    entries = re.findall(r"^\S+==[^\n]*\n    --hash=sha256:[0-9a-f]{64}", LOCK, re.MULTILINE)
    assert len(packages) == len(entries) > 50
    assert "://" not in LOCK

"""The gallery is what the README says that it is, and comes from where it says."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT
from maskalign import gallery
from maskalign.captions import data_title
from maskalign.study import read

README = (ROOT / "README.md").read_text(encoding="utf-8")
KEPT = {name: ROOT / gallery.FOLDER / name for name in gallery.SHOWN}


@pytest.mark.parametrize("name", KEPT)
def test_it_comes_from_the_study_as_it_is(name):
    source = json.loads((KEPT[name] / "source.json").read_text())
    study = read([ROOT / f"config/{name}.yaml"])
    assert source["study"] == study.name == name
    assert source["fingerprint"] == study.fingerprint()
    assert re.fullmatch("[0-9a-f]{40}", source["commit"])


@pytest.mark.parametrize("name", KEPT)
def test_it_holds_what_was_copied_and_nothing_else(name):
    source = json.loads((KEPT[name] / "source.json").read_text())
    held = {f.name: f.read_bytes() for f in KEPT[name].iterdir() if f.name != "source.json"}
    assert {*held} == {Path(file).name for file in gallery.SHOWN[name]}
    assert {k: hashlib.sha256(v).hexdigest() for k, v in held.items()} == source["sha256"]


def test_the_readme_shows_all_of_it():
    linked = {*re.findall(r"\]\((results/gallery/[^)]+)\)", README)}
    held = {f"results/gallery/{n}/{Path(f).name}" for n in KEPT for f in gallery.SHOWN[n]}
    captions = {file for file in held if re.search(r"figure_\d+\.md$", file)}
    assert linked == held - captions


@pytest.mark.parametrize("name", KEPT)
def test_its_tables_name_the_data_and_the_pairs_of_its_study(name):
    study = read([ROOT / f"config/{name}.yaml"])
    titles = [data_title(study, dataset) for dataset in study.config["datasets"]]
    tables = list(KEPT[name].glob("table_*.md"))
    assert tables
    for file in tables:
        text = file.read_text(encoding="utf-8")
        assert any(title in text for title in titles), file
        assert re.search(r"\bn = \d|pairs?\b", text), file


def test_an_unfinished_or_unknown_study_is_refused(tmp_path, demo):
    from maskalign.study import Study

    with pytest.raises(FileNotFoundError):
        gallery.collect(Study(demo), tmp_path, tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()
    demo["study"] = "other"
    with pytest.raises(ValueError, match="study other: must be one of demo"):
        gallery.collect(Study(demo), tmp_path, tmp_path / "gallery")


def test_the_deviations_name_every_point_that_the_paper_leaves_open():
    table = README.split("## Deviations from the paper")[1].split("\n## ")[0]
    points = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    for point in (
        *("rewind epoch k = 0", "pruning", "dense models", "seeds", "matching data"),
        *("residual stream", "fine-tuning between pruning rounds", "ResNet50, schedule"),
        *("ResNet50, sparsity", "rewind epoch of Table 1"),
    ):
        assert point in points

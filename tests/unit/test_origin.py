"""From a number back to what made it: runs, result versions, commits."""

import json

import golden
import pandas as pd
import pytest
import synthetic
import yaml
from chain import Chain, outputs
from conftest import ROOT
from maskalign import (
    claims_page,
    comparison,
    comparison_page,
    figures,
    gap,
    origin,
    power,
    report,
    reported,
    results,
    selection,
    stage,
    stages,
    tables,
    training,
    verdicts,
)
from maskalign.checkpoint import load_tensors, save_tensors
from maskalign.results import TABLES, Record
from maskalign.sources import prepare
from maskalign.study import Study
from maskalign.units import Results
from maskalign.versions import RESULT_VERSION
from synthetic import older

TINY = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())


@pytest.fixture(scope="module")
def study():
    return Study(TINY)


@pytest.fixture(scope="module")
def sources(study):
    return {
        "runs": synthetic.runs(study),
        "curves": synthetic.curves(study),
        "planes": synthetic.planes(study),
    }


# -- versions --------------------------------------------------------------------------------------


def test_rows_of_the_versions_that_the_code_makes_raise_no_warning(sources):
    for rows in sources.values():
        assert origin.warning(rows) == ""


def test_rows_of_several_versions_raise_one_that_lists_versions_and_commits():
    now = RESULT_VERSION["sparse"]
    rows = pd.DataFrame(
        {
            "versions": [f"dense 1, sparse {now}", f"dense 1, dense 3, sparse {now}", None],
            "commit": ["a" * 40, "b" * 40 + "-dirty", None],
        }
    )
    assert origin.warning(rows) == (
        "Warning: the runs behind this come from several result versions, or from another one than "
        "this code makes: dense 1 and 3 "
        f"(this code makes {RESULT_VERSION['dense']}). They were made at commit {'a' * 12}, "
        f"{'b' * 12}-dirty."
    )


def test_rows_that_are_all_older_than_the_code_raise_one_too():
    rows = pd.DataFrame({"versions": ["landscape 1", "landscape 1"], "commit": ["a" * 40] * 2})
    assert f"landscape 1 (this code makes {RESULT_VERSION['landscape']})" in origin.warning(rows)


def record_of(values, folder, *made_from):
    """Write a run's record and a tensor file as its job does."""
    record = Record(values)
    record.versions = results.merged(record.versions, stage.versions_of(*made_from))
    stage.save(record, folder / "model.safetensors", {})
    record.finish(folder / "result.json")
    return folder / "model.safetensors"


def test_a_run_has_the_versions_of_all_that_it_is_made_from(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / study.runs_folder
    path = study.paths("sparse")[0]
    values = study.run(path)["values"]
    old = record_of({"stage": "dense", "version": 8}, tmp_path / "old")
    new = record_of({"stage": "dense", "version": 9}, tmp_path / "new")
    pruned = record_of({"stage": "imp", "version": 5}, tmp_path / "imp", old)
    record_of(values, runs / path, pruned, None, new)
    record = json.loads((runs / path / "result.json").read_text())
    assert record["versions"] == {"dense": [8, 9], "imp": [5], "sparse": [values["version"]]}


def test_collected_rows_say_path_versions_and_commit(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = study.paths("dense")[0]
    record = Record(study.run(path)["values"])
    record.add({"accuracy": 1.0}, split="test")
    file = f"{study.runs_folder}/{path}/result.json"
    record.finish(file)
    assert list(results.frame("runs", [file], study)) == TABLES["runs"]
    (row,) = results.collect("runs", [file], study)
    assert (row["path"], row["versions"]) == (path, f"dense {RESULT_VERSION['dense']}")
    assert row["commit"] == json.loads((tmp_path / file).read_text())["provenance"]["commit"]


def test_a_run_of_another_version_is_collected_and_warned_of(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = study.paths("dense")[0]
    record = Record(study.run(path)["values"] | {"version": 3})
    record.add({"accuracy": 1.0}, split="test")
    file = f"{study.runs_folder}/{path}/result.json"
    record.finish(file)
    rows = results.frame("runs", [file], study)
    assert "dense 3 (this code makes 1)" in origin.warning(rows)


def test_a_record_from_before_versions_were_kept_knows_its_own(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = study.paths("landscape")[0]
    record = Record(study.run(path)["values"])
    record.add({"accuracy": 1.0}, split="test")
    file = tmp_path / study.runs_folder / path / "result.json"
    record.finish(file)
    content = json.loads(file.read_text())
    del content["versions"]
    file.write_text(json.dumps(content))
    (row,) = results.collect("runs", [file.relative_to(tmp_path)], study)
    assert row["versions"] == f"landscape {RESULT_VERSION['landscape']}"


# -- where the warning stands ----------------------------------------------------------------------


def test_a_table_warns_of_its_own_runs_alone(study, sources):
    shown = next(p for p in study.paths("sparse") if "/resnet20" in p and "/naive/" in p)
    other = next(p for p in study.paths("sparse") if "/vgg11" in p)
    assert tables.build(study, "table_05", older(sources["runs"], shown)).caption.startswith(
        "Warning: the runs behind this come from several result versions, or from another one than "
        "this code makes: sparse 1 and 7"
    )
    assert "Warning" not in tables.build(study, "table_05", older(sources["runs"], other)).caption


@pytest.mark.parametrize(
    ("name", "role", "kind"),
    [
        ("figure_03", "curves", "interpolation"),
        ("figure_04", "planes", "landscape"),
        ("figure_05", "runs", "sparse"),
        ("figure_13", "curves", "interpolation"),
    ],
)
def test_a_figure_warns(study, sources, name, role, kind):
    path = next(p for p in study.paths(kind) if "/resnet20" in p)
    assert "Warning" not in figures.build(study, name, figures.Sources(**sources)).caption
    changed = sources | {role: older(sources[role], path)}
    caption = figures.build(study, name, figures.Sources(**changed)).caption
    assert caption.startswith("Warning: ")
    assert f"{kind} " in caption.split("(this code")[0]
    assert "0123456789ab-dirty" in caption


@pytest.mark.parametrize("page", ["claims", "power"])
def test_the_claims_and_the_power_of_a_pilot_warn_on_top(study, sources, page):
    results = Results(study, sources["runs"], sources["curves"])
    table, shares, left = power.plan(study, results), gap.shares(results), gap.left(results)
    judged, longer = verdicts.judge(study, results), verdicts.judge_longer(study, results)
    more = gap.shares_longer(results)
    write = {
        "claims": lambda *rows: claims_page.markdown(
            study, judged, longer, shares, more, left, rows
        ),
        "power": lambda *rows: power.markdown(study, table, rows),
    }[page]
    runs, curves = sources["runs"], sources["curves"]
    assert "Warning" not in write(runs, curves)
    texts = [
        write(older(runs, study.paths("sparse")[0]), curves),
        write(runs, older(curves, study.paths("interpolation")[0])),
    ]
    for text in texts:
        assert text.split("\n")[2].startswith("**Warning: ")


def test_the_comparison_with_the_paper_warns_of_the_runs_that_it_compares():
    paper = reported.read(*(ROOT / "config" / name for name in report.REPORTED))
    study = Study(yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
    runs = synthetic.runs(study)
    table, shares = comparison.compare(study, runs, paper), pd.DataFrame(columns=gap.COLUMNS)
    compared = table.query("status == 'compared' and n == n").iloc[0]
    other = next(p for p in runs["path"] if not table["runs"].dropna().str.contains(p).any())
    for path, warns in ((compared["runs"].split()[0], True), (other, False)):
        text = comparison_page.markdown(study, table, shares, paper, older(runs, path))
        assert text.split("\n")[2].startswith("**Warning: ") == warns


# -- from a cell to its runs -----------------------------------------------------------------------


def test_every_cell_of_a_table_names_the_runs_whose_mean_it_is(study, sources):
    runs = sources["runs"].set_index("path")
    runs = runs[(runs["metric"] == "accuracy") & (runs["split"] == "test")]
    cells = tables.build(study, "table_05", sources["runs"]).cells
    assert len(cells) >= 4
    for cell in cells.itertuples():
        behind = runs.loc[cell.runs.split(), "value"]
        assert len(behind) == cell.n > 0
        assert behind.mean() == pytest.approx(cell.mean)
        if cell.method != "dense":
            assert all(f"/{cell.method}/sparsity-{cell.sparsity:g}/" in p for p in behind.index)


@pytest.mark.parametrize("name", TINY["artefacts"]["tables"])
def test_every_cell_of_every_table_names_runs_of_the_study(study, sources, name):
    cells = tables.build(study, name, sources["runs"]).cells
    kind = study.config["artefacts"]["tables"][name]["kind"]
    assert ("runs" in cells) == (kind not in selection.SETTINGS)
    for text in cells.get("runs", []):
        assert text
        assert all(study.run(path) for path in text.split())


@pytest.mark.parametrize("name", TINY["artefacts"]["figures"])
def test_every_point_of_every_figure_names_runs_of_the_study(study, sources, name):
    data = figures.build(study, name, figures.Sources(**sources)).data
    kind = study.config["artefacts"]["figures"][name]["kind"]
    assert ("runs" in data) == (kind not in selection.SETTINGS)
    for text in data.get("runs", []):
        assert text
        assert all(study.run(path) for path in text.split())


def test_the_points_of_a_line_name_the_lines_of_their_method(study, sources):
    data = figures.build(study, "figure_03", figures.Sources(**sources)).data
    lines = [p for p in study.paths("interpolation") if "/resnet20" in p and "-activations" in p]
    assert set(data["runs"]) == {" ".join(sorted(lines))}


# -- the version of the data -----------------------------------------------------------------------


@pytest.mark.parametrize("net", ["resnet", "vgg"])
def test_a_run_has_the_version_of_its_data(tmp_path, net):
    chain = Chain(tmp_path, net, golden.KINDS["arrays" if net == "resnet" else "files"][1])
    assert set(stage.versions_of(chain.data)) == {"data"}
    prepare(chain.spec, chain.data, version=4)
    out = chain.dense(0)
    wanted = {"data": [4], "dense": [RESULT_VERSION["dense"]]}
    assert json.loads((out / "result.json").read_text())["versions"] == wanted
    assert stage.versions_of(out / "checkpoints/epoch-0001.safetensors") == wanted


def test_a_training_does_not_go_on_from_other_data(tmp_path, monkeypatch, capsys):
    chain = Chain(tmp_path)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stages, "_finish", lambda *args, **more: None)  # keeps the state
    arguments = chain.dense_arguments(0) | outputs("dense", tmp_path / "out")
    said = []
    for version in (1, 1, 2):
        prepare(chain.spec, chain.data, version=version)
        stages.dense(**arguments, data=str(chain.data))
        said.append(capsys.readouterr().out)
    assert ["going on from" in text for text in said] == [False, True, False]
    assert "belongs to other values or another version" in said[2]


def test_a_matching_has_the_version_of_the_one_it_is_compared_with(tmp_path):
    chain = Chain(tmp_path)
    arguments = chain.match_arguments("weights")
    perms, _ = load_tensors(arguments["beside"])
    save_tensors(tmp_path / "old", perms, {"versions": json.dumps({"match": [9]})})
    arguments |= {"beside": str(tmp_path / "old")} | outputs("match", tmp_path / "out")
    stages.match(**arguments, data=str(chain.data))
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert record["versions"]["match"] == [RESULT_VERSION["match"], 9]

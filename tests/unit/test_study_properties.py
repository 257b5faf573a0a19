"""What holds for every study, and for every study that is nearly one."""

from pathlib import PurePosixPath

from hypothesis import HealthCheck, Phase, given, note, settings
from maskalign import cost, selection
from maskalign.study import load
from studies import changed, studies

CHECKED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def parents_of(run):
    for found in run["parents"].values():
        yield from [found] if isinstance(found, str) else found or []


@settings(CHECKED, max_examples=80)
@given(studies())
def test_a_valid_study_plans_runs_that_fit_together(config):
    study = load(config)
    paths = study.runs["path"].tolist()
    assert len(paths) == len(set(paths)) > 0
    for run in study.runs.to_dict("records"):
        path = PurePosixPath(run["path"])
        assert not path.is_absolute()
        assert not {"..", "."} & set(run["path"].split("/"))
        assert run["path"].isascii()
        assert run["path"].isprintable()
        assert all(len(part) < 256 for part in path.parts)
        for parent in parents_of(run):
            assert study.run(parent)["path"] != run["path"]
    for kind in ("tables", "figures"):
        for name in study.config["artefacts"][kind]:
            for files in selection.sources(study, kind, name).values():
                assert {file.rpartition("/")[0] for file in files} <= set(paths)
            assert selection.artefact(study, kind, name)["entry"]


@settings(CHECKED, max_examples=30)
@given(studies())
def test_every_run_of_a_valid_study_has_a_cost(config):
    study = load(config)
    for run in study.runs.to_dict("records"):
        counts = cost.images(run["values"]["data"]) or (100, 10)
        found = cost.of(run, counts)
        if "training" not in run["values"]:
            assert found.epochs == found.trained == 0 < found.evaluated
            continue
        batch = run["values"]["training"].get("batch_size", run["values"]["batch_size"])
        left_out = found.epochs * counts[0] - found.trained  # of each epoch less than a batch
        assert found.trained % batch == 0 <= left_out <= found.epochs * (batch - 1)
        assert found.evaluated % counts[1] == 0
        assert (found.evaluated > 0) == (found.epochs > 0)


@settings(CHECKED, max_examples=300)
@given(changed())
def test_a_study_with_one_thing_changed_loads_or_says_so_in_one_line(case):
    config, what = case
    note(what)
    try:
        study = load(config)
    except ValueError as error:
        line = str(error)
        assert line
        assert len(line.splitlines()) == 1
        assert len(line) < 1000
    else:
        assert study.runs["path"].is_unique
        for path in study.runs["path"]:
            assert ".." not in path.split("/")

"""What a running training says of itself, and how it is shown."""

import json
import time

import pytest
import yaml
from conftest import ROOT
from maskalign import progress, watch
from maskalign.progress import Progress
from maskalign.study import Study
from maskalign.training import train
from test_training import PLAN, Blobs, net

STUDY = ROOT / "tests/workflow/tiny.yaml"
ABOUT = {
    "stage": "sparse",
    "method": "permuted",
    "model": "resnet20",
    "width": 1.0,
    "dataset": "digits",
    "sparsity": 0.8,
    "rewind_epoch": 0,
    "mask_seed": 0,
    "init_seed": 1,
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Study(yaml.safe_load(STUDY.read_text()))


@pytest.fixture
def state(study, tmp_path):
    folder = tmp_path / "results/tiny/state/some/run"
    folder.mkdir(parents=True)
    return folder


def test_a_training_says_how_far_it_is(state, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    history = train(net(), Blobs(), PLAN, state, "id", progress=Progress(state, ABOUT, PLAN.epochs))
    said = json.loads((state / "progress.json").read_text())
    assert said["epoch"] == said["epochs"] == PLAN.epochs
    assert said["seconds_left"] == 0
    assert said["images_s"] > 0
    assert said["test_accuracy"] == history[1]["test_accuracy"]  # the last evaluated before epoch 4
    assert time.time() - said["updated"] < 60


def test_what_is_left_follows_from_the_speed_of_this_start(state, monkeypatch):
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    going_on = Progress(state, ABOUT, epochs=10)
    for epoch in (4.0, 5.0, 6.0):  # from epoch 4 on, 10 s an epoch
        going_on.update(epoch, images_per_epoch=500, accuracy=None)
    said = json.loads((state / "progress.json").read_text())
    assert (said["seconds_left"], said["images_s"]) == (40, 50)


def test_updates_are_rare(state):
    training = Progress(state, ABOUT, epochs=10)
    training.update(1.0, 500, None)
    training.update(2.0, 500, None)
    assert json.loads((state / "progress.json").read_text())["epoch"] == 1.0


def test_a_run_that_another_job_has_finished_gets_no_folder_again(state):
    training = Progress(state, ABOUT, epochs=10)
    state.rmdir()
    training.update(1.0, 500, None)
    assert not state.exists()


def test_the_watch_shows_stages_and_what_runs(study, state, tmp_path, capsys):
    finished = study.runs[study.runs.stage == "dense"].path.iloc[0]
    record = tmp_path / study.runs_folder / finished / "result.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    Progress(state, ABOUT, epochs=10).update(2.5, 500, 71.25)
    (state.parent / "half").mkdir()
    (state.parent / "half/progress.json").write_text('{"epo')  # being replaced just now
    watch.main([str(STUDY), "--once"])
    first, run = capsys.readouterr().out.splitlines()
    dense = len(study.paths("dense"))
    assert f"tiny: dense 1/{dense}, " in first
    assert "permuted, resnet20 x1 on digits, S 0.8, k 0, seeds 0-1, 2.5 / 10, 71.25 %" in run


def test_a_training_that_says_nothing_any_more_is_called_silent(study, state, capsys):
    Progress(state, ABOUT, epochs=10).update(2.5, 500, None)
    said = json.loads((state / "progress.json").read_text())
    (state / "progress.json").write_text(json.dumps(said | {"updated": said["updated"] - 7300}))
    watch.main([str(STUDY), "--once"])
    assert "silent for 2 h 02 min" in capsys.readouterr().out


def test_a_terminal_shows_the_same(study, state):
    from rich.console import Console

    Progress(state, ABOUT, epochs=10).update(2.5, 500, 71.25)
    console = Console(width=160, record=True, file=(state / "screen").open("w"))
    console.print(watch.page(study))
    text = console.export_text()
    assert "running now" in text
    assert "2.5 / 10" in text and "71.25 %" in text


def test_a_study_that_is_none_is_one_line(tmp_path):
    (tmp_path / "no.yaml").write_text("study: [")
    with pytest.raises(SystemExit, match=r"study error: .*no\.yaml, line 1"):
        watch.main([str(tmp_path / "no.yaml"), "--once"])

"""The forecast counts what the jobs do, and only measured speeds become hours."""

import csv

import pytest
import yaml
from conftest import ROOT
from maskalign import cost, forecast
from maskalign.study import Study

ROW = {
    "device": "GPU",
    "threads": "1",
    "train_images_s": "100",
    "eval_images_s": "1000",
    "memory_mib": "500",
    "device_memory_mib": "0",
    "torch": "2",
    "commit": "",
}


@pytest.fixture
def study(demo):
    return Study(demo)


def table(*runs_values, device="GPU", **changes):
    """Return a throughput table with an entry for each run's network."""
    found = cost.Throughput([])
    for values in runs_values:
        row = ROW | cost.setting(values) | changes | {"device": device}
        found.rows[device, *cost.setting(values).values()] = row
    return found


def run(study, stage, **wanted):
    found = study.runs[study.runs.stage == stage]
    for column, value in wanted.items():
        found = found[found[column] == value]
    return study.run(found.path.iloc[0])


def test_training_costs_its_epochs_of_whole_batches(study):
    """3,000 images, batches of 64: 46 of them an epoch; evaluated every 4 epochs and at the end."""
    dense = cost.of(run(study, "dense", dataset="mnist", model="resnet20"), (3000, 1000))
    assert dense == cost.Cost(8, 8 * 46 * 64, 2 * 1000)
    sparse = run(study, "sparse", dataset="mnist", model="resnet20", rewind_epoch=4)
    assert cost.of(sparse, (3000, 1000)) == cost.Cost(4, 4 * 46 * 64, 1000)
    imp = run(study, "imp_round", dataset="mnist", model="resnet20")
    assert cost.of(imp, (3000, 1000)) == cost.Cost(2, 2 * 46 * 64, 1000)


def test_lines_and_planes_cost_their_passes(study):
    """Nine points; 1,000 training images and the test set twice a point, 500 for the reset."""
    line = run(study, "interpolation", dataset="mnist", model="resnet20")
    assert cost.of(line, (3000, 1000)).evaluated == 2 * 9 * (2 * (1000 + 1000) + 500)
    plane = run(study, "landscape")
    assert cost.of(plane, (3000, 1000)).evaluated == (81 + 3) * (500 + 1000)
    ensembles = run(study, "diversity", dataset="mnist")
    assert cost.of(ensembles, (3000, 1000)).evaluated == 25 * 1000
    matched, diagnosed = run(study, "match", dataset="digits"), run(study, "diagnosis")
    for passes in (matched, diagnosed):  # the images that are matched on, of both networks
        images = passes["values"]["matching"]["images"] or 1438
        assert cost.of(passes, (1438, 359)) == cost.Cost(evaluated=2 * images)


def test_seconds_follow_from_measured_speeds(study):
    dense = run(study, "dense", dataset="mnist", model="resnet20")
    found = cost.of(dense, (3000, 1000))
    speeds = table(dense["values"])
    expected = cost.START_UP + found.trained / 100 + found.evaluated / 1000
    assert speeds.seconds("GPU", dense, found) == pytest.approx(expected)
    assert speeds.seconds("another", dense, found) is None


def test_what_was_not_measured_is_said_and_not_guessed(study):
    dense = run(study, "dense", dataset="mnist", model="vgg11")
    speeds = table(dense["values"])
    runs = forecast.forecast(study, speeds)
    vgg = runs.path.str.contains("vgg11")
    assert runs.loc[vgg, "hours GPU"].notna().all()
    assert runs.loc[~vgg, "hours GPU"].isna().all()
    page = forecast.page(study, runs, speeds)
    assert "Not measured on GPU:" in page
    assert f"+ {(~vgg).sum()} jobs not measured" in page
    assert "No device has a measured throughput" in forecast.page(
        study, forecast.forecast(study, cost.Throughput([])), cost.Throughput([])
    )


@pytest.mark.parametrize(
    "methods",
    [["naive"], ["lth", "naive", "permuted"], ["naive", "own"], ["permuted", "activity", "fan"]],
)
def test_sharing_saves_dense_models_and_chains(demo, methods):
    """Two sparsities: two dense models and both chains are trained again in the released plan."""
    only = demo["experiments"]["vgg11"] | {"pairs": 1, "methods": methods, "rewind_epochs": [0]}
    del only["interpolation"], only["matching_comparison"]
    demo["experiments"] = {"vgg11": only}
    demo["artefacts"] = {"tables": {}, "figures": {}}
    study = Study(demo)
    ours = forecast.forecast(study, cost.Throughput([]))["epochs"].sum()
    # S = .8 takes 3 rounds of 2 epochs, S = .9 takes 4, of which 2 are shared.
    sparse = len(methods) * 2 * 10
    chains = 2 if "own" in methods else 1
    assert ours == 2 * 10 + chains * 5 * 2 + sparse
    assert forecast.released_epochs(study) == 2 * (2 * 10) + (3 + 4) * 2 + sparse


def test_the_paper_study_is_counted_without_its_data():
    study = Study(yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
    runs = forecast.forecast(study, cost.Throughput([]))
    page = forecast.page(study, runs, cost.Throughput([]))
    assert "experiments.imagenet is not counted" in page
    dense = runs[(runs.rule == "dense") & runs.path.str.contains("resnet20-x1/")]
    kept = 1 + len(study.run(dense.path.iloc[0])["values"]["keep_epochs"])
    assert dense.disk_mib.iloc[0] == pytest.approx(kept * 0.28e6 * 4 / 2**20, rel=0.15)


def test_a_table_without_a_column_is_refused(tmp_path):
    file = tmp_path / "throughput.csv"
    file.write_text("device,threads\n")
    with pytest.raises(ValueError, match=r"throughput\.csv: has no column 'architecture'"):
        cost.Throughput([file])


@pytest.mark.parametrize("speed", ["", "fast", "0", "nan", "-3"])
def test_a_table_with_a_bad_number_is_refused(study, tmp_path, speed):
    row = ROW | cost.setting(run(study, "dense")["values"]) | {"train_images_s": speed}
    file = tmp_path / "throughput.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, cost.THROUGHPUT)
        writer.writeheader()
        writer.writerow(row)
    with pytest.raises(
        ValueError, match=r"throughput\.csv, line 2: train_images_s is .*, must be a number"
    ):
        cost.Throughput([file])


def test_shipped_throughput_is_measured_and_whole():
    speeds = cost.Throughput([ROOT / "config/throughput.csv"])
    assert speeds.devices
    for row in speeds.rows.values():
        assert row["commit"]
        assert all(float(row[k]) > 0 for k in ("train_images_s", "eval_images_s", "memory_mib"))

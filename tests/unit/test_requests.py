"""What a job asks a cluster for follows from what was measured of its network."""

import csv

import pytest
from maskalign import cost
from maskalign.requests import SHORTEST, SNAKEMAKE_MIB, Requests
from maskalign.study import Study
from test_forecast import ROW


class Wildcards(dict):
    """Wildcards of a run, as Snakemake hands them over."""


def of(study, **wanted):
    """Return the wildcards of the first run with these values."""
    runs = study.runs
    for column, value in wanted.items():
        runs = runs[runs[column] == value]
    run = study.run(runs.path.iloc[0])
    return Wildcards({k: "none" if v is None else v for k, v in run.items()} | {"factors": ""})


def write(file, study, speeds, device="GPU"):
    """Write a throughput table with the speed of the nets of each width on MNIST."""
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, cost.THROUGHPUT)
        writer.writeheader()
        for width, speed in speeds.items():
            values = study.run(study.run(of(study, stage="dense", width=width)["path"])["path"])
            row = ROW | cost.setting(values["values"]) | {"device": device}
            row |= {"train_images_s": str(speed), "memory_mib": str(200 * width)}
            writer.writerow(row)
    return file


@pytest.fixture
def study(demo):
    demo["experiments"] = {"cifar10": demo["experiments"]["cifar10"]}
    demo["artefacts"] = {"tables": {}, "figures": {}}
    return Study(demo)


def test_wider_nets_ask_for_more_time_and_memory(study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 20, 4: 5})
    requests = Requests(study, shipped, tmp_path / "none.csv")
    narrow, wide = (of(study, stage="dense", width=w) for w in (1, 4))
    seconds = cost.START_UP + 8 * 46 * 64 / 20 + 2 * 1000 / 1000
    assert requests.minutes("dense")(narrow, 1) == -(-2 * seconds // 60)
    assert requests.minutes("dense")(wide, 1) > 3 * requests.minutes("dense")(narrow, 1)
    assert requests.memory("dense")(narrow, 1) == 1.5 * 200 + SNAKEMAKE_MIB
    assert requests.memory("dense")(wide, 1) == 1.5 * 800 + SNAKEMAKE_MIB


def test_a_later_rewind_epoch_asks_for_less_time(study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 10, 4: 5})
    requests = Requests(study, shipped, tmp_path / "none.csv")
    early, late = (of(study, stage="sparse", rewind_epoch=k, width=1) for k in (0, 4))
    assert requests.minutes("sparse")(early, 1) > requests.minutes("sparse")(late, 1) > SHORTEST


def test_each_attempt_asks_for_more(study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 10, 4: 5})
    requests = Requests(study, shipped, tmp_path / "none.csv")
    dense = of(study, stage="dense", width=1)
    assert requests.minutes("dense")(dense, 3) == 3 * requests.minutes("dense")(dense, 1)


def test_what_was_never_measured_asks_for_what_the_study_says(demo, study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 10})
    requests = Requests(study, shipped, tmp_path / "none.csv")
    wide = of(study, stage="dense", width=4)
    assert requests.minutes("dense")(wide, 1) == 1440
    assert requests.memory("dense")(wide, 2) == 2 * 8000 + SNAKEMAKE_MIB


def test_own_measurements_come_before_those_from_elsewhere(study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 0.001})
    own = write(tmp_path / "own.csv", study, {1: 10}, device="CPU of this cluster")
    dense = of(study, stage="dense", width=1)
    minutes = [
        Requests(study, shipped, file).minutes("dense")(dense, 1)
        for file in (tmp_path / "none.csv", own)
    ]
    assert minutes[0] > 100 * minutes[1]


def test_a_processor_measured_elsewhere_says_nothing_about_a_cluster(study, tmp_path):
    shipped = write(tmp_path / "a.csv", study, {1: 10}, device="CPU of a laptop")
    dense = of(study, stage="dense", width=1)
    assert Requests(study, shipped, tmp_path / "none.csv").minutes("dense")(dense, 1) == 1440


def test_the_device_can_be_named(demo, tmp_path):
    demo["jobs"] = {"device": "CPU of a laptop"}
    study = Study(demo)
    shipped = write(tmp_path / "a.csv", study, {1: 10}, device="CPU of a laptop")
    dense = of(study, stage="dense", width=1, dataset="mnist", model="resnet20")
    assert Requests(study, shipped, tmp_path / "none.csv").minutes("dense")(dense, 1) < 1440

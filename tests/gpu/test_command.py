"""The command that measures a GPU, at toy size on the CPU: what it writes, and how it ends."""

import csv
import re
import signal
import subprocess
import sys
import tempfile

import psutil
import pytest
import torch
from maskalign import cost
from maskalign.bench import work
from maskalign.bench.gpu import __main__ as command
from maskalign.bench.gpu import pieces, plan, table

ABOUT = {
    "device": "Some GPU 80GB",
    "driver": "1.2",
    "torch": "2.11",
    "cuda": "13.0",
    "python": "3.12.3",
    "commit": "0123456789abcdef",
    "threads": 16,
}


TOY_SETTINGS = plan.TOY.settings["toy"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Return the folder and the output of one run."""
    out = tmp_path_factory.mktemp("toy")
    done = subprocess.run(
        [sys.executable, "-m", "maskalign.bench.gpu", "--toy", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def rows_of(folder):
    (file,) = (f for f in folder.glob("*.csv") if f.name != "throughput.csv")
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_piece_is_measured_at_toy_size(toy):
    out, said = toy
    rows = rows_of(out)
    assert {r["piece"] for r in rows} == {p.name for p in plan.TOY_PIECES} | {table.DERIVED}
    # A first epoch may take no extra time, and nothing breaks a graph.
    none = {r["measure"] for r in rows if float(r["value"]) <= 0}
    assert none <= {"graph breaks", "skipped CUDA graphs", "first epoch's extra time"}
    assert {r["setting"] for r in rows if r["measure"] == "step" and r["network"] == "toy"} == set(
        TOY_SETTINGS
    )
    checked = {r["setting"]: r["value"] for r in rows if r["measure"] == "check"}
    assert len(checked) == 6
    assert set(checked.values()) == {"1"}
    (graphs,) = {r["value"] for r in rows if r["measure"] == "compiled graphs"}
    assert graphs == "1"
    (page,) = out.glob("*.md")
    for text in (page.read_text(), said):
        assert "| toy | bfloat16, graph, compiled | " in text
    assert "not measured" not in said.lower()


def test_ratios_and_shares_are_those_of_the_readings(toy):
    rows = rows_of(toy[0])
    toys = [r for r in rows if r["network"] in ("", "toy")]
    number = {(r["setting"], r["measure"]): float(r["value"]) for r in toys}
    books = max(v for (s, m), v in number.items() if s.startswith("textbook,") and m == "training")
    (operations,) = (
        float(r["value"]) for r in rows if r["measure"] == "operations" and r["network"] == "toy"
    )
    dense = number["bfloat16, 256 x 256", "dense rate"]
    for setting in TOY_SETTINGS:
        ratio = number[setting, "training"] / books
        assert number[setting, "times the textbook"] == pytest.approx(ratio, rel=0.01)
        share = 100 * number[setting, "training alone"] * operations * 1e6 / (dense * 1e12)
        assert number[setting, "share of the dense rate"] == pytest.approx(share, rel=0.01)


def test_operations_are_those_of_the_arithmetic(toy):
    """Two convolutions and a linear layer; the images need no gradient."""
    first, second, last = 9 * 3 * 8 * 64, 9 * 8 * 16 * 16, 64 * 10
    (found,) = (
        float(r["value"])
        for r in rows_of(toy[0])
        if r["measure"] == "operations" and r["network"] == "toy"
    )
    assert found * 1e6 == pytest.approx(2 * (2 * first + 3 * second + 3 * last), rel=1e-3)


def test_the_forecast_can_read_what_was_measured(toy):
    speeds = cost.Throughput([toy[0] / "throughput.csv"])
    (device,) = speeds.devices
    rows = rows_of(toy[0])
    for setting in TOY_SETTINGS:
        values = {
            "net": {"architecture": "vgg11", "options": work.OPTIONS["toy"]},
            "width": 0.125,
            "data": {"image_size": 8},
            "batch_size": 128,
            **plan.SETTINGS[setting],
        }
        found = speeds.find(device, values)
        (trained,) = (
            float(r["value"])
            for r in rows
            if (r["setting"], r["measure"], r["network"]) == (setting, "training alone", "toy")
        )
        assert float(found["train_images_s"]) == pytest.approx(trained, rel=1e-3)
        assert float(found["eval_images_s"]) > 0


# -- a run, whose pieces are made up ---------------------------------------------------------------


def reading(value, setting="float32", measure="training"):
    return pieces.row(setting, measure, "images/s", value) | {"memory_mib": 100}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs pieces; each is the list of what its process says."""

    def start(said, *arguments, seconds=None):
        monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), *arguments])
        monkeypatch.setattr(command, "_has_gpu", lambda: True)
        chosen = [plan.Piece("ours", n, seconds or 60) for n in said]
        monkeypatch.setattr(plan, "PIECES", chosen)

        def rows(name, toy, seconds, errors):
            for line in said[name.removeprefix("ours ")]:
                if isinstance(line, str):
                    errors.write(line)
                elif callable(line):
                    line()
                else:
                    yield line

        monkeypatch.setattr(command, "_rows", rows)
        return command.main()

    return start


def test_a_run_that_is_cut_short_has_written_what_it_measured(run, tmp_path):
    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"ResNet20 x1": [{"about": ABOUT}, reading(100.0), killed]})
    (row,) = (r for r in rows_of(tmp_path) if r["measure"] == "training")
    assert row["value"] == "100"
    assert (tmp_path / "some-gpu-80gb.md").exists()
    assert {k: row[k] for k in ("driver", "torch", "cuda", "commit", "device")} == {
        "driver": "1.2",
        "torch": "2.11",
        "cuda": "13.0",
        "commit": "0123456789ab",
        "device": "Some GPU 80GB",
    }


def test_a_piece_that_fails_is_told_and_the_next_one_measured(run, tmp_path, capsys):
    failing = [{"about": ABOUT}, "Traceback\nRuntimeError: no memory\nTry less.\n", {"ended": 1}]
    code = run({"ResNet20 x1": failing, "ResNet20 x4": [{"about": ABOUT}, reading(5.0)]})
    assert code == 1
    assert "not measured: ours ResNet20 x1 (RuntimeError: no memory)" in capsys.readouterr().out
    page = (tmp_path / "some-gpu-80gb.md").read_text()
    assert "Not measured: ours ResNet20 x1 (RuntimeError: no memory)." in page
    assert [r["network"] for r in rows_of(tmp_path)] == ["ResNet20 x4"]
    assert "Try less." in (tmp_path / "some-gpu-80gb.log").read_text()


def test_what_does_not_exist_here_is_told_and_fails_nothing(run, capsys):
    said = f"Traceback\n{command.UNAVAILABLE}: no service\n"
    lines = [{"about": ABOUT}, reading(1.0)]
    assert run({"ResNet20 x1": lines, "ResNet20 x4": [said, {"ended": 1}]}) == 0
    assert "UnavailableError: no service" in capsys.readouterr().out


def test_the_name_of_what_is_unavailable_is_that_of_its_error(monkeypatch, tmp_path):
    kind = pieces.UnavailableError
    assert f"{kind.__module__}.{kind.__qualname__}" == command.UNAVAILABLE
    for variable in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        monkeypatch.setenv(variable, "")  # what is set to run the service ends with this test
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(kind, match="nvidia-cuda-mps-control is not installed"):
        list(pieces.mps("toy", plan.TOY, tmp_path, "cpu"))
    service = tmp_path / "nvidia-cuda-mps-control"
    service.write_text(f"#!{sys.executable}\nraise SystemExit(7)\n")
    service.chmod(0o755)
    with pytest.raises(kind, match="nvidia-cuda-mps-control ended with exit code 7"):
        list(pieces.mps("toy", plan.TOY, tmp_path, "cpu"))


def test_a_check_that_does_not_hold_fails_the_run(run, capsys):
    bad = pieces.row("masks exact", "check", "holds", 0, "a weight off its mask")
    assert run({"ResNet20 x1": [{"about": ABOUT}, bad | {"memory_mib": 1}]}) == 1
    assert "FAILED: masks exact (a weight off its mask)" in capsys.readouterr().out


def test_no_piece_begins_when_the_budget_is_spent(run, capsys, monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 470.0])
    monkeypatch.setattr(command, "BEGAN", 0.0)
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    lines = [{"about": ABOUT}, reading(5.0)]
    assert run({"ResNet20 x1": lines, "ResNet20 x4": lines}) == 0
    assert "ours ResNet20 x4: not measured (the budget was spent)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budget", "code", "says"),
    [("15", 0, "the budget was spent"), ("60", 1, "it took more than 20 s")],
)
def test_a_piece_that_is_cut_off_by_the_budget_has_not_failed(
    run, capsys, monkeypatch, budget, code, says
):
    clock = iter([0.0, 0.0, 16.0])
    monkeypatch.setattr(command, "BEGAN", 0.0)
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    lines = [{"about": ABOUT}, reading(5.0), {"ended": None}]
    assert run({"ResNet20 x1": lines}, "--budget", budget, seconds=20) == code
    assert f"not measured: ours ResNet20 x1 ({says})" in capsys.readouterr().out


def test_a_piece_takes_no_longer_than_it_may_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with tempfile.TemporaryFile("w+") as errors:
        # At full size this takes minutes on a CPU.
        found = list(command._rows("textbook VGG11 x1", False, 8, errors))
    assert found[-1] == {"ended": None}
    assert not any("value" in row for row in found)
    assert not list(tmp_path.iterdir())


@pytest.mark.waits
def test_a_run_that_is_told_to_end_ends_its_piece(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "maskalign.bench.gpu", "--toy", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout.readline().startswith("ceilings: ")
    pieces_of_it = psutil.Process(run.pid).children(recursive=True)
    run.terminate()
    assert run.wait(60) == 128 + signal.SIGTERM
    run.stdout.close()
    assert pieces_of_it
    assert not psutil.wait_procs(pieces_of_it, timeout=30)[1]


def test_what_a_failing_process_says_last_is_the_reason():
    with tempfile.TemporaryFile("w+") as errors:
        assert list(command._rows("guessing", True, 60, errors)) == [{"ended": 1}]
        errors.seek(0)
        assert errors.read().splitlines()[-1].startswith("StopIteration")


def test_a_later_reading_takes_an_earlier_ones_place(run, tmp_path):
    first = [{"about": ABOUT}, reading(100.0), reading(9.0, "bfloat16")]
    run({"ResNet20 x1": first})
    run({"ResNet20 x1": [{"about": ABOUT}, reading(200.0)]}, "--commit", "later")
    rows = {r["setting"]: r for r in rows_of(tmp_path)}
    assert len(rows) == len(rows_of(tmp_path))
    assert {k: (r["value"], r["commit"]) for k, r in rows.items()} == {
        "float32": ("200", "later"),
        "bfloat16": ("9", "0123456789ab"),
    }


def test_readings_of_two_runs_are_not_compared():
    books = [
        about(reading(speed, f"textbook, {workers} workers"), "textbook", "2026-01-01")
        for workers, speed in ((0, 10.0), (4, 5.0))
    ]
    ours = about(reading(80.0), "ours", "2026-01-01")
    later = about(reading(80.0), "ours", "2026-02-02")
    (found,) = table.derive([*books, ours])
    assert (found["measure"], found["value"]) == ("times the textbook", "8")
    assert table.derive([*books, later]) == []


def about(row, kind, began):
    network = "ResNet20 x1"
    return ABOUT | {"piece": f"{kind} {network}", "network": network, "began": began} | row


def test_settings_that_no_recipe_can_ask_for_are_no_throughput(tmp_path):
    rows = [
        about(reading(speed, setting, measure), "ours", "now")
        for setting, options in plan.SETTINGS.items()
        for measure, speed in (
            ("training alone", 99.0 if {"tf32", "any_order"} & set(options) else 50.0),
            ("evaluation", 70.0),
        )
    ]
    cut_off = about(reading(1.0, "float32", "training alone"), "ours", "earlier")
    table.add_throughput(tmp_path / "throughput.csv", [*rows, cut_off])
    found = cost.Throughput([tmp_path / "throughput.csv"]).rows.values()
    asked = {(r["precision"], r["compile"], r["graph"]) for r in found}
    assert len(found) == len(asked) == 6
    assert ("float32", "False", "False") in asked
    assert {r["device"] for r in found} == {"Some GPU 80GB"}
    assert {r["train_images_s"] for r in found} == {"50"}


def test_a_later_run_keeps_the_throughput_of_an_earlier_one(run, tmp_path):
    def measured(speed):
        both = reading(speed, measure="training alone"), reading(4 * speed, measure="evaluation")
        return [{"about": ABOUT}, *both]

    run({"ResNet20 x1": measured(100.0), "ResNet20 x4": measured(50.0)})
    run({"ResNet20 x1": measured(200.0)})
    found = cost.Throughput([tmp_path / "throughput.csv"]).rows.values()
    speeds = {r["width"]: r["train_images_s"] for r in found if r["device"] == ABOUT["device"]}
    assert speeds == {"1": "200", "4": "50"}


def test_a_damaged_table_of_throughput_is_refused_before_anything_runs(run, tmp_path, capsys):
    (tmp_path / "throughput.csv").write_text("device\n")
    with pytest.raises(SystemExit) as stopped:
        run({"ResNet20 x1": [{"about": ABOUT}, reading(1.0)]})
    assert stopped.value.code == 2
    assert "throughput.csv: has no column 'threads'" in capsys.readouterr().err
    assert not (tmp_path / "some-gpu-80gb.csv").exists()


def test_the_page_names_runs_and_networks(run, tmp_path):
    dense = reading(100.0, "bfloat16, 8192 x 8192", "dense rate")
    step = reading(50.0, "bfloat16", "training alone")
    work_of = reading(9000.0, "", "operations")
    run({"ResNet50 x1": [{"about": ABOUT}, dense, work_of, step]})
    page = (tmp_path / "some-gpu-80gb.md").read_text()
    assert "| derived ResNet50 x1 | bfloat16 | share of the dense rate | 0.45 % |" in page
    assert "- Driver 1.2, torch 2.11, CUDA 13.0, Python 3.12.3, commit 0123456789ab, " in page


def test_another_table_is_not_overwritten(run, tmp_path):
    file = tmp_path / "some-gpu-80gb.csv"
    file.write_text("stage,network\ntraining,ResNet20 x1\n")
    with pytest.raises(ValueError, match=r"some-gpu-80gb\.csv: is no table of this benchmark"):
        run({"ResNet20 x1": [{"about": ABOUT}, reading(1.0)]})
    assert file.read_text() == "stage,network\ntraining,ResNet20 x1\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--toy", "--out", "x", "guess"], "unknown piece 'guess', must be one of ceilings, ours"),
        (["--toy"], "--toy needs --out"),
        (
            ["--toy", "--out", "x", "--budget", "3"],
            "--budget 3 is not allowed, must be at least 15",
        ),
        ([], "torch can use no GPU here; --toy --out FOLDER runs small sizes on the CPU"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    monkeypatch.setattr(command, "_has_gpu", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_the_pieces_fit_what_they_name():
    assert {p.kind for p in plan.PIECES} <= set(pieces.KINDS)
    analysed = {p.network for p in plan.PIECES if p.kind == "analyses"}
    assert analysed == set(plan.FULL.points) == set(plan.FULL.tried)
    assert set(plan.FULL.images) == set(plan.FULL.settings)
    assert {p.network for p in plan.PIECES if p.kind != "step"} == {"", *plan.FULL.images}
    for name, images in plan.FULL.images.items():
        assert name in work.NETWORKS
        assert images % work.BATCH == 0
        # Steps after the timed epochs are profiled within one epoch, after a graph is recorded.
        assert images // work.BATCH > pieces.WINDOW[1]


class Event:
    """One call or kernel, as torch's profiler describes it."""

    def __init__(self, name, cuda=False, microseconds=0.0, annotation=False):
        kinds = torch.autograd.DeviceType
        self.name, self.device_type = name, kinds.CUDA if cuda else kinds.CPU
        self.time_range = type("Range", (), {"elapsed_us": lambda _: microseconds})()
        self.is_user_annotation = annotation


def test_kernels_are_counted_per_step(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    steps = pieces.WINDOW[1] - pieces.WINDOW[0]
    kernels = [Event("conv", True, 500.0), Event("region", True, 9000.0, annotation=True)]
    calls = [Event("cudaGraphLaunch"), Event("aten::conv2d"), Event("cudaLaunchKernel")]
    profile = pieces._Profile()
    profile._profiler = type("Profiler", (), {"events": lambda _: steps * (kernels + calls)})()
    found = {measure: value for measure, _, value in profile.counts()}
    assert found == {
        "kernels and copies": 1,
        "kernel launches": 1,
        "graph launches": 1,
        "device busy": pytest.approx(0.5),
    }


def test_a_setting_that_fails_does_not_keep_others_from_being_measured(monkeypatch, tmp_path):
    def timed(network, setting, *_):
        if setting == "bfloat16, graph":
            raise RuntimeError("capture\nfailed")
        yield pieces.row(setting, "training", "images/s", 1.0)

    monkeypatch.setattr(pieces, "_timed", timed)
    for other in ("_timed_and_profiled", "_profiled"):
        monkeypatch.setattr(pieces, other, lambda *_: iter(()))
    found = []
    with pytest.raises(RuntimeError, match=re.escape("bfloat16, graph: RuntimeError: capture")):
        found.extend(r["setting"] for r in pieces.ours("toy", plan.TOY, tmp_path, "cpu"))
    measured = [r["setting"] for r in _all(pieces.ours("toy", plan.TOY, tmp_path, "cpu"))]
    assert measured == ["", "float32"]


def _all(rows):
    found = []
    try:
        for row in rows:
            found.append(row)
    except RuntimeError:
        pass
    return found

"""The workflow on a real Slurm cluster, and what clusters do to jobs."""

import functools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cluster import Cluster, missing
from conftest import ROOT
from maskalign.checkpoint import load_tensors

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
PARTITIONS = ROOT / "tests/slurm/partitions.yaml"
GPU_RULES = {"dense", "imp", "imp_round", "match", "sparse", "interpolation"}
CPU_RULES = {"runs", "claims", "comparison"}
EPOCHS = 3000  # of the long training: about half a minute on one core
LONGER = 9000  # of one that lasts until another job can take it over
DENSE = "results/{}/runs/paper/digits/vgg-x1/dense/init-{}/result.json"

pytestmark = [
    pytest.mark.waits,
    pytest.mark.skipif(bool(missing()), reason=f"NO SLURM CLUSTER: {missing()}"),
]


def study(name: str, epochs: int = 2, **changes) -> dict:
    """Return a study of one pair of thin VGGs."""
    digits = {"source": "digits", "image_size": 8, "mean": [0.3], "std": [0.38]}
    digits |= {"train_images": 200, "test_images": 100}
    shows = [{"dataset": "digits", "model": "vgg"}]
    return {
        "study": name,
        "datasets": {"digits": digits},
        "models": {"vgg": {"architecture": "vgg11", "options": {"plan": [8, "M", 8, "M"]}}},
        "training": {
            "short": {
                "batch_size": 20,
                "keep_epochs": [0],
                "evaluate_every": 500,
                "dense": {"epochs": epochs, "lr": 0.01},
                "imp": {"epochs": 1, "lr": 0.01, "fraction": 0.5},
                "sparse": {"lr": 0.05},
                "connectivity": {"points": 3},
            }
        },
        "jobs": {"minutes": 5, "memory_mib": 1000},
        "experiments": {
            "pair": {
                "dataset": "digits",
                "model": "vgg",
                "training": "short",
                "widths": [1],
                "pairs": 1,
                "sparsities": [0.6],
                "rewind_epochs": [0],
                "interpolation": {"widths": [1]},
            }
        },
        "artefacts": {
            "tables": {"table_05": {"kind": "accuracy", "shows": shows}},
            "figures": {"figure_03": {"kind": "interpolation", "metric": "loss", "shows": shows}},
        },
    } | changes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("slurm"))
    yield running
    running.stop()


class Checkout:
    """A copy of the workflow, from which Snakemake is run on the cluster or here."""

    def __init__(self, folder: Path, cluster: Cluster, config: dict):
        self.folder, self.cluster, self.name = folder, cluster, config["study"]
        for name in ("Snakefile", "workflow", "config", "envs", "profiles", "slurm"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "study.yaml").write_text(yaml.safe_dump(config))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for the cluster: one thread a job, and short waits."""
        fast = "--slurm-init-seconds-before-status-checks 4 --latency-wait 5"
        threads = [f"{rule}=1" for rule in sorted(GPU_RULES)]
        return [
            *(str(SNAKEMAKE), *arguments, "--profile", "slurm", "--configfile", "study.yaml"),
            *("--slurm-partition-config", str(PARTITIONS), *fast.split()),
            *("--set-threads", *threads),
        ]

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake on the cluster."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.cluster.environment | {"MASKALIGN_CHECKPOINT_SECONDS": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C must reach it, though these tests may run in the background, where none does.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str, code: int = 0, seconds: int = 600) -> str:
        """Run Snakemake on the cluster and return what it prints."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=seconds)
        assert process.returncode == code, output[-4000:]
        return output

    def local(self, *arguments: str) -> None:
        """Run Snakemake on this machine alone, with as many threads a job."""
        command = [SNAKEMAKE, *arguments, "--configfile", "study.yaml", "--cores", "2"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def log(self, seed: int = 0) -> str:
        """Return the log of a dense training, or nothing."""
        file = self.folder / f"results/{self.name}/logs/paper/digits/vgg-x1/dense/init-{seed}.log"
        return file.read_text() if file.exists() else ""

    def wait_for_checkpoint(self, seed: int = 0) -> None:
        """Wait until a dense training has a checkpoint from which it can go on."""
        state = self.folder / f"results/{self.name}/state"
        end = time.monotonic() + 120
        while not list(state.glob(f"**/init-{seed}/*/resume.safetensors")):
            assert time.monotonic() < end, "no checkpoint came"
            time.sleep(0.3)


@pytest.fixture
def checkout(tmp_path, cluster):
    """Return a function that makes a copy of the workflow with a study."""

    def make(config: dict) -> Checkout:
        folder = tmp_path / config["study"]
        folder.mkdir()
        return Checkout(folder, cluster, config)

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cluster):
    """Return a function: the folder of a long training, run here without interruption."""

    @functools.cache
    def train(epochs: int) -> Checkout:
        there = Checkout(tmp_path_factory.mktemp("calm"), cluster, study("calm", epochs))
        there.local(DENSE.format("calm", 0))
        return there

    return train


def record(there: Checkout) -> dict:
    return json.loads((there.folder / DENSE.format(there.name, 0)).read_text())


def weights(there: Checkout) -> dict:
    assert record(there)["status"] == "completed"
    folder = (there.folder / DENSE.format(there.name, 0)).parent
    return load_tensors(folder / "model.safetensors")[0]


def assert_equal(one: Checkout, other: Checkout) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    assert all((found[k] == expected[k]).all() for k in expected)


def rule_of(job: dict[str, str]) -> str:
    """Return the rule of a job from its comment, ``rule_<name>_wildcards_<values>``."""
    return job["Comment"].partition("rule_")[2].partition("_wildcards_")[0].strip()


def test_a_study_runs_through_the_profile_as_it_runs_here(checkout, cluster):
    before = {job["JobId"] for job in cluster.jobs()}
    there = checkout(study("cluster"))
    output = there.run("all")
    jobs = [job for job in cluster.jobs() if job["JobId"] not in before]
    by_rule = {}
    for job in jobs:
        assert job["JobState"] == "COMPLETED", (job, output[-3000:])
        by_rule.setdefault(rule_of(job), []).append(job)
    assert set(by_rule) == GPU_RULES | CPU_RULES
    for rule, found in by_rule.items():
        for job in found:
            assert ("gpu" in job.get("TresPerJob", "")) == (rule in GPU_RULES), job
            assert job["Partition"] == ("gpu" if rule in GPU_RULES else "cpu")
    # 5 minutes and 1,000 MiB are what the study asks for where nothing was measured.
    dense = by_rule["dense"][0]
    assert (dense["TimeLimit"], dense["MinMemoryNode"]) == ("00:05:00", "1500M")
    assert re.search(r"^GPU [01]$", there.log(), re.MULTILINE)

    here = checkout(study("local"))
    here.local("all")
    tables = [
        (c.folder / f"results/{c.name}" / name).read_text()
        for name in ("runs.csv", "connectivity.csv", "tables/table_05.csv", "figures/figure_03.csv")
        for c in (there, here)
    ]
    assert tables[::2] == tables[1::2]


def test_a_job_goes_on_after_its_time_limit(checkout, cluster, undisturbed):
    """One minute is too short; the second attempt asks for two, and goes on from the checkpoint.

    The training takes about two minutes. It must not end near a time limit: Slurm then calls a job
    overdue that has just ended. It looks every half minute, so the first attempt ends after 60 to
    90 s.
    """
    epochs = round(EPOCHS * 120 / record(undisturbed(EPOCHS))["provenance"]["seconds"])
    jobs = {"minutes": 1, "memory_mib": 1000}
    there = checkout(study("limit", epochs, jobs=jobs))
    before = {job["JobId"] for job in cluster.jobs()}
    # The limits of the profile's four attempts add up to ten minutes.
    there.run(DENSE.format("limit", 0), seconds=1200)
    tried = [job for job in cluster.jobs() if job["JobId"] not in before]
    assert [job["JobState"] for job in tried[:-1]] == ["TIMEOUT"] * (len(tried) - 1)
    assert len(tried) > 1, (
        "the training ended within the first limit: its speed was measured too low"
    )
    assert tried[1]["TimeLimit"] == "00:02:00"
    assert "going on from epoch" in there.log()
    assert_equal(there, undisturbed(epochs))


@pytest.mark.parametrize("event", ["requeue", "preemption", "scancel"])
def test_a_job_goes_on_after(event, checkout, cluster, undisturbed):
    there = checkout(study(event, EPOCHS))
    process = there.start(DENSE.format(event, 0))
    there.wait_for_checkpoint()
    (job,) = cluster.running()
    if event == "requeue":
        cluster.tool("scontrol", "requeue", job)
    elif event == "preemption":
        # The node's GPU for a moment, in a partition that goes first.
        where = ("--partition=urgent", f"--nodelist={cluster.node_of(job)}", "--gpus=1")
        cluster.tool("sbatch", *where, "--wrap=sleep 3", "--output=/dev/null")
    else:
        cluster.tool("scancel", job)
    if event != "scancel":
        cluster.start_again(job)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    assert "going on from epoch" in there.log()
    assert_equal(there, undisturbed(EPOCHS))


def test_a_job_survives_its_node(checkout, cluster, undisturbed):
    """The node is lost to Slurm, but the job on it lives on beside the one that replaces it."""
    there = checkout(study("node", LONGER))
    process = there.start(DENSE.format("node", 0))
    there.wait_for_checkpoint()
    (job,) = cluster.running()
    node = cluster.node_of(job)
    cluster.kill_node(node)
    cluster.start_again(job)
    output, _ = process.communicate(timeout=600)
    cluster.start_node(node)
    assert cluster.node_of(job) != node
    assert process.returncode == 0, output[-3000:]
    assert "going on from epoch" in there.log()
    assert_equal(there, undisturbed(LONGER))


def test_packed_runs_share_an_allocation_and_give_the_same_results(checkout, cluster):
    """Six sparse trainings in one job, one after the other on one GPU, or in a job each."""
    overhead = {}
    tables = []
    for name, profile in (("packed", ["--profile", "slurm/packed.yaml"]), ("single", [])):
        before = {job["JobId"] for job in cluster.jobs()}
        config = study(name)
        config["experiments"]["pair"]["sparsities"] = [0.5, 0.6]
        there = checkout(config)
        table = there.folder / f"results/{name}/tables/table_05.csv"
        there.run(str(table.relative_to(there.folder)), *profile)
        tables.append(table.read_text())
        new = [job for job in cluster.jobs() if job["JobId"] not in before]
        of_sparse = [j for j in new if rule_of(j) == "sparse" or "packed" in j["Comment"]]
        assert len(of_sparse) == (1 if name == "packed" else 6)
        assert all(j["TresPerJob"].endswith("gpu:1") for j in of_sparse)
        records = there.folder.glob("results/*/runs/**/sparsity-*/mask-*/result.json")
        worked = [json.loads(f.read_text())["provenance"]["seconds"] for f in records]
        assert len(worked) == 6
        lasted = sum(
            (pd.Timestamp(j["EndTime"]) - pd.Timestamp(j["StartTime"]) for j in of_sparse),
            pd.Timedelta(0),
        )
        overhead[name] = (lasted.total_seconds() - sum(worked)) / 6
    assert tables[0] == tables[1]
    print({name: f"{seconds:.1f} s a run" for name, seconds in overhead.items()})
    assert overhead["packed"] < overhead["single"]


def test_a_killed_snakemake_takes_its_run_over_from_the_orphan(checkout, cluster, undisturbed):
    """The orphan ends without writing, and what its successor wrote stays."""
    there = checkout(study("orphan", LONGER))
    process = there.start(DENSE.format("orphan", 0))
    there.wait_for_checkpoint()
    process.kill()
    process.wait()
    (orphan,) = cluster.running()
    subprocess.run(there.command("--unlock"), cwd=there.folder, check=True, capture_output=True)
    there.run(DENSE.format("orphan", 0))
    states = {job["JobId"]: job["JobState"] for job in cluster.jobs()}
    assert states[orphan] == "FAILED"
    assert_equal(there, undisturbed(LONGER))


def test_a_job_that_fails_for_good_stops_only_what_needs_it(checkout, cluster):
    """The other model's table is made, and the end names the failure and its log."""
    config = study("broken")
    config["models"]["broken"] = {"architecture": "mynets:broken"}
    pair = config["experiments"]["pair"]
    config["experiments"]["other"] = pair | {"model": "broken", "methods": ["naive"]}
    there = checkout(config)
    (there.folder / "mynets.py").write_text("def broken(classes, width):\n    return 1 / 0\n")
    table = "results/broken/tables/table_05.md"
    bad = DENSE.format("broken", 0).replace("vgg-x1", "broken-x1")
    output = there.run(table, bad, "--retries", "0", code=1)
    assert (there.folder / table).exists()
    log = "results/broken/logs/paper/digits/broken-x1/dense/init-0.log"
    assert "ZeroDivisionError" in (there.folder / log).read_text()
    assert re.search(rf"{log}", output)
    assert "Error in rule dense" in output or "dense" in output.rpartition("failed")[0]


def test_the_profile_names_the_paper_study_and_needs_no_cluster_to_plan():
    """The verbatim command; what a dry run plans asks for more time and memory in wider nets."""
    command = [SNAKEMAKE, "--profile", "slurm", "all_figures", "-n"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\nsparse\s+\d{4}\n", done.stdout)


def test_interrupting_snakemake_cancels_its_jobs(checkout, cluster):
    there = checkout(study("stop", EPOCHS))
    process = there.start(DENSE.format("stop", 0))
    there.wait_for_checkpoint()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode != 0
    end = time.monotonic() + 30
    while cluster.running():
        assert time.monotonic() < end
        time.sleep(0.3)

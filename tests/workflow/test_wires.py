"""Every job is given the right files under the right names, and its script hands them on.

The files are written out from the list of runs in ``tests/unit/wires.py``. Snakemake says itself
what it gives to a job: in a copy of the workflow, the message of a rule is its files by name.
"""

import ast
import contextlib
import inspect
import re
import runpy
import shutil
from collections import defaultdict

import pytest
import wires
import yaml
from conftest import ROOT
from maskalign import analyses, job, sources, stages, study
from running import snakemake
from wires import ROUNDS, dense

RULES = (
    "dense",
    "imp_round",
    "imp",
    "match",
    "sparse",
    "interpolation",
    "imp_barrier",
    "landscape",
    "diversity",
    "diagnosis",
)
OUT = "results/wires"
DATA = f"{OUT}/data/digits.safetensors"
RUNS = wires.runs()

# -- what Snakemake gives to each job --------------------------------------------------------------


def speaking(rules: str) -> str:
    """Return the text of a rule file in which the message of every stage is its files by name."""
    parts = re.split(r"^(?=(?:use )?rule )", rules, flags=re.MULTILINE)
    for i, part in enumerate(parts):
        (name,) = re.findall(r"^(?:use rule \w+ as|rule) (\w+)", part) or [""]
        if name not in RULES:
            continue
        fields = []
        for section in ("input", "output", "params"):
            body = re.search(rf"^    {section}:\n((?:        .*\n|\n)*)", part, re.MULTILINE)
            keys = re.findall(r"^        (\w+)=", body[1], re.MULTILINE) if body else []
            fields += [f"{section}.{key}=<{{{section}.{key}}}>" for key in keys]
        message = f'"wired {name} {" ".join(fields)}"'
        parts[i], count = re.subn(r"(?<=message:\n        )\".*\"", message, part)
        assert count == 1
    return "".join(parts)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Return for each run its rule and what Snakemake gives to its job, by name."""
    folder = tmp_path_factory.mktemp("wires")
    for name in ("config", "envs", "profiles", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "workflow").mkdir()
    for entry in (ROOT / "workflow").iterdir():
        if entry.name != "rules":
            (folder / "workflow" / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "workflow/rules", folder / "workflow/rules")
    for file in (folder / "workflow/rules").iterdir():
        file.write_text(speaking(file.read_text()))
    (folder / "wires.yaml").write_text(yaml.safe_dump(wires.STUDY))
    done = snakemake(folder, "--configfile", "wires.yaml", "--dry-run", f"{OUT}/runs.csv")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = {}
    for line in re.findall(r"^Job \d+: wired (.*)$", done.stdout + done.stderr, re.MULTILINE):
        rule, fields = line.split(" ", 1)
        files = dict(re.findall(r"(\S+?)=<(.*?)>", fields))
        path = files["output.result"].removeprefix(f"{OUT}/runs/").removesuffix("/result.json")
        assert path not in found
        found[path] = (rule, files)
    return found


def files(path, *names):
    return " ".join(f"{OUT}/runs/{path}/{name}" for name in names)


def model(*paths):
    return " ".join(files(path, "model.safetensors") for path in paths)


def mask(*paths):
    return " ".join(files(path, "mask.safetensors") for path in paths)


def permutation(path):
    return files(path, "permutation.safetensors") if path else ""


def expected(path):
    """Return the rule of a run and its inputs by name, written out from its parents."""
    of, stage = RUNS[path], path.split("/")[3]
    if stage == "dense":
        return "dense", {}
    if stage == "imp":
        start = of["before"]
        of_rule = {"start": model(start), "start_mask": mask(start) if "/imp/" in start else ""}
        return ("imp" if "sparsity" in path else "imp_round"), of_rule
    if stage == "match":
        return stage, {
            "a": model(of["a"]),
            "b": model(of["b"]),
            "b_checkpoints": files(of["b"], "checkpoints"),
            "beside": permutation(of["beside"]),
        }
    if stage in wires.METHODS:
        return "sparse", {
            "checkpoints": files(of["init"], "checkpoints"),
            "imp_mask": mask(of["mask"]),
            "permutation": permutation(of["match"]),
        }
    if stage == "interpolation":
        aligned = permutation(of["match"])
        return stage, {"a": model(of["a"]), "b": model(of["b"]), "permutation": aligned}
    if stage == "imp_barrier":
        rounds = of["rounds"]
        return stage, {
            "start": model(of["start"]),
            "rounds": model(*rounds),
            "masks": mask(*rounds),
        }
    if stage == "landscape":
        return stage, {
            "a": model(of["a"]),
            "lth": model(of["lth"]),
            "permuted": model(of["permuted"]),
            "permutation": permutation(of["match"]),
        }
    if stage == "diagnosis":
        return stage, {
            "a": model(of["a"]),
            "b": model(of["b"]),
            "permutation": permutation(of["match"]),
            "masks": mask(*of["masks"]),
            "own": mask(*of["own"]),
        }
    return stage, {method: model(*members) for method, members in of.items()}


def test_all_jobs_are_asked_for(given):
    assert given.keys() == RUNS.keys()


@pytest.mark.parametrize("path", RUNS)
def test_a_job_is_given_the_right_files_under_the_right_names(given, path):
    rule, found = given[path]
    name, inputs = expected(path)
    assert rule == name
    assert {k.removeprefix("input."): v for k, v in found.items() if k.startswith("input.")} == (
        {"data": DATA} | inputs
    )


TRAINED = {"model": "model.safetensors", "history": "history.csv", "result": "result.json"}
MASKED = TRAINED | {"mask": "mask.safetensors"}
OUTPUTS = {
    "dense": TRAINED | {"checkpoints": "checkpoints"},
    "imp_round": MASKED,
    "imp": MASKED,
    "match": {"permutation": "permutation.safetensors", "result": "result.json"},
    "sparse": MASKED,
    "interpolation": {"curve": "curve.csv", "result": "result.json"},
    "imp_barrier": {"curve": "curve.csv", "result": "result.json"},
    "landscape": {"grid": "grid.csv", "result": "result.json"},
    "diversity": {"result": "result.json"},
    "diagnosis": {"result": "result.json"},
}


@pytest.fixture(scope="module")
def planned():
    return study.Study(wires.STUDY)


def test_a_job_writes_into_its_own_folder_and_has_its_own_values(given, planned):
    for path, (rule, found) in given.items():
        names = {f"output.{k}": files(path, file) for k, file in OUTPUTS[rule].items()}
        assert {k: v for k, v in found.items() if k.startswith("output.")} == names
        trains = rule in ("dense", "imp_round", "imp", "sparse")
        assert found.get("params.state") == (f"{OUT}/state/{path}" if trains else None)
        assert ast.literal_eval(found["params.values"]) == planned.run(path)["values"]


def test_the_list_would_tell_wrong_files_from_right_ones():
    """Every role has another file than every other role, in some run at least."""
    for stage in ("match", "interpolation", "landscape", "sparse", "diagnosis"):
        for path in RUNS:
            rule, inputs = expected(path)
            given = [file for file in inputs.values() if file]
            assert rule != stage or len(set(given)) == len(given)
    masks = {expected(path)[1]["imp_mask"] for path in RUNS if expected(path)[0] == "sparse"}
    assert len(masks) == 6  # of two pairs, each at two sparsities, and B's own at one
    assert [len(expected(path)[1]["masks"].split()) for path in RUNS if "imp_barrier" in path] == [
        len(ROUNDS[0.8])
    ] * 2
    assert model(dense(0)) != model(dense(1))


# -- what a script hands on ------------------------------------------------------------------------


class Named:
    """Stands for ``snakemake.input``: each name has a value that says where it is."""

    def __init__(self, section, **known):
        self._section, self._known = section, known

    def __getattr__(self, name):
        return self._known.get(name, f"{self._section}.{name}")

    def __getitem__(self, name):
        return getattr(self, str(name))


class Snakemake:
    """A made-up job; an input named in ``absent`` is empty."""

    def __init__(self, absent=(), config=None, wildcards=None):
        self.input = Named("input", **{name: [] for name in absent})
        self.output = Named("output")
        self.params = Named("params", values={"processes": 3})
        self.wildcards = Named("wildcards", **(wildcards or {}))
        self.config = config


VALUES = {"values": {"processes": 3}}


def wire(section, *names):
    return {name: f"{section}.{name}" for name in names}


TRAINER = wire("output", "model", "history", "result") | VALUES | {"state": "params.state"}
# Each script with its function and, of each argument, where it comes from.
CALLS = [
    ("dense", stages.dense, wire("input", "data") | TRAINER | wire("output", "checkpoints")),
    (
        "imp",
        stages.imp,
        wire("input", "data", "start", "start_mask") | TRAINER | wire("output", "mask"),
    ),
    (
        "match",
        stages.match,
        wire("input", "data", "a", "b", "b_checkpoints", "beside")
        | wire("output", "permutation", "result")
        | VALUES,
    ),
    (
        "sparse",
        stages.sparse,
        wire("input", "data", "checkpoints", "imp_mask", "permutation")
        | TRAINER
        | wire("output", "mask"),
    ),
    (
        "interpolation",
        analyses.interpolation,
        wire("input", "data", "a", "b", "permutation") | wire("output", "curve", "result") | VALUES,
    ),
    (
        "imp_barrier",
        analyses.imp_barrier,
        wire("input", "data", "start", "rounds", "masks")
        | wire("output", "curve", "result")
        | VALUES,
    ),
    (
        "landscape",
        analyses.landscape,
        wire("input", "data", "a", "lth", "permuted", "permutation")
        | wire("output", "grid", "result")
        | VALUES,
    ),
    (
        "diversity",
        analyses.diversity,
        wire("input", "data")
        | wire("output", "result")
        | VALUES
        | {"members": wire("input", "dense", "imp", "lth", "permuted", "naive")},
    ),
    (
        "diagnosis",
        analyses.diagnosis,
        wire("input", "data", "a", "b", "permutation", "masks", "own")
        | wire("output", "result")
        | VALUES,
    ),
]


@pytest.fixture
def call(monkeypatch):
    """Return a function that runs a script; it returns the arguments and the GPUs asked for."""

    def run(script, function, snakemake):
        calls, gpus = [], []

        def record(*given, **named):
            calls.append(inspect.signature(function).bind(*given, **named).arguments)

        def make_job(snakemake, asked=0, **more):
            gpus.append(more.get("gpus", asked))
            return contextlib.nullcontext()

        monkeypatch.setattr(inspect.getmodule(function), function.__name__, record)
        monkeypatch.setattr(job, "job", make_job)
        runpy.run_path(
            str(ROOT / f"workflow/scripts/{script}.py"), init_globals={"snakemake": snakemake}
        )
        return *calls, *gpus

    return run


@pytest.mark.parametrize(("script", "function", "arguments"), CALLS, ids=[c[0] for c in CALLS])
def test_a_script_hands_each_file_to_the_argument_it_belongs_to(call, script, function, arguments):
    found, gpus = call(script, function, Snakemake())
    assert found == arguments
    assert found.keys() == inspect.signature(function).parameters.keys()  # none is forgotten
    assert gpus == (3 if script in ("dense", "imp", "sparse") else 1)


@pytest.mark.parametrize(
    ("script", "name"), [("imp", "start_mask"), ("match", "beside"), ("sparse", "permutation")]
)
def test_a_file_that_a_job_has_not_is_none(call, script, name):
    (function, arguments), *_ = [(f, a) for s, f, a in CALLS if s == script]
    found, _ = call(script, function, Snakemake(absent=[name]))
    assert found == arguments | {name: None}


def test_the_data_script_prepares_the_data_set_of_its_wildcard(call):
    config = wires.STUDY | {"data": {"root": "elsewhere"}}
    other = wires.STUDY["datasets"]["digits"] | {"image_size": 6}
    config = config | {"datasets": wires.STUDY["datasets"] | {"other": other}}
    found, gpus = call("data", sources.prepare, Snakemake([], config, {"dataset": "other"}))
    assert found["spec"].items() >= other.items()
    assert (str(found["out"]), str(found["root"])) == ("output.0", "elsewhere")
    assert gpus == 0


def test_every_stage_script_is_tested():
    rules = defaultdict(set)
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        text = file.read_text()
        for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", text, re.MULTILINE):
            for script in re.findall(r"scripts/(\w+)\.py", body):
                rules[rule].add(script)
    assert {script for rule in RULES for script in rules[rule]} == {c[0] for c in CALLS}

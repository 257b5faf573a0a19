"""Bad input ends in one line; bad_input.yaml says which."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from maskalign import configfiles, cost, given, limits, targets
from maskalign.requests import Requests
from maskalign.study import Study, StudyError, load
from snakemake.cli import parse_config
from snakemake.utils import update_config

TABLE = yaml.safe_load((ROOT / "tests/unit/bad_input.yaml").read_text(encoding="utf-8"))


def name_of(case):
    return json.dumps({k: v for k, v in case.items() if k != "says"}, default=str)[:80]


def place(config, key):
    """Return the mapping or list that holds a key joined by /, and its last part."""
    *path, last = [int(p) if p.isdigit() else p for p in key.split("/")]
    for part in path:
        config = config.setdefault(part, {}) if isinstance(config, dict) else config[part]
    return config, last


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # where dotted paths of models are looked for


@pytest.mark.parametrize("case", TABLE["studies"], ids=name_of)
def test_a_bad_study_says_what_is_wrong(demo, case):
    for key, value in case.get("change", {}).items():
        holder, last = place(demo, key)
        holder[last] = value
    if "remove" in case:
        holder, last = place(demo, case["remove"])
        del holder[last]
    with pytest.raises(StudyError) as error:
        load(demo)
    assert str(error.value) == case["says"]
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("case", TABLE["overrides"], ids=name_of)
def test_a_bad_override_says_what_is_wrong(demo, case):
    update_config(demo, parse_config([case["override"]]))
    with pytest.raises(StudyError) as error:
        load(demo)
    assert str(error.value) == case["says"]


@pytest.mark.parametrize("case", TABLE["files"], ids=name_of)
def test_a_bad_file_says_what_is_wrong(demo, case, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_bytes(bytes.fromhex(case["bytes"]) if "bytes" in case else case["text"].encode())
    with pytest.raises(ValueError, match=r"study\.yaml") as error:
        load(demo, [file])
    assert str(error.value) == case["says"].replace("FILE", str(file))


def test_no_case_is_there_twice():
    cases = Counter(json.dumps(c, default=str) for cases in TABLE.values() for c in cases)
    assert [case for case, count in cases.items() if count > 1] == []


@pytest.mark.parametrize(
    ("power", "shown"), [(400, f"1{'0' * 56}..."), (5000, "a number of 16610 bits")]
)
def test_a_number_too_large_to_write_is_refused(demo, power, shown):
    demo["training"]["resnet20"]["dense"]["lr"] = 10**power
    line = f"training.resnet20.dense.lr: {shown} is not allowed, must be a finite number"
    with pytest.raises(StudyError) as error:
        load(demo)
    assert str(error.value) == line


def test_a_warm_up_may_take_almost_all_of_the_shortest_training(demo):
    demo["training"]["resnet50"]["sparse"]["warmup_epochs"] = 3.5  # of 6 - 2 epochs
    assert list(limits.problems(Study(demo).config)) == []


def test_other_orders_of_a_list_ask_for_the_same_runs(demo):
    before = set(load(demo).runs.path)
    for experiment in demo["experiments"].values():
        experiment["sparsities"].reverse()
        experiment["widths"].reverse()
    assert set(load(demo).runs.path) == before


def test_options_given_as_text_are_those_of_a_file(demo):
    before = load(demo).config["models"]
    update_config(
        demo, parse_config(["models={vgg11: {options: {plan: [16, M, 32, M, 64, 64, M]}}}"])
    )
    update_config(demo, parse_config(["models={resnet20: {options: {channels: 4}}}"]))
    assert load(demo).config["models"] == before


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none.yaml", "{}: there is no such file"),
        ("table_05.md", "{}: there is no such file; targets stand before --configfile or after --"),
        ("", "{}: is a directory"),
    ],
)
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name, line):
    with pytest.raises(ValueError) as error:
        configfiles.check(tmp_path / name)
    assert str(error.value) == line.format(tmp_path / name)


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, '{"a": ' + "[" * 100_000])
def test_a_file_nested_too_deeply_is_refused(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"study\.yaml: is nested too deeply$"):
        configfiles.check(file)


def test_aliases_that_multiply_are_refused_soon(tmp_path):
    file = tmp_path / "study.yaml"
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    file.write_text("\n".join(lines))
    began = time.process_time()
    with pytest.raises(ValueError, match="has more than 100,000 values, aliases written out"):
        configfiles.check(file)
    assert time.process_time() - began < 30


def test_merge_keys_and_json_are_as_good_as_plain_yaml(tmp_path):
    merged = tmp_path / "merged.yaml"
    merged.write_text("study: a\na: &x {b: 1}\nc: {<<: *x, b: 2}\nd: {<<: [*x, *x]}\n")
    configfiles.check(merged)
    tabs = tmp_path / "tabs.json"
    tabs.write_text('{\n\t"study": "a"\n}')
    configfiles.check(tabs)


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ("-n all", []),
        ("-n --configfile a.yaml b.yaml --cores 2 all", ["a.yaml", "b.yaml"]),
        ("--configfile=a.yaml all", ["a.yaml"]),
        ("all --configfiles a.yaml -- b", ["a.yaml"]),
        ("--config study=a --config-x -n", []),
        ("--configfile", []),
    ],
)
def test_study_files_are_found_on_the_command_line(arguments, files):
    assert configfiles.named(arguments.split()) == files


# -- what is given beside the study ----------------------------------------------------------------


@pytest.fixture
def own(demo):
    """Return a study with a user's own images."""
    spec = {"source": "imagefolder", "image_size": 24, "mean": [0.1], "std": [0.2]}
    demo["datasets"]["mnist-folder"] = spec
    return demo


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nowhere", "datasets.mnist-folder.path: folder 'nowhere' does not exist"),
        ("README.md", "datasets.mnist-folder.path: 'README.md' is a file, must be a folder"),
        ("README.md/x", "datasets.mnist-folder.path: folder 'README.md/x' does not exist"),
        (
            "x" * 300,
            f"datasets.mnist-folder.path: '{'x' * 300}' is not allowed (File name too long)",
        ),
        (
            "~no-such-user/x",
            "datasets.mnist-folder.path: '~no-such-user/x' is not allowed (Could not determine "
            "home directory.)",
        ),
    ],
)
def test_data_that_is_not_there_is_named(own, tmp_path, path, line):
    own["datasets"]["mnist-folder"]["path"] = path
    with pytest.raises(ValueError) as error:
        given.check_folders(Study(own), tmp_path)
    assert str(error.value) == line


def test_data_that_is_prepared_need_not_be_there(own, tmp_path):
    own["datasets"]["mnist-folder"]["path"] = "nowhere"
    (tmp_path / "mnist-folder.json").touch()
    given.check_folders(Study(own), tmp_path)


def test_the_folder_of_published_data_is_no_file(demo, tmp_path):
    demo["data"] = {"root": "README.md"}
    with pytest.raises(ValueError, match=r"data\.root: 'README\.md' is a file, must be a folder"):
        given.check_folders(Study(demo), tmp_path)


ROW = dict.fromkeys(cost.THROUGHPUT, "1")
HEAD = ",".join(ROW)
ONES = ",".join(ROW.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", ": has no column 'device'"),
        (b"device,threads\n", ": has no column 'architecture'"),
        (b"\xff\xfe", ": is no UTF-8 text"),
        (f"{HEAD}\n1,2\n".encode(), ", line 2: has not a value for each column"),
        (f"{HEAD}\n{ONES},1\n".encode(), ", line 2: has not a value for each column"),
        (f'{HEAD}\n"a"b{ONES}\n'.encode(), ": is no CSV table (',' expected after '\"')"),
        (
            f"{HEAD}\n{ONES.replace('1', '1e-300')}\n".encode(),
            ", line 2: train_images_s is '1e-300', must be a number from 1e-06 to 1e+12",
        ),
    ],
)
def test_a_bad_throughput_table_is_named(tmp_path, text, line):
    file = tmp_path / "throughput.csv"
    file.write_bytes(text)
    with pytest.raises(ValueError) as error:
        cost.Throughput([file])
    assert str(error.value) == f"{file}{line}"


def test_a_throughput_table_that_is_a_folder_is_named(demo, tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}: is a directory$"):
        Requests(Study(demo), ROOT / "config/throughput.csv", tmp_path)


def test_a_device_that_was_never_measured_is_refused(demo):
    demo["jobs"] = {"device": "H300"}
    shipped, own = Path("config/throughput.csv"), Path("results/none.csv")
    with pytest.raises(
        ValueError, match=r"^jobs\.device: 'H300' is in neither config/thr"
    ) as error:
        Requests(Study(demo), shipped, own)
    assert "\n" not in str(error.value)


# -- a user's own network --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def net(:\n", r"nets\.py is no Python \(SyntaxError: invalid syntax"),
        ("other = 1\n", r"module own_nets has no 'net'$"),
        ("def f():\n    net = 1\n", r"module own_nets has no 'net'$"),
        ("\0", r"nets\.py is no Python"),
    ],
)
def test_a_module_without_the_network_is_refused_unread(demo, tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    Path("own_nets.py").write_text(text)
    demo["models"]["vgg11"] = {"architecture": "own_nets:net"}
    with pytest.raises(StudyError, match=line) as error:
        load(demo)
    assert str(error.value).startswith("models.vgg11.architecture: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", ["1 / 0", "import sys; sys.exit('a\\nb')", "import nothing_here"])
def test_a_package_that_fails_is_refused_in_one_line(demo, tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    package = Path(f"package_{abs(hash(body))}")
    package.mkdir()
    (package / "__init__.py").write_text(body)
    (package / "nets.py").write_text("def net(): pass")
    demo["models"]["vgg11"] = {"architecture": f"{package}.nets:net"}
    with pytest.raises(StudyError, match=r"models\.vgg11\.architecture: ") as error:
        load(demo)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "def net(): pass",
        "class net: pass",
        "net = print",
        "from math import sqrt as net",
        "from math import *",
        "if True:\n    def net(): pass",
        "def __getattr__(name): return print",
    ],
)
def test_every_way_to_define_a_network_is_found(demo, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("own_nets.py").write_text(text)
    demo["models"]["vgg11"] = {"architecture": "own_nets:net"}
    load(demo)


def test_the_command_line_is_told_from_other_programs():
    assert targets.is_command_line(["/x/bin/snakemake", "-n"])
    assert targets.is_command_line(["/x/site-packages/snakemake/__main__.py"])
    assert not targets.is_command_line(["/x/bin/pytest"])

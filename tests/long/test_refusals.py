"""Bad input and made-up studies at the real command line."""

import re

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from maskalign.study import load
from studies import studies
from test_tiny import TINY, copy_workflow, snakemake

DEMO = ("--configfile", "config/demo.yaml")
FILES = {
    "syntax.yaml": b"study: [a\n",
    "latin.yaml": b"study: caf\xe9\n",
    "list.yaml": b"- study\n",
    "unsafe.yaml": b"study: !!python/object/apply:os.system [ls]\n",
    "twice.yaml": b"study: a\nstudy: b\n",
    "empty.json": b"{}",
}
HAS = (
    "it has all, all_figures, all_tables, claims, comparison, forecast, power, report, rulegraph, "
    "runs, throughput and files "
    "in results/demo/"
)
RUN = "results/demo/runs/paper/mnist/resnet20-x{}/dense/init-0/result.json"
CASES = [
    (
        ["--configfile", "syntax.yaml"],
        "syntax.yaml, line 2: while parsing a flow sequence, expected ',' or ']', but got "
        "'<stream end>'",
    ),
    (["--configfile", "latin.yaml"], "latin.yaml: byte 11 is not UTF-8 text"),
    (["--configfile", "list.yaml"], "list.yaml: is no mapping of keys to values"),
    (
        ["--configfile", "unsafe.yaml"],
        "unsafe.yaml, line 1: tag !!python/object/apply:os.system is not allowed",
    ),
    (["--configfile", "twice.yaml"], "twice.yaml, line 2: key 'study' is given twice"),
    (["--configfile", "empty.json"], "study file: key 'study' is missing"),
    (
        [*DEMO, "all_tables"],
        "all_tables: there is no such file; targets stand before --configfile or after --",
    ),
    (
        ["--config", "protocol=released"],
        "--config changes values of a study, but none is given; give one as well, as in "
        "--configfile config/demo.yaml",
    ),
    (
        [*DEMO, "--config", "training={vgg11: 3}"],
        "training.vgg11: '3' is not allowed, must be object",
    ),
    (
        [*DEMO, "--config", "data={root: Snakefile}"],
        "data.root: 'Snakefile' is a file, must be a folder",
    ),
    (
        ["all_figure"],
        f"target 'all_figure': study 'demo' has no such target (did you mean all_figures?); {HAS}",
    ),
    (
        ["results/demo/tables/table_1.md"],
        "target 'results/demo/tables/table_1.md': study 'demo' has no such target (did you mean "
        f"results/demo/tables/table_19.md?); {HAS}",
    ),
    (
        [RUN.format(3)],
        f"target '{RUN.format(3)}': study 'demo' has no such target (did you mean "
        f"{RUN.format(4)}?); {HAS}",
    ),
    (
        ["results/paper/tables/table_05.md"],
        "target 'results/paper/tables/table_05.md': is not of study 'demo', whose files are in "
        "results/demo/; another study is named by --configfile",
    ),
    (
        ["figure"],
        "target 'figure': this rule makes many files; name those you want, such as "
        "results/demo/figures/figure_01.pdf",
    ),
]


@pytest.mark.parametrize(("arguments", "line"), CASES, ids=[" ".join(a)[:60] for a, _ in CASES])
def test_bad_input_ends_in_one_line(tmp_path, arguments, line):
    folder = copy_workflow(tmp_path)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    done = snakemake(folder, "-n", *arguments)
    assert done.returncode != 0
    ours = [
        row for row in done.stderr.splitlines() if not row.startswith("Using workflow specific")
    ]
    assert ours == [f"study error: {line}"]
    assert done.stdout == ""


def test_a_target_that_a_rule_makes_is_left_to_snakemake(tmp_path):
    targets = [RUN.format(4), "./results/demo/tables/table_05.md", "runs", "results/throughput.csv"]
    done = snakemake(copy_workflow(tmp_path), "-n", "--quiet", "rules", "--", *targets)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_a_data_set_has_one_file(tmp_path):
    """Of tensors there is no list of image files, and the other way round."""
    folder = copy_workflow(tmp_path)
    for name in ("digits.json", "files.safetensors"):
        target = f"results/tiny/data/{name}"
        done = snakemake(folder, "-n", target, "--configfile", str(TINY))
        assert f"study error: target '{target}': study 'tiny' has no such target" in done.stderr


@settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(config=studies())
def test_snakemake_plans_every_run_of_a_valid_study(tmp_path_factory, config):
    folder = copy_workflow(tmp_path_factory.mktemp("valid"))
    (folder / "images").mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(folder, "-n", "--quiet", "rules", "--configfile", "study.yaml", "--", "all")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    planned = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}
    study = load(config)
    for stage, count in study.runs["stage"].value_counts().items():
        assert planned[stage] == count

"""A study is validated before anything runs, and asks for the runs that its experiments need."""

import json

import pytest
import yaml
from conftest import ROOT
from maskalign import configfiles
from maskalign.identity import values_hash
from maskalign.plan import full_rounds
from maskalign.study import Study, StudyError, load


def put(config, key, value):
    """Set a dotted key; a number is an index of a list."""
    *path, last = [int(p) if p.isdigit() else p for p in key.split("/")]
    for part in path:
        config = config[part]
    if value is KeyError:
        del config[last]
    else:
        config[last] = value


E = "experiments/cifar10"
T = "training/resnet20"
BAD = [
    ("study", KeyError, "study file: key 'study' is missing"),
    ("study", "../elsewhere", "study: '../elsewhere' is not allowed; A name of lower-case"),
    ("study", "a b", "study: 'a b' is not allowed; A name of lower-case"),
    ("studdy", 1, "study file: unknown key 'studdy' (did you mean 'study'?); allowed are"),
    ("protocol", "mine", "protocol: 'mine' is not allowed, must be one of paper, released"),
    ("require_all", "maybe", "require_all: 'maybe' is not allowed, must be boolean"),
    ("data", {"root": ""}, "data.root: must not be empty"),
    (f"{T}/released", {"dense": {"epochs": 0}}, "training.resnet20.dense.epochs: 0 is not allowed"),
    (f"{T}/released", {"epochz": 1}, "training.resnet20: unknown key 'epochz'; allowed are"),
    (f"{T}/released", 3, "training.resnet20.released: 3 is not allowed, must be object"),
    ("datasets/mnist/source", "cifar10", "datasets.mnist.mean: must have 3 entries, one a channel"),
    ("experiments", {}, "experiments: must not be empty"),
    ("experiments", [], "experiments: [] is not allowed, must be object"),
    (f"{E}/epochz", 3, "experiments.cifar10: unknown key 'epochz'; allowed are dataset,"),
    (f"{E}/pairs", 0, "experiments.cifar10.pairs: 0 is not allowed, must be at least 1"),
    (f"{E}/pairs", "two", "experiments.cifar10.pairs: 'two' is not allowed, must be integer"),
    (f"{E}/pairs", True, "experiments.cifar10.pairs: True is not allowed, must be integer"),
    (f"{E}/sparsities", [], "experiments.cifar10.sparsities: must not be empty"),
    (
        f"{E}/sparsities",
        [0.5, 1.2],
        "experiments.cifar10.sparsities[1]: 1.2 is not allowed, must be above 0 and below 1",
    ),
    (f"{E}/sparsities", [0.8, 0.8], "experiments.cifar10.sparsities: [0.8, 0.8] names a value"),
    (f"{E}/widths", [0], "experiments.cifar10.widths[0]: 0 is not allowed, must be above 0"),
    (f"{E}/rewind_epochs", [-1], "experiments.cifar10.rewind_epochs[0]: -1 is not allowed"),
    (
        f"{E}/rewind_epochs",
        [8],
        "experiments.cifar10.rewind_epochs: 8 is not allowed, must be at most 7 "
        "(training.resnet20.dense.epochs is 8)",
    ),
    (
        f"{E}/rewind_epochs",
        [3],
        "experiments.cifar10.rewind_epochs: no checkpoint is kept at epoch 3; add it to "
        "training.resnet20.keep_epochs, now [0, 1, 4]",
    ),
    (f"{E}/methods", ["lottery"], "experiments.cifar10.methods[0]: 'lottery' is not defined"),
    (f"{E}/dataset", "cifar", "experiments.cifar10.dataset: 'cifar' is not defined, must be one"),
    (f"{E}/model", "vgg", "experiments.cifar10.model: 'vgg' is not defined, must be one of"),
    (f"{E}/training", "x", "experiments.cifar10.training: 'x' is not defined, must be one of"),
    (
        f"{E}/early_matching/matching_epochs",
        [9],
        "experiments.cifar10.early_matching.matching_epochs: 9 is not allowed, must be at most 8",
    ),
    (
        f"{E}/matching_comparison/rewind_epoch",
        8,
        "experiments.cifar10.matching_comparison.rewind_epoch: 8 is not allowed, must be at most 7",
    ),
    (
        f"{E}/matching_comparison/rewind_epoch",
        2,
        "experiments.cifar10.matching_comparison.rewind_epoch: no checkpoint is kept at epoch 2",
    ),
    (
        f"{E}/matching_comparison",
        {"widths": [1]},
        "experiments.cifar10.matching_comparison: key 'rewind_epoch' is missing",
    ),
    (f"{T}/matching", {"method": "graph"}, "training.resnet20.matching.method: 'graph' is not"),
    (f"{E}/diversity/members", 1, "experiments.cifar10.diversity.members: 1 is not allowed"),
    (f"{T}/dense/epochs", 0, "training.resnet20.dense.epochs: 0 is not allowed, must be at least"),
    (f"{T}/dense/lr", "high", "training.resnet20.dense.lr: 'high' is not allowed, must be number"),
    (f"{T}/dense/lr", "nan", "training.resnet20.dense.lr: nan is not allowed, must be number"),
    (f"{T}/dense", KeyError, "training.resnet20: key 'dense' is missing"),
    (f"{T}/keep_epochs", [0, 99], "training.resnet20.keep_epochs: 99 is beyond the 8 dense"),
    (f"{T}/imp/fraction", 1, "training.resnet20.imp.fraction: 1 is not allowed, must be above 0"),
    (f"{T}/processes", 0, "training.resnet20.processes: 0 is not allowed, must be at least 1"),
    (
        f"{T}/processes",
        3,
        "training.resnet20.batch_size: 64 is not allowed, must be divisible by "
        "training.resnet20.processes, now 3",
    ),
    (f"{T}/precision", "fp8", "training.resnet20.precision: 'fp8' is not allowed, must be one"),
    ("datasets/mnist/source", "cifra", "datasets.mnist.source: 'cifra' is not allowed, must be"),
    ("datasets/mnist/std", [0], "datasets.mnist.std[0]: 0 is not allowed, must be above 0"),
    ("datasets/mnist/std", [1, 1], "datasets.mnist.std: must have as many entries as"),
    ("datasets/mnist/path", "/tmp", "datasets.mnist.path: must be null, as mnist5k comes"),
    ("models/vgg11/architecture", "vgg", "models.vgg11.architecture: 'vgg' is not allowed"),
    ("artefacts/tables/table_5", {}, "artefacts.tables: 'table_5' is not allowed"),
    (
        "models/vgg11/architecture",
        "nowhere.nets:wide",
        "models.vgg11.architecture: no module 'nowhere'; installed packages, PYTHONPATH and the",
    ),
    (
        "models/vgg11/architecture",
        "math.nets:wide",
        "models.vgg11.architecture: no module 'math.nets'; installed packages, PYTHONPATH and the",
    ),
    (
        "artefacts/tables/table_05/shows/0/model",
        "resnet50",
        "artefacts.tables.table_05.shows[0]: no experiment trains resnet50 on mnist",
    ),
    ("artefacts/figures/figure_05/shows", KeyError, "artefacts.figures.figure_05: key 'shows' is"),
]


@pytest.mark.parametrize(("key", "value", "line"), BAD, ids=[f"{k}={v}" for k, v, _ in BAD])
def test_bad_study_gives_one_line_that_names_key_and_rule(demo, key, value, line):
    put(demo, key, value)
    with pytest.raises(StudyError) as error:
        Study(demo)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_duplicate_experiment_names_are_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("experiments:\n  a: {x: 1}\n  b: {x: 1}\n  a: {x: 2}\n")
    with pytest.raises(ValueError, match=r"study.yaml, line 4: key 'a' is given twice"):
        configfiles.check(file)


def test_same_runs_with_other_values_are_refused(demo):
    demo["training"]["other"] = demo["training"]["resnet20"] | {"batch_size": 32}
    demo["experiments"]["again"] = demo["experiments"]["cifar10"] | {"training": "other"}
    with pytest.raises(StudyError, match=r"same runs as experiments\.cifar10 but other values of"):
        Study(demo)


def test_one_model_is_matched_one_way(demo):
    """Tables show a model's permuted runs without saying how they were matched."""
    demo["training"]["other"] = demo["training"]["resnet20"] | {"matching": {"method": "weights"}}
    demo["experiments"]["again"] = demo["experiments"]["svhn"] | {"training": "other"}
    line = (
        r"training\.other\.matching\.method: weights is not allowed, as experiments\.svhn matches "
        "resnet20 on digits by activations; use matching_comparison"
    )
    with pytest.raises(StudyError, match=line):
        Study(demo)


@pytest.mark.parametrize(("own", "other"), [("activations", "weights"), ("weights", "activations")])
def test_both_ways_of_matching_have_runs_of_their_own(demo, own, other):
    put(demo, "training/vgg11/matching", {"method": own})
    study = Study(demo)
    runs = study.runs[study.runs.model == "vgg11"]
    of = {how: runs[runs.matching_method == how] for how in (own, other)}
    compared = of[other]
    # Two pairs, and both sparsities of the experiment at the one rewind epoch.
    assert compared.stage.value_counts().to_dict() == {"match": 2, "interpolation": 2, "sparse": 4}
    assert set(compared[compared.stage == "sparse"].rewind_epoch) == {5}
    for how, mine in of.items():
        for run in mine.to_dict("records"):
            assert run["values"]["matching"]["method"] == how
            if run["stage"] == "match":
                beside = run["parents"]["beside"]
                if how == own:
                    assert not beside
                else:
                    matched = f"paper/mnist/vgg11-x1/match/{own}/mask-{run['mask_seed']:g}"
                    assert beside.startswith(matched)
            else:
                assert study.run(run["parents"]["match"])["matching_method"] == how
            if run["stage"] == "interpolation":
                assert run["values"]["lines"] == ["naive", "permuted"][how == other :]
    unpermuted = runs[runs.method.isin(["dense", "imp", "lth", "naive"])]
    assert unpermuted.matching_method.isna().all()


def test_a_comparison_changes_no_other_run(demo):
    def values(config):
        return {r["path"]: r["values"] for r in Study(config).runs.to_dict("records")}

    whole = values(demo)
    for e in demo["experiments"].values():
        e.pop("matching_comparison", None)
    without = values(demo)
    assert without.items() <= whole.items()
    assert all("weights" in path for path in whole.keys() - without.keys())


def test_loading_leaves_the_configuration_as_it_was(demo):
    before = json.dumps(demo)
    load(demo)
    assert json.dumps(demo) == before


def test_numbers_written_as_text_are_read(demo):
    """Nested values of --config arrive as text, and YAML reads 5e-4 as text."""
    put(demo, f"{T}/weight_decay", "5e-4")
    put(demo, f"{E}/widths", ["1", "0.5"])
    put(demo, f"{T}/keep_epochs", "null")
    put(demo, "datasets/mnist/flip", "true")
    put(demo, f"{E}/rewind_epochs", ["0"])
    put(demo, "datasets/mnist/title", "10")
    for part in ("diversity", "landscape", "early_matching", "matching_comparison"):
        for name in ("cifar10", "cifar100"):
            demo["experiments"][name].pop(part, None)
    for name in ("cifar100", "svhn", "controls", "lengths", "rates"):
        put(demo, f"experiments/{name}/rewind_epochs", ["0"])
    config = Study(demo).config
    assert config["training"]["resnet20"]["weight_decay"] == 5e-4
    assert config["training"]["resnet20"]["keep_epochs"] is None
    assert config["experiments"]["cifar10"]["widths"] == [1, 0.5]
    assert config["datasets"]["mnist"]["flip"] is True
    assert config["datasets"]["mnist"]["title"] == "10"


def test_released_labels_a_checkpoint_by_its_epoch_index(demo):
    """The released code's checkpoint k is the one after k + 1 epochs, of the last one at most."""
    for protocol, later in (("paper", 0), ("released", 1)):
        study = Study(demo | {"protocol": protocol})
        sparse = study.runs[(study.runs.stage == "sparse") & (study.runs.dataset == "mnist")]
        for run in sparse.to_dict("records"):
            assert run["values"]["start_epoch"] == run["rewind_epoch"] + later
            assert run["path"].startswith(f"{protocol}/")
            dense = study.run(run["parents"]["init"])["values"]
            assert run["values"]["start_epoch"] in dense["keep_epochs"]
        matched = study.runs[study.runs.stage == "match"].to_dict("records")
        for run in matched:
            last = run["values"]["dense"]["epochs"]
            assert run["values"]["b_epoch"] == min(run["matching_epoch"] + later, last)


def test_released_takes_the_round_that_comes_within_its_tolerance(demo):
    """20 % a round: 94.50 % is taken for 95 %; 79.0, 89.3 and 96.5 % go on to their targets."""
    demo["training"]["resnet20"]["imp"]["fraction"] = 0.2
    demo["experiments"]["cifar10"]["sparsities"] = [0.8, 0.9, 0.95, 0.97]
    reached = {"paper": {}, "released": {}}
    for protocol, levels in reached.items():
        study = Study(demo | {"protocol": protocol})
        of = (study.runs.stage == "sparse") & (study.runs.dataset == "mnist")
        for run in study.runs[of & (study.runs.model == "resnet20")].to_dict("records"):
            levels[run["sparsity"]] = study.run(run["parents"]["mask"])["sparsity"]
    assert reached["paper"] == {s: s for s in (0.8, 0.9, 0.95, 0.97)}
    assert reached["released"] == pytest.approx({0.8: 0.8, 0.9: 0.9, 0.95: 1 - 0.8**13, 0.97: 0.97})


def test_recipes_follow_the_protocol(demo):
    put(demo, f"{T}/released", {"dense": {"schedule": "steps", "milestones": [4]}})
    dense = {
        p: Study(demo | {"protocol": p}).config["training"]["resnet20"]["dense"]
        for p in ("paper", "released")
    }
    assert (dense["paper"]["schedule"], dense["released"]["schedule"]) == ("cosine", "steps")
    assert dense["paper"]["epochs"] == dense["released"]["epochs"] == 8


# -- what is run only where it is asked for --------------------------------------------------------


def shipped(name, folder="config", **changes):
    return Study(yaml.safe_load((ROOT / folder / f"{name}.yaml").read_text()) | changes)


@pytest.fixture(scope="module")
def paper():
    return shipped("paper")


def test_runs_are_those_from_before_there_were_controls(paper):
    assert paper.fingerprint() == "8d668ac14d4c3cbf"
    assert shipped("grids", "tests/unit").fingerprint() == "e9db98bcc98cf1c1"


def test_optional_experiments_add_runs_and_change_none(paper):
    required, every = paper, shipped("paper", run_optional=True)
    before, after = (
        {r["path"]: r["values"] for r in s.runs.to_dict("records")} for s in (required, every)
    )
    assert before.items() <= after.items()
    assert len(after) == 3278
    optional = {"controls", "lengths", "rates"}
    assert every.config["experiments"].keys() - required.config["experiments"].keys() == optional
    for part, names in {
        "tables": {"table_18", "table_19"},
        "figures": {"figure_14", "figure_15"},
    }.items():
        made = [s.config["artefacts"][part].keys() for s in (every, required)]
        assert made[0] - made[1] == names
        assert made[1] <= made[0]


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_optional_is_there_where_it_is_asked_for(demo, asked):
    demo["run_optional"] = asked
    for part, name in (
        (demo["experiments"], "vgg11"),
        (demo["artefacts"]["tables"], "table_12"),
        (demo["artefacts"]["figures"], "figure_01"),
    ):
        part[name]["optional"] = True
    study = Study(demo)
    assert ("vgg11" in study.config["experiments"]) == asked
    assert (study.runs.model == "vgg11").any() == asked
    assert ("table_12" in study.config["artefacts"]["tables"]) == asked
    assert ("figure_01" in study.config["artefacts"]["figures"]) == asked
    assert study.left_out == {}


def test_optional_experiments_change_no_dense_run(demo):
    """Its early matching keeps a checkpoint, whether it is run or not."""
    demo["training"]["resnet20"]["keep_epochs"] = None
    for e in demo["experiments"].values():
        e["rewind_epochs"] = [0]
        for part in ("early_matching", "matching_comparison", "diversity", "landscape"):
            e.pop(part, None)
    early = {"widths": [1], "rewind_epoch": 0, "matching_epochs": [3]}
    demo["experiments"]["svhn"] |= {"optional": True, "early_matching": early}
    required, every = Study(demo), Study(demo | {"run_optional": True})
    for path in required.paths("dense"):
        assert required.run(path)["values"] == every.run(path)["values"]
    assert required.run(required.paths("dense")[0])["values"]["keep_epochs"] == [0, 3]


def test_a_study_of_optional_experiments_alone_is_refused(demo):
    for e in demo["experiments"].values():
        e["optional"] = True
    with pytest.raises(StudyError, match=r"^experiments: all are optional; set run_optional"):
        Study(demo)


@pytest.mark.parametrize("axis", ["lengths", "rates"])
def test_a_factor_written_as_another_number_of_the_same_value_is_the_same(demo, axis):
    studies = []
    for values in ([1, 2], [1.0, 2.0]):
        demo["experiments"]["svhn"][axis] = values
        studies.append(Study(demo))
    assert studies[0].fingerprint() == studies[1].fingerprint()


@pytest.mark.parametrize("asked", [False, True])
def test_optional_experiments_without_their_data_are_no_error_unless_asked_for(demo, asked):
    demo["datasets"]["mnist-folder"] |= {"source": "imagenet", "title": "ImageNet"}
    demo["experiments"]["imagenet"]["optional"] = True
    demo |= {"run_optional": asked, "require_all": True}
    if asked:
        with pytest.raises(StudyError, match=r"datasets\.mnist-folder\.path: is not given"):
            Study(demo)
    else:
        assert "imagenet" not in Study(demo).config["experiments"]


@pytest.mark.parametrize(
    ("factors", "suffix"),
    [
        ({}, ""),
        ({"lengths": [1.0], "rates": [1]}, ""),
        ({"lengths": [2]}, "_length-2"),
        ({"lengths": [2.0], "rates": [0.5]}, "_length-2_rate-0.5"),
        ({"rates": [1e-05]}, "_rate-1e-05"),
    ],
)
def test_length_and_rate_are_named_where_they_are_not_1(demo, factors, suffix):
    svhn = {"pairs": 1, "sparsities": [0.9], "rewind_epochs": [1], "methods": ["permuted"]}
    demo["experiments"] = {"svhn": demo["experiments"]["svhn"] | svhn | factors}
    demo["artefacts"] = {"tables": {}, "figures": {}}
    (path,) = Study(demo).paths("sparse")
    assert path == (
        "paper/digits/resnet20-x1/permuted/sparsity-0.9/"
        f"mask-0_init-1_order-0_rewind-1_match-activations-8{suffix}"
    )
    values = Study(demo).run(path)["values"]
    assert {k: [values[k]] for k in ("length", "rate") if k in values} == {
        k.removesuffix("s"): v for k, v in factors.items() if v != [1]
    }


@pytest.fixture
def without_data(demo):
    demo["datasets"]["mnist-folder"] |= {"source": "imagenet", "title": "ImageNet"}
    return demo


def test_experiments_without_data_are_left_out(without_data):
    study = Study(without_data)
    assert study.left_out == {"imagenet": "datasets.mnist-folder.path"}
    assert "imagenet" not in study.config["experiments"]
    assert not (study.runs.dataset == "mnist-folder").any()
    given = without_data["datasets"]["mnist-folder"] | {"path": "/data/imagenet"}
    put(without_data, "datasets/mnist-folder", given)
    assert (Study(without_data).runs.dataset == "mnist-folder").any()


def test_require_all_makes_absent_data_an_error(without_data):
    with pytest.raises(StudyError, match=r"datasets\.mnist-folder\.path: is not given, but exper"):
        Study(without_data | {"require_all": True})


def test_where_published_data_lies_does_not_determine_a_run(without_data):
    def values(path):
        put(without_data, "datasets/mnist-folder/path", path)
        runs = Study(without_data).runs
        return runs[runs.dataset == "mnist-folder"]["values"].tolist()

    assert values("/a") == values("/b")
    put(without_data, "datasets/mnist-folder/source", "imagefolder")
    assert values("/a") != values("/b")


def test_every_parent_is_a_run_and_paths_are_unique(demo):
    study = Study(demo)
    assert study.runs.path.is_unique
    for run in study.runs.to_dict("records"):
        for parents in run["parents"].values():
            for path in [parents] if isinstance(parents, str) else parents or []:
                assert study.run(path)


def test_shared_runs_are_trained_once(demo):
    """One dense model a seed, whatever the sparsities; one IMP prefix for all of them."""
    study = Study(demo)
    runs = study.runs[(study.runs.dataset == "mnist") & (study.runs.model == "resnet20")]
    thin = runs[runs.width == 1]
    # Two pairs and five members: seeds 0 to 5.
    assert sorted(thin[thin.stage == "dense"].init_seed) == [0, 1, 2, 3, 4, 5]
    chain = thin[(thin.stage == "imp_round") & (thin.mask_seed == 0)]
    assert sorted(chain["round"]) == [1, 2, 3, 4]


def test_another_sparsity_changes_no_run_that_exists(demo):
    before = {r["path"]: r["values"] for r in Study(demo).runs.to_dict("records")}
    demo["experiments"]["cifar10"]["sparsities"] = [0.9, 0.95, 0.97]
    after = {r["path"]: r["values"] for r in Study(demo).runs.to_dict("records")}
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_b_depends_neither_on_a_nor_on_the_sparsity(demo):
    study = Study(demo)
    runs = study.runs[study.runs.stage == "dense"].to_dict("records")
    assert {run["init_seed"] for run in runs} >= {0, 1, 2, 3}
    for run in runs:
        assert run["values"]["init_seed"] == run["init_seed"]
        assert not {"mask_seed", "sparsity", "imp", "matching"} & run["values"].keys()


def test_pairs_share_no_model(demo):
    study = Study(demo)
    runs = study.runs[(study.runs.stage == "interpolation") & (study.runs.width == 1)]
    groups = runs.groupby(["dataset", "model", "matching_method"])
    assert groups.size().max() == 3
    for _, group in groups:
        seeds = [*group.mask_seed, *group.init_seed]
        assert len(seeds) == len(set(seeds))


def test_titles_do_not_change_what_determines_a_run(demo):
    before = [values_hash(v) for v in Study(demo).runs["values"]]
    demo["datasets"]["mnist"]["title"] = demo["models"]["resnet20"]["title"] = "another"
    assert [values_hash(v) for v in Study(demo).runs["values"]] == before


def test_the_order_of_keys_does_not_change_what_determines_a_run(demo):
    """Snakemake compares params as text."""

    def backwards(value):
        if isinstance(value, dict):
            return {k: backwards(v) for k, v in reversed(value.items())}
        return value

    def texts(config):
        return {r["path"]: repr(r["values"]) for r in Study(config).runs.to_dict("records")}

    assert texts(backwards(demo)) == texts(demo)


@pytest.mark.parametrize(
    ("sparsity", "fraction", "rounds"),
    [
        (0.8, 0.2, 7),
        (0.9, 0.2, 10),
        (0.95, 0.2, 13),
        (0.97, 0.2, 15),
        (0.75, 0.5, 1),
        (0.97, 0.5, 5),
        (0.1, 0.2, 0),
    ],
)
def test_full_rounds_stop_short_of_the_target(sparsity, fraction, rounds):
    levels = full_rounds(sparsity, fraction)
    assert len(levels) == rounds
    assert all(level < sparsity - 1e-9 for level in levels)
    assert 1 - (1 - fraction) ** (rounds + 1) >= sparsity - 1e-9


def test_every_key_of_the_schema_is_described():
    from maskalign.schema import SCHEMA

    def visit(schema, key):
        for name, part in schema.get("properties", {}).items():
            assert "description" in part or "$ref" in part, f"{key}.{name}"
            visit(part, f"{key}.{name}")
        for name, part in schema.get("$defs", {}).items():
            visit(part, name)

    visit(yaml.safe_load(SCHEMA.read_text()), "study")

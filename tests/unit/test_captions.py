"""Captions name the data, the model, the runs, and what is not there."""

import pandas as pd
import pytest
from conftest import ROOT
from maskalign import captions, paper
from maskalign.captions import TIMES
from maskalign.study import Study, read

SHOWN = {"dataset": "mnist", "model": "resnet20", "widths": [1, 4]}


def test_a_stand_in_is_named(demo):
    text = captions.subject(Study(demo), [SHOWN])
    assert text == f"ResNet8 {TIMES}1 and {TIMES}4 on MNIST 12x12 (stands in for CIFAR-10)"


def test_a_data_set_that_stands_for_itself_has_no_such_text(demo):
    demo["datasets"]["mnist"] |= {"stands_for": "", "title": "CIFAR-10"}
    demo["models"]["resnet20"] |= {"options": {}, "title": ""}
    study = Study(demo)
    assert captions.subject(study, [SHOWN]) == f"resnet20 {TIMES}1 and {TIMES}4 on CIFAR-10"
    assert captions.heading(study, SHOWN) == "CIFAR-10, resnet20"
    assert "stand" not in captions.conditions(study, [SHOWN])


def test_conditions_name_protocol_length_fraction_and_options(demo):
    assert captions.conditions(Study(demo), [SHOWN]) == (
        "Protocol paper; T = 8 epochs and 50 % of the remaining weights pruned per IMP round; "
        "ResNet8 is ResNet20 with blocks = [1 1 1], channels = 4."
    )


def test_different_recipes_are_told_apart(demo):
    other = {"dataset": "mnist-folder", "model": "resnet50"}
    text = captions.conditions(Study(demo), [SHOWN, other])
    assert "T = 8 epochs and 50 % of the remaining weights pruned per IMP round for ResNet8" in text
    assert "T = 6 epochs" in text


def test_two_models_of_one_title_are_told_apart(demo):
    demo["models"]["resnet20-wide"] = {
        "architecture": "resnet20",
        "title": "ResNet8",
        "options": {"channels": 6},
    }
    demo["experiments"]["cifar100"]["model"] = "resnet20-wide"
    for kind in demo["artefacts"].values():
        for entry in kind.values():
            for shown in entry.get("shows", []):
                if shown["dataset"] == "mnist-pairs":
                    shown["model"] = "resnet20-wide"
    other = {"dataset": "mnist-pairs", "model": "resnet20-wide"}
    text = captions.conditions(Study(demo), [SHOWN, other, SHOWN])
    assert text.count("ResNet8 on MNIST 12x12 is ResNet20 with") == 1
    assert "ResNet8 on MNIST pairs" in text


def test_what_the_paper_shows_is_what_its_own_study_shows():
    study = read([ROOT / "config/paper.yaml"])
    entries = study.config["artefacts"]["tables"] | study.config["artefacts"]["figures"]
    for name, entry in entries.items():
        if captions.is_extra(study, name) or "shows" not in entry:
            assert name not in paper.SHOWN
            continue
        shown = [
            f"{captions.model_title(study, s['model'])}"
            + (f" {captions._and(map(captions.times, s['widths']))}" if "widths" in s else "")
            + f" on {captions.data_title(study, s['dataset'])}"
            for s in entry["shows"]
        ]
        assert paper.SHOWN[name] == captions._and(shown), name


def test_a_study_that_shows_something_else_says_what_the_paper_shows(demo):
    demo["artefacts"]["tables"]["table_15"]["shows"] = [SHOWN]
    text = captions.in_paper(Study(demo), "table_15")
    assert text == "Table 15 of the paper shows ResNet20 ×1 on CIFAR-10."
    assert captions.in_paper(Study(demo), "figure_12") == "Corresponds to Figure 12 of the paper."


@pytest.mark.parametrize(
    ("name", "number"),
    [("table_05", "Table 5"), ("figure_12", "Figure 12"), ("figure_03_error", "Figure 3 (error)")],
)
def test_numbers_are_those_of_the_paper(name, number):
    assert captions.number(name) == number


def test_what_the_paper_does_not_have_is_an_extra(demo):
    """By its number, or by its kind under any number."""
    shown = demo["artefacts"]["tables"]["table_17"]["shows"]
    demo["artefacts"]["tables"] |= {"table_05": {"kind": "matching", "shows": shown}}
    demo["artefacts"]["tables"] |= {"table_18": {"kind": "accuracy", "shows": shown}}
    study = Study(demo)
    for kind, name in (("tables", "table_05"), ("tables", "table_18"), ("figures", "figure_13")):
        text = captions.about(study, kind, name)
        assert text.endswith("An extra: the paper has nothing of the kind.")
    assert "An extra" not in captions.about(study, "tables", "table_16")


@pytest.mark.parametrize(
    ("part", "kind"),
    [("tables", "methods"), ("tables", "diagnosis"), ("figures", "methods"), ("figures", "length")],
)
def test_what_is_beyond_the_paper_is_an_extra_under_any_number(demo, part, kind):
    name = f"{part[:-1]}_09"
    shown = [{"dataset": "digits", "model": "resnet20"}]
    demo["artefacts"][part][name] = {"kind": kind, "shows": shown}
    text = captions.about(Study(demo), part, name)
    what = captions.KINDS[kind]
    assert text.startswith(f"{part[:-1].capitalize()} 9. {what[0].upper()}{what[1:]}, ResNet8 ×1")
    assert text.endswith("An extra: the paper has nothing of the kind.")


def test_table_16_is_in_the_rebuttal(demo):
    assert "of the rebuttal shows" in captions.in_paper(Study(demo), "table_16")


def test_what_is_absent_or_diverged_is_said():
    missing = {"widths": [8, 16], "sparsities": [0.875], "rewind_epochs": []}
    text = f"Not run at this scale: {TIMES}8, {TIMES}16; S = 87.5 %"
    assert captions.exceptions(missing, 2) == f"{text}; 2 diverged runs left out."
    assert captions.exceptions({}, 0) == ""


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([3, 3], "mean ± sample standard deviation over n = 3 pairs"),
        ([1, 2], "mean ± sample standard deviation over n = 1 to 2 pairs"),
        ([1, 1], "a single pair (n = 1), so no standard deviation"),
    ],
)
def test_the_number_of_runs_is_given(numbers, text):
    assert captions.spread(pd.Series(numbers), "pair") == text


def test_data_that_was_not_given_is_named(demo):
    demo["datasets"]["mnist-folder"] |= {"source": "imagenet", "title": "ImageNet"}
    study, absent = Study(demo), {"dataset": "mnist-folder", "model": "resnet50"}
    sentence = "Not run, as its data was not given: ImageNet (datasets.mnist-folder.path)."
    assert sentence in captions.nothing(study, "table_10", [absent])
    assert sentence in captions.conditions(study, [SHOWN, absent])
    assert sentence in captions.about(study, "tables", "table_10")
    assert "not given" not in captions.conditions(study, [SHOWN])
    assert captions.absence(study, absent) == "not run: the data was not given"
    assert captions.absence(study, SHOWN) == "not run at this scale"

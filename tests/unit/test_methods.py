"""Every method of the registry trains the right weights under the mask that its entry describes.

All tests are of all entries: one that is added is tested too.
"""

import copy
import dataclasses
import re

import pytest
import torch
from chain import LAST, LEVELS, TRAINING, A, B, outputs, record, tensors
from maskalign import (
    controls,
    cost,
    graph,
    identity,
    limits,
    margins,
    methods,
    references,
    stage,
    stages,
)
from maskalign.methods import METHODS, RECIPE, trained
from maskalign.seeds import generator
from maskalign.study import Study, StudyError
from test_stages import check_record, difference, permuted_by_hand
from test_stages import trained as trained_by_hand

NETWORKS = {"a": A, "b": B}
EVERY = trained(METHODS)
DRAWN = [name for name in EVERY if METHODS[name].function]
K = 1


def given_mask(chain, name):
    """Return the mask that a method's function is given, and the ticket that it is made from."""
    method = METHODS[name]
    ticket = tensors(chain.imp(3, NETWORKS[method.ticket]) / "mask.safetensors")
    if not method.matched:
        return ticket, ticket
    how = "activations" if method.matched == RECIPE else method.matched
    perm = tensors(chain.match(how) / "permutation.safetensors")
    aligned = permuted_by_hand(perm, ticket)
    return {k: aligned[k] for k in ticket}, ticket  # layers are drawn in the order of the file


def kept(mask):
    return sum(int(m.sum()) for m in mask.values())


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(m, other[k]) for k, m in one.items())


@pytest.mark.parametrize("name", EVERY)
def test_the_mask_is_that_of_the_ticket_or_what_the_function_makes_of_it(chain, name):
    out, method = chain.sparse(name, K), METHODS[name]
    applied = tensors(out / "mask.safetensors")
    given, ticket = given_mask(chain, name)
    assert same(applied, ticket) == (not method.function and not method.matched)
    assert same(applied, given) == (not method.function)
    assert kept(applied) == kept(ticket)
    if method.function:
        seeds = (NETWORKS[net] for net in (method.ticket, method.start))
        net = chain.network(NETWORKS[method.start])
        start = controls.Start(
            net,
            lambda: graph.derive(net, torch.zeros(2, 1, 8, 8)),
            generator("mask", name, *seeds, "0.6"),
        )
        assert same(applied, controls.drawn(method.function, given, start))


@pytest.mark.parametrize("name", EVERY)
def test_a_method_trains_the_weights_of_its_network_under_its_mask(chain, name):
    out, method = chain.sparse(name, K), METHODS[name]
    mask, end = tensors(out / "mask.safetensors"), tensors(out / "model.safetensors")
    assert not any(end[k][~m].any() for k, m in mask.items())
    init = NETWORKS[method.start]
    start = tensors(chain.dense(init) / f"checkpoints/epoch-{K:04d}.safetensors")
    seed = ("sparse", 0, init, 0)
    after, losses, rates = trained_by_hand(chain, start, seed, LAST - K, "sparse", mask)
    assert difference(end, after[-1]) < 1e-5
    check_record(chain, out, after[-1], losses, rates, LEVELS[3])


def test_methods_are_told_apart():
    looks = [method.look for method in METHODS.values()]
    for values in (
        [method.title for method in METHODS.values()],
        [look.marker for look in looks],
        [look.color for look in looks],
        [look.light for look in looks],
        [look.dark for look in looks],
    ):
        assert len(set(values)) == len(METHODS)
    for name, method in METHODS.items():
        assert (method.name, bool(method.about)) == (name, True)
        for color in (method.look.color, method.look.light, method.look.dark):
            assert re.fullmatch("#[0-9a-f]{6}", color)
        assert bool(method.look.marker) == (name != "dense")


def test_methods_are_listed_once_and_in_order():
    names = ["erk", "naive", "dense", "erk", "nothing"]
    assert methods.ordered(METHODS, names) == ["dense", "naive", "erk"]
    assert trained(METHODS) == [name for name in METHODS if name not in ("dense", "imp")]
    paper = [name for name, method in METHODS.items() if method.paper]
    assert paper == ["dense", "imp", "lth", "naive", "permuted"]
    assert methods.MASKS == ("lth", "naive", "permuted")


# -- what a random mask depends on -----------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch):
    """Draw margins with a tenth of the swaps."""
    monkeypatch.setattr(margins, "SWAPS", 1)


class TrainedError(Exception):
    """Raised in place of training."""


@pytest.fixture
def applied(chain, tmp_path, soon, monkeypatch):
    """Return a function that returns mask and plan of a sparse training that is not made."""
    seen = []

    def stop(model, images, plan, folder, start, mask, *_, **__):
        seen.append((mask, plan))
        raise TrainedError

    made = {name: chain.sparse_arguments(name, K) for name in EVERY}
    monkeypatch.setattr(stages, "train", stop)

    def run(name, **changes):
        arguments = dict(made[name])
        arguments |= {k: str(v) for k, v in changes.pop("files", {}).items()}
        arguments["values"] = arguments["values"] | changes
        with pytest.raises(TrainedError):
            stages.sparse(**arguments | outputs("sparse", tmp_path), data=str(chain.data))
        return seen.pop()

    return run


@pytest.mark.parametrize("name", EVERY)
def test_a_pair_has_one_mask_whatever_the_training(applied, name):
    mask, _ = applied(name)
    for changes in (
        {"rewind_epoch": 0, "start_epoch": 0},
        {"length": 2},
        {"rate": 0.5},
        {"order_seed": 3},
        {"training": TRAINING["dense"]},
    ):
        assert same(applied(name, **changes)[0], mask), changes


@pytest.mark.parametrize("name", DRAWN)
def test_other_pairs_sparsities_and_methods_have_other_draws(chain, soon, name):
    values = chain.sparse_arguments(name, K)["values"]
    given, _ = given_mask(chain, name)
    net = chain.network(B)

    def draw(method=name, **changes):
        function = METHODS[name].function  # also for another method
        return stage.control(values | changes, method, function, given, net, chain.images)

    mask = draw()
    assert same(draw(), mask)
    for changes in ({"mask_seed": 90}, {"init_seed": 91}, {"sparsity": 0.9}):
        assert not same(draw(**changes), mask), changes
    assert not same(draw("fan" if name == "permuted_fan" else "permuted_fan"), mask)


# -- lengths and rates -----------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "epochs"), [(1, 2), (2, 4), (0.5, 1), (1.5, 3)])
def test_the_schedule_is_stretched_with_the_length(applied, length, epochs):
    recipe = {"lr": 0.04, "schedule": "steps", "warmup_epochs": 0.5, "milestones": [1, 2]}
    _, plan = applied("naive", training=recipe, length=length, rate=0.25)
    assert (plan.epochs, plan.lr, plan.warmup_epochs) == (epochs, 0.01, 0.5 * length)
    assert list(plan.milestones) == [length, 2 * length]
    assert plan.schedule == "steps"


def test_a_length_and_a_rate_of_1_change_no_plan(applied):
    recipe = TRAINING["sparse"] | {"warmup_epochs": 1, "milestones": [1, 2]}
    plain = applied("naive", training=recipe)[1]
    assert dataclasses.asdict(plain) == dataclasses.asdict(
        applied("naive", training=recipe, length=1, rate=1)[1]
    )
    assert (plain.epochs, plain.lr, plain.milestones) == (LAST - K, recipe["lr"], [1, 2])


def test_a_longer_training_is_one_cosine_from_its_rate_to_0(chain, tmp_path, monkeypatch):
    arguments = chain.sparse_arguments("naive", K, length=2, rate=0.5)
    stages.sparse(**arguments | outputs("sparse", tmp_path), data=str(chain.data))
    mask = tensors(tmp_path / "mask.safetensors")
    start = tensors(chain.dense(B) / f"checkpoints/epoch-{K:04d}.safetensors")
    half = TRAINING["sparse"] | {"lr": TRAINING["sparse"]["lr"] / 2}
    monkeypatch.setitem(TRAINING, "sparse", half)
    seed = ("sparse", 0, B, 0)
    after, losses, rates = trained_by_hand(chain, start, seed, 2 * (LAST - K), "sparse", mask)
    assert difference(tensors(tmp_path / "model.safetensors"), after[-1]) < 1e-5
    check_record(chain, tmp_path, after[-1], losses, rates, LEVELS[3])
    assert {k: record(tmp_path)["run"][k] for k in identity.FACTORS} == {"length": 2, "rate": 0.5}


@pytest.mark.parametrize(("factors", "epochs"), [({}, 2), ({"length": 2}, 4), ({"rate": 2}, 2)])
def test_a_longer_training_costs_its_epochs(chain, factors, epochs):
    values = chain.values("sparse", "sparse", rewind_epoch=K, **factors)
    found = cost.of({"stage": "sparse", "values": values}, (160, 80))
    assert found == cost.Cost(epochs, epochs * 160, epochs * 80)


def test_only_sparse_training_has_a_length_and_a_rate(chain):
    for stage_of, factors in (("sparse", 1), ("dense", None), ("imp", None)):
        found = identity.identity_of(chain.values(stage_of, stage_of))
        assert (found["length"], found["rate"]) == (factors, factors)
    longer = chain.values("sparse", "sparse", length=2)
    assert (identity.identity_of(longer)["length"], identity.identity_of(longer)["rate"]) == (2, 1)


def test_lengths_of_whole_epochs_are_allowed(demo):
    demo["experiments"]["svhn"] |= {"rewind_epochs": [1, 4], "lengths": [1, 0.25, 2, 1.25]}
    with pytest.raises(StudyError, match=r"experiments\.svhn\.lengths\[1\]: 0\.25 is not allowed"):
        Study(demo)
    demo["experiments"]["svhn"] |= {"rewind_epochs": [4]}
    assert list(limits.problems(Study(demo).config)) == []


# -- a study's own methods -------------------------------------------------------------------------

MASKS = """
import torch

def turned(mask, start):
    return {k: m.flip(0) for k, m in mask.items()}

def spoilt(mask, start):
    start.network.train()(torch.randn(20, 1, 8, 8))
    for weight in start.network.parameters():
        weight.data.zero_()
    return mask

def empty(mask, start):
    return {k: m & False for k, m in mask.items()}
"""


@pytest.fixture
def own(demo, tmp_path, monkeypatch):
    """Return a function that plans one experiment with a method of the study's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_masks.py").write_text(MASKS)

    def study(**entry):
        config = copy.deepcopy(demo)
        config["methods"] = {"my-turn": {"function": "own_masks:turned"} | entry}
        experiment = config["experiments"]["svhn"]
        config["experiments"] = {"svhn": experiment | {"pairs": 1, "methods": ["lth", "my-turn"]}}
        config["artefacts"] = {"tables": {}, "figures": {}}
        return Study(config)

    return study


@pytest.mark.parametrize(
    ("entry", "init", "ticket"),
    [
        ({}, 1, 0),
        ({"start": "a"}, 0, 0),
        ({"ticket": "b"}, 1, 1),
        ({"start": "a", "ticket": "b"}, 0, 1),
        ({"permuted": True}, 1, 0),
    ],
    ids=str,
)
def test_an_own_method_is_planned_as_its_entry_says(own, entry, init, ticket):
    study = own(**entry)
    runs = study.runs[study.runs.method == "my-turn"]
    assert len(runs) == 2  # rewind epochs
    for run in runs.to_dict("records"):
        assert run["values"]["mask_function"] == "own_masks:turned"
        assert "/my-turn/" in run["path"]
        parents = {k: v and study.run(v) for k, v in run["parents"].items()}
        assert parents["init"]["init_seed"] == run["init_seed"] == init
        assert parents["mask"]["mask_seed"] == run["mask_seed"] == ticket
        assert parents["mask"]["sparsity"] == run["sparsity"]
        if "permuted" in entry:
            assert (parents["match"]["mask_seed"], parents["match"]["init_seed"]) == (0, 1)
            assert run["matching_method"] == "activations"
        else:
            assert not parents["match"]


def test_an_own_method_is_named_and_drawn_as_its_entry_says(own):
    plain = own().methods["my-turn"]
    assert list(own().methods) == [*METHODS, "my-turn"]
    assert (plain.title, plain.about) == ("my-turn", "made by own_masks:turned")
    assert plain.look == ("#aa3377", "*", "--", "#aa3377", "#aa3377")
    assert (plain.name, plain.paper, plain.matched) == ("my-turn", False, None)
    look = {"color": "#00ff00", "marker": "8", "dash": "dotted"}
    drawn = own(title="Turned", about="upside down", **look).methods["my-turn"]
    assert (drawn.title, drawn.about) == ("Turned", "upside down")
    assert drawn.look == ("#00ff00", "8", ":", "#00ff00", "#00ff00")


def test_an_own_function_is_given_the_permuted_mask(own, chain, applied):
    aligned = given_mask(chain, "permuted")[0]
    assert not same(aligned, given_mask(chain, "naive")[0])
    for name in ("naive", "permuted"):
        mask, _ = applied(name, method="my-turn", mask_function="own_masks:turned")
        assert same(mask, {k: m.flip(0) for k, m in given_mask(chain, name)[0].items()})


def test_a_function_cannot_change_the_network_that_is_trained(own, chain):
    values = chain.sparse_arguments("naive", K)["values"]
    net, mask = chain.network(B), given_mask(chain, "naive")[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    stage.control(values, "naive", "own_masks:spoilt", mask, net, chain.images)
    assert same(before, net.state_dict())
    assert not net.conv1.weight.eq(0).all()


def test_a_function_that_keeps_too_few_weights_ends_the_run_in_one_line(own, chain, tmp_path):
    arguments = chain.sparse_arguments("naive", K, mask_function="own_masks:empty")
    total = kept(given_mask(chain, "naive")[0])
    with pytest.raises(ValueError) as error:
        stages.sparse(**arguments | outputs("sparse", tmp_path / "out"), data=str(chain.data))
    assert str(error.value) == (
        f"own_masks:empty: keeps 0 weights, must keep as many as the mask it was given, {total}"
    )
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_name_of_the_library_is_refused(own):
    for name in METHODS:
        config = {"methods": {name: {"function": "own_masks:turned"}}, "experiments": {}}
        with pytest.raises(StudyError, match=rf"^methods\.{name}: the library has a method of"):
            references._check_methods(config)


def test_a_title_of_another_method_is_refused(own):
    entries = {"one": own().config["methods"]["my-turn"] | {"title": "naive"}}
    with pytest.raises(StudyError, match=r"^methods\.one\.title: 'naive' is the title of method"):
        references._check_methods({"methods": entries, "experiments": {}})


@pytest.mark.parametrize("entry", [{"start": "a"}, {"ticket": "b"}], ids=str)
def test_a_mask_permuted_to_b_is_for_b(own, entry):
    entries = {"one": own().config["methods"]["my-turn"] | {"permuted": True} | entry}
    with pytest.raises(StudyError, match=r"^methods\.one\.permuted: true is not allowed with "):
        references._check_methods({"methods": entries, "experiments": {}})

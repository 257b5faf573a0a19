"""Every run of a study is made from the right runs, by its part of the recipe.

The list of runs and parents in ``wires.py`` is written out by name.
"""

import copy

import pytest
import wires
from maskalign import limits, plan, study
from maskalign.methods import MASKS, METHODS, trained
from wires import EPOCHS, FOLDER, LAST, PAIRS, SPARSITIES, dense, imp, match, sparse


@pytest.fixture(scope="module")
def planned():
    return study.Study(copy.deepcopy(wires.STUDY))


@pytest.fixture(scope="module")
def released():
    return study.Study(copy.deepcopy(wires.STUDY) | {"protocol": "released"})


def test_the_study_has_exactly_its_runs(planned):
    assert set(planned.runs.path) == set(wires.runs())


@pytest.mark.parametrize("path", wires.runs())
def test_every_run_is_made_from_the_right_runs(planned, path):
    assert planned.run(path)["parents"] == wires.runs()[path]


@pytest.mark.parametrize("k", EPOCHS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("method", MASKS)
def test_which_mask_whose_weights_from_which_epoch(planned, released, method, a, b, sparsity, k):
    run = planned.run(sparse(method, a, b, sparsity, k))
    init = a if method == "lth" else b
    assert run["parents"] == {
        "init": dense(init),
        "mask": imp(a, f"sparsity-{sparsity}"),
        "match": match(a, b) if method == "permuted" else [],
    }
    about = {
        "stage": "sparse",
        "method": method,
        "mask_seed": a,
        "init_seed": init,
        "order_seed": 0,
        "sparsity": sparsity,
        "rewind_epoch": k,
        "start_epoch": k,
    }
    assert {key: run["values"][key] for key in about} == about
    of_matching = {"matching_epoch": LAST, "matching_method": "activations"}
    found = {key: run["values"].get(key) for key in of_matching}
    assert found == (of_matching if method == "permuted" else dict.fromkeys(of_matching))
    # A checkpoint's label is one epoch behind there.
    late = released.run(sparse(method, a, b, sparsity, k).replace("paper", "released"))["values"]
    assert (late["rewind_epoch"], late["start_epoch"]) == (k, k + 1)


def test_every_method_of_the_registry_is_written_out():
    assert list(wires.METHODS) == trained(METHODS)


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("method", wires.METHODS)
def test_every_method_is_made_from_its_ticket_by_its_function(planned, method, a, b):
    start, ticket, how, function = wires.METHODS[method]
    of = {"a": a, "b": b}
    run = planned.run(sparse(method, a, b, 0.6, 1))
    assert run["parents"] == {
        "init": dense(of[start]),
        "mask": imp(of[ticket], "sparsity-0.6"),
        "match": match(a, b, how) if how else [],
    }
    values, unmatched = run["values"], dict.fromkeys(["matching_epoch", "matching_method"])
    assert (values["method"], values["mask_seed"], values["init_seed"]) == (
        method,
        of[ticket],
        of[start],
    )
    matched = {"matching_epoch": LAST, "matching_method": how} if how else unmatched
    assert {key: values.get(key) for key in unmatched} == matched
    assert values.get("matching", {}).get("method") == how
    assert values.get("mask_function") == (function and f"maskalign.controls:{function}")


@pytest.mark.parametrize("method", ["lth", "permuted", "shuffled"])
def test_lengths_and_rates_are_in_path_and_values_where_they_are_not_1(planned, method):
    plain = planned.run(sparse(method, 0, 1, 0.8, 2))["values"]
    assert not {"length", "rate"} & plain.keys()
    for length in (1, 2, 0.5):
        for rate in (1, 0.25):
            factors = {"_length": length, "_rate": rate}
            suffix = "".join(f"{k}-{v}" for k, v in factors.items() if v != 1)
            values = planned.run(sparse(method, 0, 1, 0.8, 2, factors=suffix))["values"]
            changed = {k[1:]: v for k, v in factors.items() if v != 1}
            assert values == plain | changed


def test_a_diagnosis_names_its_sparsities_and_how_each_mask_is_made(planned):
    values = planned.run(f"{FOLDER}/diagnosis/mask-2_init-3_match-activations")["values"]
    assert values["sparsities"] == [0.8, 0.6]
    function = "maskalign.controls:"
    assert values["masks"] == {
        "naive": {"permuted": False, "mask_function": None},
        "permuted": {"permuted": True, "mask_function": None},
        "permuted_fan": {"permuted": True, "mask_function": f"{function}fan"},
        "fan": {"permuted": False, "mask_function": f"{function}fan"},
        "shuffled": {"permuted": False, "mask_function": f"{function}shuffled"},
    }
    assert (values["mask_seed"], values["init_seed"]) == (2, 3)


def test_another_length_or_control_changes_no_run_that_exists(planned):
    config = copy.deepcopy(wires.STUDY)
    del config["experiments"]["controls"], config["experiments"]["lengths"]
    before = {r["path"]: r["values"] for r in study.Study(config).runs.to_dict("records")}
    after = {r["path"]: r["values"] for r in planned.runs.to_dict("records")}
    assert before.items() <= after.items()


RECIPE = wires.STUDY["training"]["short"]


@pytest.mark.parametrize(
    ("path", "part", "behind"),
    [
        (dense(1), "dense", set()),
        (imp(2, "round-2"), "imp", {"dense"}),
        (imp(2, "sparsity-0.8"), "imp", {"dense"}),
        (sparse("lth", 0, 1, 0.6, 1), "sparse", {"dense", "imp"}),
        (sparse("naive", 0, 1, 0.6, 1), "sparse", {"dense", "imp"}),
        (sparse("permuted", 0, 1, 0.6, 1), "sparse", {"dense", "imp", "matching"}),
        (sparse("own", 0, 1, 0.6, 1), "sparse", {"dense", "imp"}),
        (sparse("permuted_fan", 0, 1, 0.6, 1), "sparse", {"dense", "imp", "matching"}),
        (
            f"{FOLDER}/diagnosis/mask-0_init-1_match-activations",
            None,
            {"dense", "imp", "matching"},
        ),
        (match(0, 1), None, {"dense", "matching"}),
        (
            f"{FOLDER}/interpolation/mask-0_init-1_match-weights",
            None,
            {"dense", "matching", "connectivity"},
        ),
        (f"{FOLDER}/imp_barrier/mask-0_sparsity-0.8", None, {"dense", "imp", "connectivity"}),
        (
            f"{FOLDER}/landscape/mask-0_init-1_sparsity-0.8_rewind-2_match-activations",
            None,
            {"dense", "imp", "sparse", "matching", "connectivity"},
        ),
        (
            f"{FOLDER}/diversity/mask-0_sparsity-0.6_rewind-1",
            None,
            {"dense", "imp", "sparse", "matching"},
        ),
    ],
)
def test_a_run_is_trained_by_its_part_and_depends_on_the_parts_behind(planned, path, part, behind):
    values = planned.run(path)["values"]
    assert values.keys() & set(plan.PARTS) == behind
    for name in behind & RECIPE.keys():
        assert values[name].items() >= RECIPE[name].items()
    assert values["batch_size"] == RECIPE["batch_size"]
    assert ("training" in values) == (part is not None)
    if part:
        assert values["training"].items() >= RECIPE[part].items()
        assert values["training"]["lr"] == RECIPE[part]["lr"]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_dense_models_keep_the_epochs_that_are_asked_for(planned, released, seed):
    run = planned.run(dense(seed))["values"]
    assert (run["init_seed"], run["order_seed"], run["keep_epochs"]) == (seed, 0, [0, 1, 2, 3])
    late = released.run(dense(seed).replace("paper", "released"))["values"]
    assert late["keep_epochs"] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", wires.LEVELS)
def test_imp_rounds_know_their_number_and_their_sparsity(planned, name):
    values = planned.run(imp(2, name))["values"]
    numbers = {"round-1": 1, "round-2": 2, "sparsity-0.6": 2, "sparsity-0.8": 3}
    seeds = values["mask_seed"], values["init_seed"], values["order_seed"]
    assert (values["round"], seeds) == (numbers[name], (2, 2, 0))
    assert values["sparsity"] == wires.LEVELS[name]
    assert values["stage"] == ("imp" if name.startswith("sparsity") else "imp_round")


@pytest.mark.parametrize("epoch", [1, 3, LAST])
def test_matchings_know_the_epoch_of_b(planned, released, epoch):
    values = planned.run(match(2, 3, epoch=epoch))["values"]
    assert (values["mask_seed"], values["init_seed"], values["b_epoch"]) == (2, 3, epoch)
    late = released.run(match(2, 3, epoch=epoch).replace("paper", "released"))["values"]
    assert late["b_epoch"] == min(epoch + 1, LAST)
    early = planned.run(sparse("permuted", 2, 3, 0.6, 2, epoch=epoch))
    assert early["values"]["matching_epoch"] == epoch
    assert early["parents"]["match"] == match(2, 3, epoch=epoch)


@pytest.mark.parametrize("how", ["activations", "weights"])
def test_both_methods_of_matching_are_told_apart(planned, how):
    runs = [
        match(0, 1, how),
        sparse("permuted", 0, 1, 0.8, 1, how),
        f"{FOLDER}/interpolation/mask-0_init-1_match-{how}",
    ]
    for path in runs:
        values = planned.run(path)["values"]
        assert values["matching"]["method"] == values["matching_method"] == how
    # The line from A to B itself belongs to the recipe's matching.
    lines = {"activations": ["naive", "permuted"], "weights": ["permuted"]}[how]
    assert values["lines"] == lines


def test_the_other_matching_is_the_other_one():
    assert plan.OTHER_MATCHING == {"activations": "weights", "weights": "activations"}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_members_of_the_lth_ensemble_differ_in_their_order(planned, order):
    values = planned.run(sparse("lth", 0, 0, 0.6, 1, order=order))["values"]
    assert (values["order_seed"], values["init_seed"], values["mask_seed"]) == (order, 0, 0)


def test_pairs_begin_at_the_first_pair():
    config = copy.deepcopy(wires.STUDY)
    config["experiments"] = {"all": config["experiments"]["all"] | {"first_pair": 5}}
    for name in ("early_matching", "matching_comparison", "diversity", "imp_barrier", "landscape"):
        del config["experiments"]["all"][name]
    runs = study.Study(config).runs
    assert set(runs[runs.stage == "dense"].init_seed) == {10, 11, 12, 13}
    ends = runs[runs.method.isin(["naive", "permuted"])]
    assert set(zip(ends.mask_seed, ends.init_seed, strict=True)) == {(10, 11), (12, 13)}


@pytest.mark.parametrize(
    ("first", "members", "expected"), [(0, 5, [0, 6, 12]), (2, 4, [4, 10, 16])]
)
def test_several_masks_share_no_seed(first, members, expected):
    config = copy.deepcopy(wires.STUDY)
    experiment = config["experiments"]["all"]
    experiment["first_pair"] = first
    experiment["diversity"] |= {"members": members, "masks": 3}
    planned = study.Study(config)
    ensembles = [planned.run(path) for path in planned.paths("diversity")]
    assert [run["mask_seed"] for run in ensembles] == expected
    assert limits.mask_seeds(first, 3, members) == [(a, a + members) for a in expected]
    seeds = []
    for run in ensembles:
        made = {m: [planned.run(path) for path in paths] for m, paths in run["parents"].items()}
        assert {m: len(found) for m, found in made.items()} == dict.fromkeys(made, members)
        for method in ("lth", "permuted", "naive"):
            assert {r["mask_seed"] for r in made[method]} == {run["mask_seed"]}
        seeds.append({r["init_seed"] for found in made.values() for r in found})
        assert len(seeds[-1]) == members + 1
    assert len(set.union(*seeds)) == 3 * (members + 1)

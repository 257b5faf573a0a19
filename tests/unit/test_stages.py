"""Every stage uses each of its files and values as what it is, and for nothing else.

A stage's weights are compared with those of a plain training that is written out here: from these
weights, with this mask, at this rate, on the batches of this seed. Another parent, another part of
the recipe or another seed would give other weights.
"""

import dataclasses
import inspect
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from chain import BATCH, KEPT, LAST, LEVELS, SHARED, TRAINING, A, B, Chain, outputs, record, tensors
from maskalign import graph, matching, stages, symmetry, training
from maskalign import stage as stage_module
from maskalign.checkpoint import read_metadata, save_tensors
from maskalign.evaluation import evaluate
from maskalign.ownership import OwnershipError
from maskalign.seeds import derive, generator

STEPS = 8  # in an epoch of 160 images


def trained(chain, weights, seed, epochs, part, mask=None):
    """Return weights, and losses and rates per epoch, of plain SGD; weights after every epoch."""
    recipe = SHARED | TRAINING[part]
    net, mask = chain.network(weights), mask or {}
    sgd = torch.optim.SGD(
        net.parameters(),
        lr=1,
        momentum=recipe["momentum"],
        weight_decay=recipe["weight_decay"],
        fused=True,  # rounds as the training loop does
    )

    def multiply():
        with torch.no_grad():
            for name, entry in mask.items():
                net.get_parameter(name).mul_(entry)

    multiply()
    after, losses, rates = [copied(net)], [], []
    for epoch in range(epochs):
        net.train()
        losses.append(0.0)
        for step, (x, y) in enumerate(chain.images.train_batches(BATCH, seed, epoch)):
            done = (epoch * STEPS + step) / (epochs * STEPS)
            sgd.param_groups[0]["lr"] = recipe["lr"] * (1 + math.cos(math.pi * done)) / 2
            sgd.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            sgd.step()
            multiply()
            losses[-1] += loss.item() / STEPS
        rates.append(sgd.param_groups[0]["lr"])
        after.append(copied(net))
    return after, losses, rates


def copied(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def permuted_by_hand(perm, mask):
    """Permute the mask of the tiny residual network, axis by axis."""
    stem, inner, first, last = (
        perm[name] for name in ("conv1", "stages.0.0.conv1", "stages.1.0.conv1", "stages.1.0.conv2")
    )
    return {
        "conv1.weight": mask["conv1.weight"][stem],
        "stages.0.0.conv1.weight": mask["stages.0.0.conv1.weight"][inner][:, stem],
        "stages.0.0.conv2.weight": mask["stages.0.0.conv2.weight"][stem][:, inner],
        "stages.1.0.conv1.weight": mask["stages.1.0.conv1.weight"][first][:, stem],
        "stages.1.0.conv2.weight": mask["stages.1.0.conv2.weight"][last][:, first],
        "linear.weight": mask["linear.weight"][:, last],
    }


def pruned_by_hand(weights, before, sparsity):
    """Return the mask of the largest weights, among those that ``before`` keeps."""
    magnitude = torch.cat([(weights[k].abs() * m + m).flatten() for k, m in before.items()])
    remain = round((1 - sparsity) * len(magnitude))
    least = magnitude.sort(descending=True).values[remain - 1]
    assert (magnitude >= least).sum() == remain  # no ties, so there is one right mask
    return {k: (weights[k].abs() * m + m) >= least for k, m in before.items()}


def check_record(chain, out, weights, losses, rates, sparsity=None):
    """Check what a training run has recorded, against its end and its losses."""
    scores = evaluate(chain.network(weights), chain.images.test_batches())
    found = record(out)
    metrics = {(m["split"], m["metric"]): m["value"] for m in found["metrics"]}
    expected = {("test", k): v for k, v in scores.items()} | {("train", "loss"): losses[-1]}
    assert metrics == pytest.approx(expected, rel=1e-4)
    assert found["status"] == "completed"
    assert found.get("sparsity_reached") == (sparsity and pytest.approx(sparsity, abs=1e-3))
    history = pd.read_csv(out / "history.csv")
    assert list(history.epoch) == list(range(1, len(losses) + 1))
    assert list(history.train_loss) == pytest.approx(losses, rel=1e-4)
    assert list(history.lr) == pytest.approx(rates, rel=1e-6)
    assert history.test_accuracy.iloc[-1] == pytest.approx(scores["accuracy"])
    assert not (out / "state").exists()


@pytest.fixture(scope="module")
def references(chain):
    """Return the weights after each epoch, losses and rates of a plain training of A and of B."""
    return {seed: trained(chain, seed, ("dense", 0, seed, 0), LAST, "dense") for seed in (A, B)}


# -- dense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [A, B])
def test_a_dense_model_is_trained_from_its_own_init_and_kept_after_the_right_epochs(
    chain, references, seed
):
    out = chain.dense(seed)
    after, losses, rates = references[seed]
    assert difference(tensors(out / "model.safetensors"), after[LAST]) < 1e-5
    files = {f"epoch-{epoch:04d}.safetensors": epoch for epoch in KEPT}
    assert {f.name for f in (out / "checkpoints").iterdir()} == files.keys()
    for name, epoch in files.items():
        kept = tensors(out / "checkpoints" / name)
        assert difference(kept, after[epoch]) < 1e-5
        assert all(difference(kept, after[e]) > 1e-3 for e in KEPT if e != epoch)
    check_record(chain, out, after[LAST], losses, rates)
    assert difference(references[A][0][0], references[B][0][0]) > 1e-3


def test_only_the_epochs_that_are_asked_for_are_kept(chain, tmp_path):
    arguments = chain.dense_arguments(A, keep_epochs=[1])
    stages.dense(**arguments | outputs("dense", tmp_path), data=str(chain.data))
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["epoch-0001.safetensors"]


# -- IMP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_imp_round_prunes_and_trains_the_model_of_the_round_before(chain, number):
    before, out = (chain.imp(number - 1) if number > 1 else chain.dense(A)), chain.imp(number)
    weights, mask = tensors(before / "model.safetensors"), tensors(out / "mask.safetensors")
    full = {name: torch.ones_like(entry) for name, entry in mask.items()}
    assert sorted(mask) == [
        "conv1.weight",
        "linear.weight",
        *(f"stages.{s}.0.conv{c}.weight" for s in (0, 1) for c in (1, 2)),
    ]  # the shortcut is never pruned
    previous = tensors(before / "mask.safetensors") if number > 1 else full
    expected = pruned_by_hand(weights, previous, LEVELS[number])
    assert difference(mask, expected) == 0
    name = "imp" if number == 3 else "imp_round"
    after, losses, rates = trained(chain, weights, (name, number, A, 0), 1, "imp", expected)
    assert difference(tensors(out / "model.safetensors"), after[1]) < 1e-5
    check_record(chain, out, after[1], losses, rates, LEVELS[number])
    others = [(name, 0, A, 0), ("dense", number, A, 0), (name, number, B, 0), (name, number, A, 1)]
    for seed in others:
        other = trained(chain, weights, seed, 1, "imp", expected)[0][1]
        assert difference(other, after[1]) > 1e-4


def test_an_imp_round_prunes_only_what_the_mask_before_has_left(chain, tmp_path):
    """The dense weights are not zero where the mask is: without the mask, others would be left."""
    arguments = chain.imp_arguments(2)
    arguments["start"] = str(chain.dense(A) / "model.safetensors")
    stages.imp(**arguments | outputs("imp", tmp_path), data=str(chain.data))
    weights, mask = tensors(arguments["start"]), tensors(tmp_path / "mask.safetensors")
    before = {k: m.roll(1, 0) for k, m in tensors(chain.imp(1) / "mask.safetensors").items()}
    save_tensors(tmp_path / "rolled", before)
    arguments["start_mask"] = str(tmp_path / "rolled")
    stages.imp(**arguments | outputs("imp", tmp_path / "other"), data=str(chain.data))
    other = tensors(tmp_path / "other/mask.safetensors")
    assert difference(other, pruned_by_hand(weights, before, LEVELS[2])) == 0
    assert difference(other, mask) == 1


# -- sparse training -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize(("method", "init"), [("lth", A), ("naive", B), ("permuted", B)])
def test_which_mask_whose_weights_from_which_epoch(chain, references, method, init, k):
    """LTH: w_A(k) with m_A; naive: w_B(k) with m_A; permuted: w_B(k) with pi(m_A)."""
    out = chain.sparse(method, k)
    of_a = tensors(chain.imp(3) / "mask.safetensors")
    aligned = permuted_by_hand(tensors(chain.match() / "permutation.safetensors"), of_a)
    assert difference(of_a, aligned) == 1
    mask, wrong = (aligned, of_a) if method == "permuted" else (of_a, aligned)
    assert difference(tensors(out / "mask.safetensors"), mask) == 0
    seed = ("sparse", 0, init, 0)
    start = references[init][0][k]
    after, losses, rates = trained(chain, start, seed, LAST - k, "sparse", mask)
    found = tensors(out / "model.safetensors")
    assert difference(found, after[-1]) < 1e-5
    check_record(chain, out, after[-1], losses, rates, LEVELS[3])
    # Anything else would be seen.
    other_seed, other_k = A + B - init, 1 - k
    for weights, order, epochs, applied in (
        (references[other_seed][0][k], seed, LAST - k, mask),
        (references[init][0][other_k], seed, LAST - k, mask),
        (start, seed, LAST - other_k, mask),
        (start, seed, LAST - k, wrong),
        (start, ("sparse", 0, init, 1), LAST - k, mask),
        (start, ("sparse", 0, other_seed, 0), LAST - k, mask),
        (start, ("dense", 0, init, 0), LAST - k, mask),
    ):
        other = trained(chain, weights, order, epochs, "sparse", applied)[0][-1]
        assert difference(other, found) > 1e-3


def test_start_epoch_names_the_checkpoint_and_rewind_epoch_the_length(chain, references, tmp_path):
    """Under the released protocol, a checkpoint is one epoch later than its label."""
    arguments = chain.sparse_arguments("naive", 1, start_epoch=2)
    stages.sparse(**arguments | outputs("sparse", tmp_path), data=str(chain.data))
    mask, start = tensors(chain.imp(3) / "mask.safetensors"), references[B][0][2]
    after, *_ = trained(chain, start, ("sparse", 0, B, 0), LAST - 1, "sparse", mask)
    assert difference(tensors(tmp_path / "model.safetensors"), after[-1]) < 1e-5


def test_another_data_order_is_another_run(chain):
    one, other = (tensors(chain.sparse("lth", 0, n) / "model.safetensors") for n in (0, 1))
    mask, start = tensors(chain.imp(3) / "mask.safetensors"), chain.network(A).state_dict()
    after, *_ = trained(chain, start, ("sparse", 0, A, 1), LAST, "sparse", mask)
    assert difference(other, after[-1]) < 1e-5
    assert difference(one, other) > 1e-3


# -- what reaches the training loop ----------------------------------------------------------------

RECIPE = {
    "lr": 0.07,
    "schedule": "steps",
    "warmup_epochs": 0.5,
    "milestones": [1, 2],
    "momentum": 0.3,
    "weight_decay": 0.004,
    "batch_size": 40,
    "precision": "bfloat16",
    "compile": True,
    "graph": True,
    "evaluate_every": 2,
}


@pytest.fixture
def planned(chain, tmp_path, monkeypatch):
    """Return a function that runs a stage without training, and returns its plan."""
    plans = []

    def record_plan(model, images, plan, *arguments, **more):
        plans.append(plan)
        given = inspect.signature(training.train).bind(model, images, plan, *arguments, **more)
        if keep := given.arguments.get("keep"):
            for epoch in range(plan.epochs + 1):
                keep(epoch, model.state_dict())
        return [{"epoch": plan.epochs, "lr": 0, "train_loss": 1.0, "test_loss": 1.0}]

    # All inputs of the stages are trained before anything is replaced.
    made = {
        "dense": chain.dense_arguments(A),
        "imp": chain.imp_arguments(2),
        "sparse": chain.sparse_arguments("permuted", 1),
    }
    monkeypatch.setattr(stages, "train", record_plan)

    def run(stage, change=lambda values: values):
        arguments = dict(made[stage])
        arguments["values"] = change(arguments["values"])
        getattr(stages, stage)(**arguments | outputs(stage, tmp_path), data=str(chain.data))
        return plans.pop()

    return run


TRAINERS = ("dense", "imp", "sparse")


@pytest.mark.parametrize("stage", TRAINERS)
def test_every_key_of_the_recipe_reaches_the_training_loop(planned, stage):
    fields = {field.name for field in dataclasses.fields(training.Plan)}
    assert RECIPE.keys() == fields - {"epochs", "seed"}
    unchanged = planned(stage)
    own = {"epochs": LAST} if stage == "dense" else {"epochs": 1} if stage == "imp" else {}
    for key, value in RECIPE.items():
        by_stage = planned(
            stage, lambda v, k=key, x=value: v | {"training": v["training"] | {k: x}}
        )
        assert getattr(by_stage, key) == value != getattr(unchanged, key)
    plan = planned(stage, lambda v: v | RECIPE | {"training": own})
    assert dataclasses.asdict(plan) == RECIPE | {"epochs": plan.epochs, "seed": plan.seed}
    # Of two, the stage's own part counts.
    both = planned(stage, lambda v: v | RECIPE | {"training": own | {"momentum": 0.6, "lr": 0.9}})
    assert (both.momentum, both.lr, both.batch_size) == (0.6, 0.9, RECIPE["batch_size"])


@pytest.mark.parametrize(
    ("stage", "epochs", "seed"),
    [
        ("dense", LAST, ("dense", 0, A, 0)),
        ("imp", 1, ("imp_round", 2, A, 0)),
        ("sparse", LAST - 1, ("sparse", 0, B, 0)),
    ],
)
def test_epochs_and_the_seed_of_the_batch_order(planned, stage, epochs, seed):
    plan = planned(stage)
    assert (plan.epochs, plan.seed) == (epochs, seed)
    named = {"stage": "other", "round": 8, "init_seed": 6, "order_seed": 5}
    for i, (key, value) in enumerate(named.items()):
        expected = [*seed]
        expected[i] = value
        assert planned(stage, lambda v, k=key, x=value: v | {k: x}).seed == tuple(expected)


# -- interrupted runs ------------------------------------------------------------------------------


@pytest.fixture
def interrupted(chain, tmp_path, monkeypatch):
    """Return the arguments of a sparse training that was stopped after its last step."""
    arguments = chain.sparse_arguments("permuted", 1) | outputs("sparse", tmp_path)
    arguments["data"] = str(chain.data)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)

    def full(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "save", full)
        with pytest.raises(OSError, match="the disk is full"):
            stages.sparse(**arguments)
    assert list((tmp_path / "state").rglob("resume.safetensors"))
    return arguments


def test_an_interrupted_run_goes_on(chain, interrupted, capsys):
    capsys.readouterr()
    stages.sparse(**interrupted)
    assert "going on from epoch 2, step 0" in capsys.readouterr().out
    found = tensors(interrupted["model"])
    assert difference(found, tensors(chain.sparse("permuted", 1) / "model.safetensors")) == 0
    assert not Path(interrupted["state"]).exists()


@pytest.mark.parametrize("changed", ["weights", "mask", "values"])
def test_a_run_of_another_start_begins_afresh(chain, interrupted, capsys, changed):
    if changed == "weights":
        interrupted["checkpoints"] = str(chain.dense(A) / "checkpoints")
    if changed == "mask":
        interrupted["permutation"] = None
    if changed == "values":
        about = interrupted["values"]
        interrupted["values"] = about | {"training": about["training"] | {"lr": 0.001}}
    capsys.readouterr()
    stages.sparse(**interrupted)
    assert "going on" not in capsys.readouterr().out


@pytest.mark.parametrize("stage", TRAINERS)
def test_a_run_that_another_job_has_taken_over_writes_nothing(
    planned, tmp_path, stage, monkeypatch
):
    class Lost:
        def __init__(self, folder):
            assert folder.parent == tmp_path / "state"  # runs of other values lie in other folders

        def check(self):
            raise OwnershipError("lost")

    monkeypatch.setattr(stages, "Owner", Lost)
    with pytest.raises(OwnershipError):
        planned(stage)
    written = {f.name for f in tmp_path.rglob("*") if f.is_file()}
    assert not written & {"model.safetensors", "mask.safetensors", "history.csv", "result.json"}


# -- matching --------------------------------------------------------------------------------------


def by_hand(chain, a, b, how, seeds=(A, B)):
    """Return correlations, symmetry and both networks' weights."""
    found, *rest = observed_by_hand(chain, a, b, how, seeds)
    return matching.correlations_of(found), *rest


def observed_by_hand(chain, a, b, how, seeds=(A, B)):
    """Return observed activations, symmetry and both networks' weights."""
    net_a, net_b = chain.network(Path(a)), chain.network(Path(b))
    groups = graph.derive(net_a, torch.zeros(2, 1, 8, 8))
    batches = chain.images.train_subset(how["images"], ("match", *seeds), how["augment"])
    inputs = (x for x, _ in batches)
    found = matching.observe(groups, net_a, net_b, inputs, how["measure"])
    return found, groups, net_a.state_dict(), net_b.state_dict()


def correlation(correlations, perm) -> float:
    """Return the mean over groups of the mean correlation of matched channels."""
    means = [
        torch.stack([m[torch.arange(len(m)), perm[name]].mean() for m in of]).mean()
        for name, of in correlations.items()
    ]
    return float(torch.stack(means).mean())


def metrics(out, **where):
    """Return the metrics of a record whose rows say ``where`` and nothing else."""
    rows = [dict(m) for m in record(out)["metrics"]]
    found = {m.pop("metric"): m.pop("value") for m in map(dict, rows) if _where(m) == where}
    assert found
    return found


def _where(row):
    return {k: v for k, v in row.items() if k not in ("metric", "value")}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"measure": "first"},
        {"measure": "last"},
        {"images": 100},
        {"augment": False},
        {"method": "weights"},
        {"method": "activity"},
        {"epoch": 1},
    ],
    ids=str,
)
def test_a_is_matched_to_b_on_the_images_that_are_asked_for(chain, tmp_path, change):
    matching_options = {k: v for k, v in change.items() if k != "epoch"}
    arguments = chain.match_arguments(epoch=change.get("epoch", LAST), **matching_options)
    stages.match(**arguments | outputs("match", tmp_path), data=str(chain.data))
    perm = tensors(tmp_path / "permutation.safetensors")
    how, a, b = arguments["values"]["matching"], arguments["a"], arguments["b"]
    if "epoch" in change:
        b = Path(arguments["b_checkpoints"]) / "epoch-0001.safetensors"
    correlations, groups, of_a, of_b = by_hand(chain, a, b, how)
    if change.get("method") == "weights":
        expected = matching.match_weights(groups, of_a, of_b, generator("match", A, B))
    elif change.get("method") == "activity":
        expected = matching.match_activity(observed_by_hand(chain, a, b, how)[0])
        assert not [m for m in record(tmp_path)["metrics"] if "method" in m]  # nothing beside it
    else:
        expected = matching.match_activations(correlations)
    assert difference(perm, expected) == 0
    found = metrics(tmp_path, split="train")
    assert found["matched_correlation"] == pytest.approx(correlation(correlations, perm), rel=1e-6)
    similarity = matching.weight_similarity(groups, perm, of_a, of_b)
    assert found["weight_similarity"] == pytest.approx(similarity, rel=1e-6)
    if change:
        base = metrics(chain.match(), split="train")
        assert found["matched_correlation"] != pytest.approx(base["matched_correlation"], rel=1e-3)
    # Neither other seeds of the images nor swapped models would go unseen.
    other = by_hand(chain, a, b, how, (B, A))[0]
    assert found["matched_correlation"] != pytest.approx(correlation(other, perm), rel=1e-3)
    assert difference(perm, symmetry.invert(perm)) > 0


def test_b_at_the_last_epoch_is_its_final_model(chain, tmp_path):
    arguments = chain.match_arguments() | {"b_checkpoints": str(tmp_path / "none")}
    stages.match(**arguments | outputs("match", tmp_path), data=str(chain.data))
    found = tensors(tmp_path / "permutation.safetensors")
    assert difference(found, tensors(chain.match() / "permutation.safetensors")) == 0


def test_weights_are_matched_in_the_order_of_the_pairs_seed(chain, tmp_path, monkeypatch):
    calls, match_weights = [], matching.match_weights

    def spy(groups, a, b, generator):
        calls.append((a, b, generator.initial_seed()))
        return match_weights(groups, a, b, generator)

    arguments = chain.match_arguments(method="weights")
    monkeypatch.setattr(matching, "match_weights", spy)
    stages.match(**arguments | outputs("match", tmp_path), data=str(chain.data))
    ((a, b, seed),) = calls
    assert seed == derive("match", A, B)
    assert difference(a, tensors(arguments["a"])) == difference(b, tensors(arguments["b"])) == 0


@pytest.mark.parametrize("method", ["activations", "weights"])
def test_two_matchings_are_compared(chain, tmp_path, method):
    files = {
        how: chain.match(how) / "permutation.safetensors" for how in ("activations", "weights")
    }
    (other,) = files.keys() - {method}
    arguments = chain.match_arguments(method) | {"beside": str(files[other])}
    stages.match(**arguments | outputs("match", tmp_path), data=str(chain.data))
    assert not [m for m in record(chain.match())["metrics"] if "method" in m]  # nothing beside it
    how = arguments["values"]["matching"]
    correlations, groups, *states = by_hand(chain, arguments["a"], arguments["b"], how)
    plain = symmetry.identity(groups)
    unpermuted = {"method": "naive", "matching_epoch": None, "matching_method": None}
    assert metrics(tmp_path, split="train", **unpermuted) == pytest.approx(
        {
            "matched_correlation": correlation(correlations, plain),
            "weight_similarity": matching.weight_similarity(groups, plain, *states),
        },
        rel=1e-6,
    )
    by_activations, by_weights = map(tensors, (files["activations"], files["weights"]))
    counts = matching.agreement(correlations, by_activations, by_weights)
    swapped = matching.agreement(correlations, by_weights, by_activations)
    alike = sum(c.alike for c in counts.values()) / sum(c.compared for c in counts.values())
    found = {k: v for k, v in metrics(tmp_path, split="train").items() if "_" not in k}
    expected = {"agreement": alike}
    for name, count in counts.items():
        expected |= {f"agreement.{name}": count.alike / count.compared}
        expected |= {f"channels.{name}": count.channels}
    assert found == expected
    assert counts != swapped or all(c.compared == c.channels for c in counts.values())
    assert 0 < alike < 1


def test_groups_without_active_channels_do_not_count_as_agreement():
    counts = {
        "dead": matching.Agreement(0, 0, 4),
        "one": matching.Agreement(1, 4, 5),
        "two": matching.Agreement(3, 4, 4),
    }
    assert stages._agreement(counts) == {
        "agreement": 0.5,
        "agreement.one": 0.25,
        "channels.one": 5,
        "agreement.two": 0.75,
        "channels.two": 4,
    }
    assert stages._agreement({"dead": counts["dead"]}) == {}


def test_matching_opens_the_data_once(chain, tmp_path, monkeypatch):
    opened, open_data = [], stage_module.open_data

    def spy(*arguments):
        opened.append(arguments)
        return open_data(*arguments)

    arguments = chain.match_arguments()
    monkeypatch.setattr(stage_module, "open_data", spy)
    stages.match(**arguments | outputs("match", tmp_path), data=str(chain.data))
    assert len(opened) == 1
    found = tensors(tmp_path / "permutation.safetensors")
    assert difference(found, tensors(chain.match() / "permutation.safetensors")) == 0


# -- a network that asks for the version of its weights --------------------------------------------


def test_every_stage_loads_a_network_that_checks_the_version_of_its_weights(tmp_path):
    chain = Chain(tmp_path, "versioned")
    lines = (chain.interpolation, chain.imp_barrier)
    for made in (*lines, chain.landscape, chain.diversity, chain.diagnosis):
        assert record(made())["status"] == "completed"


# -- divergence ------------------------------------------------------------------------------------

OUTPUTS = {
    "imp": ("model", "mask"),
    "sparse": ("model", "mask"),
    "match": ("permutation",),
}


def spoil(file: Path, out: Path) -> Path:
    """Write a copy of a file that is marked as of a diverged run; return it."""
    save_tensors(out, tensors(file), {"status": "diverged"})
    return out


@pytest.mark.parametrize(
    ("stage", "role"),
    [
        ("imp", "start"),
        ("imp", "start_mask"),
        ("match", "a"),
        ("match", "b"),
        ("match", "b_checkpoints"),
        ("sparse", "checkpoints"),
        ("sparse", "imp_mask"),
        ("sparse", "permutation"),
        (None, "none of them"),
    ],
)
def test_a_stage_is_diverged_if_any_of_its_inputs_is(chain, tmp_path, stage, role):
    made = {
        "imp": chain.imp_arguments(2),
        "match": chain.match_arguments(epoch=1 if role == "b_checkpoints" else LAST),
        "sparse": chain.sparse_arguments("permuted", 1),
    }
    for name, arguments in made.items():
        if name == stage and role.endswith("checkpoints"):
            spoiled = tmp_path / role / "epoch-0001.safetensors"
            spoil(Path(arguments[role]) / spoiled.name, spoiled)
            arguments[role] = str(spoiled.parent)
        elif name == stage:
            arguments[role] = str(spoil(Path(arguments[role]), tmp_path / role))
        out = tmp_path / "out" / name
        getattr(stages, name)(**arguments | outputs(name, out), data=str(chain.data))
        status = "diverged" if name == stage else "completed"
        assert record(out)["status"] == status
        for file in OUTPUTS[name]:
            marks = read_metadata(out / f"{file}.safetensors")
            assert marks["status"] == status
            assert json.loads(marks["versions"]) == record(out)["versions"]


@pytest.mark.parametrize("stage", ["imp", "sparse"])
def test_a_run_made_from_a_diverged_one_is_evaluated_and_not_trained(chain, tmp_path, stage):
    if stage == "imp":
        arguments = chain.imp_arguments(2)
        start = Path(arguments["start"])
        arguments["start"] = str(spoil(start, tmp_path / "spoiled"))
    else:
        arguments = chain.sparse_arguments("permuted", 1)
        start = Path(arguments["checkpoints"]) / "epoch-0001.safetensors"
        arguments["imp_mask"] = str(spoil(Path(arguments["imp_mask"]), tmp_path / "spoiled"))
    getattr(stages, stage)(**arguments | outputs(stage, tmp_path), data=str(chain.data))
    assert difference(tensors(tmp_path / "model.safetensors"), tensors(start)) == 0
    scores = evaluate(chain.network(start), chain.images.test_batches())
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history.epoch) == [0]
    assert metrics(tmp_path, split="test") == pytest.approx(scores, rel=1e-5)
    assert math.isnan(metrics(tmp_path, split="train")["loss"])


def test_a_dense_model_that_diverges_marks_what_follows_its_end(plain_chain, tmp_path):
    arguments = plain_chain.dense_arguments(A)
    arguments["values"]["training"] |= {"lr": 1e12}
    stages.dense(**arguments | outputs("dense", tmp_path), data=str(plain_chain.data))
    assert record(tmp_path)["status"] == "diverged"
    marks = {
        epoch: read_metadata(tmp_path / f"checkpoints/epoch-{epoch:04d}.safetensors").get("status")
        for epoch in KEPT
    }
    assert marks == {0: "completed"} | dict.fromkeys(KEPT[1:], "diverged")
    assert read_metadata(tmp_path / "model.safetensors")["status"] == "diverged"

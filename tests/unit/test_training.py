"""The training loop: exact resume, exact masks, schedules."""

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from maskalign import distributed, training
from maskalign.checkpoint import load_tensors
from maskalign.training import Plan, train
from nets import Versioned
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class Blobs:
    """A small data set with the interface of ``maskalign.data``; may stop after some batches."""

    train_samples = 96

    def __init__(self, stop_after=None):
        self.left = stop_after

    def steps(self, batch_size):
        return self.train_samples // batch_size

    def train_batches(self, batch_size, seed, epoch, start=0, augment=True, share=(0, 1)):
        for step in range(start, self.steps(batch_size)):
            if self.left is not None:
                if self.left == 0:
                    raise InterruptedError
                self.left -= 1
            g = torch.Generator().manual_seed(hash((seed, epoch, step)) & 0xFFFF)
            y = torch.randint(3, (batch_size,), generator=g)
            yield torch.randn(batch_size, 1, 4, 4, generator=g) + y.view(-1, 1, 1, 1), y

    def test_batches(self):
        yield next(self.train_batches(32, (9,), 0))


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers)


PLAN = Plan(epochs=4, lr=0.1, seed=(1,), batch_size=16, evaluate_every=2)
MASK = {"0.weight": torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(3)) < 0.4}


def finished(tmp_path, name="straight", mask=None, plan=PLAN, model=None):
    model = model or net()
    history = train(model, Blobs(), plan, tmp_path / name, "id", mask)
    return model.state_dict(), history


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("plan", [PLAN, dataclasses.replace(PLAN, graph=True)])
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("stops", [[1], [6], [7, 5], [3, 3, 3, 3, 3]])
def test_interrupted_runs_end_where_the_uninterrupted_one_ends(
    tmp_path, monkeypatch, stops, mask, plan
):
    straight, history = finished(tmp_path, mask=mask, plan=plan)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    for stop in stops:
        with pytest.raises(InterruptedError):
            train(net(), Blobs(stop), plan, tmp_path / "resumed", "id", mask)
    model = net()
    again = train(model, Blobs(), plan, tmp_path / "resumed", "id", mask)
    assert same(straight, model.state_dict())
    assert again == history


def test_a_network_that_checks_the_version_of_its_weights_goes_on(tmp_path, monkeypatch):
    def versioned():
        torch.manual_seed(0)
        return Versioned(3)

    straight, history = finished(tmp_path, model=versioned())
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(InterruptedError):
        train(versioned(), Blobs(7), PLAN, tmp_path / "resumed", "id")
    model, said = versioned(), []
    assert train(model, Blobs(), PLAN, tmp_path / "resumed", "id", log=said.append) == history
    assert said[0].startswith("going on from epoch 1")
    assert same(straight, model.state_dict())


@pytest.mark.waits
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path):
    """SIGKILL at a moment of the machine's choosing, in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_training import *\n"
        "training.CHECKPOINT_SECONDS = 0.0; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "train(net(), Blobs(), Plan(epochs=4000, lr=.1, seed=(1,), batch_size=16), "
        "Path(sys.argv[1]), 'id', log=lambda line: None)\n"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    state = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(state), here])
    deadline = time.monotonic() + 60
    while not (state / "resume.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # The kill can fall between the two renames of a checkpoint: then only the one before is there.
    newest = state / "resume.safetensors"
    _, metadata = load_tensors(newest if newest.exists() else training._previous(newest))
    reached = int(metadata["epoch"])
    # The cosine of a run of 4000 epochs, stopped some epochs later, resumed and not.
    plan = Plan(epochs=4000, lr=0.1, seed=(1,), batch_size=16)
    ends = []
    for name in ("killed", "fresh"):
        model, seen = net(), {}

        def keep(epoch, weights, seen=seen):
            if epoch == reached + 2:
                seen.update({k: v.clone() for k, v in weights.items()})
                raise InterruptedError

        with pytest.raises(InterruptedError):
            train(model, Blobs(), plan, tmp_path / name, "id", keep=keep, log=lambda line: None)
        ends.append(seen)
    assert same(*ends)


def test_masked_weights_are_zero_to_the_bit(tmp_path):
    weights, _ = finished(tmp_path, mask=MASK)
    assert torch.equal(
        weights["0.weight"][~MASK["0.weight"]], torch.zeros(int((~MASK["0.weight"]).sum()))
    )
    assert (weights["0.weight"][MASK["0.weight"]] != 0).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_what_a_textbook_loop_does(tmp_path, precision):
    """SGD with momentum and weight decay, warm-up and cosine, mean loss, last epoch evaluated."""
    change = {"weight_decay": 0.2, "momentum": 0.8, "warmup_epochs": 1, "precision": precision}
    plan = dataclasses.replace(PLAN, **change)
    weights, history = finished(tmp_path, mask=MASK, plan=plan)
    model, ones = net(), MASK["0.weight"]
    sgd = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.8, weight_decay=0.2)
    losses = []
    for epoch in range(4):
        model.train()
        epoch_losses = []
        for step, (x, y) in enumerate(Blobs().train_batches(16, (1,), epoch)):
            done = 6 * epoch + step
            cosine = 0.05 * (1 + math.cos(math.pi * (done - 6) / 18))
            sgd.param_groups[0]["lr"] = 0.1 * (done + 1) / 6 if done < 6 else cosine
            model[0].weight.data[~ones] = 0
            sgd.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            sgd.step()
            epoch_losses.append(float(loss.detach()))
        losses.append(sum(epoch_losses) / 6)
    model[0].weight.data[~ones] = 0
    for k, value in model.state_dict().items():
        assert torch.allclose(weights[k].double(), value.double(), rtol=0, atol=1e-5), k
    assert [e["train_loss"] for e in history] == pytest.approx(losses, abs=1e-5)
    (x, y) = next(Blobs().test_batches())
    right = (model.eval()(x).argmax(1) == y).double().mean()
    assert history[-1]["test_accuracy"] == pytest.approx(100 * float(right))


def test_masks_lie_in_memory_as_their_weights_do(tmp_path, monkeypatch):
    """Or torch multiplies them one by one, in every step."""
    whole, seen = training.Step, []

    def step(network, weights, momentum, masked, masks, *rest):
        seen.extend(zip(masked, masks, strict=True))
        return whole(network, weights, momentum, masked, masks, *rest)

    monkeypatch.setattr(training, "Step", step)
    thick = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 2), nn.Flatten(), nn.Linear(8, 3))
    thick = thick.to(memory_format=torch.channels_last)
    mask = {"1.weight": torch.rand(8, 4, 2, 2) < 0.5}
    train(thick, Blobs(), PLAN, tmp_path, "id", mask)
    ((weight, ones),) = seen
    assert weight.stride() == ones.stride() != mask["1.weight"].stride()
    assert torch.equal(ones.bool(), mask["1.weight"])


def test_masking_after_the_step_equals_masked_gradients(tmp_path):
    weights, _ = finished(tmp_path, mask=MASK)
    model = net()
    with torch.no_grad():
        model[0].weight *= MASK["0.weight"]
    model[0].weight.register_hook(lambda grad: grad * MASK["0.weight"])
    expected, _ = finished(tmp_path, "hooked", model=model)
    for k in weights:
        assert torch.allclose(weights[k].float(), expected[k].float(), atol=1e-6)


def test_kept_checkpoint_of_epoch_k_is_the_state_of_a_run_stopped_there(tmp_path):
    kept = {}
    model = net()

    def keep(epoch, weights):
        kept[epoch] = {k: v.clone() for k, v in weights.items()}

    train(model, Blobs(), PLAN, tmp_path / "a", "id", keep=keep)
    assert same(kept[0], net().state_dict())
    assert same(kept[4], model.state_dict())
    stopped = net()
    with pytest.raises(InterruptedError):
        train(stopped, Blobs(2 * 6), PLAN, tmp_path / "b", "id")
    assert same(kept[2], stopped.state_dict())


class Reads(TorchDispatchMode):
    """Counts how often a number is read from a tensor, for which a GPU would be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_device(tmp_path, graph):
    counts = []
    for batch in (16, 48):
        plan = Plan(epochs=2, lr=0.1, seed=(1,), batch_size=batch, graph=graph, evaluate_every=2)
        with Reads() as reads:
            train(net(), Blobs(), plan, tmp_path / f"{batch}", "id", MASK)
        counts.append(reads.count)
    few, many = counts
    assert few == many > 0


def truncate(file):
    file.write_bytes(file.read_bytes()[:-7])


def empty(file):
    file.write_bytes(b"")


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-40] ^= 1  # of a tensor: the file stays a whole safetensors file
    file.write_bytes(content)


def tell_another_epoch(file):
    file.write_bytes(file.read_bytes().replace(b'epoch\\": \\"1', b'epoch\\": \\"2'))


def interrupted(state, steps, identity="id"):
    with pytest.raises(InterruptedError):
        train(net(), Blobs(steps), PLAN, state, identity)
    return state / "resume.safetensors", state / "previous-resume.safetensors"


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, tell_another_epoch])
def test_of_a_damaged_checkpoint_the_one_before_is_used(tmp_path, monkeypatch, capsys, damage):
    straight, history = finished(tmp_path)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    newest, previous = interrupted(tmp_path / "damaged", 9)
    capsys.readouterr()
    damage(newest)
    model = net()
    again = train(model, Blobs(), PLAN, tmp_path / "damaged", "id")
    said = capsys.readouterr().out
    assert f"{newest}: is damaged" in said
    assert "going on from epoch 1, step 2" in said  # the newest one was of step 3
    assert same(straight, model.state_dict())
    assert history == again

    newest, previous = interrupted(tmp_path / "both", 9)
    damage(newest)
    damage(previous)
    model = net()
    train(model, Blobs(), PLAN, tmp_path / "both", "id")
    assert "starting from the beginning" in capsys.readouterr().out
    assert same(straight, model.state_dict())


@pytest.mark.parametrize("other", ["identity", "version"])
def test_a_checkpoint_of_other_values_or_another_version_is_not_used(
    tmp_path, monkeypatch, capsys, other
):
    straight, _ = finished(tmp_path)
    with monkeypatch.context() as then:
        then.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        if other == "version":
            then.setattr(training, "FORMAT", "checkpoint 1")
        interrupted(tmp_path / "state", 9, "other" if other == "identity" else "id")
    model = net()
    train(model, Blobs(), PLAN, tmp_path / "state", "id")
    said = capsys.readouterr().out
    assert "belongs to other values or another version" in said
    assert "starting from the beginning" in said
    assert same(straight, model.state_dict())


def test_a_run_whose_loss_is_not_finite_stops_and_says_so(tmp_path):
    _, history = finished(tmp_path, plan=Plan(epochs=50, lr=1e30, seed=(1,), batch_size=16))
    assert training.diverged(history)
    assert len(history) < 50


def test_history_has_an_entry_an_epoch_and_the_last_is_evaluated(tmp_path):
    _, history = finished(
        tmp_path, plan=Plan(epochs=3, lr=0.1, seed=(1,), evaluate_every=2, batch_size=16)
    )
    assert [e["epoch"] for e in history] == [1, 2, 3]
    assert ["test_accuracy" in e for e in history] == [False, True, True]
    text = training.history_rows(history).splitlines()
    assert text[0].startswith("epoch,lr,train_loss")
    assert len(text) == 4


def test_training_learns(tmp_path):
    _, history = finished(tmp_path)
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size 128 is larger than the 96 training images"):
        train(net(), Blobs(), Plan(epochs=1, lr=0.1, seed=(1,)), tmp_path, "id")


ONES = torch.ones(4, 1, 3, 3)


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (
            {"module.0.weight": ONES},
            "mask entry 'module.0.weight' is no parameter of the network; nearest: '0.weight'",
        ),
        ({"1.running_mean": torch.ones(4)}, "mask entry '1.running_mean' is no parameter of the "),
        ({"0.weight": ONES[:, :, :1, :1]}, "mask entry '0.weight' has shape [4, 1, 1, 1], the "),
        ({"0.weight": ONES / 2}, "mask entry '0.weight' has other values than 0 and 1"),
    ],
)
def test_what_is_no_mask_of_the_network_is_refused(tmp_path, mask, line):
    with pytest.raises(ValueError) as error:
        train(net(), Blobs(), PLAN, tmp_path, "id", mask)
    assert str(error.value).startswith(line)


def test_a_mask_of_ones_and_zeros_is_as_good_as_one_of_bool(tmp_path):
    plan = dataclasses.replace(PLAN, epochs=1)
    weights, _ = finished(tmp_path, "bool", MASK, plan)
    again, _ = finished(tmp_path, "float", {k: m.float() for k, m in MASK.items()}, plan)
    assert same(weights, again)


@pytest.mark.parametrize("option", ["compile", "graph"])
def test_several_processes_neither_compile_nor_record_a_graph(tmp_path, monkeypatch, option):
    monkeypatch.setattr(distributed, "place", lambda: (0, 2))
    plan = dataclasses.replace(PLAN, **{option: True})
    with pytest.raises(ValueError, match=r"^compile and graph are not allowed with 2 processes: "):
        train(net(), Blobs(), plan, tmp_path, "id")


def test_cosine_falls_from_the_rate_to_zero():
    plan = Plan(epochs=10, lr=0.4, seed=())
    rates = [plan.learning_rate(s, 5) for s in range(50)]
    assert rates[0] == 0.4
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert plan.learning_rate(25, 5) == pytest.approx(0.2)
    assert plan.learning_rate(50, 5) == pytest.approx(0, abs=1e-12)


def test_warm_up_and_milestones():
    plan = Plan(epochs=10, lr=1.0, seed=(), schedule="steps", milestones=(4, 8), warmup_epochs=2)
    assert plan.learning_rate(0, 5) == pytest.approx(0.1)
    assert plan.learning_rate(9, 5) == pytest.approx(1.0)
    assert plan.learning_rate(19, 5) == pytest.approx(1.0)
    assert plan.learning_rate(20, 5) == pytest.approx(0.1)
    assert plan.learning_rate(49, 5) == pytest.approx(0.01)
    half = Plan(epochs=10, lr=1.0, seed=(), warmup_epochs=0.5)
    assert [half.learning_rate(step, 4) for step in (0, 1, 2)] == pytest.approx([0.5, 1.0, 1.0])
    assert half.learning_rate(21, 4) == pytest.approx(0.5)  # half of the 38 steps that are left

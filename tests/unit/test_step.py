"""A training step as one recording: what is replayed is the step that the plain loop takes."""

import dataclasses

import pytest
import tape
import torch
from maskalign import step as steps
from maskalign.step import GraphedStep, Step
from maskalign.training import train
from test_training import MASK, PLAN, Blobs, finished, net, same


@pytest.fixture
def recorded(monkeypatch):
    """Record steps as a GPU does; the list has one entry per recording."""
    found = []

    def record(stream, call):
        found.append(call)
        return tape.record(stream, call)

    monkeypatch.setattr(steps, "record", record)
    return found


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.8])
def test_a_step_is_torchs_sgd_then_the_mask(bfloat16, masked, factor):
    mine, theirs = net(), net()
    weights, ones = list(mine.parameters()), MASK["0.weight"]
    momentum = [torch.zeros_like(w) if factor else None for w in weights]
    total = torch.zeros((), dtype=torch.float64)
    parts = [[weights[0]], [ones.float()]] if masked else [[], []]
    step = Step(mine, weights, momentum, *parts, total, factor, 0.2, bfloat16)
    sgd = torch.optim.SGD(theirs.parameters(), lr=1.0, momentum=factor, weight_decay=0.2)
    losses = []
    for i, (x, y) in enumerate(Blobs().train_batches(16, (1,), 0)):
        rate = 0.1 / (i + 1)
        step(x, y, rate)
        sgd.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.nn.functional.cross_entropy(theirs(x), y)
        loss.backward()
        losses.append(float(loss.detach()))
        sgd.param_groups[0]["lr"] = rate
        sgd.step()
        if masked:
            theirs[0].weight.data[~ones] = 0
        for found, wanted in zip(weights, theirs.parameters(), strict=True):
            assert torch.allclose(found, wanted, rtol=0, atol=1e-6)
    assert len(losses) == 6
    assert float(total) == pytest.approx(sum(losses), abs=1e-5)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("change", [{}, {"momentum": 0.0}, {"precision": "bfloat16"}])
def test_replayed_steps_equal_plain_ones_but_for_rounding(tmp_path, recorded, mask, change):
    """24 steps of a falling rate, 21 of them replayed."""
    plan = dataclasses.replace(PLAN, **change)
    plain, history = finished(tmp_path, mask=mask, plan=plan)
    graphed = dataclasses.replace(plan, graph=True)
    weights, again = finished(tmp_path, "graphed", mask, graphed)
    assert len(recorded) == 1
    for k in plain:
        assert torch.allclose(weights[k].double(), plain[k].double(), rtol=0, atol=1e-5), k
    for before, after in zip(history, again, strict=True):
        assert after == pytest.approx(before, abs=1e-5)


def test_a_resumed_recording_ends_with_the_same_bits(tmp_path, recorded, monkeypatch):
    plan = dataclasses.replace(PLAN, graph=True)
    straight, history = finished(tmp_path, mask=MASK, plan=plan)
    monkeypatch.setattr("maskalign.training.CHECKPOINT_SECONDS", 0.0)
    for stop in (7, 5):
        with pytest.raises(InterruptedError):
            train(net(), Blobs(stop), plan, tmp_path / "resumed", "id", MASK)
    model = net()
    assert train(model, Blobs(), plan, tmp_path / "resumed", "id", MASK) == history
    assert same(straight, model.state_dict())
    assert len(recorded) == 4


def test_a_step_is_recorded_once_after_the_warm_up(monkeypatch):
    taken = []
    monkeypatch.setattr(steps, "record", lambda stream, call: lambda: taken.append("replayed"))
    step = GraphedStep(lambda x, y, rate: taken.append(float(x.sum() * rate)), torch.device("cpu"))
    for i in range(6):
        step(torch.full((2, 1), float(i)), torch.zeros(2), 0.5)
    assert taken == [0.0, 1.0, 2.0, *3 * ["replayed"]]


def test_a_batch_of_another_shape_is_refused():
    step = GraphedStep(lambda x, y, rate: None, torch.device("cpu"))
    step(torch.zeros(4, 3), torch.zeros(4), 0.1)
    with pytest.raises(ValueError, match=r"a graph of \[4, 3\] got a batch of \[2, 3\]"):
        step(torch.zeros(2, 3), torch.zeros(2), 0.1)

"""The checks of a GPU hold on the CPU, and each fails where what it checks is spoilt.

That compiled steps are those of the plain loop, test_training.py tests on the CPU.
"""

import dataclasses

import pytest
import torch
from maskalign import matching, step, training
from maskalign.bench.gpu import checks
from torch import nn

HERE = [name for name in checks.CHECKS if name != "compiled as plain steps"]


@pytest.mark.parametrize("name", HERE)
def test_a_check_holds_on_the_cpu(name, tmp_path):
    assert checks.CHECKS[name]("cpu", tmp_path)


class _TF32(torch.autograd.Function):
    """Rounds to the ten bits of mantissa that TF32 has."""

    @staticmethod
    def forward(ctx, x):
        bits = x.detach().contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return _TF32.forward(ctx, gradient)


def in_tf32(monkeypatch):
    """Let float32 convolutions round as a GPU does by default; float64 ones are as they were."""
    exact = nn.Conv2d._conv_forward

    def rounded(self, x, weight, bias):
        if x.dtype != torch.float32:
            return exact(self, x, weight, bias)
        return _TF32.apply(exact(self, _TF32.apply(x), _TF32.apply(weight), bias))

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", rounded)


def graphs_that_replay_nothing(monkeypatch):
    monkeypatch.setattr(step, "record", lambda stream, call: lambda: None)


def graphs_of_the_first_batch(monkeypatch):
    whole = step.GraphedStep.__call__

    def first(self, x, y, rate):
        self.first = getattr(self, "first", (x, y))
        whole(self, *self.first, rate)

    monkeypatch.setattr(step.GraphedStep, "__call__", first)


def float32_for_bfloat16(monkeypatch):
    monkeypatch.setattr(
        checks,
        "train",
        lambda model, data, plan, *args, **kwargs: training.train(
            model, data, dataclasses.replace(plan, precision="float32"), *args, **kwargs
        ),
    )


def masks_not_kept(monkeypatch):
    monkeypatch.setattr(step, "multiply", lambda weights, masks: None)


def no_matching(monkeypatch):
    monkeypatch.setattr(
        matching,
        "match_activations",
        lambda found: {name: torch.arange(len(c[0])) for name, c in found.items()},
    )


def momentum_not_kept(monkeypatch):
    whole = training._resume

    def forgetful(file, identity, model, momentum, total, log):
        position = whole(file, identity, model, momentum, total, log)
        for buffer in momentum:
            buffer.zero_()
        return position

    monkeypatch.setattr(training, "_resume", forgetful)


def batches_again(monkeypatch):
    """Begin an interrupted epoch anew."""
    whole = training._resume

    def again(*args):
        position = whole(*args)
        return dataclasses.replace(position, step=0)

    monkeypatch.setattr(training, "_resume", again)


def nothing_to_go_on_from(monkeypatch):
    monkeypatch.setattr(training, "_resume", lambda *args: training.Position())


def another_rate_in_this_process(monkeypatch):
    monkeypatch.setattr(checks, "PLAN", dataclasses.replace(checks.PLAN, lr=0.03))


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("float32 as on the CPU", in_tf32, "from float64 after a step, at most 8e-06"),
        ("graphs as plain steps", graphs_that_replay_nothing, "from the weights of plain steps"),
        ("graphs as plain steps", graphs_of_the_first_batch, "from the weights of plain steps"),
        ("bfloat16 as float64", float32_for_bfloat16, "from float64 after a step, 4e-05 to"),
        ("bfloat16 as float64", graphs_that_replay_nothing, "graph: training loss"),
        ("masks exact", masks_not_kept, "has weights off its mask"),
        ("a planted permutation", no_matching, "the planted permutation is not found"),
        ("resumed to the same bits", momentum_not_kept, "tensors differ"),
        ("resumed to the same bits", batches_again, "differ"),
        ("resumed to the same bits", nothing_to_go_on_from, "it began anew"),
        ("killed, to the same bits", momentum_not_kept, "tensors differ"),
        ("a group of one process", another_rate_in_this_process, "without a group"),
    ],
)
def test_a_check_can_fail(name, spoil, says, tmp_path, monkeypatch):
    spoil(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        checks.CHECKS[name]("cpu", tmp_path)

"""A network that torch has wrapped or rewritten is refused by a line that says what to do."""

import pytest
import torch
from maskalign import connectivity, matching, models, training
from maskalign.graph import UnsupportedModelError, derive
from maskalign.wrapped import refuse_wrapped
from torch import nn
from torch.nn.utils import prune

X = torch.zeros(2, 4)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def pruned():
    model = net()
    for amount in (0.5, 0.7):  # the second makes it a PruningContainer
        prune.l1_unstructured(model[2], "weight", amount)
    return model


def inside(wrap):
    model = net()
    model[0] = wrap(model[0])
    return model


def distributed():
    replica = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(replica)
    replica.module = net()
    return replica


WRAPPED = {
    "pruned": (
        pruned,
        "model.2 is pruned by torch.nn.utils.prune: call torch.nn.utils.prune.remove(module, "
        "'weight') first (the zeros stay; take the mask from model.2.weight_mask before)",
    ),
    "parallel": (lambda: nn.DataParallel(net()), "model is a DataParallel: pass model.module"),
    "distributed": (distributed, "model is a DistributedDataParallel: pass model.module"),
    "compiled": (lambda: torch.compile(net()), "model is compiled: pass model._orig_mod"),
    "a part compiled": (
        lambda: inside(torch.compile),
        "model.0 is compiled: put model.0._orig_mod in its place",
    ),
    "scripted": (
        lambda: torch.jit.trace(net(), X),
        "model is scripted: pass the module it was made from",
    ),
}


@pytest.fixture(params=WRAPPED)
def wrapped(request):
    make, line = WRAPPED[request.param]
    return make(), line


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_a_wrapped_network_is_refused_by_one_line(wrapped, tmp_path):
    model, line = wrapped
    symmetry, plan = derive(net(), X), training.Plan(epochs=1, lr=0.1, seed=(1,))
    calls = {
        UnsupportedModelError: lambda: derive(model, X),
        "prunable": lambda: models.prunable(model),
        "tapped": lambda: symmetry.tapped(model),
        "train": lambda: training.train(model, None, plan, tmp_path, "id"),
    }
    for error, call in calls.items():
        with pytest.raises(error if isinstance(error, type) else ValueError) as raised:
            call()
        assert str(raised.value) == line
    for pair, name in (((model, net()), "A"), ((net(), model), "B")):
        with pytest.raises(ValueError) as raised:
            matching.correlate(symmetry, *pair, [X])
        assert str(raised.value) == line.replace("model", name, 1).replace(" model.", f" {name}.")


def test_a_network_is_accepted_once_it_is_unwrapped():
    model = pruned()
    mask = model[2].weight_mask.bool()
    prune.remove(model[2], "weight")
    refuse_wrapped(model)
    assert torch.equal(model[2].weight != 0, mask)
    refuse_wrapped(torch.compile(net())._orig_mod)


def test_a_wrapped_network_has_no_line_and_no_statistics():
    state = net().state_dict()
    calls = [
        lambda model: connectivity.path(model, state, state, [0.0, 1.0], list, list, []),
        lambda model: connectivity.surface(model, [], list, list),
        lambda model: connectivity.reset_batch_norm([model], [X]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"model\.2 is pruned by torch\.nn\.utils\.prune"):
            call(pruned())

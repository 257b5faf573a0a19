"""A derived symmetry is checked on the network itself, which the check leaves as it was."""

import copy
import threading
import types

import pytest
import torch
import torch.nn.functional as F
from maskalign import graph, invariance, matching
from maskalign.graph import UnsupportedModelError, derive
from nets import MLP, Gated, PreActivation, randomise
from torch import nn

IMAGE = torch.zeros(2, 3, 16, 16)


def net(*between) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), *between, nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


class Running(nn.Module):
    """A running sum over the channels of the first or the second of two convolutions."""

    def __init__(self, first: bool, scale: float = 1.0):
        super().__init__()
        self.first, self.scale = first, scale
        self.one, self.two, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1), nn.Linear(8, 2)

    def forward(self, x):
        x = self.one(x)
        x = self.two(F.relu(torch.cumsum(x, 1) if self.first else x))
        x = x if self.first else torch.cumsum(x, 1)
        return self.head(torch.exp(torch.exp(self.scale * x).abs()).mean((2, 3)))


@pytest.mark.parametrize(("first", "group"), [(True, "one"), (False, "two")])
def test_a_wrong_rule_is_noticed_and_the_group_named(monkeypatch, first, group):
    with pytest.raises(UnsupportedModelError, match="operation cumsum"):
        derive(Running(first, 0.1), IMAGE)
    monkeypatch.setattr(graph, "POINTWISE", graph.POINTWISE | {"cumsum"})
    with pytest.raises(UnsupportedModelError) as error:
        derive(Running(first, 0.1), IMAGE)
    assert str(error.value).startswith(f"permuting the channels of module {group} changes")
    assert "\n" not in str(error.value)


def mixed(self, x):
    return type(self).forward(self, x).flip(1)


@pytest.mark.parametrize(("layer", "group"), [(0, "0"), (2, "2"), (3, "2")])
@pytest.mark.parametrize("how", ["hook", "forward"])
def test_a_module_that_mixes_channels_under_a_known_name_is_refused(layer, group, how):
    model = net(nn.BatchNorm2d(8))
    if how == "hook":
        model[layer].register_forward_hook(lambda module, args, output: output.flip(1))
    else:
        model[layer].forward = types.MethodType(mixed, model[layer])
    with pytest.raises(UnsupportedModelError, match=f"the channels of module {group} changes"):
        derive(model, IMAGE)


def test_a_gain_of_zero_hides_nothing():
    model = net(nn.BatchNorm2d(8))
    nn.init.zeros_(model[3].weight)
    model[2].register_forward_hook(lambda module, args, output: output.flip(1))
    with pytest.raises(UnsupportedModelError, match="module 2 changes"):
        derive(model, IMAGE)


def test_the_check_does_not_depend_on_the_example():
    """Of zeros, the convolution makes channels that are constant over the positions."""

    def mix_what_varies(module, args, output):
        mean = output.mean((2, 3), keepdim=True)
        return mean + (output - mean).flip(1)

    model = net()
    model[0].register_forward_hook(mix_what_varies)
    with pytest.raises(UnsupportedModelError, match="module 0 changes"):
        derive(model, IMAGE)


def test_an_output_that_is_no_number_any_more_has_changed():
    calls = []

    def spoil(module, args, output):
        calls.append(output)
        return output if len(calls) < 3 else output * torch.nan  # derived, drawn, permuted

    model = net()
    model[0].register_forward_hook(spoil)
    with pytest.raises(UnsupportedModelError, match="module 0 changes"):
        derive(model, IMAGE)


class Squeezing(nn.Module):
    """Cannot run on one image: its batch dimension is squeezed, too."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 1), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.norm(F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1).squeeze()))


def test_a_network_that_takes_no_single_image_is_checked_too():
    assert len(derive(Squeezing(), IMAGE).groups) == 1
    model = Squeezing()
    model.norm.register_forward_hook(lambda module, args, output: output.flip(1))
    # In float32 alone the check would run as well: it is in float64 that it has to.
    seen = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with pytest.raises(UnsupportedModelError, match="module conv changes"):
        derive(model, IMAGE)
    assert seen[1:] == [torch.float64] * (len(seen) - 1)


def test_a_group_of_two_channels_is_really_permuted():
    """Half of all random permutations of two channels move nothing."""
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        assert invariance._reordering(2, generator).tolist() == [1, 0]
    assert invariance._reordering(1, generator).tolist() == [0]


@pytest.mark.parametrize("model", [PreActivation(), MLP(), Gated("map"), net(nn.BatchNorm2d(8))])
def test_the_network_and_the_random_state_are_left_as_they_were(model):
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    ids = {name: id(p) for name, p in model.named_parameters()}
    derive(model, IMAGE)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert ids == {name: id(p) for name, p in model.named_parameters()}
    assert all(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


class Single(nn.Module):
    """Computes in float32 after its first layer, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 40, 40, 3) for i in range(6))
        self.head = nn.Linear(40, 2)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x)).float()
        return self.head(x.mean((2, 3)))


def test_a_network_that_is_float32_inside_is_not_refused_but_checked():
    assert len(derive(Single(), IMAGE).groups) == 6
    spoiled = Single()
    spoiled.layers[2].register_forward_hook(lambda module, args, output: output.flip(1))
    with pytest.raises(
        UnsupportedModelError, match=r"module layers\.2 changes the outputs of Single"
    ):
        derive(spoiled, IMAGE)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_network_of_lower_precision_is_not_refused(kind):
    assert len(derive(net(nn.BatchNorm2d(8)).to(kind), IMAGE.to(kind)).groups) == 2


def test_networks_that_overflow_are_checked_with_their_own_weights_or_not_at_all(monkeypatch):
    monkeypatch.setattr(graph, "POINTWISE", graph.POINTWISE | {"cumsum"})
    own = Running(first=True, scale=40.0)  # overflows with random weights
    for layer in (own.one, own.two):
        layer.weight.data.mul_(0.01)
        layer.bias.data.mul_(0.01)
    with pytest.raises(UnsupportedModelError, match="module one changes"):
        derive(own, IMAGE)
    for layer in (own.one, own.two):
        layer.weight.data.mul_(1e6)
    assert len(derive(own, IMAGE).groups) == 2


def test_weights_are_generic():
    """No channel is like another, none is switched off, and constants are not drawn."""
    model = net(nn.BatchNorm2d(8))
    model.register_buffer("constant", torch.full((3,), 7.0))
    nn.init.zeros_(model[3].weight)
    generator = torch.Generator().manual_seed(0)
    drawn = {
        k: invariance._drawn(k, v, isinstance(v, nn.Parameter), generator)
        for k, v in invariance._entries(model).items()
    }
    assert drawn["constant"].tolist() == [7.0] * 3
    assert drawn["3.num_batches_tracked"] == 0
    assert (drawn["3.running_var"] >= 0.5).all()
    assert ((drawn["3.weight"] > 0.2) & (drawn["3.weight"] < 1.8)).all()
    for name in ("0.weight", "0.bias", "3.weight", "3.bias", "3.running_mean", "3.running_var"):
        assert len(drawn[name].flatten().unique()) == drawn[name].numel()


# -- dropout ---------------------------------------------------------------------------------------


class Dropping(nn.Module):
    def __init__(self, always: bool = False, p: float = 0.5):
        super().__init__()
        self.always, self.p = always, p
        self.first, self.last = nn.Linear(768, 20), nn.Linear(20, 3)

    def forward(self, x):
        x = F.relu(self.first(x.flatten(1)))
        return self.last(
            F.dropout(x, self.p) if self.always else F.dropout(x, self.p, training=self.training)
        )


def test_functional_dropout_is_off_while_networks_are_matched(monkeypatch):
    monkeypatch.setattr(matching, "EPSILON", 1e-12)
    model = randomise(Dropping()).train()
    images = torch.randn(40, 3, 16, 16, dtype=torch.double)
    state = torch.get_rng_state()
    symmetry = derive(model, images)
    correlations = matching.correlate(symmetry, model, model, [images])
    assert torch.equal(torch.get_rng_state(), state)
    active = correlations["first"][0].diagonal()
    assert active[active != 0].tolist() == pytest.approx([1.0] * int((active != 0).sum()))
    assert (active != 0).sum() > 10
    assert model.training


def test_dropout_that_is_never_off_is_refused():
    line = "operation dropout also drops in eval mode"
    with pytest.raises(UnsupportedModelError, match=line):
        derive(Dropping(always=True), IMAGE)
    assert derive(Dropping(always=True, p=0.0), IMAGE).groups


class Auxiliary(nn.Module):
    """A network with a second head, in training or always."""

    def __init__(self, always: bool):
        super().__init__()
        self.always = always
        self.one, self.two, self.aux = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.one(x))
        return self.two(x) + self.aux(x) if self.training or self.always else self.two(x)


def test_a_layer_of_training_alone_is_refused_as_no_permutation_would_reach_it():
    with pytest.raises(UnsupportedModelError) as error:
        derive(Auxiliary(always=False), torch.zeros(2, 4))
    assert str(error.value) == (
        "module aux (Linear) is called in training alone, so its symmetry cannot be derived"
    )
    model = Auxiliary(always=True).train()
    assert len(derive(model, torch.zeros(2, 4)).groups) == 1
    assert model.training


def test_a_buffer_that_is_in_no_state_dict_is_no_entry():
    model = net()
    model.register_buffer("step", torch.zeros(1), persistent=False)
    assert len(derive(model, IMAGE).groups) == 2


def test_a_network_that_cannot_be_copied_is_refused_by_one_line():
    model = net()
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match="Sequential cannot be copied, so it cannot be checked: "):
        derive(model, IMAGE)


def test_an_example_that_is_no_tensor_is_refused():
    with pytest.raises(UnsupportedModelError, match="example is a list, must be a tensor of"):
        derive(net(), [IMAGE, torch.zeros(2)])

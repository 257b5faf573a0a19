"""A permuted network computes the same function, for every architecture and its masks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from maskalign import models, pruning
from maskalign.graph import UnsupportedModelError, derive
from maskalign.symmetry import identity, invert, permute, shuffled
from nets import MLP, PreActivation, Refused, randomise
from torch import nn

IMAGE = torch.randn(2, 3, 16, 16, dtype=torch.double, generator=torch.Generator().manual_seed(9))
NETS = {
    "resnet20": lambda: models.ResNet20(10, channels=6),
    "resnet20 full": lambda: models.ResNet20(10),
    "vgg11": lambda: models.VGG11(10, plan=(6, "M", 8, 8, "M"), image_size=16),
    "resnet50": lambda: models.resnet50(10, layers=(2, 1, 1, 1), channels=8),
    "pre-activation": PreActivation,
    "mlp": MLP,
    "prelu": lambda: nn.Sequential(
        *(nn.Conv2d(3, 7, 3), nn.PReLU(7), nn.Conv2d(7, 5, 3), nn.PReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)),
    ),
}
GROUPS = {
    "resnet20": 12,
    "resnet20 full": 12,
    "vgg11": 3,
    "resnet50": 15,
    "pre-activation": 3,
    "mlp": 2,
    "prelu": 2,
}


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    model = randomise(NETS[request.param]())
    model.label = request.param
    return model


def test_permuted_network_computes_the_same_function(net):
    symmetry = derive(net, IMAGE)
    assert len(symmetry.groups) == GROUPS[net.label]
    before = net(IMAGE).detach()
    perms = shuffled(symmetry, torch.Generator().manual_seed(1))
    other = copy.deepcopy(net)
    weights = permute(symmetry, perms, net.state_dict())
    changed = sum(not torch.equal(v, net.state_dict()[k]) for k, v in weights.items())
    assert changed > len(symmetry.groups)
    other.load_state_dict(weights)
    assert torch.allclose(other(IMAGE), before, rtol=1e-8, atol=1e-8 * float(before.abs().max()))


def test_every_hidden_channel_axis_is_permuted(net):
    """Only the images' and the logits' axes are left alone."""
    symmetry = derive(net, IMAGE)
    placed = {(p.parameter, p.axis) for g in symmetry.groups for p in g.places}
    weights = [k for k, v in net.state_dict().items() if v.ndim > 1]
    missing = [(k, axis) for k in weights for axis in (0, 1) if (k, axis) not in placed]
    depthwise = [(k, 1) for k in weights if "depthwise" in k]  # one channel wide
    assert sorted(missing) == sorted([(weights[0], 1), (weights[-1], 0), *depthwise])


def test_masking_then_permuting_is_permuting_both(net):
    symmetry = derive(net, IMAGE)
    weights = net.state_dict()
    names = models.prunable(net)
    mask = pruning.prune(weights, pruning.full_mask(weights, names), 0.7)
    perms = shuffled(symmetry, torch.Generator().manual_seed(2))
    permuted = permute(symmetry, perms, mask)
    left = permute(symmetry, perms, pruning.apply(mask, weights))
    right = pruning.apply(permuted, permute(symmetry, perms, weights))
    assert all(torch.equal(left[k], right[k]) for k in weights)
    for name in names:  # every layer keeps its number of ones
        assert int(permuted[name].sum()) == int(mask[name].sum())
        assert permuted[name].dtype == torch.bool


def test_inverse_undoes_a_permutation(net):
    symmetry = derive(net, IMAGE)
    perms = shuffled(symmetry, torch.Generator().manual_seed(3))
    weights = net.state_dict()
    back = permute(symmetry, invert(perms), permute(symmetry, perms, weights))
    assert all(torch.equal(back[k], weights[k]) for k in weights)


def test_taps_carry_the_channels_of_their_group(net):
    symmetry = derive(net, IMAGE)
    perms = shuffled(symmetry, torch.Generator().manual_seed(4))
    other = copy.deepcopy(net)
    other.load_state_dict(permute(symmetry, perms, net.state_dict()))
    for which in ("first", "last", "all"):
        mine, theirs = (symmetry.tapped(n, which)(IMAGE) for n in (net, other))
        for group, a, b in zip(symmetry.groups, mine, theirs, strict=True):
            assert len(a) == len(b) == (len(group.taps) if which == "all" else 1)
            for x, y in zip(a, b, strict=True):
                assert x.shape[1] == group.size
                assert torch.allclose(x[:, perms[group.name]], y, rtol=1e-6, atol=1e-8)


def test_a_stage_of_a_residual_net_shares_one_permutation():
    symmetry = derive(models.ResNet20(10).double(), IMAGE)
    stem = symmetry.groups[0]
    assert {p.parameter for p in stem.places if p.parameter.endswith("conv2.weight")} == {
        f"stages.0.{block}.conv2.weight" for block in range(3)
    }
    assert len(stem.taps) == 4  # the stem's activation and one a block


def test_an_in_place_activation_does_not_spoil_what_is_measured():
    model = randomise(MLP())
    symmetry = derive(model, IMAGE)
    narrow = symmetry.groups[[g.name for g in symmetry.groups].index("narrow")]
    assert len(narrow.taps) == 1
    (measured,) = symmetry.tapped(model)(IMAGE)[symmetry.groups.index(narrow)]
    assert (measured >= 0).all()


def test_deriving_leaves_the_model_as_it_was():
    model = models.ResNet20(10, channels=4).train()
    before = copy.deepcopy(model.state_dict())
    derive(model, torch.zeros(2, 3, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("concat", "operation cat is an operation without a rule"),
        ("grouped", "module grouped (Conv2d) is a convolution of 2 groups"),
        ("transpose", "operation transpose is an operation without a rule"),
        ("control flow", "Refused cannot be traced: symbolically traced variables"),
        ("parameter", "operation scale reads a parameter outside a module"),
        ("several outputs", "operation chunk gives more than one tensor"),
        ("weights without a rule", "operation permute is an operation without a rule"),
    ],
)
def test_what_is_not_supported_is_refused_by_one_line(how, line):
    with pytest.raises(UnsupportedModelError) as error:
        derive(Refused(how).double(), IMAGE)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def thin():
    model = models.VGG11(3, plan=(6, "M"), image_size=16).double()
    return derive(model, IMAGE), model.state_dict()


@pytest.mark.parametrize(
    "wrong",
    [
        *(torch.arange(5), torch.zeros(6, dtype=torch.long), torch.arange(6.0), None),
        *(list(range(6)), torch.arange(6)[None]),
    ],
)
def test_what_is_not_a_permutation_is_refused(thin, wrong):
    symmetry, weights = thin
    perms = {symmetry.groups[0].name: wrong} if wrong is not None else {}
    with pytest.raises(ValueError, match=r"^group features\.0 needs a permutation of 6 channels, "):
        permute(symmetry, perms, weights)


def test_a_permutation_of_no_group_is_refused(thin):
    symmetry, weights = thin
    with pytest.raises(ValueError) as error:
        permute(symmetry, identity(symmetry) | {"feature.0": torch.arange(6)}, weights)
    assert str(error.value) == "permutation 'feature.0' is of no group; nearest: 'features.0'"


def test_what_is_no_permutation_has_no_inverse():
    with pytest.raises(ValueError, match=r"^group a needs a permutation of 3 channels"):
        invert({"a": torch.tensor([0, 0, 1])})


def test_permutations_may_have_any_type_of_integer(thin):
    """Six channels of 64 entries each: more than eight bits can count."""
    symmetry, weights = thin
    perms = shuffled(symmetry, torch.Generator().manual_seed(1))
    wanted = permute(symmetry, perms, weights)
    for kind in (torch.uint8, torch.int8, torch.int32):
        found = permute(symmetry, {k: p.to(kind) for k, p in perms.items()}, weights)
        assert all(torch.equal(v, wanted[k]) for k, v in found.items())


@pytest.mark.parametrize(
    ("name", "shape", "line"),
    [
        *(
            (name, (6, 3, 3, 3), f"entry '{name}' is no parameter of the network; nearest: ")
            for name in ("features.0.weight_mask", "module.features.0.weight", "features.weight")
        ),
        ("features.0.weight", (6, 3, 1, 1), "entry 'features.0.weight' has shape [6, 3, 1, 1], "),
        ("linear.bias", (1,), "entry 'linear.bias' has shape [1], the network's is [3]"),
    ],
)
def test_a_mask_of_other_names_or_shapes_is_not_taken_for_permuted(thin, name, shape, line):
    symmetry, _ = thin
    with pytest.raises(ValueError) as error:
        permute(symmetry, identity(symmetry), {name: torch.ones(shape, dtype=torch.bool)})
    assert str(error.value).startswith(line)
    assert "nearest" not in line or str(error.value).endswith("'features.0.weight'")


def test_what_no_group_reorders_stays_as_it_is():
    model = models.ResNet20(10, blocks=(1, 1, 1), channels=4).double()
    symmetry = derive(model, IMAGE)
    weights = model.state_dict()
    permuted = permute(symmetry, shuffled(symmetry, torch.Generator().manual_seed(1)), weights)
    for name in ("bn1.num_batches_tracked", "linear.bias"):
        assert permuted[name] is weights[name]
    assert symmetry.entries == {k: list(v.shape) for k, v in weights.items()}


def test_a_network_of_another_width_is_not_tapped(thin):
    symmetry, _ = thin
    wide = models.VGG11(3, plan=(8, "M"), image_size=16).double()
    with pytest.raises(
        ValueError, match=r"^model differs .*features\.0\.weight has shape \[8, 3, "
    ):
        symmetry.tapped(wide)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 2), min_size=1, max_size=3),
    st.integers(2, 5),
    st.sampled_from([1, 1.5, 2]),
    st.integers(0, 99),
)
def test_any_residual_net_keeps_its_function(blocks, channels, width, seed):
    torch.manual_seed(seed)
    model = randomise(models.ResNet20(4, width, blocks=blocks, channels=channels), seed)
    symmetry = derive(model, IMAGE)
    assert len(symmetry.groups) == sum(blocks) + len(blocks)
    perms = shuffled(symmetry, torch.Generator().manual_seed(seed))
    other = copy.deepcopy(model)
    other.load_state_dict(permute(symmetry, perms, model.state_dict()))
    assert torch.allclose(other(IMAGE), model(IMAGE), rtol=1e-7, atol=1e-9)


class OverChannels(nn.Module):
    """Mixes channels in ways that the shapes alone, [N, 16, 16, 16] and [N, 16], do not show."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv, self.first = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(768, 16)
        self.pool, self.last, self.one = nn.AvgPool1d(3, 1, 1), nn.Linear(16, 5), nn.Linear(16, 1)
        self.norm, self.last_dim = nn.LayerNorm(16), nn.Linear(16, 16)
        self.unbatched = nn.Conv1d(2, 2, 3, padding=1)  # two images pass for two channels
        self.computed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))

    def forward(self, x):
        y = torch.relu(self.first(x.flatten(1)))
        match self.how:
            case "mean":
                return self.last(self.conv(x).mean(1).mean(1))
            case "pool":
                return self.last(self.pool(y))
            case "unbatched":
                return self.last(self.unbatched(y))
            case "computed":
                return self.last(self.computed(y))
            case "squeeze":
                return self.one(y).squeeze(1)  # logits without a channel axis
            case "linear":
                return self.last(self.last_dim(self.conv(x)).mean((2, 3)))
            case "broadcast":  # images x channels on height x width
                z = F.adaptive_avg_pool2d(self.conv(x), (2, 16))
                return self.last((z * y).mean((2, 3)))
            case "layer norm":
                return self.last(self.norm(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("mean", "operation mean is an operation without a rule"),
        ("pool", "module pool (AvgPool1d) is an operation without a rule"),
        ("unbatched", "module unbatched (Conv1d) reads its input as one image"),
        ("computed", "module computed (ParametrizedLinear) has a weight that is computed"),
        ("squeeze", "operation squeeze is an operation without a rule"),
        ("linear", "module last_dim (Linear) is linear along another dimension"),
        ("broadcast", "operation mul joins tensors whose channels are not aligned"),
        ("layer norm", "module norm (LayerNorm) has weights but no rule"),
    ],
)
def test_what_mixes_channels_is_refused_though_the_shapes_would_do(how, line):
    with pytest.raises(UnsupportedModelError) as error:
        derive(OverChannels(how).double(), IMAGE)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_an_image_of_the_wrong_size_is_refused_and_the_model_left_as_it_was():
    model = models.VGG11(3, plan=(6, "M"), image_size=8).double().train()
    with pytest.raises(UnsupportedModelError, match=r"does not take an input \[2, 3, 16, 16\]"):
        derive(model, IMAGE)
    assert all(m.training for m in model.modules())


def test_an_argument_left_at_its_default_is_no_channel_axis():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(768, 6), nn.Linear(6, 2)

        def forward(self, x, scale=2.0):
            return self.last(torch.relu(self.first(x.flatten(1))) * scale)

    (group,) = derive(Scaled().double(), IMAGE).groups
    assert group.name == "first"


def test_a_depthwise_convolution_is_a_hidden_layer():
    layers = derive(randomise(PreActivation()), IMAGE).hidden_layers
    assert "depthwise" in layers
    assert "head" not in layers


class Overwriting(nn.Module):
    """A residual stream that is overwritten in place after it has been measured."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x.add_(self.conv(x))  # fx traces += as an addition that overwrites nothing
        return self.head(F.silu(x).mean((2, 3)))


def test_what_is_measured_is_the_activation_at_its_time():
    model = randomise(Overwriting())
    symmetry = derive(model, IMAGE)
    stream = F.relu(model.stem(IMAGE))
    end = F.silu(stream + model.conv(stream))
    for which, expected in (("first", [stream]), ("last", [end]), ("all", [stream, end])):
        (measured,) = symmetry.tapped(model, which)(IMAGE)
        assert len(measured) == len(expected)
        assert all(torch.allclose(m, e) for m, e in zip(measured, expected, strict=True))


class Tied(nn.Module):
    """Two layers of one weight: their inputs and their outputs are permuted alike."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.two = nn.Linear(768, 7), nn.Linear(7, 7), nn.Linear(7, 7)
        self.two.weight = self.one.weight
        self.again, self.last = self.one, nn.Linear(7, 3)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        for layer in (self.one, self.two, self.again):
            x = torch.relu(layer(x))
        return self.last(x)


def test_tied_weights_and_a_module_of_two_names_are_permuted_alike():
    model = randomise(Tied())
    symmetry = derive(model, IMAGE)
    (group,) = symmetry.groups
    assert {p.parameter for p in group.places} >= {"one.weight", "two.weight", "again.weight"}
    perms = shuffled(symmetry, torch.Generator().manual_seed(1))
    other = copy.deepcopy(model)
    other.load_state_dict(permute(symmetry, perms, model.state_dict()))
    assert torch.allclose(other(IMAGE), model(IMAGE), rtol=1e-8, atol=1e-10)


def test_a_group_norm_of_several_groups_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(3, 6), nn.Flatten(), nn.Linear(1536, 2))
    with pytest.raises(UnsupportedModelError, match=r"module 1 \(GroupNorm\)"):
        derive(model.double(), IMAGE)


class Attention(nn.Module):
    """One map gates all channels; channels of two block lengths meet if ``mixed``."""

    def __init__(self, mixed: bool):
        super().__init__()
        self.mixed = mixed
        self.conv, self.map = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1)
        self.same, self.last = nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = F.adaptive_max_pool2d(x * torch.sigmoid(self.map(x)), 2).flatten(1)
        return self.last(x + self.same(x) if self.mixed else x)


def test_one_map_may_gate_all_channels():
    model = randomise(Attention(mixed=False))
    symmetry = derive(model, IMAGE)
    assert [g.size for g in symmetry.groups] == [6, 1]
    perms = shuffled(symmetry, torch.Generator().manual_seed(1))
    other = copy.deepcopy(model)
    other.load_state_dict(permute(symmetry, perms, model.state_dict()))
    assert torch.allclose(other(IMAGE), model(IMAGE), rtol=1e-8, atol=1e-10)


def test_channels_of_different_block_length_are_refused():
    with pytest.raises(UnsupportedModelError, match="operation add joins channels of different"):
        derive(Attention(mixed=True).double(), IMAGE)


def test_a_permuted_state_keeps_the_versions_of_its_modules():
    """torchvision's MNASNet, among others, loads no state without them."""
    model = models.VGG11(3, plan=(6, "M"), image_size=16).double()
    symmetry, state = derive(model, IMAGE), model.state_dict()
    perms = shuffled(symmetry, torch.Generator().manual_seed(1))
    assert permute(symmetry, perms, state)._metadata == state._metadata
    assert not hasattr(permute(symmetry, perms, dict(state)), "_metadata")

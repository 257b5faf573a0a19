"""A permuted network computes the same function, for every architecture and its masks."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maskalign import models, pruning
from maskalign.symmetry import UnsupportedModelError, derive, invert, permute, shuffled
from nets import MLP, PreActivation, Refused, randomise

IMAGE = torch.randn(2, 3, 16, 16, dtype=torch.double, generator=torch.Generator().manual_seed(9))
NETS = {
    "resnet20": lambda: models.ResNet20(10, channels=6),
    "resnet20 full": lambda: models.ResNet20(10),
    "vgg11": lambda: models.VGG11(10, plan=(6, "M", 8, 8, "M"), image_size=16),
    "resnet50": lambda: models.resnet50(10, layers=(2, 1, 1, 1), channels=8),
    "pre-activation": PreActivation,
    "mlp": MLP,
}
GROUPS = {
    "resnet20": 12,
    "resnet20 full": 12,
    "vgg11": 3,
    "resnet50": 15,
    "pre-activation": 3,
    "mlp": 2,
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
            assert len(a) == len(b) >= 1
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


@pytest.mark.parametrize("wrong", [torch.arange(5), torch.zeros(6, dtype=torch.long), None])
def test_what_is_not_a_permutation_is_refused(wrong):
    model = models.VGG11(3, plan=(6, "M"), image_size=16).double()
    symmetry = derive(model, IMAGE)
    perms = {symmetry.groups[0].name: wrong} if wrong is not None else {}
    with pytest.raises(ValueError, match=r"group features\.0 needs a permutation of 6 channels"):
        permute(symmetry, perms, model.state_dict())


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

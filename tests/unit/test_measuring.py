"""Activations are measured where layers read them: never at a gate, and at the residual stream."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from maskalign import connectivity, models
from maskalign.graph import derive
from maskalign.matching import correlate, match_activations
from maskalign.measuring import read_values
from maskalign.symmetry import permute, shuffled
from nets import MLP, Gated, PreActivation, PreNorm, randomise
from torch import fx, nn
from torchvision.models import MobileNetV2, mobilenetv3

IMAGE = torch.zeros(2, 3, 16, 16, dtype=torch.double)
IMAGES = torch.randn(60, 3, 16, 16, generator=torch.Generator().manual_seed(3)).double()


def mobilenet_v3():
    """Two of torchvision's blocks with squeeze and excitation, the second with a skip."""
    settings = [
        mobilenetv3.InvertedResidualConfig(16, 3, 24, 16, True, "RE", 2, 1, 1),
        mobilenetv3.InvertedResidualConfig(16, 5, 40, 16, True, "HS", 1, 1, 1),
    ]
    return mobilenetv3.MobileNetV3(settings, last_channel=32, num_classes=5)


def mobilenet_v2():
    """Three of torchvision's blocks: the last two add into one linear stream."""
    return MobileNetV2(5, 0.25, [[1, 16, 1, 1], [2, 32, 2, 2]])


def points(model, image=IMAGE):
    """Return for each group its measuring points."""
    found = derive(model.to(image.dtype), image).groups
    return {group.name: tuple(name for name, _ in group.taps) for group in found}


def test_the_studys_networks_are_measured_at_their_activation_functions():
    resnet = {"conv1": ("relu", "relu_2", "relu_4", "relu_6")}
    for stage in range(3):
        if stage:
            ends = tuple(f"relu_{6 * stage + 2 * block + 2}" for block in range(3))
            resnet[f"stages.{stage}.0.conv2"] = ends
        for block in range(3):
            resnet[f"stages.{stage}.{block}.conv1"] = (f"relu_{6 * stage + 2 * block + 1}",)
    assert points(models.ResNet20(10)) == resnet
    convolutions = (0, 3, 6, 8, 11, 13, 16, 18)
    vgg = {f"features.{n}": (f"features_{n + 1}",) for n in convolutions}
    assert points(models.VGG11(10), torch.zeros(2, 3, 32, 32)) == vgg
    bottlenecks = {"conv1": ("relu",)}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        every = [f"layer{stage}_{block}_relu" for block in range(blocks)]
        bottlenecks[f"layer{stage}.0.conv3"] = tuple(f"{name}_2" for name in every)
        for block, name in enumerate(every):
            bottlenecks[f"layer{stage}.{block}.conv1"] = (name,)
            bottlenecks[f"layer{stage}.{block}.conv2"] = (f"{name}_1",)
    assert points(models.resnet50(10), torch.zeros(1, 3, 32, 32)) == bottlenecks


@pytest.mark.parametrize(
    ("how", "stem"),
    [
        ("sigmoid", ("relu", "mul")),
        ("hardsigmoid", ("relu", "mul")),
        ("by hand", ("mul",)),
        ("context", ("relu", "add")),
        ("map", ("relu", "mul")),
        ("strided", ("relu", "relu_2")),
    ],
)
def test_a_gate_is_never_measured(how, stem):
    found = points(Gated(how))
    assert found["stem"] == stem
    assert found["down"] == ("relu" if how == "by hand" else "relu_1",)
    assert found["conv"] == ({"strided": "relu_3", "by hand": "relu_1"}.get(how, "relu_2"),)
    # No layer reads a map that only gates.
    assert found.get("map") == (("sigmoid",) if how == "map" else None)


def test_a_linear_residual_stream_is_measured_at_its_sums():
    assert points(PreNorm()) == {
        "stem": ("norms_0", "norms_1", "norms_2"),
        "wide.0": ("gelu",),
        "wide.1": ("gelu_1",),
    }
    assert points(PreActivation())["stem"] == ("relu", "back", "gelu")
    stream = points(mobilenet_v2())
    # The first block of a stream has no sum: it is measured after its norm.
    assert stream["features.2.conv.2"] == ("features_2_conv_3", "add_1")
    assert stream["features.0.0"] == ("features_0_2", "features_1_conv_0_2", "add")


def test_the_stream_is_measured_as_the_layers_read_it():
    model = randomise(PreNorm())
    symmetry = derive(model, IMAGE)
    read, stream = [], model.stem(IMAGES.flatten(1))
    for i, norm in enumerate(model.norms):
        read.append(norm(stream))
        if i < 2:
            stream = stream + model.back[i](F.gelu(model.wide[i](read[-1])))
    for which, expected in (("first", read[:1]), ("last", read[2:]), ("all", read)):
        found = symmetry.tapped(model, which)(IMAGES)[0]
        assert len(found) == len(expected)
        assert all(torch.allclose(x, y) for x, y in zip(found, expected, strict=True))


class Pooled(nn.Module):
    """Values that are pooled, and partly summed or reshaped, before a layer reads them."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv, self.same = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.vector, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.reads, self.head = nn.Conv1d(6, 4, 1), nn.Linear(6, 2)
        self.flat = nn.Linear(24, 2)

    def forward(self, x):
        x = F.relu(self.conv(x))
        match self.how:
            case "normalised":
                return self.head(F.gelu(self.norm(x.mean((2, 3)))))
            case "both kinds":
                small = F.adaptive_max_pool2d(x, 1) + F.adaptive_avg_pool2d(x, 1)
                return self.head(small.flatten(1))
            case "flattened":
                return self.flat(F.silu(F.avg_pool2d(x, 8).flatten(1)))
            case "gated vector":
                small = x.mean((2, 3))
                return self.head(small * torch.sigmoid(self.vector(small)))
            case "stream":
                small = F.max_pool2d(x, 8)
                return self.head((small + self.same(small)).mean((2, 3)))
            case "gated":
                small = F.max_pool2d(x, 8)
                gate = torch.sigmoid(self.vector(small.mean((2, 3)))).view(-1, 6, 1, 1)
                return self.flat((small * gate).flatten(1))
            case "sum":
                x = F.avg_pool2d(x, 8)
                return self.flat((x + self.same(x)).flatten(1))
            case "sequence":
                return self.reads(x.view(x.shape[0], 6, 256)).mean(2)
            case "in place":
                y = self.same(x)
                F.relu(y, inplace=True)
                return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("normalised", ("relu",)),
        ("both kinds", ("relu",)),
        ("flattened", ("relu",)),
        ("gated vector", ("relu",)),
        ("stream", ("relu", "add")),  # the branch has been added at fewer positions
        ("gated", ("relu",)),
        ("sum", ("relu", "add")),
        ("sequence", ("view",)),
        ("in place", ("relu_1",)),
    ],
)
def test_a_pooled_value_is_measured_before_it_is_pooled(how, expected):
    assert points(Pooled(how))["same" if how == "in place" else "conv"] == expected


def test_only_what_the_layers_read_counts():
    graph = fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))).graph
    x, first, tanh, last, _ = graph.nodes
    axes = {node: SimpleNamespace(dim=1) for node in (x, first, tanh, last)}
    values = {node: torch.zeros(2, 4) for node in axes}
    for layers, read in (({first, last}, [x, tanh]), ({last}, [tanh]), ([], [])):
        assert read_values(layers, axes, values, lambda node: False) == read
    assert read_values([last], axes, values, lambda node: node is tanh) == [first]


def test_points_are_in_the_order_of_the_graph():
    for model in (PreActivation(), PreNorm(), MLP(), mobilenet_v3(), mobilenet_v2()):
        symmetry = derive(model.double(), IMAGE)
        order = [node.name for node in symmetry.graph.nodes]
        for group in symmetry.groups:
            places = [order.index(name) for name, _ in group.taps]
            assert places == sorted(set(places))


PLANTED = {
    "sigmoid": lambda: Gated("sigmoid", 32),
    "hardsigmoid": lambda: Gated("hardsigmoid", 32),
    "mobilenet v3": mobilenet_v3,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_permutation_is_found_below_noise_at_the_last_point(name):
    torch.manual_seed(0)
    model, images = PLANTED[name](), IMAGES.float()
    symmetry = derive(model, images)
    planted = shuffled(symmetry, torch.Generator().manual_seed(5))
    other = copy.deepcopy(model)
    other.load_state_dict(permute(symmetry, planted, model.state_dict()))
    with torch.no_grad():
        for weight in (p for p in other.parameters() if p.ndim > 1):
            weight += 0.3 * weight.std() * torch.randn(weight.shape)
    connectivity.reset_batch_norm([model, other], [images])
    found = match_activations(correlate(symmetry, model, other, [images], "last"))
    right = sum(int((found[k] == planted[k]).sum()) for k in planted)
    channels = sum(group.size for group in symmetry.groups)
    assert right > 0.92 * channels  # at the gates 17, 19 and 224 of 46, 46 and 248


class InPlace(nn.Module):
    """A residual stream, or a gated one, that is overwritten by a call whose result is not used."""

    def __init__(self, gated: bool):
        super().__init__()
        self.gated = gated
        self.one, self.two, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.one(x)
        branch = F.relu(self.two(x))
        x.mul_(branch) if self.gated else x.add_(branch)
        return self.last(x)


@pytest.mark.parametrize(("gated", "last"), [(False, "add_"), (True, "mul_")])
def test_a_stream_that_is_overwritten_in_place_is_measured_at_its_sum(gated, last):
    (group,) = derive(InPlace(gated), torch.zeros(2, 4)).groups
    assert [name for name, _ in group.taps] == ["one", last]

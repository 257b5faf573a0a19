"""The architectures have the published shapes, and the same classes give thinner ones."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from maskalign import models
from maskalign.models import build, prunable
from nets import randomise


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_resnet20_has_twenty_layers_and_3x3_shortcuts():
    net = models.ResNet20(10)
    main = [n for n in prunable(net) if "conv" in n or "linear" in n]
    assert len(main) == 20
    shortcuts = {n: p.shape for n, p in net.named_parameters() if "shortcut.0" in n}
    assert {n: tuple(s[2:]) for n, s in shortcuts.items()} == {
        "stages.1.0.shortcut.0.weight": (3, 3),
        "stages.2.0.shortcut.0.weight": (3, 3),
    }
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert net.linear.weight.shape == (10, 64)


@pytest.mark.parametrize("width", [1, 4, 8, 16])
def test_width_multiplies_every_hidden_channel(width):
    net = models.ResNet20(10, width)
    assert net.conv1.weight.shape == (16 * width, 3, 3, 3)
    assert net.linear.weight.shape == (10, 64 * width)


def test_vgg11_has_biases_no_norm_and_one_linear_layer():
    net = models.VGG11(10)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert all(m.bias is not None for m in convolutions)
    assert not [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert net.linear.weight.shape == (10, 512)


def test_resnet50_is_torchvisions():
    assert parameters(models.resnet50(1000)) == 25_557_032
    ours, theirs = models.resnet50(7, 2), torchvision.models.wide_resnet50_2(num_classes=7)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_thin_resnet50_is_the_same_class_with_fewer_channels():
    net = models.resnet50(10, in_channels=1, layers=(1, 1, 1, 1), channels=8)
    assert isinstance(net, torchvision.models.ResNet)
    assert net.conv1.weight.shape == (8, 1, 7, 7)
    assert net(torch.zeros(2, 1, 24, 24)).shape == (2, 10)


@pytest.mark.parametrize(("name", "skipped"), [("resnet20", 2), ("vgg11", 0), ("resnet50", 4)])
def test_every_weight_but_shortcuts_is_prunable(name, skipped):
    net = build(name, classes=10, image_size=32, in_channels=3, width=1)
    weights = [n for n, p in net.named_parameters() if p.ndim > 1]
    assert len(weights) - len(prunable(net)) == skipped
    assert prunable(net, exclude=[]) == weights


def test_initialisation_follows_the_global_seed():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(build("vgg11", classes=3, image_size=8, in_channels=1, width=1, plan=[4, "M"]))
    assert torch.equal(nets[0].linear.weight, nets[1].linear.weight)
    assert not torch.equal(nets[0].linear.weight, nets[2].linear.weight)


def test_a_dotted_path_builds_a_network_of_the_users_own():
    made = build("test_models:own", classes=3, image_size=16, in_channels=3, width=2, depth=1)
    assert made.out_features == 3
    assert made.in_features == 2 * 16


def own(classes, width, image_size, depth):
    assert depth == 1
    return torch.nn.Linear(width * image_size, classes)


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("nowhere.nets:f", {}, "nowhere.nets:f: no module 'nowhere'; installed packages, PYTHON"),
        ("math:nothing", {}, "math:nothing: module math has no 'nothing'"),
        ("math:pi", {}, "math:pi: is no function or class"),
        ("resnet20", {"depth": 3}, "model resnet20: "),
        ("vgg11", {"plan": [4, "M", "M", "M", "M"]}, "images of 8 pixels are too small"),
    ],
)
def test_what_cannot_be_built_is_refused_by_one_line(name, options, line):
    with pytest.raises(ValueError) as error:
        build(name, classes=3, image_size=8, in_channels=1, width=1, **options)
    assert str(error.value).startswith(line)


def test_torchvision_is_only_imported_for_resnet50():
    code = "import sys, maskalign.stages; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_resnet20_halves_the_image_at_its_second_and_third_stage():
    net, sizes = models.ResNet20(10, channels=4), []
    for stage in net.stages:
        stage.register_forward_hook(lambda *call: sizes.append(tuple(call[2].shape[1:])))
    net(torch.zeros(1, 3, 32, 32))
    assert sizes == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


@pytest.mark.parametrize("name", ["resnet20", "vgg11"])
def test_weights_begin_kaiming_normal_and_biases_zero(name):
    torch.manual_seed(0)
    net = build(name, classes=500, image_size=32, in_channels=3, width=1)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.15)
            assert module.bias is None or not module.bias.any()


def test_the_shortcut_of_a_block_is_added():
    block = models.BasicBlock(3, 3, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(block(x), x)


def norm(x, weights, name):
    """Return x normalised by the statistics of its batch, as in training."""
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), False, keepdim=True) + 1e-5
    ).sqrt()
    gain, shift = (weights[f"{name}.{entry}"][:, None, None] for entry in ("weight", "bias"))
    return gain * x + shift


@pytest.mark.parametrize("width", [1, 2])
def test_resnet20_computes_what_the_paper_describes(width):
    """Layer by layer, from its weights alone."""
    torch.manual_seed(width)
    net = randomise(models.ResNet20(5, width, channels=4, blocks=(2, 1)))
    w, images = net.state_dict(), torch.randn(3, 3, 8, 8).double()
    y = F.relu(norm(F.conv2d(images, w["conv1.weight"], padding=1), w, "bn1"))
    for block, stride in (("stages.0.0", 1), ("stages.0.1", 1), ("stages.1.0", 2)):
        x = y
        y = F.conv2d(x, w[f"{block}.conv1.weight"], stride=stride, padding=1)
        y = F.relu(norm(y, w, f"{block}.bn1"))
        y = norm(F.conv2d(y, w[f"{block}.conv2.weight"], padding=1), w, f"{block}.bn2")
        if stride == 2:
            x = F.conv2d(x, w[f"{block}.shortcut.0.weight"], stride=stride, padding=1)
            x = norm(x, w, f"{block}.shortcut.1")
        y = F.relu(x + y)
    assert y.shape[1] == 8 * width
    expected = y.mean((2, 3)) @ w["linear.weight"].T + w["linear.bias"]
    assert torch.allclose(net.train()(images), expected)


@pytest.mark.parametrize("width", [0.5, 1, 2])
def test_vgg11_computes_what_the_paper_describes(width):
    torch.manual_seed(0)
    net = randomise(models.VGG11(5, width, 1, image_size=8, plan=[4, "M", 6, 8, "M"]))
    w, y = net.state_dict(), torch.randn(3, 1, 8, 8).double()
    convolutions = [k for k, v in w.items() if v.ndim == 4]
    assert [len(w[k]) for k in convolutions] == [4 * width, 6 * width, 8 * width]
    x = y
    for name, pooled in zip(convolutions, (True, False, True), strict=True):
        y = F.relu(F.conv2d(y, w[name], w[name.replace("weight", "bias")], padding=1))
        if pooled:
            y = y.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    expected = y.flatten(1) @ w["linear.weight"].T + w["linear.bias"]
    assert torch.allclose(net(x), expected)


def test_thin_resnet50_has_torchvisions_kernels_strides_and_order():
    thin, theirs = models.resnet50(10, channels=8), torchvision.models.resnet50()

    def layers(net):
        return [
            (name, type(m), getattr(m, "kernel_size", 0), getattr(m, "stride", 0))
            for name, m in net.named_modules()
            if not isinstance(m, torchvision.models.ResNet)
        ]

    assert layers(thin) == layers(theirs)


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_running_statistics_are_torchs_by_default(name):
    net = build(name, classes=3, image_size=32, in_channels=1, width=1, channels=4)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.momentum, m.eps, m.affine) for m in norms} == {(0.1, 1e-5, True)}

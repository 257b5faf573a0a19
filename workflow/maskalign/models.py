"""The paper's architectures, at full size by name and thinner or shallower by parameters."""

import fnmatch
import inspect
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskalign import dotted
from maskalign.wrapped import refuse_wrapped


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection; where the shape changes, a third."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            convolution = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels_in, H, W] to [N, channels, H / stride, W / stride]."""
        # In place where no gradient needs the value: a twentieth of a step.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet20(nn.Module):
    """The residual network for small images (SPEC, Architectures), Kaiming-normal initialised.

    Args:
        classes: number of logits.
        width: factor on all channels.
        in_channels: of the images.
        blocks: residual blocks per stage; (3, 3, 3) gives the 20 layers.
        channels: of the first stage at width 1; every further stage doubles them.
    """

    def __init__(
        self,
        classes: int,
        width: float = 1,
        in_channels: int = 3,
        blocks: Sequence[int] = (3, 3, 3),
        channels: int = 16,
    ):
        super().__init__()
        before = round(channels * width)
        self.conv1 = nn.Conv2d(in_channels, before, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        stages = []
        for stage, count in enumerate(blocks):
            now = round(channels * width) * 2**stage
            stride = 1 if stage == 0 else 2
            row = [BasicBlock(before, now, stride)]
            row += [BasicBlock(now, now, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*row))
            before = now
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to logits [N, classes]."""
        y = self.stages(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.linear(F.adaptive_avg_pool2d(y, 1).flatten(1))


class VGG11(nn.Module):
    """VGG11 without batch norm and with one linear layer (SPEC, Architectures).

    Args:
        classes: number of logits.
        width: factor on all channels.
        in_channels: of the images.
        image_size: height and width of the images, in pixels.
        plan: channels of the convolutions at width 1, and ``M`` for a max pooling that halves the
            image.
    """

    def __init__(
        self,
        classes: int,
        width: float = 1,
        in_channels: int = 3,
        image_size: int = 32,
        plan: Sequence[int | str] = (
            64,
            "M",
            128,
            "M",
            256,
            256,
            "M",
            512,
            512,
            "M",
            512,
            512,
            "M",
        ),
    ):
        super().__init__()
        layers: list[nn.Module] = []
        before, size = in_channels, image_size
        for step in plan:
            if step == "M":
                layers.append(nn.MaxPool2d(2))
                size //= 2
            else:
                now = round(step * width)
                layers += [nn.Conv2d(before, now, 3, 1, 1), nn.ReLU(inplace=True)]
                before = now
        if not size:
            raise ValueError(f"images of {image_size} pixels are too small for the plan {plan}")
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(before * size**2, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to logits [N, classes]."""
        return self.linear(self.features(x).flatten(1))


def resnet50(
    classes: int,
    width: float = 1,
    in_channels: int = 3,
    layers: Sequence[int] = (3, 4, 6, 3),
    channels: int = 64,
) -> nn.Module:
    """Return torchvision's ResNet50.

    Args:
        classes: number of logits.
        width: factor on the inner channels of the bottlenecks, as in torchvision's wide nets.
        in_channels: of the images.
        layers: bottlenecks per stage.
        channels: of the stem at full size 64; fewer make every stage thinner by the same factor.
    """
    # Imported here because it doubles the start-up of jobs that do not need it.
    from torchvision.models.resnet import Bottleneck, ResNet

    class ThinResNet(ResNet):
        def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
            if planes == 64:  # the first stage: the stem has just been built at full width
                self.inplanes = channels
                self.conv1 = nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
                self.bn1 = nn.BatchNorm2d(channels)
            return super()._make_layer(block, planes * channels // 64, blocks, stride, dilate)

    full = channels == 64 and in_channels == 3
    kind = ResNet if full else ThinResNet
    net = kind(Bottleneck, list(layers), num_classes=classes, width_per_group=round(64 * width))
    if not full:
        net.fc = nn.Linear(512 * channels // 64 * Bottleneck.expansion, classes)
    return net


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet20": ResNet20,
    "vgg11": VGG11,
    "resnet50": resnet50,
}


def build(
    architecture: str, classes: int, image_size: int, in_channels: int, width: float, **options
) -> nn.Module:
    """Return a freshly initialised network, drawn from torch's global generator.

    Args:
        architecture: a name of ``ARCHITECTURES`` or the dotted path of a function or class,
            ``package.module:name``; it is called with those of the other arguments that its
            signature names, and with ``options``.
        classes, image_size, in_channels: shape of the task.
        width: factor on the number of channels.
        options: the study's ``options`` of the model.

    Raises:
        ValueError: one line, if there is no such architecture or it does not take the options.
    """
    make = ARCHITECTURES.get(architecture) or dotted.load(architecture)
    task = {"image_size": image_size, "in_channels": in_channels}
    known = inspect.signature(make).parameters
    task = {k: v for k, v in task.items() if k in known}
    try:
        return make(classes=classes, width=width, **task, **options)
    except TypeError as error:
        raise ValueError(f"model {architecture}: {error}") from error


def prunable(
    model: nn.Module, exclude: Iterable[str] = ("*shortcut*", "*downsample*")
) -> list[str]:
    """Return the names of the weights of all convolution and linear layers.

    Args:
        model: any network.
        exclude: file-name patterns over parameter names; what they match is never pruned.

    Raises:
        ValueError: one line, if torch has wrapped the network, so that its names are others.
    """
    refuse_wrapped(model)
    kinds = nn.Linear | torch.nn.modules.conv._ConvNd
    weights = [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, kinds)]
    patterns = list(exclude)
    return [w for w in weights if not any(fnmatch.fnmatchcase(w, p) for p in patterns)]

"""Networks that the library has never seen, for tests of the derived symmetry."""

import torch
import torch.nn.functional as F
from torch import nn


class Gate(nn.Module):
    """Squeeze and excitation: channels gated by their own means."""

    def __init__(self, channels: int):
        super().__init__()
        self.down, self.up = nn.Linear(channels, 4), nn.Linear(4, channels)

    def forward(self, x):
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate.view(gate.shape[0], gate.shape[1], 1, 1)


class PreActivation(nn.Module):
    """A residual net of another kind: pre-activation, depthwise convolution, gate, flatten."""

    def __init__(self, channels: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, 10, 3, padding=1)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.back = nn.Conv2d(10, channels, 1)
        self.gate = Gate(channels)
        self.head = nn.Linear(4 * channels, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.gate(self.back(F.silu(self.depthwise(self.conv(F.relu(self.norm(x)))))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(F.gelu(x), 2), 1))


class Gated(nn.Module):
    """Channels gated or shifted by their own means, in one of several ways, and read again."""

    def __init__(self, how: str, channels: int = 12):
        super().__init__()
        self.how = how
        self.stem, self.norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels)
        self.map, self.conv = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 10, 1)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = x * torch.sigmoid(x) if self.how == "by hand" else F.relu(x)
        context = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        match self.how:
            case "sigmoid":
                x = torch.sigmoid(context) * x
            case "hardsigmoid":
                x = x * F.hardsigmoid(context)
            case "context":
                x = x + context
            case "map":
                x = x * torch.sigmoid(self.map(x))
            case "strided":
                x = F.relu(self.depthwise(x))
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class PreNorm(nn.Module):
    """A linear residual stream of a perceptron, normalised before each branch and at the end."""

    def __init__(self, channels: int = 12):
        super().__init__()
        self.stem, self.head = nn.Linear(768, channels), nn.Linear(channels, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.wide = nn.ModuleList(nn.Linear(channels, 20) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(20, channels) for _ in range(2))

    def forward(self, x):
        x = self.stem(x.flatten(1))
        for norm, wide, back in zip(self.norms, self.wide, self.back, strict=False):
            x = x + back(F.gelu(wide(norm(x))))
        return self.head(self.norms[2](x))


class MLP(nn.Module):
    """Layer norm, one layer used twice, and a residual connection around it."""

    def __init__(self, inputs: int = 768):
        super().__init__()
        self.first, self.norm = nn.Linear(inputs, 20), nn.LayerNorm(20)
        self.twice, self.narrow, self.last = nn.Linear(20, 20), nn.Linear(20, 9), nn.Linear(9, 3)

    def forward(self, x):
        x = F.silu(self.norm(self.first(x.flatten(1))))
        x = x + self.twice(self.twice(x))
        return self.last(torch.relu_(self.narrow(x)))


class Versioned(nn.Module):
    """Loads no weights of an unknown version of itself, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self, classes: int, width: float = 1, in_channels: int = 1):
        super().__init__()
        channels = round(6 * width)
        self.stem, self.norm = nn.Conv2d(in_channels, channels, 3), nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.stem(x))).mean((2, 3)))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version") != 2:
            raise ValueError("version should be 2")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class Refused(nn.Module):
    """One way each to build a network whose symmetry is not derived."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 1)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)
        self.attention = nn.MultiheadAttention(4, 2)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        match self.how:
            case "concat":
                return torch.cat([y, y], 1)
            case "grouped":
                return self.grouped(y)
            case "transpose":
                return y.transpose(1, 2)
            case "control flow":
                return y if y.sum() > 0 else -y
            case "parameter":
                return y * self.scale
            case "several outputs":
                return y.chunk(2, 1)[0]
            case "weights without a rule":
                y = y.flatten(2).permute(2, 0, 1)
                return self.attention(y, y, y)[0]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and buffer a generic value; return the model in float64, eval mode."""
    g = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=g) + 0.5)
        elif tensor.is_floating_point():
            scale = 0.3 if tensor.ndim == 1 else (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(scale * torch.randn(tensor.shape, generator=g, dtype=torch.double))
            if "norm." in name or "bn" in name:  # scales near 1, and few channels never active
                tensor.add_(1.0)
    return model

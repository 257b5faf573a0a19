"""A network of your own, named in a study as ``examples.nets:mixer``."""

from torch import Tensor, nn


class Mixer(nn.Module):
    """A small convolutional network with one skip connection."""

    def __init__(self, classes: int, in_channels: int, hidden: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.body = nn.Sequential(
            nn.Conv2d(hidden, 2 * hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * hidden),
            nn.ReLU(),
            nn.Conv2d(2 * hidden, hidden, 1),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to logits [N, classes]."""
        x = self.stem(x)
        return self.head(x + self.body(x))


def mixer(classes: int, width: float, in_channels: int, hidden: int = 16) -> nn.Module:
    """Return a network of ``width`` times ``hidden`` channels.

    ``classes`` and ``width`` are always given; of ``in_channels`` and ``image_size``, those that
    the function names; and whatever the study's ``options`` name.
    """
    return Mixer(classes, in_channels, round(width * hidden))

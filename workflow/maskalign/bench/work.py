"""The work that is timed: RGB images of 32 x 32 pixels, the paper's networks, batches of 128."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskalign import models, sources
from maskalign.checkpoint import load_tensors, save_tensors
from maskalign.data import ImageData, open_data

BATCH = 128
EVALUATE_EVERY = 10  # epochs, as in the paper's study
SPEC = {"mean": [0.13] * 3, "std": [0.29] * 3, "crop_padding": 4, "flip": True}
# Name, architecture, width, training images of an epoch on a CPU.
NETWORKS: dict[str, tuple[str, float, int]] = {
    "ResNet20 x1": ("resnet20", 1, 1024),
    "ResNet20 x4": ("resnet20", 4, 256),
    "VGG11 x1": ("vgg11", 1, 512),
}


def prepare(folder: Path, images: int) -> Path:
    """Write a data set of ``images`` training and a quarter as many test images; return its file.

    The pictures are MNIST's, at the size and with the channels of CIFAR-10's.
    """
    file = folder / f"images-{images}.safetensors"
    if not file.exists():
        gray = folder / f"gray-{images}.safetensors"
        spec = {"source": "mnist5k", "path": None, "image_size": 32, "compose": 1}
        sources.prepare(spec | {"train_images": images, "test_images": images // 4}, gray)
        tensors, _ = load_tensors(gray)
        for part in ("train_images", "test_images"):
            tensors[part] = tensors[part].expand(-1, 3, -1, -1)
        save_tensors(file, tensors)
    return file


def data(folder: Path, images: int, device: str) -> ImageData:
    """Return that data set as the study reads it."""
    return open_data(prepare(folder, images), SPEC, device)


def build(name: str, seed: int = 0, width: float | None = None) -> nn.Module:
    """Return a network of ``NETWORKS``, or that at another width, with the weights of ``seed``."""
    architecture, own, _ = NETWORKS[name]
    torch.manual_seed(seed)
    task = {"classes": 10, "image_size": 32, "in_channels": 3}
    return models.build(architecture, **task, width=width or own)


def job(name: str, **more: Any) -> dict[str, Any]:
    """Return what a measuring process is told: the network and how it is trained or matched."""
    return {"network": name, "images": NETWORKS[name][2], **more}


def synchronize(device: str) -> None:
    """Wait for what a GPU has been told to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()

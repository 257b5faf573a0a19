"""The work that is timed: the paper's networks on RGB images, trained in batches of 128."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from maskalign import cost, models, pruning, sources
from maskalign.checkpoint import load_tensors, save_tensors
from maskalign.data import ImageData, open_data

BATCH = 128
CLASSES = 10
EVALUATE_EVERY = 10  # epochs, as in the paper's study
SPEC = {"mean": [0.13] * 3, "std": [0.29] * 3, "crop_padding": 4, "flip": True}
SPARSITY = 0.9  # of what is trained, as most of a study is
TOY = "toy"  # what a test can afford
# Name, architecture, width, pixels, training images of an epoch on a CPU.
NETWORKS: dict[str, tuple[str, float, int, int]] = {
    "ResNet20 x1": ("resnet20", 1, 32, 1024),
    "ResNet20 x4": ("resnet20", 4, 32, 256),
    "ResNet20 x16": ("resnet20", 16, 32, 128),
    "VGG11 x1": ("vgg11", 1, 32, 512),
    "ResNet50 x1": ("resnet50", 1, 224, 64),
    TOY: ("vgg11", 0.125, 8, 256),
}
OPTIONS = {TOY: {"plan": [64, "M", 128, "M"]}}
MATCHED_ONLY = ["ResNet50 x1"]
NOT_ON_A_CPU = ["ResNet20 x16"]  # it would take hours


def prepare(folder: Path, images: int, size: int = 32, made_up: bool = False) -> Path:
    """Write a data set of ``images`` training and a quarter as many test images; return its file.

    The pictures are MNIST's, with the channels of CIFAR-10's; they repeat where there are fewer.
    Where they are ``made_up``, which needs no package of images, each is a pattern of its class
    under noise.
    """
    file = folder / f"images-{images}-{size}.safetensors"
    if not file.exists():
        wanted = {"train": images, "test": images // 4}
        save_tensors(file, _patterns(wanted, size) if made_up else _digits(folder, wanted, size))
    return file


def _digits(folder: Path, wanted: dict[str, int], size: int) -> dict[str, torch.Tensor]:
    gray = folder / f"gray-{wanted['train']}.safetensors"
    spec = {"source": "mnist5k", "path": None, "image_size": size, "compose": 1}
    spec |= {f"{part}_images": count for part, count in wanted.items()}
    train, test = cost.images(spec)  # as many as there are
    sources.prepare(spec | {"train_images": train, "test_images": test}, gray)
    tensors, _ = load_tensors(gray)
    for name, tensor in tensors.items():
        part, what = name.split("_")
        repeated = tensor[torch.arange(wanted[part]) % len(tensor)]
        tensors[name] = repeated.expand(-1, 3, -1, -1) if what == "images" else repeated
    return tensors


def _patterns(wanted: dict[str, int], size: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    coarse = torch.rand(CLASSES, 3, 4, 4, generator=draws)
    patterns = (128 * F.interpolate(coarse, size=size, mode="bilinear")).to(torch.uint8)
    tensors = {}
    for part, count in wanted.items():
        labels = torch.arange(count) % CLASSES
        noise = torch.randint(128, (count, 3, size, size), generator=draws, dtype=torch.uint8)
        tensors |= {f"{part}_images": patterns[labels] + noise, f"{part}_labels": labels}
    return tensors


def data(
    folder: Path, images: int, device: str, size: int = 32, made_up: bool = False
) -> ImageData:
    """Return that data set as the study reads it."""
    return open_data(prepare(folder, images, size, made_up), SPEC, device)


def build(name: str, seed: int = 0, width: float | None = None) -> nn.Module:
    """Return a network of ``NETWORKS``, or that at another width, with the weights of ``seed``."""
    architecture, own, size, _ = NETWORKS[name]
    torch.manual_seed(seed)
    task = {"classes": CLASSES, "image_size": size, "in_channels": 3}
    return models.build(architecture, **task, width=width or own, **OPTIONS.get(name, {}))


def mask(model: nn.Module) -> pruning.Mask:
    """Return the mask that keeps the largest weights of ``model``."""
    weights = model.state_dict()
    return pruning.prune(weights, pruning.full_mask(weights, models.prunable(model)), SPARSITY)


def job(name: str, **more: Any) -> dict[str, Any]:
    """Return what a measuring process is told: the network and how it is trained or matched."""
    return {"network": name, "images": NETWORKS[name][3], **more}


def job_data(job: dict[str, Any], folder: Path, device: str) -> ImageData:
    """Return the data set of a job, which may ask for ``made_up`` images."""
    size = NETWORKS[job["network"]][2]
    return data(folder, job["images"], device, size, job.get("made_up", False))


def synchronize(device: str) -> None:
    """Wait for what a GPU has been told to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()

"""The textbook procedure that the benchmark compares with; no study uses it.

It is what one writes with the usual tool chain: torchvision's transforms on one PIL image at a time
in DataLoader workers, float32 in torch's default memory format, torch.nn.utils.prune, a scheduler,
``loss.item()`` in every step, an evaluation in every epoch, and the training set passed once for
every layer that is matched. It is not slowed down on purpose and not to be changed to suit a ratio.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from maskalign.pruning import Mask
from maskalign.symmetry import Permutations, Symmetry

EPSILON = 1e-4


class Images(Dataset):
    """Images in memory, as torchvision's CIFAR10 holds them: uint8 arrays [H, W, C]."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable):
        self.images = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loaders(
    tensors: dict[str, Tensor], spec: dict[str, Any], batch_size: int, workers: int
) -> tuple[DataLoader, DataLoader]:
    """Return loaders of training and test batches of RGB images.

    Args:
        tensors: a prepared data set, ``train_images`` uint8 [N, 3, H, W] and so on.
        spec: ``mean``, ``std``, ``crop_padding``, ``flip``.
        batch_size: of training; testing takes 500.
        workers: processes that load; 0 loads in this one.
    """
    size = tensors["train_images"].shape[-1]
    flip = [transforms.RandomHorizontalFlip()] if spec["flip"] else []
    normal = [transforms.ToTensor(), transforms.Normalize(spec["mean"], spec["std"])]
    crop = transforms.RandomCrop(size, padding=spec["crop_padding"])
    train = Images(
        tensors["train_images"],
        tensors["train_labels"],
        transforms.Compose([*flip, crop, *normal]),
    )
    test = Images(tensors["test_images"], tensors["test_labels"], transforms.Compose(normal))
    kept = {"num_workers": workers, "persistent_workers": workers > 0}
    return (
        DataLoader(train, batch_size, shuffle=True, drop_last=True, **kept),
        DataLoader(test, 500, **kept),
    )


def train(
    model: nn.Module,
    train_loader: DataLoader,
    test_loader: DataLoader,
    epochs: int,
    lr: float,
    device: torch.device | str = "cpu",
    mask: Mask | None = None,
    after_epoch: Callable[[float], None] = lambda accuracy: None,
) -> float:
    """Train ``model`` in place and return its last test accuracy in percent.

    Args:
        model: the network; masked layers get torch's pruning hooks.
        train_loader, test_loader: of ``loaders``.
        epochs: length of the cosine schedule.
        lr: peak learning rate.
        device: where batches go.
        mask: by parameter name; None trains all.
        after_epoch: receives the test accuracy of every epoch.
    """
    model = model.to(device)
    for name, ones in (mask or {}).items():
        module, _, parameter = name.rpartition(".")
        prune.custom_from_mask(model.get_submodule(module), parameter, ones.to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    steps = epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    accuracy = 0.0
    for _ in range(epochs):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        accuracy = evaluate(model, test_loader, device)
        after_epoch(accuracy)
    return accuracy


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device | str = "cpu") -> float:
    """Return the accuracy of ``model`` in percent."""
    model.eval()
    correct = count = 0
    for images, labels in loader:
        predicted = model(images.to(device)).argmax(1)
        correct += (predicted == labels.to(device)).sum().item()
        count += len(labels)
    return 100 * correct / count


@torch.no_grad()
def match(
    symmetry: Symmetry,
    a: nn.Module,
    b: nn.Module,
    batches: Callable[[], Any],
    group_done: Callable[[str], None] = lambda name: None,
) -> Permutations:
    """Return for each group the permutation that aligns A to B, found one group after the other.

    Each group is a pass over all batches through the part of both networks that leads to it.

    Args:
        symmetry: of the architecture of both.
        a, b: the networks.
        batches: called for each group; yields batches of images.
        group_done: receives the name of a group that is matched.
    """
    found = {}
    for group in symmetry.groups:
        alone = replace(symmetry, groups=(group,))
        nets = [alone.tapped(net.eval()).eval() for net in (a, b)]
        count, totals = 0, [torch.zeros((), dtype=torch.float64)] * 5
        for images in batches():
            za, zb = (_channels(net(images)[0][0]) for net in nets)
            sums = [z.sum(1) for z in (za, zb)] + [z.square().sum(1) for z in (za, zb)]
            sums.append(zb @ za.T)
            totals = [t.to(s.device) + s.double() for t, s in zip(totals, sums, strict=True)]
            count += za.shape[1]
        mean_a, mean_b, square_a, square_b, products = (t / count for t in totals)
        std_a, std_b = (square_a - mean_a**2).sqrt(), (square_b - mean_b**2).sqrt()
        covariance = products - torch.outer(mean_b, mean_a)
        correlation = covariance / (torch.outer(std_b, std_a) + EPSILON)
        score = correlation.nan_to_num(0.0).cpu().numpy()
        found[group.name] = torch.tensor(linear_sum_assignment(score, maximize=True)[1])
        group_done(group.name)
    return found


def _channels(z: Tensor) -> Tensor:
    """Return activations [N, C, ...] as [C, samples]."""
    return z.transpose(0, 1).flatten(1)

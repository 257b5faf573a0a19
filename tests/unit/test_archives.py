"""Published data sets are read from files in their own formats, and bad files are named."""

import dataclasses
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from maskalign import archives

IMAGES = {"train": 20, "test": 6}


def draw(part: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, 3, 32, 32] and labels [N] of a made-up data set."""
    random = np.random.default_rng(len(part))
    images = random.integers(256, size=(IMAGES[part], 3, 32, 32), dtype=np.uint8)
    return images, np.arange(IMAGES[part]) % classes


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path, monkeypatch) -> tuple[str, Path, Path]:
    """Return name, folder and archive of a small data set in CIFAR's binary format."""
    small = dataclasses.replace(
        archives.CIFAR[request.param], train_images=IMAGES["train"], test_images=IMAGES["test"]
    )
    file = tmp_path / Path(small.url).name
    with tarfile.open(file, "w:gz") as tar:
        for part in ("train", "test"):
            images, labels = draw(part, small.classes)
            coarse = [labels // 5] * (small.labels - 1)
            rows = np.column_stack([*coarse, labels, images.reshape(len(images), -1)])
            names = getattr(small, part)
            for name, block in zip(names, np.split(rows.astype(np.uint8), len(names)), strict=True):
                info = tarfile.TarInfo(f"{small.folder}/{name}")
                info.size = block.size
                tar.addfile(info, io.BytesIO(block.tobytes()))
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(archives.CIFAR, request.param, dataclasses.replace(small, md5=md5))
    return request.param, tmp_path, file


def check(parts, classes: int) -> None:
    for (images, labels), part in zip(parts, ("train", "test"), strict=True):
        wanted = draw(part, classes)
        assert images.dtype == torch.uint8
        assert np.array_equal(images.numpy(), wanted[0])
        assert np.array_equal(labels.numpy(), wanted[1])


def test_cifar_is_read_from_its_binary_archive(cifar):
    source, folder, file = cifar
    before = sorted(folder.iterdir())
    file.chmod(0o444)
    check(archives.read(source, folder, download=True), archives.CIFAR[source].classes)
    assert sorted(folder.iterdir()) == before


def test_cifar_is_read_from_its_unpacked_files(cifar):
    source, folder, file = cifar
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")
    file.unlink()
    check(archives.read(source, folder, download=False), archives.CIFAR[source].classes)
    short = folder / archives.CIFAR[source].folder / archives.CIFAR[source].test[0]
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{short.name}: has \d+ bytes, must have \d+"):
        archives.read(source, folder, download=False)


def test_half_an_archive_is_named(cifar):
    source, folder, file = cifar
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{file.name}: its checksum is wrong \(half a download"):
        archives.read(source, folder, download=False)


def test_no_archive_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz: no such file"):
        archives.read("cifar10", tmp_path, download=False)


def test_a_failed_download_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def broken(url, root, name, md5):
        (Path(root) / name).write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(utils, "download_url", broken)
    with pytest.raises(ValueError, match=r"no such file, and the download failed \(File not found"):
        archives.read("cifar10", tmp_path / "data", download=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_labels_beyond_the_classes_are_refused(cifar, monkeypatch):
    source, folder, _ = cifar
    few = dataclasses.replace(archives.CIFAR[source], classes=2)
    monkeypatch.setitem(archives.CIFAR, source, few)
    with pytest.raises(ValueError, match=r"label \d+, must be below 2"):
        archives.read(source, folder, download=False)


@pytest.fixture
def svhn(tmp_path, monkeypatch) -> Path:
    """Return a folder with a small data set in SVHN's format, where the digit 0 has label 10."""
    from torchvision.datasets import SVHN

    entries = {}
    for part in ("train", "test"):
        images, labels = draw(part, 10)
        file = tmp_path / f"{part}_32x32.mat"
        labels = np.where(labels == 0, 10, labels)
        content = {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None].astype(np.uint8)}
        scipy.io.savemat(file, content)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        entries[part] = [SVHN.split_list[part][0], file.name, md5]
    monkeypatch.setattr(SVHN, "split_list", entries)
    return tmp_path


def test_svhn_is_read_through_torchvision(svhn):
    check(archives.read("svhn", svhn, download=True), 10)


def test_half_of_svhn_is_named(svhn):
    file = svhn / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"test_32x32\.mat: its checksum is wrong"):
        archives.read("svhn", svhn, download=False)


@pytest.fixture
def fashion(tmp_path) -> Path:
    """Return a folder with a small data set in the gzipped idx files of Fashion-MNIST."""
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = draw(part, 10)
        pixels = images[:, 0, :28, :28]
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        with gzip.open(tmp_path / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + pixels.tobytes())
        with gzip.open(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
            count = len(labels).to_bytes(4, "big")
            file.write(b"\0\0\x08\x01" + count + labels.astype(np.uint8).tobytes())
    return tmp_path


def test_fashion_is_read_from_a_folder_that_cannot_be_written(fashion):
    fashion.chmod(0o555)
    parts = archives.read("fashion", fashion, download=True)
    fashion.chmod(0o755)
    for (images, labels), part in zip(parts, ("train", "test"), strict=True):
        wanted = draw(part, 10)
        assert np.array_equal(images.numpy(), wanted[0][:, :1, :28, :28])
        assert np.array_equal(labels.numpy(), wanted[1])


def test_fashion_is_read_as_torchvision_lays_it_out(fashion):
    raw = fashion / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in fashion.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    (images, _), _ = archives.read("fashion", fashion, download=False)
    assert images.shape == (IMAGES["train"], 1, 28, 28)


def test_what_debian_installed_spares_the_download(fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "DEBIAN_FASHION", fashion)
    (images, _), _ = archives.read("fashion", tmp_path / "empty", download=True)
    assert images.shape == (IMAGES["train"], 1, 28, 28)
    with pytest.raises(ValueError, match="empty: has neither"):  # a folder of the user's own counts
        archives.read("fashion", tmp_path / "empty", download=False)


def test_half_of_fashion_is_named(fashion):
    file = fashion / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: cannot be unpacked"):
        archives.read("fashion", fashion, download=False)
    file.unlink()
    with pytest.raises(ValueError, match=r"has neither train-images-idx3-ubyte\.gz nor train-im"):
        archives.read("fashion", fashion, download=False)


def test_other_files_are_not_fashion(fashion):
    with gzip.open(fashion / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(b"something else")
    with pytest.raises(ValueError, match="not Fashion-MNIST"):
        archives.read("fashion", fashion, download=False)

"""Batches are functions of (seed, epoch, sample), whatever is resumed or how it is loaded."""

from pathlib import Path

import pytest
import torch
from maskalign import sources
from maskalign.checkpoint import save_tensors
from maskalign.data import open_data

SPEC = {"mean": [0.1], "std": [0.5], "crop_padding": 1, "flip": True, "crop_scale": [0.5, 1.0]}
FOLDER = {"source": "mnist5k-folder", "train_images": 60, "test_images": 20, "image_size": 16}


@pytest.fixture(scope="module")
def tensors(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "small.safetensors"
    g = torch.Generator().manual_seed(0)
    save_tensors(
        file,
        {
            "train_images": torch.randint(256, (50, 1, 6, 6), generator=g).to(torch.uint8),
            "train_labels": torch.arange(50) % 5,
            "test_images": torch.randint(256, (12, 1, 6, 6), generator=g).to(torch.uint8),
            "test_labels": torch.arange(12) % 5,
        },
    )
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "folder"
    sources.prepare(SPEC | FOLDER, out)
    return out


@pytest.fixture(params=["tensors", "folder"])
def data(request):
    path = request.getfixturevalue(request.param)
    return open_data(path, SPEC | FOLDER)


def test_last_incomplete_batch_is_dropped(data):
    batches = list(data.train_batches(8, ("s",), 0))
    assert len(batches) == data.steps(8) == data.train_samples // 8
    assert all(len(x) == len(y) == 8 for x, y in batches)


def test_starting_in_the_middle_gives_the_same_batches(data):
    whole = list(data.train_batches(8, ("s",), 3))
    rest = list(data.train_batches(8, ("s",), 3, start=2))
    for (x, y), (u, v) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


def test_epochs_and_seeds_differ_and_the_global_generator_is_not_used(data):
    torch.manual_seed(0)
    first = next(iter(data.train_batches(8, ("s",), 0)))[0]
    torch.manual_seed(1)
    assert torch.equal(first, next(iter(data.train_batches(8, ("s",), 0)))[0])
    assert not torch.equal(first, next(iter(data.train_batches(8, ("s",), 1)))[0])
    assert not torch.equal(first, next(iter(data.train_batches(8, ("t",), 0)))[0])


def test_subset_has_the_size_asked_for(data):
    assert sum(len(y) for _, y in data.train_subset(30, ("s",), augment=False)) == 30
    everything = sum(len(y) for _, y in data.train_subset(None, ("s",), augment=False))
    assert everything == data.train_samples


def test_every_sample_is_visited_once_an_epoch(data):
    labels = torch.cat([y for _, y in data.train_batches(10, ("s",), 0)])
    counted = torch.cat([y for _, y in data.train_subset(None, ("s",), augment=False)])
    assert torch.equal(labels.sort().values, counted.sort().values)


def test_without_augmentation_pixels_are_the_images(tensors):
    data = open_data(tensors, SPEC)
    x, _ = next(data.train_subset(None, ("s",), augment=False))
    pixels = data.train_pixels[:, 1:-1, 1:-1, :].permute(0, 3, 1, 2)
    found = ((x * 0.5 + 0.1) * 255).round().to(torch.uint8)
    assert torch.equal(found.flatten(1).sort(0).values, pixels.flatten(1).sort(0).values)


def test_augmentation_is_a_shift_and_a_flip(tensors):
    """Every augmented image is one of the 3 x 3 crops of its padded image, flipped or not."""
    data = open_data(tensors, SPEC)
    crops = []
    for top in range(3):
        for left in range(3):
            crop = data.train_pixels[:, top : top + 6, left : left + 6, 0]
            crops += [crop, crop.flip(2)]
    known = {bytes(image.flatten().tolist()) for crop in crops for image in crop}
    x = torch.cat([x for x, _ in data.train_batches(10, ("s",), 0)])
    found = ((x * 0.5 + 0.1) * 255).round().to(torch.uint8)
    assert all(bytes(image.flatten().tolist()) in known for image in found)
    plain = torch.cat([x for x, _ in data.train_batches(10, ("s",), 0, augment=False)])
    assert not torch.equal(x, plain)


def test_normalisation(tensors):
    data = open_data(tensors, SPEC)
    x = torch.cat([x for x, _ in data.test_batches()])
    assert torch.allclose(x, (data.test_images / 255 - 0.1) / 0.5, atol=1e-5)


def test_channels_must_fit_the_mean(tensors):
    with pytest.raises(ValueError, match="1 channels, but mean has 3"):
        open_data(tensors, SPEC | {"mean": [0, 0, 0], "std": [1, 1, 1]})


def test_folder_without_train_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no folder 'train'"):
        open_data(tmp_path, SPEC | FOLDER)


def test_train_and_test_images_of_a_source_do_not_overlap(tmp_path):
    spec = SPEC | {"source": "digits", "train_images": None, "test_images": None, "compose": 1}
    sources.prepare(spec | {"image_size": 8}, tmp_path / "d.safetensors")
    data = open_data(tmp_path / "d.safetensors", SPEC)
    assert data.train_samples + len(data.test_labels) == 1797
    assert data.classes == 10


def test_composed_labels_are_pairs(tmp_path):
    spec = SPEC | {"source": "digits", "train_images": 700, "test_images": 90, "compose": 2}
    sources.prepare(spec | {"image_size": 8}, tmp_path / "d.safetensors")
    two = {"mean": [0, 0], "std": [1, 1]}
    data = open_data(tmp_path / "d.safetensors", SPEC | two)
    assert (data.channels, data.classes, data.train_samples) == (2, 100, 700)


def test_asking_for_more_images_than_there_are_is_refused(tmp_path):
    spec = SPEC | {"source": "digits", "train_images": 5000, "test_images": 9, "compose": 1}
    with pytest.raises(ValueError, match="has 1438 images in this part, 5000 were asked for"):
        sources.prepare(spec | {"image_size": 8}, tmp_path / "d.safetensors")

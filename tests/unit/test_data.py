"""Batches are functions of (seed, epoch, sample), whatever is resumed or how it is loaded."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from maskalign import folders, sources
from maskalign.checkpoint import load_tensors, save_tensors
from maskalign.data import epoch_order, open_data
from PIL import Image

SPEC = {"mean": [0.1], "std": [0.5], "crop_padding": 1, "flip": True, "crop_scale": [0.5, 1.0]}
PLAIN = {"flip": False, "crop_padding": 0}
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
    out = tmp_path_factory.mktemp("data") / "folder.json"
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


@pytest.mark.parametrize("rank", [0, 1])
def test_a_share_is_a_part_of_every_batch_augmented_as_in_the_whole(data, rank):
    whole = data.train_batches(8, ("s",), 3, start=1)
    parts = data.train_batches(8, ("s",), 3, start=1, share=(rank, 2))
    for (x, y), (u, v) in zip(whole, parts, strict=True):
        rows = slice(4 * rank, 4 * rank + 4)
        assert torch.equal(x[rows], u)
        assert torch.equal(y[rows], v)


def test_epochs_and_seeds_differ_and_the_global_generator_is_not_used(data):
    torch.manual_seed(0)
    first = next(iter(data.train_batches(8, ("s",), 0)))[0]
    torch.manual_seed(1)
    assert torch.equal(first, next(iter(data.train_batches(8, ("s",), 0)))[0])
    assert not torch.equal(first, next(iter(data.train_batches(8, ("s",), 1)))[0])
    assert not torch.equal(first, next(iter(data.train_batches(8, ("t",), 0)))[0])


def test_order_and_augmentation_are_drawn_apart(tensors):
    """Another augmentation changes no order, and A's draws are not B's."""
    plain = SPEC | {"crop_padding": 0, "flip": False}
    a, b = ("dense", 0, 0, 0), ("dense", 0, 1, 0)

    def epoch(spec, seed, number=0):
        batches = list(open_data(tensors, spec).train_batches(5, seed, number))
        return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    for seed in (a, b):
        (images, labels), (augmented, same) = epoch(plain, seed), epoch(SPEC, seed)
        assert torch.equal(labels, same)
        assert not torch.equal(images, augmented)
    orders = [epoch_order(2000, seed, number) for seed in (a, b) for number in (0, 1)]
    ranks = torch.stack([o.argsort().double() for o in orders])
    assert (torch.corrcoef(ranks) - torch.eye(4)).abs().max() < 0.1


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


def test_every_image_comes_with_its_label(tensors):
    """Of training in order and out of order, and of testing."""
    data, (held, _) = open_data(tensors, SPEC | PLAIN), load_tensors(tensors)
    for part, batches in (
        ("train", data.train_batches(8, ("s",), 1)),
        ("train", data.train_subset(30, ("s",), augment=True)),
        ("test", data.test_batches()),
    ):
        named = zip(held[f"{part}_images"], held[f"{part}_labels"].tolist(), strict=True)
        known = {image.numpy().tobytes(): label for image, label in named}
        for x, y in batches:
            pixels = ((x * 0.5 + 0.1) * 255).round().to(torch.uint8).contiguous()
            assert [known[image.numpy().tobytes()] for image in pixels] == y.tolist()


def test_every_image_file_comes_with_its_class(colours):
    """Blue numbers the images, which belong to two classes by turns."""
    data = open_data(colours, COLOUR | {"flip": True, "crop_scale": [0.1, 1.0]})
    for batches in (data.train_batches(5, ("s",), 1), data.test_batches()):
        for x, y in batches:
            blue = ((x[:, 2, 0, 0] * 0.4 + 0.3) * 255).round().long()
            assert (blue % 2).tolist() == y.tolist()
            assert len(set(blue.tolist())) == len(y) > 1


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


def test_crops_and_flips_are_all_drawn_anew_for_every_epoch_and_seed(tensors):
    """Find image, shift and flip of each augmented image among all that are possible."""
    stored = load_tensors(tensors)[0]["train_images"][:, 0].numpy()
    padded = np.pad(stored, ((0, 0), (1, 1), (1, 1)))
    known = {}
    for place in itertools.product(range(50), range(3), range(3), (False, True)):
        i, top, left, flip = place
        crop = padded[i, top : top + 6, left : left + 6]
        known[(crop[:, ::-1] if flip else crop).tobytes()] = place

    def drawn(spec, seed, epoch, augment=True):
        batches = open_data(tensors, SPEC | spec).train_batches(10, (seed,), epoch, augment=augment)
        x = torch.cat([x for x, _ in batches])
        pixels = ((x[:, 0] * 0.5 + 0.1) * 255).round().to(torch.uint8).numpy()
        found = sorted(known[image.tobytes()] for image in pixels)
        assert [i for i, *_ in found] == list(range(50))
        return [place for _, *place in found]

    epochs = [drawn({}, "s", epoch) for epoch in range(5)]
    every = itertools.product(range(3), range(3), (False, True))
    assert {tuple(place) for epoch in epochs for place in epoch} == set(every)
    for other in (epochs[1], drawn({}, "t", 0)):
        assert sum(a != b for a, b in zip(epochs[0], other, strict=True)) > 25
    assert drawn({}, "s", 0, augment=False) == 50 * [[1, 1, False]]
    unflipped = drawn({"flip": False}, "s", 0)
    assert [place[:2] for place in unflipped] == [place[:2] for place in epochs[0]]
    assert not any(flip for *_, flip in unflipped)


def test_a_subset_is_drawn_by_its_seed(tensors):
    data = open_data(tensors, SPEC)
    first, again, other = (
        next(data.train_subset(10, (seed,), augment=False))[0] for seed in ("s", "s", "t")
    )
    stored = next(data.train_subset(None, ("s",), augment=False))[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    in_order = data._normalise(data.train_pixels[:10, 1:-1, 1:-1])
    for subset in (first, other):
        assert not torch.equal(*(x.sum((1, 2, 3)).sort().values for x in (subset, in_order)))
    assert torch.equal(first, stored[:10])


def test_normalisation(tensors):
    data = open_data(tensors, SPEC)
    x = torch.cat([x for x, _ in data.test_batches()])
    images = data.test_pixels.permute(0, 3, 1, 2)
    assert torch.allclose(x, (images / 255 - 0.1) / 0.5, atol=1e-5)


def test_channels_must_fit_the_mean(tensors):
    with pytest.raises(ValueError, match="1 channels, but mean has 3"):
        open_data(tensors, SPEC | {"mean": [0, 0, 0], "std": [1, 1, 1]})


COLOUR = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "image_size": 16}


@pytest.fixture
def colours(tmp_path) -> Path:
    """Return the index of ten images 16 pixels wide, whose columns are known by their green."""
    across = np.arange(16, dtype=np.uint8) * 10
    for part in ("train", "val"):
        for i in range(10):
            pixels = np.stack(np.broadcast_arrays(across[:, None], across, np.uint8(i)), axis=-1)
            file = tmp_path / part / f"class{i % 2}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    everything = {"source": "imagefolder", "train_images": None, "test_images": None}
    folders.write_index(tmp_path, everything, tmp_path / "index.json")
    return tmp_path / "index.json"


def pixels_of(data, batches) -> torch.Tensor:
    """Return images as integers from 0 to 255, in the order of their blue, which numbers them."""
    x = torch.cat([x for x, _ in batches])
    mean, std = (torch.tensor(COLOUR[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    pixels = ((x * std + mean) * 255).round().long()
    return pixels[pixels[:, 2, 0, 0].argsort()]


def test_folder_images_are_cropped_and_flipped(colours):
    """A crop of the whole image leaves the flip alone; a smaller one is a part, stretched."""
    spec = COLOUR | {"flip": False, "crop_scale": [1.0, 1.0]}
    data = open_data(colours, spec)
    plain = pixels_of(data, data.train_batches(5, ("s",), 0))
    assert torch.equal(plain[:, 1, 0], (torch.arange(16) * 10).expand(10, 16))
    data = open_data(colours, spec | {"flip": True})
    found = pixels_of(data, data.train_batches(5, ("s",), 0))
    turned = torch.tensor([torch.equal(a.flip(2), b) for a, b in zip(plain, found, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(plain, found, strict=True)])
    assert turned.any()
    assert kept.any()
    assert (turned ^ kept).all()
    data = open_data(colours, spec | {"crop_scale": [0.1, 0.3]})
    found = pixels_of(data, data.train_batches(5, ("s",), 0))
    spans = found[:, 1, 0, -1] - found[:, 1, 0, 0]
    assert spans.max() < 120
    assert found[:, 1, 0, 0].unique().numel() > 2
    assert torch.equal(found[:, 2, 0, 0], torch.arange(10))
    # The aspect ratio varies. Red grows down the rows, green along the columns.
    several = [pixels_of(data, data.train_batches(5, ("s",), epoch)) for epoch in range(4)]
    red, green = torch.cat(several)[:, 0, :, 0], torch.cat(several)[:, 1, 0]
    ratios = (green[:, -1] - green[:, 0]) / (red[:, -1] - red[:, 0])
    assert ratios.min() < 0.9
    assert ratios.max() > 1.1


def test_images_of_a_folder_are_cropped_anew_in_every_epoch_and_by_every_seed(colours):
    data = open_data(colours, COLOUR | {"flip": False, "crop_scale": [0.1, 0.3]})
    draws = [("s", 0), ("s", 1), ("t", 0), ("s", 0)]
    found = [pixels_of(data, data.train_batches(5, (seed,), epoch)) for seed, epoch in draws]
    for other in found[1:3]:
        assert not any(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert torch.equal(found[0], found[3])


def test_images_of_a_folder_are_enlarged_and_cropped_at_the_centre_for_testing(colours):
    """16 columns become 18, of which the middle 16 remain; green is ten times the column."""
    data = open_data(colours, COLOUR | {"flip": True, "crop_scale": [0.1, 0.3]})
    columns = 10 * np.clip((np.arange(1, 17) + 0.5) * 16 / 18 - 0.5, 0, 15)
    for batches in (data.test_batches(), data.train_subset(None, ("s",), augment=False)):
        found = pixels_of(data, batches)[:, 1]
        assert (found - torch.from_numpy(columns)).abs().max() <= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_whatever_the_number_of_workers(colours, workers):
    spec = COLOUR | {"flip": True, "crop_scale": [0.1, 1.0]}
    alone, helped = open_data(colours, spec), open_data(colours, spec)
    alone.workers, helped.workers = 0, workers

    def everything(data):
        yield from data.train_batches(3, ("s",), 1, start=1)
        yield from data.train_subset(7, ("t",), augment=True)
        yield from data.test_batches()

    for (x, y), (u, v) in zip(everything(alone), everything(helped), strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
        assert x.dtype == u.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert u.is_contiguous(memory_format=torch.channels_last)


def test_a_subset_of_a_folder_decodes_no_more_than_it_yields(colours):
    data = open_data(colours, COLOUR | {"flip": True, "crop_scale": [0.1, 1.0]})
    data.workers, seen = 0, []
    load = data._train.load
    data._train.load = lambda path: seen.append(path) or load(path)
    data.evaluation_batch = 4
    sizes = [len(y) for _, y in data.train_subset(6, ("match",), augment=True)]
    assert sizes == [4, 2]
    assert len(set(seen)) == len(seen) == 6


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

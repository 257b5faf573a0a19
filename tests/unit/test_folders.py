"""Image folders are checked once; what is wrong with them is said in one line."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from maskalign import folders, sources
from maskalign.data import open_data
from PIL import Image

SPEC = {
    "source": "imagefolder",
    "train_images": None,
    "test_images": None,
    "image_size": 8,
    "mean": [0.5],
    "std": [0.2],
    "crop_scale": [0.5, 1.0],
    "flip": False,
}


def picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((9, 9, 3), 100, np.uint8)).save(out, "JPEG")
    return out.getvalue()


def tree(folder: Path, classes=("cat", "dog"), images=3) -> Path:
    for part in ("train", "val"):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for i in range(images):
                (folder / part / name / f"{i}.jpg").write_bytes(picture())
    return folder


def refused(folder: Path, tmp_path: Path, **changes) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        folders.write_index(folder, SPEC | changes, tmp_path / "index.json")
    assert not (tmp_path / "index.json").exists()
    return str(error.value)


def test_a_folder_is_listed_and_opened_by_its_list(tmp_path):
    folder = tree(tmp_path / "images")
    (folder / "train/cat/notes.txt").write_text("not an image")
    folders.write_index(folder, SPEC, tmp_path / "index.json")
    (folder / "train/dog/late.jpg").write_bytes(picture())  # came after the list
    data = open_data(tmp_path / "index.json", SPEC)
    assert (data.classes, data.train_samples) == (2, 6)
    labels = [int(y) for _, ys in data.test_batches() for y in ys]
    assert labels == [0, 0, 0, 1, 1, 1]


def test_the_list_moves_with_the_images_below_it(tmp_path):
    """Or lies anywhere, of a folder elsewhere."""
    folder = tree(tmp_path / "a" / "images")
    folders.write_index(folder, SPEC, tmp_path / "a" / "index.json")
    folders.write_index(folder, SPEC, tmp_path / "b" / "index.json")
    assert json.loads((tmp_path / "b/index.json").read_text())["folder"] == str(folder)
    (tmp_path / "a").rename(tmp_path / "c")
    assert len(list(open_data(tmp_path / "c/index.json", SPEC).test_batches())) == 1


def test_part_of_the_images_can_be_asked_for(tmp_path):
    folder = tree(tmp_path / "images", images=20)
    for name in ("one.json", "two.json"):
        folders.write_index(folder, SPEC | {"train_images": 10}, tmp_path / name)
    data = open_data(tmp_path / "one.json", SPEC)
    assert (data.train_samples, len(data._test)) == (10, 40)
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()
    kept = json.loads((tmp_path / "one.json").read_text())["train"]
    every = sorted(f"{i}.jpg" for i in range(20))
    assert all(0 < len(files) < 10 for files in kept.values())  # drawn over both classes
    assert all(files != every[: len(files)] for files in kept.values())
    line = refused(folder, tmp_path, test_images=41)
    assert line == f"{folder}/val: has 40 images, 41 were asked for"


def test_wrong_layouts_are_named(tmp_path):
    empty = tmp_path / "empty"
    assert refused(empty, tmp_path) == f"{empty}: has no folder 'train'"
    flat = tree(tmp_path / "flat")
    for name in ("cat", "dog"):
        (flat / "val" / name).rename(flat / name)
    (flat / "val" / "0.jpg").write_bytes(picture())
    assert refused(flat, tmp_path) == f"{flat}/val: has no folders, must have one for each class"
    short = tree(tmp_path / "short")
    (short / "val" / "dog").rename(short / "dog")
    assert refused(short, tmp_path) == f"{short}: class dog is missing in val"
    hollow = tree(tmp_path / "hollow")
    for file in (hollow / "train" / "cat").iterdir():
        file.unlink()
    assert refused(hollow, tmp_path) == f"{hollow}/train/cat: has no images"


def test_imagenet_has_a_thousand_classes(tmp_path):
    folder = tree(tmp_path / "images")
    line = refused(folder, tmp_path, source="imagenet")
    assert line == f"{folder}: has 2 classes, must have 1000"


@pytest.fixture
def archives(tmp_path, monkeypatch) -> Path:
    """Return a folder with small archives in the form of ImageNet's."""
    from torchvision.datasets import imagenet

    monkeypatch.setattr(folders, "IMAGENET_CLASSES", 2)
    folder, wnids = tmp_path / "archives", ["n01", "n02"]
    folder.mkdir()

    def add(tar, name, content):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid in wnids:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(3):
                    add(tar, f"{wnid}_{i}.JPEG", picture())
            add(outer, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(4):
            add(tar, f"ILSVRC2012_val_{i:08d}.JPEG", picture())
    fields = [("ILSVRC2012_ID", int), ("WNID", object), ("num_children", int)]
    synsets = np.array([(1, "n02", 0), (2, "n01", 0), (3, "n00", 2)], dtype=fields)
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets[:, None]})
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        add(tar, f"{folders.DEVKIT}/meta.mat", meta.getvalue())
        add(tar, f"{folders.DEVKIT}/ILSVRC2012_validation_ground_truth.txt", b"1\n2\n2\n2\n")
    sums = {
        role: (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for role, (name, _) in imagenet.ARCHIVE_META.items()
    }
    monkeypatch.setattr(imagenet, "ARCHIVE_META", sums)
    return folder


def prepare(archives: Path, tmp_path: Path) -> Path:
    spec = SPEC | {"source": "imagenet", "path": str(archives)}
    sources.prepare(spec, tmp_path / "index.json", root=tmp_path / "data")
    return tmp_path / "index.json"


def test_imagenet_is_unpacked_from_its_archives_once(archives, tmp_path):
    left = tmp_path / "data" / "imagenet.part" / "train"  # by an interrupted unpacking
    left.mkdir(parents=True)
    index = json.loads(prepare(archives, tmp_path).read_text())
    assert {name: len(files) for name, files in index["train"].items()} == {"n01": 3, "n02": 3}
    assert index["val"]["n02"] == ["ILSVRC2012_val_00000000.JPEG"]
    assert len(index["val"]["n01"]) == 3
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["imagenet"]
    (archives / "ILSVRC2012_img_train.tar").write_bytes(b"not needed any more")
    prepare(archives, tmp_path)


@pytest.mark.parametrize("role", ["train", "val", "devkit"])
def test_half_an_archive_of_imagenet_is_named(archives, tmp_path, role):
    from torchvision.datasets import imagenet

    file = archives / imagenet.ARCHIVE_META[role][0]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{file.name}[^\n]*(corrupted|checksum)"):
        prepare(archives, tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=rf"has neither train/ and val/ nor {file.name}, of"):
        prepare(archives, tmp_path)
    assert not (tmp_path / "data" / "imagenet").exists()

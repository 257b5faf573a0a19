"""Image folders, ``train|val/<class>/<image>``, checked and listed once: no job scans them."""

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import torch

from maskalign.files import write_json
from maskalign.seeds import generator
from maskalign.versions import RESULT_VERSION

PARTS = ("train", "val")
IMAGENET_CLASSES = 1000
DEVKIT = "ILSVRC2012_devkit_t12/data"


def write_index(
    folder: Path, spec: dict[str, Any], out: Path, version: int = RESULT_VERSION["data"]
) -> None:
    """Write the list of a folder's images to ``out``, as JSON.

    It holds ``folder`` (relative to ``out`` where it lies below), ``classes`` and, for ``train``
    and ``val``, the file names of each class: all of them or as many as ``spec`` asks for.

    Raises:
        ValueError: one line that names the folder and what is missing in it.
    """
    parts = {part: _files(folder / part) for part in PARTS}
    train, val = (set(parts[part]) for part in PARTS)
    if odd := sorted(train ^ val):
        where = " and ".join(p for p in PARTS if odd[0] not in parts[p])
        raise ValueError(f"{folder}: class {odd[0]} is missing in {where}")
    if spec["source"] == "imagenet" and len(train) != IMAGENET_CLASSES:
        raise ValueError(f"{folder}: has {len(train)} classes, must have {IMAGENET_CLASSES}")
    for part, asked in zip(PARTS, ("train_images", "test_images"), strict=True):
        if spec[asked] is not None:
            parts[part] = _some(parts[part], spec[asked], f"{folder / part}")
    inside = folder.resolve().is_relative_to(out.parent.resolve())
    place = folder.resolve().relative_to(out.parent.resolve()) if inside else folder.resolve()
    content = {"folder": str(place), "classes": sorted(train), **parts}
    write_json(out, content | {"versions": {"data": [version]}}, indent=None)


def _files(folder: Path) -> dict[str, list[str]]:
    """Return the image files of each class below ``folder``."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not folder.is_dir():
        raise ValueError(f"{folder.parent}: has no folder '{folder.name}'")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise ValueError(f"{folder}: has no folders, must have one for each class")
    found = {
        entry.name: sorted(f.name for f in entry.iterdir() if f.suffix.lower() in IMG_EXTENSIONS)
        for entry in classes
    }
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{folder / empty[0]}: has no images")
    return found


def _some(files: dict[str, list[str]], count: int, where: str) -> dict[str, list[str]]:
    """Return ``count`` of the images, drawn over all classes."""
    every = [(name, file) for name, of in files.items() for file in of]
    if count > len(every):
        raise ValueError(f"{where}: has {len(every)} images, {count} were asked for")
    chosen = torch.randperm(len(every), generator=generator("subset"))[:count].sort().values
    kept: dict[str, list[str]] = {name: [] for name in files}
    for i in chosen.tolist():
        kept[every[i][0]].append(every[i][1])
    return kept


def imagenet(folder: Path, unpacked: Path) -> Path:
    """Return the folder of ImageNet's images, from ``folder`` or from the archives in it.

    Archives are unpacked to ``unpacked``, once; what an interrupted unpacking left is not used.

    Raises:
        ValueError: one line, if there is neither, or an archive is not whole.
    """
    from torchvision.datasets import imagenet as archives

    if any((folder / part).is_dir() for part in PARTS):
        return folder
    if all((unpacked / part).is_dir() for part in PARTS):
        return unpacked
    names = {role: name for role, (name, _) in archives.ARCHIVE_META.items()}
    for name in names.values():
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: has neither train/ and val/ nor {name}, of {', '.join(names.values())}"
            )
    scratch = unpacked.with_name(f"{unpacked.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        wnids = _validation_classes(folder / names["devkit"], archives.ARCHIVE_META["devkit"][1])
        for unpack, extra in (
            (archives.parse_val_archive, {"wnids": wnids}),
            (archives.parse_train_archive, {}),
        ):
            part = "val" if extra else "train"
            print(f"unpacking {folder / names[part]}")
            unpack(str(folder), folder=str((scratch / part).absolute()), **extra)
    except (RuntimeError, tarfile.TarError, KeyError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    scratch.replace(unpacked)
    return unpacked


def _validation_classes(devkit: Path, md5: str) -> list[str]:
    """Return the WordNet id of each validation image, in the order of their names."""
    import scipy.io
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(devkit, md5):
        raise ValueError(f"{devkit}: its checksum is wrong (half a download?)")
    with tarfile.open(devkit) as tar:
        meta = io.BytesIO(tar.extractfile(f"{DEVKIT}/meta.mat").read())
        truth = tar.extractfile(f"{DEVKIT}/ILSVRC2012_validation_ground_truth.txt").read()
    synsets = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
    wnids = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets}
    return [wnids[int(number)] for number in truth.split()]

"""What all stages share: how a run begins, and tensors that carry their run's status."""

import copy
import json
from pathlib import Path
from typing import Any

import torch

from maskalign import devices, graph, models, symmetry
from maskalign.checkpoint import load_tensors, read_metadata, save_tensors
from maskalign.controls import Start, drawn
from maskalign.data import open_data
from maskalign.files import read_json
from maskalign.identity import checkpoint_name
from maskalign.pruning import Mask
from maskalign.results import COMPLETED, DIVERGED, Record, Versions, merged
from maskalign.seeds import derive, generator

Values = dict[str, Any]


def begin(
    data: str, values: Values, *made_from: str | Path | None
) -> tuple[Record, Any, torch.nn.Module]:
    """Return a fresh record, the data set on the device, and the initialised network.

    The run is diverged from the start if any of the files that it is made from is marked so.
    """
    record = Record(values)
    record.status = status_of(*made_from)
    record.versions = merged(record.versions, versions_of(data, *made_from))
    devices.exact()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = open_data(data, values["data"], device)
    torch.manual_seed(derive("init", values.get("init_seed", 0)))
    net = values["net"]
    model = models.build(
        net["architecture"],
        classes=images.classes,
        image_size=images.image_size,
        in_channels=images.channels,
        width=values["width"],
        **net["options"],
    )
    return record, images, model.to(device, memory_format=torch.channels_last)


def checkpoint(folder: str | Path, epoch: int) -> Path:
    """Return the file of a dense run's checkpoint after ``epoch`` completed epochs."""
    return Path(folder) / checkpoint_name(epoch)


def status_of(*files: str | Path | None) -> str:
    """Return the status of what is made from ``files``, which carry that of their run."""
    found = {read_metadata(file).get("status") for file in files if file}
    return DIVERGED if DIVERGED in found else COMPLETED


def versions_of(*files: str | Path | None) -> Versions:
    """Return the result versions behind ``files``: tensors of runs, or prepared data."""
    return merged(*(_versions(Path(file)) for file in files if file))


def _versions(file: Path) -> Versions:
    if file.suffix == ".json":  # the index of a folder of images
        return read_json(file).get("versions", {})
    return json.loads(read_metadata(file).get("versions", "{}"))


def save(record: Record, file: str | Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors that carry status and versions of their run to all that is made from them."""
    record.guard()
    save_tensors(file, tensors, {"status": record.status, "versions": json.dumps(record.versions)})


def load(file: str | Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a file's tensors on the device of ``model``."""
    return load_tensors(file, next(model.parameters()).device)[0]


def symmetry_of(model: torch.nn.Module, images) -> symmetry.Symmetry:
    """Return the symmetry of a network on a data set's images."""
    example = torch.zeros(2, images.channels, images.image_size, images.image_size)
    return graph.derive(model, example.to(next(model.parameters()).device))


def control(values: Values, method: str, function: str | None, mask: Mask, net, images) -> Mask:
    """Return the mask that a method's ``function`` makes of ``mask``; the mask itself without one.

    Draws depend on the method, the pair and the sparsity, so that a pair has one mask whatever the
    rewind epoch, length and rate.
    """
    if function is None:
        return mask
    seed = ("mask", method, values["mask_seed"], values["init_seed"], f"{values['sparsity']:g}")
    own = copy.deepcopy(net)  # a function may train or change it
    start = Start(own, lambda: symmetry_of(own, images), generator(*seed))
    return drawn(function, mask, start)

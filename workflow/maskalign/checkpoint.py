"""Tensors as safetensors files with a checksum: a damaged file is refused, never used."""

import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from maskalign.files import REMEDY, atomic

# The one entry in a file's header, as several would be written in any order: a list of the
# metadata and the checksum.
ENTRY = "maskalign"


def save_tensors(
    path: str | Path,
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str] | None = None,
    previous: Path | None = None,
) -> None:
    """Write named tensors (any shape and memory format) and their checksum, as ``atomic`` does."""
    # safetensors refuses views and channels_last; values are kept, the format is not.
    dense = {
        k: v.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for k, v in tensors.items()
    }
    metadata = metadata or {}
    entry = json.dumps([metadata, _checksum(dense, metadata)], sort_keys=True)
    with atomic(path, previous) as temporary:
        save_file(dense, temporary, {ENTRY: entry})


def load_tensors(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the named tensors of a file and its metadata.

    Raises:
        ValueError: one line, if the file is damaged: no whole safetensors file, or not the content
            that was written.
    """
    with _opened(path, device) as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        metadata, checksum = _entry(file)
    if checksum != _checksum(tensors, metadata):
        raise ValueError(f"{path}: is damaged (checksum differs); {REMEDY}")
    return tensors, metadata


def load_weights(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load named tensors into ``model``; RuntimeError if their names or shapes are not its own.

    Files hold no versions of modules, and some modules refuse weights of an unknown version, so the
    model's own are taken.
    """
    state = OrderedDict(tensors)
    state._metadata = model.state_dict()._metadata
    model.load_state_dict(state)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a tensor file; ValueError, one line, if it is no such file."""
    with _opened(path) as file:
        return _entry(file)[0]


def _entry(file: safe_open) -> tuple[dict[str, str], str]:
    try:
        metadata, checksum = json.loads((file.metadata() or {})[ENTRY])
    except (KeyError, ValueError, TypeError):
        return {}, ""
    return metadata, checksum


@contextlib.contextmanager
def _opened(path: str | Path, device: torch.device | str = "cpu") -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path}: is damaged ({error}); {REMEDY}") from None


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    whole = f"{digest(tensors)} {json.dumps(metadata, sort_keys=True)}"
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """Return a hash of named tensors: of names, shapes and values, whatever the memory format."""
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()

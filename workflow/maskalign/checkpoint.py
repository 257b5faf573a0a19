"""Files that are either whole or absent: tensors as safetensors, written beside and renamed."""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path``, on disk for good, when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: object, indent: int | None = 1) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def save_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors (any shape and memory format) atomically as safetensors."""
    # safetensors refuses views and channels_last; values are kept, the format is not.
    dense = {
        k: v.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for k, v in tensors.items()
    }
    with atomic(path) as temporary:
        save_file(dense, temporary, metadata=metadata)


def load_tensors(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the named tensors of a file and its metadata.

    Raises:
        ValueError: one line, if the file is not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a tensor file; ValueError, one line, if it is not a whole one."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """Return a hash of named tensors: of names, shapes and values, whatever the memory format."""
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()

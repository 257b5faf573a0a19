"""Checks of tensors that a caller hands over by name: a mask, weights, a state_dict.

Names and shapes are compared, never values, so no check waits for a device.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

Shapes = dict[str, list[int]]  # by name, in the order of the state_dict

WRAPPERS = ("module", "_orig_mod")  # parts that torch's wrappers add to names
SUFFIXES = ("_mask", "_orig")  # that torch.nn.utils.prune adds to names


def shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    """Return the shape of every tensor; [] for an extra state that is no tensor."""
    return {name: list(getattr(tensor, "shape", ())) for name, tensor in tensors.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that ``name`` probably stands for.

    >>> nearest("module.conv1.weight_mask", ["conv1.bias", "conv1.weight"])
    "; nearest: 'conv1.weight'"
    """
    known = list(known)
    same = [k for k in known if _bare(k) == _bare(name)]
    found = same or difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; nearest: {found[0]!r}" if found else ""


def _bare(name: str) -> str:
    """Return a name without what torch's wrappers and torch.nn.utils.prune add to it."""
    name = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def check_entries(tensors: Mapping[str, Tensor], known: Shapes, what: str = "entry") -> None:
    """Check that tensors are entries of a network, though not that they are all of them.

    Args:
        tensors: by name.
        known: the network's entries.
        what: the kind of the tensors, for the message.

    Raises:
        ValueError: one line that names the first tensor whose name or shape is not the network's.
    """
    for name, shape in shapes(tensors).items():
        if name not in known:
            hint = nearest(str(name), known)
            raise ValueError(f"{what} {name!r} is no parameter of the network{hint}")
        if shape != known[name]:
            raise ValueError(f"{what} {name!r} has shape {shape}, the network's is {known[name]}")


def check_alike(tensors: Mapping[str, Tensor], known: Shapes, who: str, reference: str) -> None:
    """Check that a mask has the entries of another one.

    Args:
        tensors: the mask ``who``.
        known: the entries of the mask ``reference``.
        who, reference: for the message.

    Raises:
        ValueError: one line that names the first difference.
    """
    found = shapes(tensors)
    for name in known | found:
        here, there = (entries.get(name, "missing") for entries in (found, known))
        if here != there:
            raise ValueError(f"{who} differs from {reference}: {name!r} is {here}, must be {there}")


def check_same(tensors: Mapping[str, Any], known: Shapes, who: str, reference: str) -> None:
    """Check that two networks have the same entries.

    Args:
        tensors: the state_dict of the network ``who``.
        known: the entries of the network ``reference``.
        who, reference: for the message.

    Raises:
        ValueError: one line that names the first difference.
    """
    found = shapes(tensors)
    differs = f"{who} differs from {reference}"
    for name in found:
        if name.endswith("_orig") and name.removesuffix("_orig") + "_mask" in found:
            raise ValueError(
                f"{who} is pruned by torch.nn.utils.prune ({name!r}): call "
                "torch.nn.utils.prune.remove first"
            )
    for name, shape in known.items():
        if name not in found:
            other = [k for k in found if _bare(k) == _bare(name)]
            why = f", but {other[0]!r}" if other else ", so depth or architecture differ"
            raise ValueError(f"{differs}: it has no {name!r}{why}")
        if shape != found[name]:
            raise ValueError(f"{differs}: {name} has shape {found[name]}, not {shape}")
    for name in found:
        if name not in known:
            raise ValueError(f"{differs}: it also has {name!r}, so depth or architecture differ")

"""What names a run, and what determines it. Every job imports this, so it imports little."""

import hashlib
import json
from typing import Any

# Columns that name a run, in runs.csv as in the table of runs.
IDENTITY = [
    "protocol",
    "dataset",
    "model",
    "width",
    "mask_seed",
    "init_seed",
    "order_seed",
    "sparsity",
    "method",
    "rewind_epoch",
    "matching_epoch",
    "matching_method",
    "length",
    "rate",
]
# Factors on the length and the learning rate of sparse training. Neither the path nor the values of
# a run name them where they are 1, so that results from before they existed stay what they are.
FACTORS = ["length", "rate"]


def identity_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of IDENTITY of the run that ``values`` determine."""
    unnamed = dict.fromkeys(FACTORS, 1) if values["stage"] == "sparse" else {}
    return {k: values.get(k, unnamed.get(k)) for k in IDENTITY}


def checkpoint_name(epoch: int) -> str:
    """Return the name of a dense run's checkpoint after ``epoch`` completed epochs."""
    return f"epoch-{epoch:04d}.safetensors"


def values_hash(values: dict[str, Any]) -> str:
    """Return a hash of resolved values, the same for equal values on any machine."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted key; what is not a dict is one value."""
    if not isinstance(values, dict):
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found

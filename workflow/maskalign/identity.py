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
]


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

"""The images of batches, in either form that callers have them: alone or with their labels."""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

Batches = Iterable[Tensor | Sequence]


def images_of(batches: Batches, purpose: str) -> Iterator[Tensor]:
    """Yield the images [N, ...] of every batch.

    Args:
        batches: tensors, or tuples or lists whose first entry is the tensor, as a torch DataLoader
            gives them.
        purpose: what the images are for, for the message.

    Raises:
        ValueError: one line, if a batch is neither, if all images are handed over as one tensor,
            or if there is no batch.
    """
    if isinstance(batches, Tensor):
        raise ValueError("batches are one tensor: pass a list of batches, as [images]")
    count = 0
    for batch in batches:
        images = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(images, Tensor):
            kind = type(batch).__name__
            raise ValueError(f"a batch is a {kind}, must be a tensor or begin with one: (x, y)")
        yield images
        count += 1
    if not count:
        raise ValueError(f"nothing to {purpose}: the data set gave no batch")

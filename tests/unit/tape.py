"""A stand-in for a CUDA graph on the CPU: it repeats a call's tensor operations and nothing else.

Like a graph, it keeps every number that Python handed to an operation and every tensor's place. A
recorded step sees nothing new but what stands in those tensors.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Tape(TorchDispatchMode):
    """Records the operations of a block."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, found))
        return found

    def replay(self):
        """Repeat all operations on the tensors that they had, results into those that they gave."""
        with torch.no_grad():
            for func, args, kwargs, before in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(_tensors(before), _tensors(again), strict=True):
                    if new.data_ptr() != old.data_ptr():  # neither in place nor a view
                        old.copy_(new)


def _tensors(found):
    return [t for t in (found if isinstance(found, tuple | list) else [found]) if t is not None]


def record(stream, call):
    """Take the place of ``step.record``: run nothing but what ``Tape`` repeats.

    Recording on a GPU changes no tensor, so what the recorded call changed is put back.
    """
    places = _state(call)
    before = [t.clone() for t in places]
    with Tape() as tape:
        call()
    with torch.no_grad():
        for place, value in zip(places, before, strict=True):
            place.copy_(value)
    return tape.replay


def _state(call):
    step = call.__self__._take
    held = [*step.weights, *step.momentum, *step.network.buffers(), step.total]
    return [t for t in held if t is not None]

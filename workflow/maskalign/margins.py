"""Drawing a random layer of a mask with the margins of a given one, by swaps of two entries.

The margins are the numbers of kept weights per output channel, per input channel and per kernel
position.
"""

import math

import torch
from torch import Tensor

SWAPS = 10  # accepted swaps per entry, before as many sweeps again
IDLE = 1000  # consecutive sweeps without an accepted swap, after which a layer stays as it is


def redraw(layer: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random layer with the margins of ``layer``.

    A swap takes two entries and exchanges their coordinate along one axis, so that every margin
    stays. The entries are the kept weights, or the masked weights (holes) where these are fewer:
    either way two kept weights and two holes change places. Sweeps of many swaps go on until ten
    swaps per entry are accepted, and then for as many sweeps again. A layer at the moment at which
    the count is reached is not quite uniform, because an accepted swap always comes just before. A
    layer a fixed number of sweeps later is.

    Args:
        layer: bool [O, I, ...]; the axes of the kernel count as one, of its positions.
        generator: on the CPU, where all is computed.

    Returns:
        bool, of the same shape and on the same device: unchanged if it has fewer than two axes or
        admits no swap.
    """
    if layer.ndim < 2 or not admits_swap(layer):
        return layer.clone()
    cube = layer.cpu().flatten(2) if layer.ndim > 2 else layer.cpu()[:, :, None]
    holes = 2 * int(cube.sum()) > cube.numel()
    chain = _Chain(cube ^ holes, generator)
    sweeps = accepted = idle = 0
    while accepted < SWAPS * len(chain.places) and idle < IDLE:
        swaps = chain.sweep()
        sweeps, accepted, idle = sweeps + 1, accepted + swaps, 0 if swaps else idle + 1
    for _ in range(sweeps):
        chain.sweep()
    return (chain.state ^ holes).view(layer.shape).to(layer.device)


def admits_swap(layer: Tensor) -> bool:
    """Return whether any swap of two kept weights of a layer, bool [O, I, ...], is possible.

    A swap along an axis needs two slices across it of which each keeps a place that the other does
    not. There are none if the slices, sorted by their number of kept weights, are nested.
    """
    cube = layer.flatten(2) if layer.ndim > 2 else layer[:, :, None]
    for axis in range(3):
        slices = cube.movedim(axis, 0).flatten(1)
        slices = slices[slices.sum(1).argsort()]
        if (slices[:-1] & ~slices[1:]).any():
            return True
    return False


class _Chain:
    """A Markov chain over the sets of entries of a [O, I, P] box that have given margins.

    A sweep pairs entries at random and proposes one swap per pair. A swap touches four cells: its
    two sources and its two targets. It is accepted if these are distinct, no other proposal of the
    sweep touches any of them, and both targets are free. If two proposals meet, both are rejected.

    The chain is symmetric, so its stationary distribution is uniform. Let a sweep lead from x to y,
    and let a sweep from y propose the same pairs and axes. Both sweeps are equally probable, since
    pairs and axes are drawn by the entries' numbers 0 to n - 1, never by the state. An accepted
    swap is proposed backwards: it touches the same cells, its targets are free because it has just
    left them, and so it is accepted. A rejected swap is proposed from the same cells, none of which
    an accepted swap has touched, and so it is rejected for the same reason. The sweep leads from y
    to x.

    Attributes:
        state: bool [O * I * P].
        places: int64 [n], the entries' cells in ``state``.
    """

    def __init__(self, cube: Tensor, generator: torch.Generator):
        self.state, self.generator = cube.flatten().clone(), generator
        self.places = self.state.nonzero().flatten()
        axes = [axis for axis, size in enumerate(cube.shape) if size > 1]
        self.strides = torch.tensor([math.prod(cube.shape[axis + 1 :]) for axis in axes])
        self.sizes = torch.tensor([cube.shape[axis] for axis in axes])
        self.touched = torch.zeros(cube.numel(), dtype=torch.int32)
        # With n entries in N cells, m proposals touch about 4 m cells, and a proposal meets no
        # other with probability exp(-8 m / N): most are accepted up to m = N / 8 = n / 2 / (4 d).
        share = min(1.0, cube.numel() / (4 * len(self.places)))
        self.most = max(1, int(share * (len(self.places) // 2)))

    def sweep(self) -> int:
        """Propose swaps, apply those that are accepted and return their number."""
        # A random number: with a fixed one, two states with one swap between them would alternate.
        count = int(torch.randint(self.most + 1, (), generator=self.generator))
        entries = torch.randperm(len(self.places), generator=self.generator)[: 2 * count]
        axis = torch.randint(len(self.strides), (count,), generator=self.generator)
        entries, stride = entries.view(2, count), self.strides[axis]
        sources = self.places[entries]
        first, second = sources // stride % self.sizes[axis]
        step = (second - first) * stride
        targets = sources + torch.stack([step, -step])
        cells = torch.cat([sources, targets])
        self.touched.scatter_add_(0, cells.flatten(), torch.ones(cells.numel(), dtype=torch.int32))
        alone = (self.touched[cells] == 1).all(0)
        self.touched[cells] = 0
        accepted = alone & ~self.state[targets].any(0)
        targets = targets[:, accepted]
        self.state[sources[:, accepted]] = False
        self.state[targets] = True
        self.places[entries[:, accepted]] = targets
        return targets.shape[1]

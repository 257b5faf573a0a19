"""Checking a derived symmetry on the network itself: permuted weights must give the same outputs.

The rules of ``maskalign.graph`` trust the names of operations and modules. A forward hook, or a
module whose forward was replaced, computes something else under the same name.
"""

import copy

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from maskalign.symmetry import Permutations, Symmetry, identity, permute

Weights = dict[str, Tensor]
# One permutation of so few channels may happen to commute with what mixes them: two are tried.
FEW = 10


@torch.no_grad()
def changed_by(symmetry: Symmetry, model: nn.Module, example: Tensor) -> str | None:
    """Return the first group whose permutation changes the outputs of ``model``, None if none does.

    A copy of the network runs on one random image, with random weights and in float64. If its
    outputs are not finite, it takes the network's own weights. If it cannot run on one image or in
    float64, it takes as many images as ``example``, then its own precision. If nothing gives finite
    outputs, nothing is checked.

    Args:
        symmetry: derived for ``model``.
        model: a network in eval mode; it is not changed, nor is torch's random state.
        example: an input batch [N, ...]; only its shape counts, unless it holds integers.

    Raises:
        ValueError: one line, if the network cannot be copied.
    """
    generator = torch.Generator().manual_seed(0)
    own = _entries(model)
    drawn = {k: _drawn(k, v, isinstance(v, nn.Parameter), generator) for k, v in own.items()}
    x = _normal(example, generator) if example.is_floating_point() else example
    for images, double in ((1, True), (len(x), True), (len(x), False)):
        net = _copied(model)
        for weights in (drawn, own):
            try:
                trial = _Trial(net, weights, x[:images], double)
            except Exception:  # whatever a network asks of its input; it ran on the example
                continue
            if trial.finite:
                return _first_changed(symmetry, trial, generator)
    return None


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        kind, line = type(model).__name__, str(error).splitlines()[0]
        raise ValueError(f"{kind} cannot be copied, so it cannot be checked: {line}") from None


class _Trial:
    """A network with certain weights, and its outputs for one input."""

    def __init__(self, net: nn.Module, weights: Weights, x: Tensor, double: bool):
        self.net, self.weights, self.x = net, weights, x
        if double:
            self.net.double()
            self.x = x.double() if x.is_floating_point() else x
        with _LeastPrecise() as least:
            self.outputs = self._run(weights)
        self.tolerance = least.eps**0.5
        self.finite = all(bool(z.isfinite().all()) for z in self.outputs)

    def _run(self, weights: Weights) -> list[Tensor]:
        for name, entry in _entries(self.net).items():
            entry.copy_(weights[name])
        outputs = pytree.tree_leaves(self.net(self.x))
        return [z for z in outputs if isinstance(z, Tensor) and z.is_floating_point()]

    def changed(self, permutations: Permutations, symmetry: Symmetry) -> bool:
        """Return whether the permuted network has other outputs, by more than rounding."""
        known = {k: v for k, v in self.weights.items() if k in symmetry.entries}
        outputs = self._run(self.weights | permute(symmetry, permutations, known))
        return any(
            not (b - a).abs().amax() <= self.tolerance * a.abs().amax()
            for a, b in zip(self.outputs, outputs, strict=True)
        )


class _LeastPrecise(TorchFunctionMode):
    """Notes the coarsest machine epsilon among the results of all operations."""

    eps = torch.finfo(torch.float64).eps

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.eps = max(self.eps, torch.finfo(result.dtype).eps)
        return result


def _first_changed(symmetry: Symmetry, trial: _Trial, generator: torch.Generator) -> str | None:
    """Return the first group that changes the outputs; each is tried alone if all together do."""
    still = identity(symmetry)
    few = any(g.size < FEW for g in symmetry.groups)
    for _ in range(2 if few else 1):
        moved = {g.name: _reordering(g.size, generator) for g in symmetry.groups}
        if trial.changed(moved, symmetry):
            alone = (n for n in moved if trial.changed(still | {n: moved[n]}, symmetry))
            return next(alone, symmetry.groups[0].name)
    return None


def _entries(model: nn.Module) -> Weights:
    """Return all parameters and buffers, each under its first name."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _reordering(size: int, generator: torch.Generator) -> Tensor:
    """Return a random permutation that moves something, if there are two channels or more."""
    while True:
        perm = torch.randperm(size, generator=generator)
        if size == 1 or not torch.equal(perm, torch.arange(size)):
            return perm


def _drawn(name: str, tensor: Tensor, trained: bool, generator: torch.Generator) -> Tensor:
    """Return a generic value of a parameter or a running statistic; other buffers as they are."""
    if name.endswith("running_var"):
        return torch.rand(tensor.shape, generator=generator).to(tensor) + 0.5
    if not (tensor.is_floating_point() and (trained or name.endswith("running_mean"))):
        return tensor
    value = _normal(tensor, generator)
    if tensor.ndim > 1:
        return value * (2 / tensor[0].numel()) ** 0.5
    return 0.2 * value + float(name.endswith("weight"))  # a norm's gains are near 1


def _normal(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator).to(tensor)

"""Linear mode connectivity: interpolation, barriers, batch-norm reset, REPAIR, the loss plane."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

State = dict[str, torch.Tensor]
Inputs = Callable[[], Iterable[torch.Tensor]]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def interpolate(a: State, b: State, alpha: float) -> State:
    """Return (1 - alpha) a + alpha b, entry by entry; integer buffers are b's.

    >>> interpolate({"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([1.0, 0.0])}, 0.25)
    {'w': tensor([0.2500, 3.0000])}
    """
    return {
        k: torch.lerp(a[k], b[k], alpha) if a[k].is_floating_point() else b[k].clone() for k in a
    }


def barrier(alphas: list[float], values: list[float]) -> float:
    """Return the largest rise of ``values`` above the line between the ends (SPEC, barrier B).

    NaN anywhere on the line is a barrier of NaN.

    >>> barrier([0, 0.5, 1], [0.1, 0.9, 0.3])
    0.7
    """
    rises = [
        v - ((1 - t) * values[0] + t * values[-1]) for t, v in zip(alphas, values, strict=True)
    ]
    return math.nan if any(map(math.isnan, rises)) else max(rises)


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the variance of a merged model can be restored by batch-norm statistics."""
    return any(isinstance(m, NORMS) for m in model.modules())


@torch.no_grad()
def reset_batch_norm(model: nn.Module, inputs: Iterable[torch.Tensor]) -> None:
    """Re-estimate all running statistics in place, as cumulative averages over ``inputs``."""
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
    momenta = [m.momentum for m in norms]
    model.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    for x in inputs:
        model(x)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    model.eval()


class Repair:
    """REPAIR (Jordan et al. 2023) for networks without batch norm.

    Every channel of every hidden layer of a merged model is rescaled so that its mean and standard
    deviation are the (1 - alpha, alpha) mixtures of the end points'. The rescaling is a batch norm
    behind each hidden layer whose affine part is the wanted statistics.
    """

    def __init__(self, model: nn.Module, hidden: Iterable[str], a: State, b: State, inputs: Inputs):
        """Measure the end points.

        Args:
            model: a network of the architecture; its weights are not changed.
            hidden: names of the convolution and linear modules whose outputs are corrected.
            a, b: weights of the end points.
            inputs: called for each pass over the images; yields input batches.
        """
        self.model, self.hidden, self.inputs = model, list(hidden), inputs
        self.ends = [self._measure(a), self._measure(b)]

    def _with_norms(self, weights: State) -> nn.Module:
        model = copy.deepcopy(self.model)
        model.load_state_dict(weights)
        for name in self.hidden:
            layer = model.get_submodule(name)
            linear = isinstance(layer, nn.Linear)
            norm = nn.BatchNorm1d if linear else nn.BatchNorm2d
            norm = norm(layer.out_features if linear else layer.out_channels)
            model.set_submodule(name, nn.Sequential(layer, norm.to(layer.weight.device)))
        return model

    @torch.no_grad()
    def _measure(self, weights: State) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return mean and standard deviation, [channels] each, of every hidden layer's output."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(weights)
        model.eval()
        sums: dict[str, list[torch.Tensor]] = {}

        def collect(name):
            def hook(module, args, output):
                channels = output.transpose(0, 1).flatten(1).double()
                values = (channels.sum(1), channels.square().sum(1), channels.shape[1])
                known = sums.get(name, (0.0, 0.0, 0))
                sums[name] = [k + v for k, v in zip(known, values, strict=True)]

            return hook

        for name in self.hidden:
            model.get_submodule(name).register_forward_hook(collect(name))
        for x in self.inputs():
            model(x)
        return {
            name: (first / n, (second / n - (first / n).square()).clamp_min(0).sqrt())
            for name, (first, second, n) in sums.items()
        }

    def merged(self, weights: State, alpha: float) -> nn.Module:
        """Return the corrected network with ``weights``, the merged weights at ``alpha``."""
        model = self._with_norms(weights)
        for name in self.hidden:
            norm = model.get_submodule(name)[1]
            (mean_a, std_a), (mean_b, std_b) = (end[name] for end in self.ends)
            norm.bias.data.copy_((1 - alpha) * mean_a + alpha * mean_b)
            norm.weight.data.copy_((1 - alpha) * std_a + alpha * std_b)
        reset_batch_norm(model, self.inputs())
        return model


def path(
    model: nn.Module,
    a: State,
    b: State,
    alphas: Iterable[float],
    inputs: Inputs,
    evaluate: Callable[[nn.Module], list[dict[str, Any]]],
    hidden: Iterable[str],
) -> list[dict[str, Any]]:
    """Evaluate the straight line from ``a`` to ``b``, uncorrected and corrected.

    The correction is ``reset`` for networks with batch norm and ``repair`` for those without.

    Args:
        model: a network of the architecture, on the device; its weights are overwritten.
        a, b: weights and buffers of the end points.
        alphas: points on the line, from 0 (a) to 1 (b).
        inputs: called for each pass over the training images used for the correction.
        evaluate: returns rows (a dict for each split) for a network in eval mode.
        hidden: layers that REPAIR corrects.

    Returns:
        The rows of ``evaluate``, each with ``alpha`` and ``correction``.
    """
    batch_norm = has_batch_norm(model)
    repair = None if batch_norm else Repair(model, hidden, a, b, inputs)
    rows = []
    for alpha in alphas:
        merged = interpolate(a, b, alpha)
        model.load_state_dict(merged)
        rows += [{"alpha": alpha, "correction": "none"} | r for r in evaluate(model.eval())]
        if batch_norm:
            reset_batch_norm(model, inputs())
            corrected, kind = model, "reset"
        else:
            corrected, kind = repair.merged(merged, alpha).eval(), "repair"
        rows += [{"alpha": alpha, "correction": kind} | r for r in evaluate(corrected)]
    return rows


def plane(
    origin: State, first: State, second: State, points: int, margin: float = 0.25
) -> tuple[torch.Tensor, torch.Tensor, dict[str, tuple[float, float]], Callable]:
    """Span the plane through three weight vectors by Gram-Schmidt on the two differences.

    Args:
        origin, first, second: weights and buffers in one coordinate system (all permuted to B's);
            batch-norm statistics are no weights: they span nothing and are ``origin``'s everywhere.
        points: grid points per side.
        margin: how far the grid extends beyond the models, as a share of their extent.

    Returns:
        The grid's x and y coordinates [points] in units of weight distance, the coordinates of
        ``origin``, ``first`` and ``second``, and a function (x, y) -> weights at that place.
    """
    names = [k for k in origin if not k.endswith(STATISTICS)]

    def difference(to: State) -> torch.Tensor:
        return torch.cat([(to[k] - origin[k]).double().flatten() for k in names])

    u, v = difference(first), difference(second)
    along = u.norm()
    u = u / along
    part = v @ u
    v = v - part * u
    up = v.norm()
    v = v / up
    marks = {
        "origin": (0.0, 0.0),
        "first": (float(along), 0.0),
        "second": (float(part), float(up)),
    }
    axes = []
    for values in zip(*marks.values(), strict=True):
        low, high = min(values), max(values)
        extra = margin * (high - low)
        axes.append(torch.linspace(low - extra, high + extra, points, dtype=torch.float64))

    sizes = [origin[k].numel() for k in names]

    def at(x: float, y: float) -> State:
        moves = (x * u + y * v).split(sizes)
        moved = {
            k: (origin[k].double() + move.view_as(origin[k])).to(origin[k].dtype)
            for k, move in zip(names, moves, strict=True)
        }
        return origin | moved

    return axes[0], axes[1], marks, at

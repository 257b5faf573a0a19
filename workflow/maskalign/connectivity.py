"""Linear mode connectivity: interpolation, barriers, batch-norm reset, REPAIR, the loss plane."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from maskalign.batches import Batches, images_of
from maskalign.checkpoint import load_weights
from maskalign.entries import check_same, shapes
from maskalign.wrapped import refuse_wrapped

State = dict[str, torch.Tensor]
Inputs = Callable[[], Batches]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Networks that share a pass over the images: as many as this, and no more than fit in this memory.
MOST_HELD = 32
HELD_BYTES = 2**30
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def interpolate(a: State, b: State, alpha: float) -> State:
    """Return (1 - alpha) a + alpha b, entry by entry; integer buffers are b's.

    Raises:
        ValueError: one line, if b has other entries than a, or entries of other shapes.

    >>> interpolate({"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([1.0, 0.0])}, 0.25)
    {'w': tensor([0.2500, 3.0000])}
    """
    check_same(b, shapes(a), "b", "a")
    return {
        k: torch.lerp(a[k], b[k], alpha) if a[k].is_floating_point() else b[k].clone() for k in a
    }


def barrier(alphas: list[float], values: list[float]) -> float:
    """Return the largest rise of ``values`` above the line between the ends (SPEC, barrier B).

    NaN anywhere on the line is a barrier of NaN.

    Raises:
        ValueError: one line, if ``alphas`` do not go from 0 to 1: the ends are unknown.

    >>> barrier([0, 0.5, 1], [0.1, 0.9, 0.3])
    0.7
    """
    if (alphas[0], alphas[-1]) != (0, 1):
        raise ValueError(f"a line goes from alpha 0 to 1, not from {alphas[0]} to {alphas[-1]}")
    rises = [
        v - ((1 - t) * values[0] + t * values[-1]) for t, v in zip(alphas, values, strict=True)
    ]
    return math.nan if any(map(math.isnan, rises)) else max(rises)


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the variance of a merged model can be restored by batch-norm statistics."""
    return any(isinstance(m, NORMS) for m in model.modules())


@torch.no_grad()
def reset_batch_norm(models: Sequence[nn.Module], inputs: Batches) -> None:
    """Re-estimate all running statistics in place, as cumulative averages over ``inputs``.

    Args:
        models: networks, left in eval mode.
        inputs: images [N, ...], or tuples that begin with them, such as (images, labels).

    Raises:
        ValueError: one line, if there is no batch, a batch holds no images, or torch has wrapped a
            network.
    """
    for model in models:
        refuse_wrapped(model)
    norms = [m for model in models for m in model.modules() if isinstance(m, NORMS)]
    momenta = [m.momentum for m in norms]
    for model in models:
        model.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    try:
        for x in images_of(inputs, "estimate batch-norm statistics on"):
            for model in models:
                model(x)
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
            m.eval()


class ChannelsLast(nn.BatchNorm1d):
    """Batch norm of what a linear layer gives: [N, ..., C], the channels last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise each channel over all other dimensions."""
        return super().forward(x.flatten(0, -2)).view_as(x)


def _norm_behind(layer: nn.Module) -> nn.Module:
    """Return a batch norm that takes the output of a convolution or a linear layer."""
    if isinstance(layer, nn.Linear):
        return ChannelsLast(layer.out_features)
    positions = layer.weight.ndim - 2
    return NORMS[positions - 1](layer.out_channels)


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
            inputs: called for each pass over the images; see ``reset_batch_norm``.

        Raises:
            ValueError: one line, if a or b has other entries than the model.
        """
        _check(model, a=a, b=b)
        self.hidden, self.inputs = list(hidden), inputs
        self.ends = [self._measure(end) for end in networks(model, [a, b])]

    @torch.no_grad()
    def _measure(self, model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return mean and standard deviation, [channels] each, of every hidden layer's output."""
        model.eval()
        sums: dict[str, list[torch.Tensor]] = {}

        def collect(name):
            def hook(module, args, output):
                dim = -1 if isinstance(module, nn.Linear) else 1
                channels = output.movedim(dim, 0).flatten(1).double()
                values = (channels.sum(1), channels.square().sum(1), channels.shape[1])
                known = sums.get(name, (0.0, 0.0, 0))
                sums[name] = [k + v for k, v in zip(known, values, strict=True)]

            return hook

        for name in self.hidden:
            model.get_submodule(name).register_forward_hook(collect(name))
        for x in images_of(self.inputs(), "measure the end points on"):
            model(x)
        return {
            name: (first / n, (second / n - (first / n).square()).clamp_min(0).sqrt())
            for name, (first, second, n) in sums.items()
        }

    def correct(self, models: Sequence[nn.Module], alphas: Sequence[float]) -> None:
        """Correct networks in place that have the merged weights at ``alphas``."""
        for model, alpha in zip(models, alphas, strict=True):
            for name in self.hidden:
                layer = model.get_submodule(name)
                norm = _norm_behind(layer)
                (mean_a, std_a), (mean_b, std_b) = (end[name] for end in self.ends)
                norm.bias.data.copy_((1 - alpha) * mean_a + alpha * mean_b)
                norm.weight.data.copy_((1 - alpha) * std_a + alpha * std_b)
                model.set_submodule(name, nn.Sequential(layer, norm.to(layer.weight)))
        reset_batch_norm(models, self.inputs())


def path(
    model: nn.Module,
    a: State,
    b: State,
    alphas: Iterable[float],
    inputs: Inputs,
    evaluate: Callable[[list[nn.Module]], list[list[dict[str, Any]]]],
    hidden: Iterable[str],
) -> list[dict[str, Any]]:
    """Evaluate the straight line from ``a`` to ``b``, uncorrected and corrected.

    The correction is ``reset`` for networks with batch norm and ``repair`` for those without. The
    points share each pass over the images.

    Args:
        model: a network of the architecture, on the device; it is not changed.
        a, b: weights and buffers of the end points.
        alphas: points on the line, from 0 (a) to 1 (b).
        inputs: called for each pass over the training images used for the correction; see
            ``reset_batch_norm``.
        evaluate: returns for each of some networks its rows (a dict for each split).
        hidden: layers that REPAIR corrects.

    Returns:
        The rows of ``evaluate``, each with ``alpha`` and ``correction``.

    Raises:
        ValueError: one line, if a or b has other entries than the model.
    """
    _check(model, a=a, b=b)
    repair = None if has_batch_norm(model) else Repair(model, hidden, a, b, inputs)
    rows = []
    for part in _parts(model, list(alphas)):
        nets = networks(model, (interpolate(a, b, alpha) for alpha in part))
        before = evaluate(nets)
        if repair:
            repair.correct(nets, part)
        else:
            reset_batch_norm(nets, inputs())
        after = evaluate(nets)
        kind = "repair" if repair else "reset"
        for alpha, plain, corrected in zip(part, before, after, strict=True):
            rows += [{"alpha": alpha, "correction": "none"} | row for row in plain]
            rows += [{"alpha": alpha, "correction": kind} | row for row in corrected]
    return rows


def surface(
    model: nn.Module,
    states: Sequence[Callable[[], State]],
    inputs: Inputs,
    evaluate: Callable[[list[nn.Module]], list[Any]],
) -> list[Any]:
    """Evaluate networks with many weights, their batch-norm statistics re-estimated.

    Args:
        model: a network of the architecture, on the device; it is not changed.
        states: called for the weights and buffers of one network.
        inputs: called for each pass over the training images for the statistics; see
            ``reset_batch_norm``.
        evaluate: returns one value for each of some networks.

    Returns:
        The values of ``evaluate``, in the order of ``states``.
    """
    _check(model)
    found = []
    for part in _parts(model, states):
        nets = networks(model, (state() for state in part))
        if has_batch_norm(model):
            reset_batch_norm(nets, inputs())
        found += evaluate(nets)
    return found


def networks(model: nn.Module, states: Iterable[State]) -> list[nn.Module]:
    """Return copies of ``model`` with other weights."""
    nets = []
    for state in states:
        nets.append(copy.deepcopy(model))
        load_weights(nets[-1], state)
    return nets


def _check(model: nn.Module, **states: State) -> None:
    refuse_wrapped(model)
    for name, state in states.items():
        check_same(state, shapes(model.state_dict()), name, "the model")


def _parts(model: nn.Module, points: Sequence) -> Iterator[Sequence]:
    """Yield ``points`` in parts of which all networks may be held at once."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    held = max(1, min(MOST_HELD, HELD_BYTES // max(size, 1)))
    yield from (points[i : i + held] for i in range(0, len(points), held))


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

    Raises:
        ValueError: one line, if the three have not the same entries, or lie on one line.
    """
    for name, state in (("first", first), ("second", second)):
        check_same(state, shapes(origin), name, "origin")
    names = [k for k in origin if not k.endswith(STATISTICS)]

    def difference(to: State) -> torch.Tensor:
        return torch.cat([(to[k] - origin[k]).double().flatten() for k in names])

    u, v = difference(first), difference(second)
    along, length = u.norm(), v.norm()
    u = u / along
    part = v @ u
    v = v - part * u
    up = v.norm()
    if along == 0 or up <= 1e-6 * length:
        raise ValueError("origin, first and second lie on one line, so they span no plane")
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

    def steps(direction: torch.Tensor) -> State:
        parts = direction.split([origin[k].numel() for k in names])
        return {k: p.view_as(origin[k]).to(origin[k]) for k, p in zip(names, parts, strict=True)}

    u, v = steps(u), steps(v)

    def at(x: float, y: float) -> State:
        return origin | {k: origin[k].add(u[k], alpha=x).add_(v[k], alpha=y) for k in names}

    return axes[0], axes[1], marks, at

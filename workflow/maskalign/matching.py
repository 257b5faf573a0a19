"""Finding the permutation that aligns network A to network B (paper, section 3; SPEC, method 3).

The paper matches by activations. Matching by weights, and by the activity of single channels, is
beyond the paper.

Reordering hidden channels only reorders activations, so one joint forward pass over the images
gathers the correlations of all groups at once; matching layer by layer finds the same.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskalign.batches import Batches, images_of
from maskalign.symmetry import (
    Group,
    Permutations,
    Place,
    Symmetry,
    checked,
    identity,
    paired,
    permute,
)

HALF = (torch.float16, torch.bfloat16)
EPSILON = 1e-4  # in cov / (std_A std_B + epsilon), as published

Correlations = dict[str, list[Tensor]]  # by group, one [C of B, C of A] a measuring point
Observed = dict[str, list["Correlation"]]  # by group, one per measuring point


class Agreement(NamedTuple):
    """Of a group's channels: assigned alike, compared, and all."""

    alike: int
    compared: int
    channels: int


class Correlation:
    """Pearson correlation between the channels of two activations, over any number of batches.

    Sums are of activations minus the first one, so that a large mean costs no digits and a constant
    channel gives exactly 0.
    Within a batch they have the activations' precision, at least float32; over batches float64.
    They stay on the device, whatever the number of images.
    """

    def __init__(self):
        self.count = 0

    def update(self, b: Tensor, a: Tensor) -> None:
        """Add a batch of activations [N, C, ...] of B and A."""
        # [N, C, ...] -> [samples, C]: no copy where channels are last in memory.
        b, a = (z.movedim(1, -1).flatten(0, -2) for z in (b, a))
        if b.dtype in HALF:  # sums over a batch would overflow
            b, a = b.float(), a.float()
        if not self.count:
            self.shifts = [z[0].clone() for z in (b, a)]
            self.sums = [z.new_zeros(z.shape[1], dtype=torch.float64) for z in (b, a)]
            self.squares = [s.clone() for s in self.sums]
            self.products = b.new_zeros(b.shape[1], a.shape[1], dtype=torch.float64)
        b, a = (z - shift for z, shift in zip((b, a), self.shifts, strict=True))
        for i, z in enumerate((b, a)):
            self.sums[i] += z.sum(0)
            self.squares[i] += z.square().sum(0)
        self.products += b.T @ a
        self.count += len(b)

    def _moments(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return means, of the shifted activations, and standard deviations of B and A."""
        means = [s / self.count for s in self.sums]
        stds = [
            (q / self.count - m.square()).clamp_min(0).sqrt()
            for q, m in zip(self.squares, means, strict=True)
        ]
        return means, stds

    def activity(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of every channel: [2, C] of B and [2, C] of A."""
        b, a = (
            torch.stack([mean + shift, std])
            for mean, std, shift in zip(*self._moments(), self.shifts, strict=True)
        )
        return b, a

    def matrix(self) -> Tensor:
        """Return the correlation [C of B, C of A]; 0 wherever a channel is constant."""
        means, stds = self._moments()
        covariance = self.products / self.count - torch.outer(*means)
        score = covariance / (torch.outer(*stds) + EPSILON)
        dead = [(q == 0) | (s == 0) for q, s in zip(self.squares, stds, strict=True)]
        score[dead[0]] = 0
        score[:, dead[1]] = 0
        return score.nan_to_num(0.0, 0.0, 0.0)  # a diverged network matches nothing


def solve(score: Tensor) -> Tensor:
    """Return the permutation [C] that maximises the sum of ``score[i, perm[i]]``.

    ``score[i, j]`` is the likeness of channel i of B and channel j of A, so that A permuted by the
    result has at place i the channel most like B's channel i. ValueError if it is not square.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and few jobs match

    if score.ndim != 2 or len(score) != score.shape[1]:
        raise ValueError(f"a score of shape {list(score.shape)} is not square: [C of B, C of A]")
    score = score.nan_to_num(0.0, 0.0, 0.0)  # scipy refuses what a diverged network brings
    # Every permutation loses the same, and 2,048 channels that are hard to tell apart take half
    # the time.
    score = score - score.amax(0)
    _, columns = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    return torch.as_tensor(columns)


def correlate(
    symmetry: Symmetry, a: nn.Module, b: nn.Module, batches: Batches, which: str = "last"
) -> Correlations:
    """Correlate the activations of A and B, all groups in one pass.

    For arguments and errors see ``observe``.

    Returns:
        For each group one matrix [C of B, C of A] a measuring point, on the CPU.
    """
    return correlations_of(observe(symmetry, a, b, batches, which))


@torch.no_grad()
def observe(
    symmetry: Symmetry, a: nn.Module, b: nn.Module, batches: Batches, which: str = "last"
) -> Observed:
    """Gather the activations of A and B, all groups in one pass.

    Args:
        symmetry: of the architecture of both.
        a, b: the networks, on one device; evaluated in eval mode and left as they are.
        batches: inputs [N, ...], or tuples that begin with them, such as (inputs, labels).
        which: measuring points of a group, ``first``, ``last`` or ``all``.

    Returns:
        For each group one ``Correlation`` per measuring point: correlations and activity of its
        channels.

    Raises:
        ValueError: one line, if the network has no hidden channels, there is no batch, or a batch
            is none; or if A or B is not of the symmetry's architecture and widths, is wrapped by
            torch, or lies on another device.
    """
    if not symmetry.groups:
        raise ValueError("nothing to match: the network has no hidden channels")
    modes = {m: m.training for net in (a, b) for m in net.modules()}
    found: dict[tuple[int, int], Correlation] = {}

    def update(point: tuple[int, int], of_b: Tensor, of_a: Tensor) -> None:
        found.setdefault(point, Correlation()).update(of_b, of_a)

    try:
        both = paired(symmetry, a.eval(), b.eval(), update, which)
        for x in images_of(batches, "match on"):
            if x.ndim != symmetry.input_ndim:
                shape, wanted = list(x.shape), symmetry.input_ndim
                raise ValueError(
                    f"a batch has shape {shape}, must have {wanted} dimensions: pass a DataLoader, "
                    "not its data set"
                )
            both(x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {
        group.name: [c for (of, _), c in found.items() if of == g]
        for g, group in enumerate(symmetry.groups)
    }


def correlations_of(observed: Observed) -> Correlations:
    """Return for each group one matrix [C of B, C of A] per measuring point, on the CPU."""
    return {name: [c.matrix().cpu() for c in points] for name, points in observed.items()}


def match_activations(correlations: Correlations) -> Permutations:
    """Match A to B by their activations; the matrices of a group's measuring points are summed."""
    return {name: solve(sum(matrices)) for name, matrices in correlations.items()}


def match_activity(observed: Observed) -> Permutations:
    """Match A to B by mean and standard deviation of their channels' activity alone.

    The sum of squared distances between matched channels is minimised, over both numbers and all
    measuring points of the group. At each point a number is divided by its standard deviation over
    B's channels. A number that is the same for all channels of B does not count.
    """
    scores = {name: sum(_likeness(c) for c in points) for name, points in observed.items()}
    return {name: solve(score) for name, score in scores.items()}


def _likeness(point: Correlation) -> Tensor:
    """Return minus the squared distance [C of B, C of A] of the channels' activity at a point."""
    of_b, of_a = point.activity()
    spread = of_b.std(1, correction=0)
    distance = (of_b[:, :, None] - of_a[:, None, :]) / spread[:, None, None]
    # A distance is infinite or NaN where the spread is 0 or a network has diverged.
    return -distance.square().nan_to_num(0.0, 0.0, 0.0).sum(0)


def matched_correlation(correlations: Correlations, permutations: Permutations) -> dict[str, float]:
    """Return for each group the mean correlation of the channels that are matched.

    Raises:
        ValueError: one line, if the permutations are not those of the correlations' groups.
    """
    indices = _indices(correlations, permutations)
    return {
        name: float(
            sum(m[torch.arange(len(m)), indices[name]].mean() for m in matrices) / len(matrices)
        )
        for name, matrices in correlations.items()
    }


def assignment_margins(correlations: Correlations, permutations: Permutations) -> dict[str, Tensor]:
    """Return for each channel of B how far its match stands out from the other channels of A.

    The margin is the correlation with the assigned channel of A, minus the highest correlation with
    any other channel of A. Correlations are means over the measuring points. A margin is negative
    where the channel of A that correlates best is assigned to another channel of B.

    Returns:
        For each group [C], on the CPU; NaN in a group of one channel, which has no other.

    Raises:
        ValueError: one line, if the permutations are not those of the correlations' groups.
    """
    margins = {}
    for name, perm in _indices(correlations, permutations).items():
        mean = sum(correlations[name]) / len(correlations[name])
        assigned = mean.gather(1, perm[:, None])
        others = mean.scatter(1, perm[:, None], -torch.inf).amax(1)
        margins[name] = (assigned[:, 0] - others).where(others.isfinite(), torch.nan)
    return margins


def agreement(
    correlations: Correlations, activations: Permutations, weights: Permutations
) -> dict[str, Agreement]:
    """Count the channels to which two ways of matching assign the same channel.

    A channel that is constant over the images correlates with nothing, so matching by activations
    leaves its place to chance. Only channels of B that are not constant, and to which
    ``activations`` assigns a channel of A that is not constant, are compared.

    Raises:
        ValueError: one line, if the permutations are not those of the correlations' groups.
    """
    activations, weights = (_indices(correlations, perms) for perms in (activations, weights))
    counts = {}
    for name, matrices in correlations.items():
        active = sum(m != 0 for m in matrices) > 0  # a constant channel's row or column is 0
        compared = active.any(1) & active.any(0)[activations[name]]
        alike = compared & (activations[name] == weights[name])
        counts[name] = Agreement(int(alike.sum()), int(compared.sum()), len(compared))
    return counts


def match_weights(
    symmetry: Symmetry,
    a: dict[str, Tensor],
    b: dict[str, Tensor],
    generator: torch.Generator,
    sweeps: int = 100,
) -> Permutations:
    """Match A to B by their weights: coordinate descent on the sum of <W_B, permuted W_A>.

    The method of Git Re-Basin (Ainsworth et al. 2023): with all other groups fixed, the best
    permutation of one group is an assignment; groups are visited in random order until none
    changes. A layer whose inputs and outputs are one group makes that assignment an approximation,
    so a permutation is taken only if it raises the sum itself.

    Args:
        symmetry: of the architecture.
        a, b: state_dicts; running statistics are not weights and do not count.
        generator: draws the order of the groups.
        sweeps: limit on the number of visits to all groups.

    Raises:
        ValueError: one line, if A or B is not of the symmetry's architecture and widths.
    """
    perms = identity(symmetry)
    a, b = _weights(symmetry, a, "A"), _weights(symmetry, b, "B")
    of: dict[str, list[tuple[Group, Place]]] = {name: [] for name in a}
    for group in symmetry.groups:
        for place in group.places:
            if place.parameter in a:
                of[place.parameter].append((group, place))

    def permuted(name: str, but: int | None = None) -> Tensor:
        """A's entry, permuted along every axis but ``but``."""
        entry = a[name]
        for group, place in of[name]:
            if place.axis != but:
                block = torch.arange(place.repeat)
                index = (perms[group.name][:, None] * place.repeat + block).flatten()
                entry = entry.index_select(place.axis, index.to(entry.device))
        return entry

    def score(group: Group) -> Tensor:
        total = 0
        for place in group.places:
            if place.parameter in a:
                rows = [
                    w.movedim(place.axis, 0).reshape(group.size, -1)
                    for w in (b[place.parameter], permuted(place.parameter, place.axis))
                ]
                total = total + rows[0] @ rows[1].T
        return total

    def objective(group: Group) -> float:
        """The group's part of the sum, as things stand."""
        names = {place.parameter for place in group.places} & a.keys()
        return float(sum((b[name] * permuted(name)).sum() for name in sorted(names)))

    for _ in range(sweeps):
        changed = False
        for i in torch.randperm(len(symmetry.groups), generator=generator).tolist():
            group = symmetry.groups[i]
            known, before = perms[group.name], objective(group)
            perms[group.name] = solve(score(group))
            if objective(group) > before + 1e-9:
                changed = True
            else:
                perms[group.name] = known
        if not changed:
            break
    return perms


def weight_similarity(
    symmetry: Symmetry, permutations: Permutations, a: dict[str, Tensor], b: dict[str, Tensor]
) -> float:
    """Return the cosine between the weights of B and of permuted A: what matching weights raises.

    Only entries that a permutation reorders count; running statistics do not. A diverged network's
    is NaN.

    Raises:
        ValueError: one line, if A or B is not of the symmetry's architecture and widths, or the
            permutations are not those of its groups.
    """
    a = permute(symmetry, permutations, _weights(symmetry, a, "A"))
    b = _weights(symmetry, b, "B")

    def product(x: dict[str, Tensor], y: dict[str, Tensor]) -> Tensor:
        return sum((x[name] * y[name]).sum() for name in x)

    return float(product(a, b) / (product(a, a) * product(b, b)).sqrt())


def _indices(correlations: Correlations, permutations: Permutations) -> Permutations:
    """Return the permutations of the correlations' groups, on the CPU as the correlations are."""
    sizes = {name: len(matrices[0]) for name, matrices in correlations.items()}
    return {name: perm.cpu() for name, perm in checked(permutations, sizes).items()}


def _weights(symmetry: Symmetry, state: dict[str, Tensor], net: str) -> dict[str, Tensor]:
    """Return in float64 the entries that the groups reorder, without running statistics."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    symmetry.check_state(state, net, without=statistics)
    names = {place.parameter for group in symmetry.groups for place in group.places}
    return {
        k: v.detach().double()
        for k, v in state.items()
        if k in names and not k.endswith(statistics)
    }

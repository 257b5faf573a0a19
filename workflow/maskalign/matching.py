"""Finding the permutation that aligns network A to network B (paper, section 3; SPEC, method 3).

Reordering hidden channels only reorders activations, so one joint forward pass over the images
gathers the correlations of all groups at once; matching layer by layer finds the same.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from maskalign.symmetry import Permutations, Symmetry

EPSILON = 1e-4  # in cov / (std_A std_B + epsilon), as published


class Correlation:
    """Pearson correlation between the channels of two activations, over any number of batches.

    Sums are of activations minus the first batch's mean, so that a large mean costs no digits;
    they are kept in float64 on the device, whatever the number of images.
    """

    def __init__(self):
        self.count = 0

    def update(self, b: Tensor, a: Tensor) -> None:
        """Add a batch of activations [N, C, ...] of B and A."""
        b, a = (z.transpose(0, 1).flatten(1) for z in (b, a))
        if not self.count:
            self.shifts = [z.mean(1, keepdim=True) for z in (b, a)]
            self.sums = [z.new_zeros(len(z), dtype=torch.float64) for z in (b, a)]
            self.squares = [s.clone() for s in self.sums]
            self.products = b.new_zeros(len(b), len(a), dtype=torch.float64)
        b, a = (z - shift for z, shift in zip((b, a), self.shifts, strict=True))
        for i, z in enumerate((b, a)):
            self.sums[i] += z.sum(1, dtype=torch.float64)
            self.squares[i] += z.square().sum(1, dtype=torch.float64)
        self.products += b @ a.T
        self.count += b.shape[1]

    def matrix(self) -> Tensor:
        """Return the correlation [C of B, C of A]; 0 wherever a channel is constant."""
        means = [s / self.count for s in self.sums]
        stds = [
            (q / self.count - m.square()).clamp_min(0).sqrt()
            for q, m in zip(self.squares, means, strict=True)
        ]
        covariance = self.products / self.count - torch.outer(*means)
        score = covariance / (torch.outer(*stds) + EPSILON)
        dead = [(q == 0) | (s == 0) for q, s in zip(self.squares, stds, strict=True)]
        score[dead[0]] = 0
        score[:, dead[1]] = 0
        return score.nan_to_num(0.0, 0.0, 0.0)  # a diverged network matches nothing


def solve(score: Tensor) -> Tensor:
    """Return the permutation [C] that maximises the sum of ``score[i, perm[i]]``.

    ``score[i, j]`` is the likeness of channel i of B and channel j of A, so that A permuted by the
    result has at place i the channel most like B's channel i.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and few jobs match

    score = score.nan_to_num(0.0, 0.0, 0.0)  # scipy refuses what a diverged network brings
    _, columns = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    return torch.as_tensor(columns)


@torch.no_grad()
def match_activations(
    symmetry: Symmetry, a: nn.Module, b: nn.Module, batches: Iterable[Tensor], which: str = "last"
) -> tuple[Permutations, dict[str, float]]:
    """Match A to B by the correlation of their activations, all groups in one pass.

    Args:
        symmetry: of the architecture of both.
        a, b: the networks, on one device; evaluated in eval mode and left as they are.
        batches: inputs [N, ...].
        which: measuring points of a group, ``first``, ``last`` or ``all`` (correlations summed).

    Returns:
        The permutation of each group, to be applied to A, and the mean correlation of the matched
        channels of each group.
    """
    if not symmetry.groups:
        raise ValueError("nothing to match: the network has no hidden channels")
    modes = {m: m.training for net in (a, b) for m in net.modules()}
    taps = [symmetry.tapped(net.eval(), which) for net in (b, a)]
    found: dict[tuple[int, int], Correlation] = {}
    for x in batches:
        outputs = [tapped.eval()(x) for tapped in taps]
        for g, group in enumerate(zip(*outputs, strict=True)):
            for t, pair in enumerate(zip(*group, strict=True)):
                found.setdefault((g, t), Correlation()).update(*pair)
    for module, mode in modes.items():
        module.training = mode
    if not found:
        raise ValueError("nothing to match on: the data set gave no batch")
    permutations, scores = {}, {}
    for g, group in enumerate(symmetry.groups):
        matrices = [c.matrix() for (of, _), c in found.items() if of == g]
        perm = solve(sum(matrices))
        permutations[group.name] = perm
        matched = [m.cpu()[torch.arange(group.size), perm].mean() for m in matrices]
        scores[group.name] = float(sum(matched) / len(matched))
    return permutations, scores


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
    changes.

    Args:
        symmetry: of the architecture.
        a, b: state_dicts; running statistics are not weights and do not count.
        generator: draws the order of the groups.
        sweeps: limit on the number of visits to all groups.
    """
    perms = {g.name: torch.arange(g.size) for g in symmetry.groups}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    a = {k: v.double() for k, v in a.items() if not k.endswith(statistics)}
    of = {}
    for group in symmetry.groups:
        for place in group.places:
            of.setdefault(place.parameter, []).append((group, place))

    def others(name: str, axis: int) -> Tensor:
        """A's entry, permuted along every axis but ``axis``."""
        entry = a[name]
        for group, place in of[name]:
            if place.axis != axis:
                block = torch.arange(place.repeat)
                index = (perms[group.name][:, None] * place.repeat + block).flatten()
                entry = entry.index_select(place.axis, index.to(entry.device))
        return entry

    def score(group) -> Tensor:
        total = 0
        for place in group.places:
            if place.parameter in a:
                rows = [
                    w.movedim(place.axis, 0).reshape(group.size, -1)
                    for w in (b[place.parameter].double(), others(place.parameter, place.axis))
                ]
                total = total + rows[0] @ rows[1].T
        return total

    for _ in range(sweeps):
        changed = False
        for i in torch.randperm(len(symmetry.groups), generator=generator).tolist():
            group = symmetry.groups[i]
            gains = score(group).cpu()
            perm = solve(gains)
            here = torch.arange(group.size)
            better = gains[here, perm].sum() > gains[here, perms[group.name]].sum() + 1e-9
            if better:
                perms[group.name], changed = perm, True
        if not changed:
            break
    return perms

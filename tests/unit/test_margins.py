"""A redrawn layer has the margins of the given one, and every such layer is as probable."""

import itertools
from collections import Counter

import pytest
import torch
from maskalign import margins
from maskalign.margins import redraw
from maskalign.seeds import generator
from scipy.stats import chisquare


def layer(*shape, density=0.2, seed=0):
    """Return a random layer whose channels and positions differ in density."""
    score, g = torch.rand(shape, generator=generator("layer", seed)), generator("axes", seed)
    for axis, size in enumerate(shape):
        score += 0.4 * torch.rand(
            [size if a == axis else 1 for a in range(len(shape))], generator=g
        )
    return score > score.flatten().quantile(1 - density)


def numbers(mask):
    """Return the number of kept weights per output channel, input channel and position."""
    box = mask.reshape(*mask.shape[:2], -1)
    return [box.sum(axes).tolist() for axes in ((1, 2), (0, 2), (0, 1))]


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.6, 0.95])
@pytest.mark.parametrize(
    "shape", [(12, 10, 3, 3), (20, 15), (8, 1, 3, 3), (6, 5, 4), (20, 15, 1, 1)]
)
def test_all_margins_are_those_of_the_given_layer(shape, density):
    given = layer(*shape, density=density)
    before = given.clone()
    found = redraw(given, generator("draw"))
    assert found.dtype == torch.bool
    assert found.shape == given.shape
    assert numbers(found) == numbers(given)
    assert not torch.equal(found, given)
    assert torch.equal(given, before)


def shares(given, draws):
    """Return the share of the kept weights of ``given`` that a draw keeps, mean over draws."""
    return float(torch.stack([(draw & given).sum() / given.sum() for draw in draws]).mean())


@pytest.mark.parametrize("density", [1 / 8, 7 / 8])
def test_of_equal_margins_the_overlap_falls_to_the_density(density):
    """All channels and positions are alike, so a draw keeps every weight with this probability."""
    blocks = torch.block_diag(*[torch.ones(3, 3)] * 8).bool()[:, :, None, None].expand(24, 24, 3, 3)
    given = blocks if density < 0.5 else ~blocks
    draws = [redraw(given, generator("draw", i)) for i in range(8)]
    deviation = (density * (1 - density) / (8 * int(given.sum()))) ** 0.5
    assert shares(given, draws) == pytest.approx(density, abs=4 * deviation)


def test_of_uneven_margins_the_overlap_falls_to_that_of_independent_draws():
    """Draws of a draw cannot depend on the given layer."""
    given = layer(16, 12, 3, 3, density=0.1)
    drawn = [redraw(given, generator("draw", i)) for i in range(8)]
    others = [redraw(redraw(given, generator(i)), generator("again", i)) for i in range(8)]
    expected = torch.tensor([shares(other, drawn) for other in others])
    assert shares(given, drawn) < expected.mean() + 3 * expected.std()
    assert 0.1 < expected.mean() < 0.5


def boxes(given):
    """Return all layers with the margins of ``given``, as tuples of cells."""
    kept = int(given.sum())
    found = []
    for cells in itertools.combinations(range(given.numel()), kept):
        mask = torch.zeros(given.numel(), dtype=torch.bool)
        mask[list(cells)] = True
        if numbers(mask.view(given.shape)) == numbers(given):
            found.append(cells)
    return found


TINY = {
    "latin": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],  # 6 layers
    "uneven": [[1, 1, 0], [1, 0, 0], [0, 0, 1]],  # 5: the first swaps differ in number
    "holes": [[1, 1, 0], [0, 1, 1], [1, 0, 1]],
    "two": [[1, 0], [0, 1]],  # a chain that always moves would alternate
    "box": [[[1, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]],
}


@pytest.mark.parametrize("name", TINY)
def test_every_layer_with_the_margins_is_as_probable(name):
    given = torch.tensor(TINY[name], dtype=torch.bool)
    known = boxes(given)
    chain = margins._Chain(given.flatten(2) if given.ndim > 2 else given[:, :, None], generator(0))
    counts = Counter()
    for _ in range(20 * len(known)):
        for _ in range(25):
            chain.sweep()
        counts[tuple(chain.state.nonzero()[:, 0].tolist())] += 1
    assert counts.keys() == set(known)
    assert chisquare([counts[cells] for cells in known]).pvalue > 0.01


def test_a_draw_does_not_end_with_an_accepted_swap():
    """An even number of swaps between two layers would always lead back to the given one."""
    given, g = torch.eye(2).bool(), generator("draws")
    changed = sum(not torch.equal(redraw(given, g), given) for _ in range(40))
    assert 10 < changed < 30


def test_sweeps_of_many_swaps_leave_every_layer_as_probable():
    """Proposals that meet are all dropped: else, layers of few swaps would be too rare."""
    given = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    known = boxes(given)
    chain = margins._Chain(given[:, :, None], generator("sweeps"))
    chain.most = 3  # a layer this small would get one swap per sweep
    counts = Counter()
    for _ in range(300 * len(known)):
        chain.sweep(), chain.sweep()
        counts[tuple(chain.state.nonzero()[:, 0].tolist())] += 1
    assert sorted(chain.places.tolist()) == chain.state.nonzero()[:, 0].tolist()
    assert counts.keys() == set(known)
    shares = torch.tensor([counts[cells] for cells in known]) / (300 * len(known))
    assert (shares * len(known) - 1).abs().max() < 0.25


def test_a_draw_is_a_function_of_the_generator():
    given = layer(10, 8, 3, 3)
    one, same, other = (redraw(given, generator("draw", n)) for n in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    g = generator("draw", 0)
    assert torch.equal(redraw(given, g), one)
    assert not torch.equal(redraw(given, g), one)


def test_ten_swaps_per_moved_entry_are_accepted(monkeypatch):
    for density in (0.2, 0.7):
        given, swaps = layer(10, 8, 3, 3, density=density), []

        def sweep(chain, plain=margins._Chain.sweep, swaps=swaps):
            swaps.append(plain(chain))
            return swaps[-1]

        with monkeypatch.context() as patch:
            patch.setattr(margins._Chain, "sweep", sweep)
            redraw(given, generator("draw"))
        moved = min(int(given.sum()), int((~given).sum()))
        half = len(swaps) // 2
        assert len(swaps) == 2 * half
        assert sum(swaps[: half - 1]) < 10 * moved <= sum(swaps[:half])


@pytest.mark.parametrize(
    "given",
    [
        torch.ones(4, 3, 3, 3, dtype=torch.bool),
        torch.zeros(4, 3, 3, 3, dtype=torch.bool),
        torch.eye(40, 30, dtype=torch.bool) & (torch.arange(40) == 3)[:, None],  # one entry
        ~torch.eye(5, 1, dtype=torch.bool),
        torch.ones(30, 30).tril().bool(),  # nested rows
        torch.rand(1, 9, generator=generator("row")) > 0.5,
        torch.tensor([True, False, True]),  # a norm's scales
    ],
    ids=["full", "empty", "one", "column", "nested", "row", "norm"],
)
def test_a_layer_without_a_swap_is_returned_at_once(given, monkeypatch):
    monkeypatch.delattr(margins, "_Chain")
    found = redraw(given, generator("draw"))
    assert torch.equal(found, given)
    assert found is not given


def test_a_layer_whose_swaps_are_never_accepted_is_given_up(monkeypatch):
    given, sweeps = layer(10, 8, 3, 3), []
    monkeypatch.setattr(margins._Chain, "sweep", lambda chain: sweeps.append(0) or 0)
    assert torch.equal(redraw(given, generator("draw")), given)
    assert len(sweeps) == 2 * margins.IDLE

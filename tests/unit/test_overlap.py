"""Overlap with a network's own mask, by hand and on average."""

import pytest
import torch
from maskalign.overlap import expected_overlap, overlap
from maskalign.pruning import Mask
from maskalign.seeds import generator


def mask(**layers: list[int]) -> Mask:
    return {name: torch.tensor(entries, dtype=torch.bool) for name, entries in layers.items()}


OWN = mask(a=[1, 1, 1, 0], b=[1, 0, 0, 0, 0, 0])
OTHER = mask(a=[1, 1, 0, 0], b=[1, 1, 1, 1, 0, 0])


def test_overlap_is_the_share_of_the_own_weights():
    assert overlap(OTHER, OWN) == 3 / 4
    assert overlap(OWN, OTHER) == 3 / 6
    assert overlap(OWN, OWN) == 1


def test_the_expected_overlap_is_by_layer():
    expected = (2 * 3 / 4 + 4 * 1 / 6) / 4
    assert expected_overlap(OTHER, OWN) == pytest.approx(expected)
    assert expected_overlap(OWN, OTHER) == pytest.approx(expected * 4 / 6)


def test_the_expected_overlap_is_the_mean_over_random_places():
    g = generator("places")
    own = {"a": torch.rand(30, 20, generator=g) > 0.6, "b": torch.rand(200, generator=g) > 0.1}
    other = {"a": torch.rand(30, 20, generator=g) > 0.9, "b": torch.rand(200, generator=g) > 0.3}
    found = []
    for _ in range(200):
        drawn = {
            k: m.flatten()[torch.randperm(m.numel(), generator=g)].view(m.shape)
            for k, m in other.items()
        }
        found.append(overlap(drawn, own))
    assert sum(found) / len(found) == pytest.approx(expected_overlap(other, own), abs=0.005)


@pytest.mark.parametrize("function", [overlap, expected_overlap])
@pytest.mark.parametrize(
    ("given", "own", "line"),
    [
        (mask(a=[1, 0]), OWN, "'a' is [2], must be [4]"),
        (mask(a=[1, 0, 0, 0]), OWN, "'b' is missing, must be [6]"),
        (OWN | mask(c=[1]), OWN, "'c' is [1], must be missing"),
    ],
)
def test_masks_of_other_weights_are_refused(function, given, own, line):
    with pytest.raises(ValueError) as error:
        function(given, own)
    assert str(error.value) == f"the mask differs from the network's own mask: {line}"


@pytest.mark.parametrize("function", [overlap, expected_overlap])
@pytest.mark.parametrize("empty", [{}, mask(a=[0, 0])])
def test_an_own_mask_that_keeps_nothing_is_refused(function, empty):
    with pytest.raises(ValueError) as error:
        function(empty, empty)
    assert str(error.value) == "the network's own mask keeps no weight, so none can overlap"

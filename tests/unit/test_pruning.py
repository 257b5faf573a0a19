"""Masks are global, nested and exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maskalign.pruning import apply, full_mask, prune, sparsity_of


def weights(seed: int, sizes=((7, 3), (11,), (2, 3, 3, 3))):
    g = torch.Generator().manual_seed(seed)
    return {f"layer{i}.weight": torch.randn(s, generator=g) for i, s in enumerate(sizes)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0.001, 0.999), st.booleans())
def test_sparsity_is_exact_whatever_the_ties(seed, sparsity, ties):
    w = weights(seed)
    if ties:
        w = {k: v.round() for k, v in w.items()}
    mask = prune(w, full_mask(w, list(w)), sparsity)
    total = sum(v.numel() for v in w.values())
    assert sum(int(m.sum()) for m in mask.values()) == round((1 - sparsity) * total)


def test_the_largest_magnitudes_of_all_layers_remain():
    w = weights(0)
    mask = prune(w, full_mask(w, list(w)), 0.7)
    kept = torch.cat([w[k][mask[k]].abs() for k in w])
    lost = torch.cat([w[k][~mask[k]].abs() for k in w])
    assert kept.min() >= lost.max()


def test_what_is_masked_stays_masked_though_it_grew():
    w = weights(0)
    first = prune(w, full_mask(w, list(w)), 0.5)
    grown = {k: torch.where(first[k], v, 100.0) for k, v in w.items()}
    second = prune(grown, first, 0.8)
    assert all(not (second[k] & ~first[k]).any() for k in w)


def test_weights_outside_the_mask_are_left_alone():
    w = weights(0)
    mask = prune(w, full_mask(w, ["layer0.weight"]), 0.5)
    assert set(mask) == {"layer0.weight"}
    out = apply(mask, w)
    assert torch.equal(out["layer1.weight"], w["layer1.weight"])
    assert sparsity_of(mask) == pytest.approx(0.5, abs=0.03)
    assert int((out["layer0.weight"] == 0).sum()) == int((~mask["layer0.weight"]).sum())


def test_a_mask_cannot_become_denser():
    w = weights(0)
    mask = prune(w, full_mask(w, list(w)), 0.8)
    with pytest.raises(ValueError, match=r"cannot reach sparsity 0.5 from 0.8"):
        prune(w, mask, 0.5)


def test_magnitudes_that_differ_in_the_last_digits_are_told_apart():
    """All larger weights are in the second layer."""
    w = {"one.weight": torch.full((50,), 0.5), "two.weight": -torch.full((50,), 0.5 + 1e-7)}
    mask = prune(w, full_mask(w, list(w)), 0.5)
    assert not mask["one.weight"].any()
    assert mask["two.weight"].all()

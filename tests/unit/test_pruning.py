"""Masks are global, nested and exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maskalign.pruning import apply, check_mask, full_mask, prune, sparsity_of


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


@pytest.mark.parametrize(
    ("sparsity", "hint"),
    [
        *((90, ", so 90 % is 0.9"), (1.5, ", so 1.5 % is 0.015"), (100, "")),
        *((1, ""), (-0.5, ""), (250, ""), (float("nan"), "")),
    ],
)
def test_a_sparsity_is_a_share_below_one(sparsity, hint):
    w = weights(0)
    with pytest.raises(ValueError) as error:
        prune(w, full_mask(w, list(w)), sparsity)
    line = f"sparsity {sparsity:g} is not allowed: 0 <= sparsity < 1{hint}"
    assert str(error.value) == line


def test_a_sparsity_of_zero_keeps_all():
    w = weights(0)
    assert all(m.all() for m in prune(w, full_mask(w, list(w)), 0).values())


def test_a_full_mask_of_no_weight_is_refused():
    with pytest.raises(ValueError) as error:
        full_mask(weights(0), ["layer0.weight", "module.layer1.weight"])
    line = "there is no weight 'module.layer1.weight'; nearest: 'layer1.weight'"
    assert str(error.value) == line


TYPE = "mask entry 'layer0.weight' is torch.float32, must be torch.bool"
NAME = "mask entry 'layer0.weight_mask' is no parameter of the network; nearest: 'layer0.weight'"
SHAPE = "mask entry 'layer0.weight' has shape [7, 1], the network's is [7, 3]"
VALUES = "mask entry 'layer0.weight' has other values than 0 and 1"
SHARES = {"layer0.weight": torch.linspace(0, 1, 21).view(7, 3)}


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        ({"layer0.weight_mask": torch.ones(7, 3, dtype=torch.bool)}, NAME),
        ({"layer0.weight": torch.ones(7, 1, dtype=torch.bool)}, SHAPE),
        (SHARES, VALUES),
        ({"layer0.weight": torch.full((7, 3), float("nan"))}, VALUES),
    ],
)
@pytest.mark.parametrize("use", [apply, check_mask, lambda mask, w: prune(w, mask, 0.5)])
def test_what_is_no_mask_of_the_weights_is_refused(mask, line, use):
    with pytest.raises(ValueError) as error:
        use(mask, weights(0))
    assert str(error.value) == line


def test_a_mask_to_be_pruned_is_bool_and_one_to_be_applied_is_zeros_and_ones():
    w = weights(0)
    ones = {"layer0.weight": (w["layer0.weight"] > 0).float()}
    with pytest.raises(ValueError) as error:
        prune(w, ones, 0.5)
    assert str(error.value) == TYPE
    assert torch.equal(apply(ones, w)["layer0.weight"], w["layer0.weight"].clamp_min(0))
    kept = float(ones["layer0.weight"].mean())
    assert sparsity_of(ones) == pytest.approx(1 - kept)


def test_weights_have_no_sparsity():
    with pytest.raises(ValueError, match=r"^mask entry 'layer0.weight' has other values than 0"):
        sparsity_of(weights(0))


def test_a_mask_without_entries_is_refused():
    with pytest.raises(ValueError, match="the mask has no entry"):
        prune({"a": torch.ones(2)}, {}, 0.5)


def test_a_masked_weight_is_zero_whatever_it_was():
    weights = {"a": torch.tensor([float("nan"), float("inf"), 2.0, 3.0])}
    mask = {"a": torch.tensor([False, False, False, True])}
    assert apply(mask, weights)["a"].tolist() == [0.0, 0.0, 0.0, 3.0]
    assert apply({"a": mask["a"].float()}, weights)["a"].tolist() == [0.0, 0.0, 0.0, 3.0]

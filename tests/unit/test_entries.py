"""Tensors by name are those of a network, or the first that is not is named."""

import pytest
import torch
from maskalign.entries import check_entries, check_same, nearest, shapes

KNOWN = {"conv1.weight": [4, 3], "bn.weight": [4], "bn.num_batches_tracked": [], "fc.bias": [2]}


def of(entries):
    return {name: torch.zeros(shape) for name, shape in entries.items()}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("conv1.weight_mask", "conv1.weight"),
        ("module.conv1.weight_orig", "conv1.weight"),
        ("_orig_mod.conv1.weight", "conv1.weight"),
        ("layer._orig_mod.module.fc.bias", "layer.fc.bias"),
        ("conv1.wieght", "conv1.weight"),
        ("fc.biases", "fc.bias"),
    ],
)
def test_the_nearest_name_is_the_one_without_what_torch_adds(name, near):
    # By likeness alone the first three would be nearer.
    known = ["conv1.weight_masks", "module.conv1.weight_origin", "orig_mod.conv1.weight"]
    known += ["layer.fc.bias", *KNOWN] if name.startswith("layer") else KNOWN
    assert nearest(name, known) == f"; nearest: {near!r}"


def test_the_network_may_be_the_one_with_the_longer_names():
    assert nearest("fc.bias", ["fc.biases", "module.fc.bias"]) == "; nearest: 'module.fc.bias'"
    assert nearest("fc.bias", []) == ""


def test_shapes_are_those_of_the_tensors():
    assert shapes(of(KNOWN) | {"extra": {"no": "tensor"}}) == KNOWN | {"extra": []}


@pytest.mark.parametrize(
    ("tensors", "line"),
    [
        ({"conv1.weigth": [4, 3]}, "mask entry 'conv1.weigth' is no parameter of the network; "),
        ({"conv1.weight": [4, 1]}, "mask entry 'conv1.weight' has shape [4, 1], the network's is "),
        ({"bn.weight": [4], "conv1.weight": [3, 4]}, "mask entry 'conv1.weight' has shape [3, 4]"),
    ],
)
def test_an_entry_of_another_name_or_shape_is_refused(tensors, line):
    with pytest.raises(ValueError) as error:
        check_entries(of(tensors), KNOWN, "mask entry")
    assert str(error.value).startswith(line)
    check_entries(of({"fc.bias": [2], "bn.weight": [4]}), KNOWN)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"conv1.weight": [8, 3], "fc.bias": [3]}, "conv1.weight has shape [8, 3], not [4, 3]"),
        ({"bn.weight": None}, "it has no 'bn.weight', so depth or architecture differ"),
        ({"conv2.weight": [4]}, "it also has 'conv2.weight', so depth or architecture differ"),
    ],
)
def test_the_first_difference_of_two_networks_is_named(change, line):
    changed = {k: s for k, s in (KNOWN | change).items() if s is not None}
    with pytest.raises(ValueError, match=r"^B differs from A: ") as error:
        check_same(of(changed), KNOWN, "B", "A")
    assert str(error.value).endswith(line)
    check_same(of(KNOWN), KNOWN, "B", "A")


def test_a_state_of_a_pruned_or_wrapped_network_is_named_as_such():
    known = {"a.weight": [2]}
    pruned = {"a.weight_orig": torch.zeros(2), "a.weight_mask": torch.ones(2)}
    with pytest.raises(ValueError, match=r"^B is pruned by torch\.nn\.utils\.prune .*remove first"):
        check_same(pruned, known, "B", "A")
    with pytest.raises(ValueError, match=r"it has no 'a\.weight', but 'module\.a\.weight'$"):
        check_same({"module.a.weight": torch.zeros(2)}, known, "B", "A")
    check_same({"a.weight": torch.zeros(2)}, known, "B", "A")

"""Images alone and images with labels are the same images."""

import pytest
import torch
from maskalign.batches import images_of
from torch.utils.data import DataLoader, TensorDataset

X, Y = torch.arange(12.0).view(6, 2), torch.arange(6)


@pytest.mark.parametrize(
    "batches",
    [
        list(X.split(4)),
        X.split(4),
        list(zip(X.split(4), Y.split(4), strict=True)),
        DataLoader(TensorDataset(X, Y), batch_size=4),
        DataLoader(TensorDataset(X), batch_size=4),
        (x for x in X.split(4)),
    ],
)
def test_both_forms_give_the_images(batches):
    found = list(images_of(batches, "match on"))
    assert [len(x) for x in found] == [4, 2]
    assert torch.equal(torch.cat(found), X)


@pytest.mark.parametrize(
    ("batches", "line"),
    [
        ([X, {"image": X}], "a batch is a dict, must be a tensor or begin with one: (x, y)"),
        ([("name", X)], "a batch is a tuple, must be a tensor or begin with one: (x, y)"),
        ([[]], "a batch is a list, must be a tensor or begin with one: (x, y)"),
        (X, "batches are one tensor: pass a list of batches, as [images]"),
        ([], "nothing to match on: the data set gave no batch"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(batches, line):
    with pytest.raises(ValueError) as error:
        list(images_of(batches, "match on"))
    assert str(error.value) == line

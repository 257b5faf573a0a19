"""Equalities that hold up to rounding: a permutation commutes with training.

Any error in permuting weights, masks or buffers, in the order of the data or in the direction of a
permutation breaks them.
"""

from pathlib import Path

import pytest
import torch
from chain import BATCH, KEPT, LAST, A, B, outputs, tensors
from maskalign import stages, symmetry
from maskalign.checkpoint import digest, save_tensors
from maskalign.graph import derive
from maskalign.pruning import Mask
from maskalign.seeds import generator
from maskalign.training import Plan, train

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=["chain", "plain_chain"])
def runs(request):
    """Return the runs of a residual network with batch norm, then of one without."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def groups(runs):
    return derive(runs.network(A), torch.zeros(2, 1, 8, 8))


class Double:
    """A data set with images in float64."""

    def __init__(self, images):
        self.images, self.train_samples = images, images.train_samples
        self.steps = images.steps

    def train_batches(self, *where, share):
        return ((x.double(), y) for x, y in self.images.train_batches(*where, share=share))

    def test_batches(self):
        return ((x.double(), y) for x, y in self.images.test_batches())


def distance(found: Weights, expected: Weights) -> float:
    """Return the largest difference of any parameter or buffer, relative to its largest entry."""
    assert found.keys() == expected.keys()
    pairs = ((found[k].double(), expected[k].double()) for k in found)
    return max(float((x - y).abs().max() / y.abs().max().clamp_min(1e-3)) for x, y in pairs)


# -- training of a permuted network ----------------------------------------------------------------


def trained(runs, folder: Path, weights: Weights, mask: Mask) -> Weights:
    """Return parameters and buffers after two epochs in float64."""
    net = runs.network(weights).double()
    plan = Plan(2, 0.05, ("exact",), momentum=0.8, weight_decay=0.01, batch_size=BATCH)
    identity = f"{digest(weights)} {digest(mask)}"  # a run never goes on from another one
    train(net, Double(runs.images), plan, folder, identity, mask, log=lambda line: None)
    return net.state_dict()


def test_training_a_permuted_network_equals_permuting_the_trained_one(runs, groups, tmp_path):
    """Training q(B) under q(m) gives q(training B under m), for a random permutation q."""
    weights, perms = runs.network(B).state_dict(), symmetry.shuffled(groups, generator("exact"))
    mask = tensors(runs.imp(3) / "mask.safetensors")
    first = {**weights, **{k: torch.where(mask[k], weights[k], 0) for k in mask}}

    def permuted(entries: Weights) -> Weights:
        return symmetry.permute(groups, perms, entries)

    after = trained(runs, tmp_path, weights, mask)
    assert distance(after, first) > 0.1
    found = trained(runs, tmp_path, permuted(weights), permuted(mask))
    assert distance(found, permuted(after)) < 1e-9
    # Any other start, mask or permutation of the end would be seen.
    for start, applied in ((weights, permuted(mask)), (permuted(weights), mask)):
        assert distance(trained(runs, tmp_path, start, applied), permuted(after)) > 0.1
    assert distance(found, symmetry.permute(groups, symmetry.invert(perms), after)) > 0.1


# -- a planted pair --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(runs, groups, tmp_path_factory):
    """Return a permutation, and the folder of a dense run that is A's, permuted by it."""
    folder = tmp_path_factory.mktemp("planted")
    perms = symmetry.shuffled(groups, generator("planted"))
    names = ["model.safetensors", *(f"checkpoints/epoch-{epoch:04d}.safetensors" for epoch in KEPT)]
    for name in names:
        of_a = tensors(runs.dense(A) / name)
        save_tensors(folder / name, symmetry.permute(groups, perms, of_a))
    return perms, folder


def matched(runs, planted, method, folder: Path) -> Path:
    """Run the stage that matches A to the planted B; return the file of the permutation."""
    arguments = runs.match_arguments() | {"b": str(planted[1] / "model.safetensors")}
    about = arguments["values"]
    arguments["values"] = about | {"matching": about["matching"] | {"method": method}}
    stages.match(**arguments | outputs("match", folder), data=str(runs.data))
    return folder / "permutation.safetensors"


def sparse(runs, planted, k, permutation: Path | None, folder: Path) -> Weights:
    """Train the planted B in the order of A's data, under the mask of A; return its end."""
    arguments = runs.sparse_arguments("naive", k, init_seed=A)
    arguments |= {"checkpoints": str(planted[1] / "checkpoints")}
    arguments |= {"permutation": permutation and str(permutation)}
    stages.sparse(**arguments | outputs("sparse", folder), data=str(runs.data))
    return tensors(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["activations", "weights"])
def test_matching_recovers_a_planted_permutation(runs, planted, method, tmp_path):
    found, expected = tensors(matched(runs, planted, method, tmp_path)), planted[0]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], perm) for name, perm in expected.items())
    assert any(not torch.equal(perm, perm.argsort()) for perm in expected.values())


@pytest.mark.parametrize("k", [0, LAST - 1])
def test_the_permuted_run_of_a_planted_pair_equals_lth(runs, groups, planted, k, tmp_path):
    lth = tensors(runs.sparse("lth", k) / "model.safetensors")
    expected = symmetry.permute(groups, planted[0], lth)
    permutation = matched(runs, planted, "activations", tmp_path / "match")
    permuted = sparse(runs, planted, k, permutation, tmp_path / "permuted")
    naive = sparse(runs, planted, k, None, tmp_path / "naive")
    assert distance(permuted, expected) < 1e-5
    assert distance(naive, expected) > 0.1

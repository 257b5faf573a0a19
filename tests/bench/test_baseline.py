"""The benchmark's baseline does the same work: it learns as well and matches alike."""

import pytest
import torch
from maskalign import graph, matching, models, pruning
from maskalign.bench import baseline
from maskalign.checkpoint import save_tensors
from maskalign.data import open_data
from maskalign.training import Plan, train

SPEC = {"mean": [0.3] * 3, "std": [0.3] * 3, "crop_padding": 1, "flip": False}
NET = {"blocks": [1, 1, 1], "channels": 4}


@pytest.fixture(scope="module")
def tensors():
    """Return coloured squares whose place in the image is the class."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for part, n in (("train", 480), ("test", 120)):
        labels = torch.randint(4, (n,), generator=draw)
        images = torch.randint(120, (n, 3, 12, 12), generator=draw)
        for image, label in zip(images, labels, strict=True):
            top, left = 6 * (label // 2), 6 * (label % 2)
            image[:, top + 2 : top + 4, left + 2 : left + 4] += 70
        found |= {f"{part}_images": images.to(torch.uint8), f"{part}_labels": labels}
    return found


def net(seed=0):
    torch.manual_seed(seed)
    return models.build("resnet20", classes=4, image_size=12, in_channels=3, width=1, **NET)


@pytest.mark.parametrize("masked", [False, True])
def test_it_learns_as_well_as_the_training_loop(tensors, tmp_path, masked):
    file = tmp_path / "data.safetensors"
    save_tensors(file, tensors)
    data = open_data(file, SPEC)
    theirs, ours = net(), net()
    mask = None
    if masked:
        weights = theirs.state_dict()
        ones = pruning.full_mask(weights, models.prunable(theirs, ["*shortcut*"]))
        mask = pruning.prune(weights, ones, 0.5)
    torch.manual_seed(1)
    accuracy = baseline.train(theirs, *baseline.loaders(tensors, SPEC, 32, 0), 6, 0.1, mask=mask)
    plan = Plan(epochs=6, lr=0.1, seed=(1,), batch_size=32)
    history = train(ours, data, plan, tmp_path, "id", mask, log=lambda line: None)
    assert accuracy > 90
    assert accuracy == pytest.approx(history[-1]["test_accuracy"], abs=6)
    if masked:
        kept = dict(theirs.named_buffers())
        for name, ones in mask.items():
            assert torch.equal(kept[f"{name}_mask"].bool(), ones)


def test_it_finds_the_same_permutations(tensors):
    a, b = net(0), net(1)
    symmetry = graph.derive(a, torch.zeros(2, 3, 12, 12))
    images = tensors["train_images"].float() / 255
    for model in (a, b):  # statistics that fit the images
        model.train()
        model(images)
    found = baseline.match(symmetry, a, b, lambda: iter(images.split(100)))
    ours = matching.match_activations(matching.correlate(symmetry, a, b, images.split(100)))
    assert len(found) > 3
    for name, perm in ours.items():
        assert torch.equal(found[name], perm)

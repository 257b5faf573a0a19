"""A stage begins with the network that its values name, and hands on how its parents ended."""

import pytest
import torch
from chain import A, B, Chain
from maskalign import models, stage
from maskalign.checkpoint import save_tensors
from maskalign.seeds import derive


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Return the data and values of runs, none of which is run."""
    return Chain(tmp_path_factory.mktemp("begun"))


@pytest.mark.parametrize("width", [1, 2, 0.5])
@pytest.mark.parametrize("seed", [A, B])
def test_a_network_begins_at_its_width_from_its_seed(chain, width, seed):
    values = chain.values("dense", "dense", init_seed=seed, width=width)
    _, images, net = stage.begin(str(chain.data), values)
    torch.manual_seed(derive("init", seed))
    drawn = models.ResNet20(images.classes, width, images.channels, (1, 1), 4).state_dict()
    found = net.state_dict()
    assert found.keys() == drawn.keys()
    assert all(torch.equal(found[k].cpu(), v) for k, v in drawn.items())
    assert found["conv1.weight"].shape == (4 * width, 1, 3, 3)


def test_what_is_made_from_a_diverged_run_is_diverged(chain, tmp_path):
    files = {status: tmp_path / f"{status}.safetensors" for status in ("completed", "diverged")}
    for status, file in files.items():
        save_tensors(file, {"x": torch.zeros(1)}, {"status": status})
    ways = [("completed", "completed"), ("diverged", "completed"), ("completed", "diverged")]
    for first, second in ways:
        made_from = (files[first], None, files[second])
        expected = "diverged" if "diverged" in (first, second) else "completed"
        assert stage.status_of(*made_from) == expected
        record, _, _ = stage.begin(str(chain.data), chain.values("dense", "dense"), *made_from)
        assert record.status == expected


def test_every_epoch_has_a_checkpoint_of_its_own():
    files = [stage.checkpoint("checkpoints", epoch) for epoch in range(201)]
    assert len(set(files)) == 201
    assert sorted(files) == files

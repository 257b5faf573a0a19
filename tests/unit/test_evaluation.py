"""Loss and accuracy against numpy, whatever the batches and the number of networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maskalign.evaluation import evaluate, evaluate_each, predict
from torch import nn

SIZES = [9, 1, 20]  # batches of unlike size: a mean of batch means would differ


def net(seed: int) -> nn.Sequential:
    """Return a network, in training mode, whose batch norm and dropout show a wrong mode."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 7))
    model[1].running_mean.fill_(0.3)
    return model.train()


@pytest.fixture
def batches():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=g), torch.randint(7, (30,), generator=g)
    return list(zip(x.split(SIZES), y.split(SIZES), strict=True))


def by_hand(model: nn.Sequential, batches) -> np.ndarray:
    """Return the logits of all images, computed from the weights in float64."""
    x = torch.cat([x for x, _ in batches]).numpy().astype(float)
    state = {k: v.numpy().astype(float) for k, v in model.state_dict().items()}
    hidden = x @ state["0.weight"].T + state["0.bias"]
    hidden = (hidden - state["1.running_mean"]) / np.sqrt(state["1.running_var"] + 1e-5)
    return hidden @ state["3.weight"].T + state["3.bias"]


def test_scores_are_means_over_all_images(batches):
    nets = [net(0), net(1)]
    labels = torch.cat([y for _, y in batches]).numpy()
    wanted = []
    for model in nets:
        logits = by_hand(model, batches)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ranks = (logits > logits[np.arange(30), labels][:, None]).sum(1)
        scores = {"loss": -np.log(shares[np.arange(30), labels]).mean()}
        scores |= {"accuracy": 100 * (ranks < 1).mean(), "top5_accuracy": 100 * (ranks < 5).mean()}
        assert 0 < (ranks < 1).sum() < (ranks < 4).sum() < (ranks < 5).sum() < 30
        wanted.append(pytest.approx(scores, abs=1e-4))
    assert evaluate_each(nets, batches) == wanted
    assert evaluate(nets[1], batches) == wanted[1]
    assert not any(m.training for model in nets for m in model.modules())


def test_of_few_classes_the_top_five_are_all(batches):
    scores = evaluate(nn.Linear(4, 3), [(x, y % 3) for x, y in batches])
    assert scores["top5_accuracy"] == 100 > scores["accuracy"]


def test_predictions_are_the_logits_of_every_network_in_the_order_of_the_images(batches):
    nets = [net(0), net(1)]
    logits, labels = predict(nets, batches)
    assert torch.equal(labels, torch.cat([y for _, y in batches]))
    for found, model in zip(logits, nets, strict=True):
        assert np.allclose(found.numpy(), by_hand(model, batches), atol=1e-5)


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(net(0), [])


@pytest.mark.parametrize("wrong", [lambda y: F.one_hot(y, 3).float(), lambda y: y[:, None]])
def test_labels_are_one_class_number_per_image(batches, wrong):
    """One-hot labels of few classes would count every image as right."""
    with pytest.raises(ValueError, match=r"^labels of 9 images have shape \[9, [13]\]: not \[9\]"):
        evaluate(nn.Linear(4, 3), [(x, wrong(y % 3)) for x, y in batches])

"""Diversity measures against their definitions on small cases."""

import itertools
import math

import pytest
import torch
from maskalign.diversity import diversity
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr


def test_equal_members_do_not_disagree():
    logits = torch.randn(1, 20, 4).expand(3, -1, -1)
    found = diversity(logits, logits[0].argmax(-1))
    assert found["disagreement"] == 0
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["js"] == pytest.approx(0, abs=1e-12)
    assert found["ensemble_accuracy"] == 100


def test_two_members_by_hand():
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    logits = torch.stack([p.log(), q.log()])[:, None]
    found = diversity(logits, torch.tensor([0]))
    kl = [sum(x * math.log(x / y) for x, y in zip(a, b, strict=True)) for a, b in [(p, q), (q, p)]]
    assert found["kl"] == pytest.approx(sum(map(float, kl)) / 2, rel=1e-6)
    m = [0.7, 0.3]
    js = sum(
        0.5 * sum(float(x) * math.log(float(x) / y) for x, y in zip(a, m, strict=True))
        for a in (p, q)
    )
    assert found["js"] == pytest.approx(js, rel=1e-6)


def test_js_is_finite_for_certain_members():
    logits = torch.tensor([[[1e4, 0.0]], [[0.0, 1e4]]])
    found = diversity(logits, torch.tensor([0]))
    assert found["js"] == pytest.approx(math.log(2))
    assert found["disagreement"] == 1


def test_disagreement_is_a_mean_over_pairs():
    votes = torch.tensor([[0, 0], [0, 1], [1, 1]])  # pairs differ in 1, 2 and 1 of 2 samples
    logits = torch.nn.functional.one_hot(votes, 2).double()
    assert diversity(logits, torch.tensor([0, 0]))["disagreement"] == pytest.approx(2 / 3)


def test_an_ensemble_votes_by_its_mean_softmax_output():
    """One member is very sure of class 0, by its logits; two are fairly sure of class 1."""
    logits = torch.tensor([[[10.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])
    assert diversity(logits, torch.tensor([1]))["ensemble_accuracy"] == 100


def test_kl_and_js_are_means_over_all_pairs_of_members():
    """Every pair of members differs by its own amount."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 30, 5, generator=generator, dtype=torch.double)
    logits *= torch.tensor([0.2, 1.0, 2.0, 4.0])[:, None, None]
    p = logits.softmax(-1).numpy()
    found = diversity(logits, torch.zeros(30))
    ordered = [rel_entr(a, b).sum(-1).mean() for a, b in itertools.permutations(p, 2)]
    assert found["kl"] == pytest.approx(sum(ordered) / 12)
    pairs = [(jensenshannon(a, b, axis=-1) ** 2).mean() for a, b in itertools.combinations(p, 2)]
    assert found["js"] == pytest.approx(sum(pairs) / 6)

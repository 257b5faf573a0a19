"""Matching: recovers shuffles, equals the layer-by-layer procedure, disturbs nothing."""

import copy

import numpy as np
import pytest
import torch
from maskalign import matching, models
from maskalign.graph import derive
from maskalign.matching import (
    Correlation,
    agreement,
    assignment_margins,
    correlate,
    correlations_of,
    match_activations,
    match_activity,
    match_weights,
    matched_correlation,
    observe,
    solve,
    weight_similarity,
)
from maskalign.symmetry import identity, permute, shuffled
from nets import MLP, PreActivation, randomise
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

IMAGE = torch.zeros(2, 3, 16, 16, dtype=torch.double)
NETS = {
    "resnet20": lambda: models.ResNet20(10, blocks=(2, 1, 1), channels=6),
    "vgg11": lambda: models.VGG11(10, plan=(6, "M", 8, 8, "M"), image_size=16),
    "resnet50": lambda: models.resnet50(10, layers=(2, 1, 1, 1), channels=4),
    "pre-activation": PreActivation,
    "mlp": MLP,
}


def batches(seed=0, count=3, size=40):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, 16, 16, generator=g, dtype=torch.double) for _ in range(count)]


@pytest.fixture(params=NETS)
def pair(request):
    torch.manual_seed(0)
    a, b = (randomise(NETS[request.param](), seed) for seed in (1, 2))
    return derive(a, IMAGE), a, b


def spread(symmetry, net, which="last"):
    """Return for each group the standard deviation of its channels, the least of all taps."""
    outputs = [symmetry.tapped(net, which)(x) for x in batches()]
    found = {}
    for g, group in enumerate(symmetry.groups):
        taps = [
            torch.cat(z).transpose(0, 1).flatten(1)
            for z in zip(*(o[g] for o in outputs), strict=True)
        ]
        found[group.name] = torch.stack([z.std(1) for z in taps]).amin(0).detach()
    return found


@pytest.mark.parametrize("which", ["first", "last", "all"])
def test_a_shuffled_copy_is_recovered(pair, which, monkeypatch):
    # The published epsilon favours channels that vary much: without it a copy scores 1.
    monkeypatch.setattr(matching, "EPSILON", 1e-12)
    symmetry, a, _ = pair
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    copied = copy.deepcopy(a)
    copied.load_state_dict(permute(symmetry, perms, a.state_dict()))
    correlations = correlate(symmetry, a, copied, batches(), which)
    found = match_activations(correlations)
    scores = matched_correlation(correlations, found)
    stds = spread(symmetry, copied, which)
    images = torch.cat(batches())
    ours, theirs = (symmetry.tapped(net, which)(images) for net in (a, copied))
    compared = 0
    for group, x, y in zip(symmetry.groups, ours, theirs, strict=True):
        clear = stds[group.name] > 1e-3
        right = found[group.name] == perms[group.name]
        # Two channels that fire on the same single image cannot be told apart.
        matched = x[0][:, found[group.name]].transpose(0, 1).flatten(1).detach()
        wanted = y[0].transpose(0, 1).flatten(1).detach()
        for i in torch.nonzero(clear & ~right).flatten().tolist():
            assert np.corrcoef(matched[i], wanted[i])[0, 1] > 1 - 1e-9, (group.name, i)
        compared += int((clear & right).sum())
    assert compared > sum(group.size for group in symmetry.groups) / 2
    assert max(scores.values()) <= 1 + 1e-6


def test_weight_matching_recovers_a_shuffled_copy(pair):
    symmetry, a, _ = pair
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    shuffled_weights = permute(symmetry, perms, a.state_dict())
    generator = torch.Generator().manual_seed(0)
    found = match_weights(symmetry, a.state_dict(), shuffled_weights, generator)
    matched = permute(symmetry, found, a.state_dict())
    close = [torch.allclose(matched[k], v) for k, v in shuffled_weights.items()]
    assert all(close)


def test_one_group_is_assigned_by_all_weights_that_carry_it():
    """Of one hidden layer the best assignment is known: rows, biases and columns together."""
    nets = [nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)).double() for _ in "ab"]
    for seed, net in enumerate(nets):
        randomise(net, seed)
    symmetry = derive(nets[0], torch.zeros(2, 5, dtype=torch.double))
    a, b = ({k: v.numpy() for k, v in net.state_dict().items()} for net in nets)
    parts = [
        b["0.weight"] @ a["0.weight"].T,
        np.outer(b["0.bias"], a["0.bias"]),
        b["2.weight"].T @ a["2.weight"],
    ]
    scores = [sum(parts), *parts]
    best, *others = (linear_sum_assignment(s, maximize=True)[1].tolist() for s in scores)
    assert best not in others
    states = (net.state_dict() for net in nets)
    found = match_weights(symmetry, *states, torch.Generator().manual_seed(0))
    assert found["0"].tolist() == best


def test_matching_weights_never_lowers_what_it_raises(pair):
    """The similarity rises from sweep to sweep, and the function of the permuted net stays."""
    symmetry, a, b = pair
    states = a.state_dict(), b.state_dict()
    reached = [weight_similarity(symmetry, identity(symmetry), *states)]
    for sweeps in (1, 2, 3, 100):
        perms = match_weights(symmetry, *states, torch.Generator().manual_seed(3), sweeps)
        assert all(p.sort().values.equal(torch.arange(len(p))) for p in perms.values())
        reached.append(weight_similarity(symmetry, perms, *states))
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]
    moved = copy.deepcopy(a)
    moved.load_state_dict(permute(symmetry, perms, a.state_dict()))
    (images, *_) = batches()
    assert torch.allclose(moved(images), a(images))


def test_the_shuffle_of_a_copy_has_similarity_one(pair):
    symmetry, a, _ = pair
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    copied = permute(symmetry, perms, a.state_dict())
    assert weight_similarity(symmetry, perms, a.state_dict(), copied) == pytest.approx(1)
    assert weight_similarity(symmetry, identity(symmetry), a.state_dict(), copied) < 0.9


def test_similarity_counts_no_statistics_and_no_scale(pair):
    symmetry, a, b = pair
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    before = weight_similarity(symmetry, perms, a.state_dict(), b.state_dict())
    scaled = {
        k: v + 5 if "running" in k else 3 * v if v.is_floating_point() else v
        for k, v in b.state_dict().items()
    }
    after = weight_similarity(symmetry, perms, a.state_dict(), scaled)
    assert after == pytest.approx(before)


def test_agreement_counts_only_channels_that_activations_can_match():
    """Channel 1 of B and channel 0 of A are constant: their places are left to chance."""
    score = torch.tensor(
        [[0.0, 0.9, 0.1, 0.1], [0, 0, 0, 0], [0, 0.1, 0.8, 0.1], [0, 0.1, 0.1, 0.7]]
    )
    activations = {"layer": torch.tensor([1, 0, 2, 3])}
    for weights, alike in (([1, 0, 2, 3], 3), ([1, 2, 0, 3], 2), ([0, 1, 3, 2], 0)):
        found = agreement({"layer": [score]}, activations, {"layer": torch.tensor(weights)})
        assert found == {"layer": (alike, 3, 4)}
    # A live channel of B that is left with the constant channel of A is not compared either.
    left = {"layer": torch.tensor([1, 2, 0, 3])}
    assert agreement({"layer": [score]}, left, left) == {"layer": (2, 2, 4)}
    # With several measuring points a channel counts if it varies at any of them.
    both = {"layer": [score, torch.full((4, 4), 0.2)]}
    assert agreement(both, activations, activations) == {"layer": (4, 4, 4)}


def test_the_matched_correlation_is_that_of_the_channels_assigned():
    first = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.4, 0.8], [0.6, 0.5, 0.0]])
    second = torch.tensor([[0.0, 0.3, 0.0], [0.0, 0.0, 0.6], [0.9, 0.0, 0.0]])
    found = matched_correlation({"layer": [first, second]}, {"layer": torch.tensor([1, 2, 0])})
    assert found == {"layer": pytest.approx(((0.9 + 0.8 + 0.6) / 3 + (0.3 + 0.6 + 0.9) / 3) / 2)}


def test_a_copy_is_matched_alike_by_both_methods():
    a = randomise(models.ResNet20(10, blocks=(1, 1, 1), channels=6), 1)
    symmetry = derive(a, IMAGE)
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    copied = copy.deepcopy(a)
    copied.load_state_dict(permute(symmetry, perms, a.state_dict()))
    correlations = correlate(symmetry, a, copied, batches())
    activations = match_activations(correlations)
    generator = torch.Generator().manual_seed(0)
    weights = match_weights(symmetry, a.state_dict(), copied.state_dict(), generator)
    counts = agreement(correlations, activations, weights).values()
    alike, compared, _ = (sum(c) for c in zip(*counts, strict=True))
    assert compared > sum(g.size for g in symmetry.groups) / 2
    assert alike / compared > 0.9


def test_one_joint_pass_equals_matching_layer_by_layer(pair):
    """The textbook procedure: match a group, permute A by it, run again, match the next."""
    symmetry, a, b = pair
    joint = match_activations(correlate(symmetry, a, b, batches()))
    dead_a, dead_b = (spread(symmetry, net) for net in (a, b))
    current = copy.deepcopy(a)
    images = torch.cat(batches())
    for g, group in enumerate(symmetry.groups):
        zs = []
        for net in (b, current):
            z = symmetry.tapped(net)(images)[g][0].transpose(0, 1).flatten(1).detach().numpy()
            zs.append(z)
        size = group.size
        score = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                p, q = zs[0][i], zs[1][j]
                if p.std() > 0 and q.std() > 0:
                    covariance = ((p - p.mean()) * (q - q.mean())).mean()
                    score[i, j] = covariance / (p.std() * q.std() + 1e-4)
        step = {other.name: torch.arange(other.size) for other in symmetry.groups}
        step[group.name] = solve(torch.from_numpy(score))
        current.load_state_dict(permute(symmetry, step, current.state_dict()))
        ours, theirs = joint[group.name], step[group.name]
        tied = (dead_b[group.name] == 0) | (
            (dead_a[group.name][ours] == 0) & (dead_a[group.name][theirs] == 0)
        )
        assert bool(((ours == theirs) | tied).all()), group.name


def test_correlation_equals_numpy_whatever_the_batches_and_the_offset():
    g = torch.Generator().manual_seed(0)
    b, a = (torch.randn(60, 5, 3, generator=g) + 1000.0 for _ in range(2))
    expected = np.corrcoef(*(z.double().transpose(0, 1).flatten(1).numpy() for z in (b, a)))[:5, 5:]
    for sizes in ([60], [7, 13, 40], [1] * 60):
        correlation = Correlation()
        for x, y in zip(b.split(sizes), a.split(sizes), strict=True):
            correlation.update(x, y)
        assert np.allclose(correlation.matrix().numpy(), expected, atol=1e-3)


def test_constant_and_broken_channels_score_zero_and_are_still_assigned():
    g = torch.Generator().manual_seed(0)
    b, a = (torch.randn(50, 4, generator=g) for _ in range(2))
    b[:, 1] = 3.0
    a[:, 2] = float("nan")
    correlation = Correlation()
    correlation.update(b, a)
    score = correlation.matrix()
    assert torch.isfinite(score).all()
    assert (score[1] == 0).all()
    assert (score[:, 2] == 0).all()
    assert sorted(solve(score).tolist()) == [0, 1, 2, 3]


def test_solve_puts_at_place_i_the_channel_of_a_most_like_bs():
    score = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.8, 0.7], [0.5, 0.0, 0.0]])
    assert solve(score).tolist() == [1, 2, 0]


def test_matching_leaves_both_networks_as_they_are(pair):
    symmetry, a, b = pair
    a.train()
    before = [copy.deepcopy(net.state_dict()) for net in (a, b)]
    hooks = [len(m._forward_hooks) for net in (a, b) for m in net.modules()]
    correlate(symmetry, a, b, batches(count=1))
    for net, old in zip((a, b), before, strict=True):
        assert all(torch.equal(v, old[k]) for k, v in net.state_dict().items())
    assert hooks == [len(m._forward_hooks) for net in (a, b) for m in net.modules()]
    assert a.training
    assert not b.training


def test_matching_on_nothing_is_refused():
    model = models.VGG11(3, plan=(6, "M"), image_size=16).double()
    with pytest.raises(ValueError, match="nothing to match on"):
        correlate(derive(model, IMAGE), model, model, [])


def thin(**options) -> torch.nn.Module:
    return models.ResNet20(10, **{"blocks": (1, 1, 1), "channels": 4} | options).double()


@pytest.fixture(scope="module")
def thin_symmetry():
    return derive(thin(), IMAGE)


WIDE = "conv1.weight has shape [8, 3, 3, 3], not [4, 3, 3, 3]"
DEEP = "it also has 'stages.0.1.conv1.weight', so depth or architecture differ"
SHALLOW = "it has no 'stages.2.0.conv1.weight', so depth or architecture differ"
OTHER = "it has no 'conv1.weight', so depth or architecture differ"
WRONG = {
    "wide": (lambda: thin(channels=8), WIDE),
    "deep": (lambda: thin(blocks=(2, 1, 1)), DEEP),
    "shallow": (lambda: thin(blocks=(1, 1)), SHALLOW),
    "other": (lambda: models.VGG11(10, plan=(4, "M")).double(), OTHER),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("net", ["A", "B"])
def test_a_network_of_another_width_depth_or_architecture_is_refused(thin_symmetry, kind, net):
    make, line = WRONG[kind]
    pair = [make(), thin()] if net == "A" else [thin(), make()]
    states = [n.state_dict() for n in pair]
    calls = (
        lambda: correlate(thin_symmetry, *pair, batches(count=1, size=2)),
        lambda: match_weights(thin_symmetry, *states, torch.Generator()),
        lambda: weight_similarity(thin_symmetry, identity(thin_symmetry), *states),
    )
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        start = f"{net} differs from the network the symmetry was derived from: "
        assert str(error.value) == start + line
    assert all(n.training for n in pair)


def test_weights_may_come_without_running_statistics(thin_symmetry):
    a, b = thin(), thin()
    generators = [torch.Generator().manual_seed(0) for _ in "ab"]
    whole = match_weights(thin_symmetry, a.state_dict(), b.state_dict(), generators[0])
    states = (dict(net.named_parameters()) for net in (a, b))
    found = match_weights(thin_symmetry, *states, generators[1])
    assert all(torch.equal(p, whole[k]) for k, p in found.items())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"layer": torch.arange(2)},
            "group layer needs a permutation of 3 channels, as a tensor of integers",
        ),
        ({"layer": torch.zeros(3, dtype=torch.long)}, "group layer needs a permutation of 3"),
        (
            {"layer": torch.arange(3.0)},
            "group layer needs a permutation of 3 channels, as a tensor of integers",
        ),
        ({"layers": torch.arange(3)}, "permutation 'layers' is of no group; nearest: 'layer'"),
    ],
)
def test_permutations_of_other_channels_are_refused(change, line):
    correlations, right = {"layer": [torch.eye(3)]}, {"layer": torch.arange(3)}
    wrong = right | change
    calls = (
        lambda: matched_correlation(correlations, wrong),
        lambda: agreement(correlations, wrong, right),
        lambda: agreement(correlations, right, wrong),
        lambda: assignment_margins(correlations, wrong),
    )
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(line)


def test_permutations_of_small_integers_are_indices_and_no_masks():
    small = {"layer": torch.tensor([1, 0, 2], dtype=torch.uint8)}
    assert matched_correlation({"layer": [torch.eye(3)]}, small) == {"layer": pytest.approx(1 / 3)}


def test_a_score_of_unlike_numbers_of_channels_is_not_solved():
    with pytest.raises(ValueError, match=r"^a score of shape \[3, 4\] is not square"):
        solve(torch.rand(3, 4))


def test_networks_on_two_devices_are_refused(thin_symmetry):
    with pytest.raises(ValueError) as error:
        correlate(thin_symmetry, thin(), thin().to("meta"), batches(count=1))
    assert str(error.value) == "A is on cpu and B on meta: move both to one device"


def test_images_with_labels_are_matched_on_as_images_alone(thin_symmetry):
    nets = [randomise(thin(), seed) for seed in (1, 2)]
    images = batches(count=2, size=8)
    alone = correlate(thin_symmetry, *nets, images)
    labels = torch.zeros(16, dtype=torch.long)
    for given in (
        [(x, labels[:8]) for x in images],
        DataLoader(TensorDataset(torch.cat(images), labels), batch_size=8),
    ):
        found = correlate(thin_symmetry, *nets, given)
        assert all(torch.equal(m, alone[k][0]) for k, (m,) in found.items())


def test_a_failed_match_leaves_both_networks_in_their_mode(thin_symmetry):
    a, b = thin().train(), thin().train()
    with pytest.raises(ValueError, match=r"^a batch is a str"):
        correlate(thin_symmetry, a, b, ["no batch"])
    assert all(m.training for net in (a, b) for m in net.modules())


def test_a_network_without_hidden_channels_is_refused():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3)).double()
    with pytest.raises(ValueError, match="no hidden channels"):
        correlate(derive(model, IMAGE), model, model, batches())


def test_diverged_weights_are_still_assigned():
    score = torch.full((3, 3), float("nan"))
    score[0, 2] = 1.0
    assert solve(score)[0] == 2
    assert sorted(solve(score).tolist()) == [0, 1, 2]
    nets = [randomise(models.VGG11(3, plan=(6, "M"), image_size=16), seed) for seed in (1, 2)]
    symmetry = derive(nets[0], IMAGE)
    states = [net.state_dict() for net in nets]
    states[0]["features.0.weight"].fill_(float("nan"))
    perms = match_weights(symmetry, *states, torch.Generator().manual_seed(0))
    assert all(p.sort().values.equal(torch.arange(len(p))) for p in perms.values())
    assert np.isnan(weight_similarity(symmetry, perms, *states))


@pytest.mark.parametrize("constant", [0.1, 1 / 3, -123.456])
def test_a_constant_that_its_mean_does_not_equal_exactly_scores_zero(constant):
    g = torch.Generator().manual_seed(0)
    correlation = Correlation()
    for _ in range(3):
        b, a = (torch.randn(1000, 3, generator=g) for _ in range(2))
        b[:, 0] = a[:, 1] = constant
        correlation.update(b, a)
    assert (correlation.matrix()[0] == 0).all()
    assert (correlation.matrix()[:, 1] == 0).all()


def test_matching_measures_where_it_is_told():
    """With ``all`` the correlations of the first and the last measuring point are summed."""
    nets = [randomise(models.ResNet20(10, blocks=(1, 1), channels=16), seed) for seed in (1, 2)]
    symmetry = derive(nets[0], IMAGE)
    stem = symmetry.groups[0]
    assert len(stem.taps) == 2
    scores = {}
    for which in ("first", "last"):
        correlation = Correlation()
        for x in batches():
            correlation.update(*(symmetry.tapped(net, which)(x)[0][0] for net in reversed(nets)))
        scores[which] = correlation.matrix().detach()
    scores["all"] = scores["first"] + scores["last"]
    expected = {which: solve(score).tolist() for which, score in scores.items()}
    assert len({tuple(perm) for perm in expected.values()}) == 3
    for which, perm in expected.items():
        found = match_activations(correlate(symmetry, *nets, batches(), which))
        assert found[stem.name].tolist() == perm


def test_activations_are_held_no_longer_than_the_layers_that_follow_need_them():
    deep = {"classes": 3, "image_size": 16, "in_channels": 1, "plan": [8] * 12}
    nets = [models.VGG11(**deep) for _ in range(2)]
    images = torch.randn(16, 1, 16, 16)
    symmetry = derive(nets[0], images)
    with torch.profiler.profile(profile_memory=True) as profile:
        correlate(symmetry, *nets, [images])
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = np.cumsum([e.nbytes() for e in changes])
    activation = 4 * len(images) * 8 * 16 * 16
    assert 2 * activation < held.max() < 12 * activation  # of the two networks' 24


def test_images_of_a_data_set_without_its_loader_are_refused():
    """A convolution would take each for a batch of images without channels."""
    nets = [randomise(models.VGG11(3, plan=(6, "M"), image_size=16), seed) for seed in (1, 2)]
    images = torch.utils.data.TensorDataset(batches(count=1)[0], torch.zeros(40))
    with pytest.raises(ValueError, match=r"a batch has shape \[3, 16, 16\], must have 4 dim.*Load"):
        correlate(derive(nets[0], IMAGE), *nets, images)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_do_not_overflow(kind):
    g = torch.Generator().manual_seed(0)
    b, a = (100 * torch.randn(2000, 4, 5, 5, generator=g).to(kind) for _ in range(2))
    found = [Correlation(), Correlation()]
    found[0].update(b, b + a)
    found[1].update(b.double(), (b + a).double())
    assert torch.allclose(found[0].matrix(), found[1].matrix(), atol=1e-3)


# -- activity: mean and standard deviation of single channels --------------------------------------


def observed(*points, batches=1):
    """Return one group's correlations of activations (of B, of A) [N, C] per measuring point."""
    found = []
    for b, a in points:
        found.append(Correlation())
        for pair in zip(b.chunk(batches), a.chunk(batches), strict=True):
            found[-1].update(*pair)
    return {"layer": found}


def signals(means, stds, seed):
    """Return activations [400, C] of exactly these means and standard deviations."""
    z = torch.randn(400, len(means), generator=torch.Generator().manual_seed(seed)).double()
    z = (z - z.mean(0)) / z.std(0, correction=0)
    return z * torch.tensor(stds).double() + torch.tensor(means).double()


def test_activity_recovers_a_shuffled_copy_as_far_as_moments_tell_channels_apart(pair):
    symmetry, a, _ = pair
    perms = shuffled(symmetry, torch.Generator().manual_seed(5))
    copied = copy.deepcopy(a)
    copied.load_state_dict(permute(symmetry, perms, a.state_dict()))
    found = match_activity(observe(symmetry, a, copied, batches(), "all"))
    stds = spread(symmetry, copied, "first")
    for group in symmetry.groups:
        live = stds[group.name] > 1e-3
        assert torch.equal(found[group.name][live], perms[group.name][live]), group.name


def test_activity_of_a_channel_is_its_mean_and_standard_deviation():
    b, a = (signals([3.0, -1000, 0, 5], [1.0, 0.5, 2, 3], seed) for seed in (0, 1))
    for batches in (1, 3, 400):
        (point,) = observed((b, a), batches=batches)["layer"]
        for moments, z in zip(point.activity(), (b, a), strict=True):
            expected = torch.stack([z.mean(0), z.std(0, correction=0)])
            assert torch.allclose(moments, expected, rtol=1e-9)


def test_activity_is_blind_to_correlation():
    """Channels are matched by their moments, though each correlates fully with another one."""
    b = signals([0.0, 1, 2, 3], [1.0, 1, 2, 2], 0)
    a = (b - b.mean(0)) / b.std(0, correction=0)
    moments = ([2.0, 3, 0, 1], [2.0, 2, 1, 1])
    a = a * torch.tensor(moments[1]).double() + torch.tensor(moments[0]).double()
    points = observed((b, a))
    assert match_activations(correlations_of(points))["layer"].tolist() == [0, 1, 2, 3]
    assert match_activity(points)["layer"].tolist() == [2, 3, 0, 1]


def test_mean_and_standard_deviation_count_alike_whatever_their_scale():
    """Means of B differ by 1000, standard deviations by 1; A's decide only where both agree."""
    b = signals([0.0, 1000, 2000], [1.0, 2, 3], 0)
    a = signals([900.0, 100, 2000], [1.0, 2, 3], 1)
    # By their means alone, B's first channel is A's second.
    assert match_activity(observed((b, a)))["layer"].tolist() == [0, 1, 2]
    a = signals([0.0, 1000, 2000], [1.9, 1.1, 3], 1)
    assert match_activity(observed((b, a)))["layer"].tolist() == [0, 1, 2]
    a = signals([900.0, 100, 2000], [1.9, 1.1, 3], 1)
    assert match_activity(observed((b, a)))["layer"].tolist() == [1, 0, 2]


def test_distances_of_activity_are_summed_over_measuring_points():
    unclear = signals([0.0, 0.1, 0.2], [1.0, 1.1, 1.2], 0), signals([0.05, 0.05, 0.2], [1.1] * 3, 1)
    clear = signals([0.0, 5, 9], [1.0, 3, 5], 2), signals([5.0, 0, 9], [3.0, 1, 5], 3)
    assert match_activity(observed(clear))["layer"].tolist() == [1, 0, 2]
    assert match_activity(observed(unclear))["layer"].tolist() != [1, 0, 2]
    for points in ((unclear, clear), (clear, unclear)):
        assert match_activity(observed(*points))["layer"].tolist() == [1, 0, 2]


def test_a_moment_that_all_channels_of_b_share_does_not_count():
    """B's means are all 0, so that no distance of means has a unit."""
    b = torch.cat([z := torch.randn(50, 3, dtype=torch.double), -z]) * torch.tensor([1.0, 2, 3])
    a = b[:, [2, 0, 1]] + torch.tensor([0.0, 7, 3])
    point = observed((b, a))["layer"][0]
    point.sums[0], point.shifts[0] = torch.zeros(3).double(), torch.zeros(3).double()
    point.squares[0] = b.square().sum(0)
    assert match_activity({"layer": [point]})["layer"].tolist() == [1, 2, 0]
    alone = observed((torch.randn(9, 1), torch.randn(9, 1)))
    assert match_activity(alone)["layer"].tolist() == [0]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("net", [0, 1])
def test_a_diverged_networks_activity_is_still_assigned(broken, net):
    sound = [signals([0.0, 1, 2, 3], [1.0, 2, 1, 4], seed) for seed in (0, 1)]
    spoiled = [z.clone() for z in sound]
    spoiled[net][:, 1] = broken
    for points in ([spoiled], [spoiled, sound], [[z * broken for z in sound]]):
        perm = match_activity(observed(*points))["layer"]
        assert sorted(perm.tolist()) == [0, 1, 2, 3]
    # A point at which the network has diverged leaves the decision to the others.
    whole = [z * broken for z in sound]
    assert match_activity(observed(whole, sound))["layer"].tolist() == [0, 1, 2, 3]


def test_one_pass_gives_correlations_and_activity(pair):
    symmetry, a, b = pair
    points = observe(symmetry, a, b, batches(), "all")
    apart = correlate(symmetry, a, b, batches(), "all")
    together = correlations_of(points)
    assert together.keys() == apart.keys() == {g.name for g in symmetry.groups}
    for group in symmetry.groups:
        assert len(points[group.name]) == len(group.taps)
        for one, other in zip(together[group.name], apart[group.name], strict=True):
            assert torch.equal(one, other)


# -- margins of an assignment ----------------------------------------------------------------------


def test_the_margin_of_a_channel_is_to_the_best_of_the_others():
    first = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.3, 0.3, 0.3]])
    second = torch.tensor([[0.7, 0.9, 0.1], [0.8, 0.2, 0.6], [0.1, 0.3, 0.5]])
    found = assignment_margins({"layer": [first, second]}, {"layer": torch.tensor([0, 1, 2])})
    # Means over both points: rows .8 .7 .1, .8 .4 .4 and .2 .3 .4.
    assert found["layer"].tolist() == pytest.approx([0.1, -0.4, 0.1])
    found = assignment_margins({"layer": [first]}, {"layer": torch.tensor([1, 0, 2])})
    assert found["layer"].tolist() == pytest.approx([-0.4, 0.2, 0.0])


def test_a_channel_without_others_has_no_margin():
    found = assignment_margins({"one": [torch.ones(1, 1)]}, {"one": torch.tensor([0])})
    assert found["one"].isnan().tolist() == [True]

"""Interpolation, barriers, batch-norm reset, REPAIR and the plane."""

import copy
import math

import numpy as np
import pytest
import torch
from maskalign import connectivity as c
from nets import Versioned
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def cnn(norm: bool, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(8)] if norm else [nn.Identity(), nn.Identity()]
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        norms[0],
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        norms[1],
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    return net.eval()


def images():
    g = torch.Generator().manual_seed(7)
    return [torch.randn(16, 1, 6, 6, generator=g) for _ in range(4)]


@torch.no_grad()
def loss(nets):
    values = [float(net.eval()(images()[0]).square().mean()) for net in nets]
    return [[{"split": "test", "loss": value, "error": 0.0}] for value in values]


def repaired(repair, weights, alpha):
    (net,) = c.networks(cnn(False, 2), [weights])
    repair.correct([net], [alpha])
    return net


def test_ends_of_the_line_are_the_models():
    a, b = cnn(True, 0).state_dict(), cnn(True, 1).state_dict()
    for end, alpha in ((a, 0.0), (b, 1.0)):
        merged = c.interpolate(a, b, alpha)
        assert all(torch.equal(merged[k], end[k]) for k in end if end[k].is_floating_point())


def test_barrier_is_measured_above_the_line_between_the_ends():
    assert c.barrier([0, 0.5, 1], [1.0, 5.0, 3.0]) == pytest.approx(3.0)
    assert c.barrier([0, 0.5, 1], [1.0, 1.5, 3.0]) == 0
    assert math.isnan(c.barrier([0, 0.5, 1], [1.0, math.nan, 3.0]))


def test_reset_estimates_the_statistics_of_the_data():
    net = cnn(True, 0)
    c.reset_batch_norm([net], images())
    with torch.no_grad():
        outputs = torch.stack([net[0](x) for x in images()])
    assert torch.allclose(net[1].running_mean, outputs.mean((0, 1, 3, 4)), atol=1e-5)
    variances = torch.stack([o.var((0, 2, 3)) for o in outputs]).mean(0)
    assert torch.allclose(net[1].running_var, variances, rtol=1e-4)
    assert net[1].momentum == 0.1
    assert not net.training


def test_reset_forgets_the_statistics_before():
    fresh, used = cnn(True, 0), cnn(True, 0).train()
    for x in images():
        used(5 * x + 1)
    c.reset_batch_norm([fresh, used], images())
    for name, value in fresh.named_buffers():
        assert torch.equal(used.get_buffer(name), value), name


@torch.no_grad()
def test_repair_measures_the_ends_over_all_images():
    a, b = cnn(False, 0), cnn(False, 1)
    repair = c.Repair(cnn(False, 2), ["0", "3"], a.state_dict(), b.state_dict(), images)
    for end, net in zip(repair.ends, (a, b), strict=True):
        for name, depth in (("0", 1), ("3", 4)):
            found = net[:depth](torch.cat(images())).transpose(0, 1).flatten(1).double()
            mean, std = end[name]
            assert torch.allclose(mean, found.mean(1), atol=1e-6)
            assert torch.allclose(std, found.std(1, correction=0), rtol=1e-5)


def test_repair_gives_every_hidden_channel_the_mixed_statistics():
    model, a, b = cnn(False, 2), cnn(False, 0).state_dict(), cnn(False, 1).state_dict()
    repair = c.Repair(model, ["0", "3"], a, b, images)
    alpha = 0.3
    net = repaired(repair, c.interpolate(a, b, alpha), alpha)
    found = {}
    for name in ("0", "3"):
        net.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: found.setdefault(name, []).append(o)
        )
    with torch.no_grad():
        for x in images():
            net(x)
    assert set(found) == {"0", "3"}
    for name, outputs in found.items():
        channels = torch.cat(outputs).transpose(0, 1).flatten(1)
        (mean_a, std_a), (mean_b, std_b) = (end[name] for end in repair.ends)
        mean, std = (1 - alpha) * mean_a + alpha * mean_b, (1 - alpha) * std_a + alpha * std_b
        assert torch.allclose(channels.mean(1).double(), mean, atol=2e-2)
        assert torch.allclose(channels.std(1).double(), std, rtol=5e-2)


def test_repair_leaves_the_end_points_as_they_are():
    model, a, b = cnn(False, 2), cnn(False, 0).state_dict(), cnn(False, 1).state_dict()
    repair = c.Repair(model, ["0", "3"], a, b, images)
    model.load_state_dict(b)
    with torch.no_grad():
        expected, found = model(images()[0]), repaired(repair, b, 1.0)(images()[0])
    assert torch.allclose(expected, found, atol=2e-2)


@pytest.mark.parametrize(("norm", "kind"), [(True, "reset"), (False, "repair")])
def test_the_correction_follows_from_the_network(norm, kind):
    model, a, b = cnn(norm, 2), cnn(norm, 0).state_dict(), cnn(norm, 1).state_dict()
    rows = c.path(model, a, b, [0.0, 0.5, 1.0], images, loss, ["0", "3"])
    assert {r["correction"] for r in rows} == {"none", kind}
    assert len(rows) == 6


def test_a_line_goes_from_a_to_b_before_and_after_the_correction():
    a, b = cnn(True, 0).state_dict(), cnn(True, 1).state_dict()
    rows = c.path(cnn(True, 2), a, b, [0.0, 0.25, 1.0], images, loss, [])
    for alpha in (0.0, 0.25, 1.0):
        net = cnn(True, 3)
        net.load_state_dict({k: (1 - alpha) * a[k] + alpha * b[k] for k in a})
        wanted = {"none": loss([net])[0][0]["loss"]}
        c.reset_batch_norm([net], images())
        wanted["reset"] = loss([net])[0][0]["loss"]
        found = {r["correction"]: r["loss"] for r in rows if r["alpha"] == alpha}
        assert found == pytest.approx(wanted, rel=1e-5)
        assert abs(wanted["none"] - wanted["reset"]) > 1e-3


def test_a_surface_is_of_networks_whose_statistics_are_those_of_the_images():
    states = [cnn(True, seed).state_dict() for seed in (0, 1)]
    found = c.surface(cnn(True, 2), [lambda s=s: s for s in states], images, loss)
    nets = c.networks(cnn(True, 2), states)
    plain = loss(nets)
    c.reset_batch_norm(nets, images())
    assert found == loss(nets) != plain


@pytest.mark.parametrize("norm", [True, False])
def test_points_share_a_pass_over_the_images_and_change_nothing_by_it(norm, monkeypatch):
    model, a, b = cnn(norm, 2), cnn(norm, 0).state_dict(), cnn(norm, 1).state_dict()
    passes, alphas = [], [0.0, 0.25, 0.5, 0.75, 1.0]

    def inputs():
        passes.append(1)
        return images()

    found = []
    for held in (1, 2, 5):
        monkeypatch.setattr(c, "MOST_HELD", held)
        found.append(c.path(model, a, b, alphas, inputs, loss, ["0", "3"]))
    assert found[0] == found[1] == found[2]
    ends = 0 if norm else 2  # REPAIR measures both
    assert len(passes) == 3 * ends + 5 + 3 + 1


def test_few_networks_are_held_where_they_are_large(monkeypatch):
    monkeypatch.setattr(c, "HELD_BYTES", 4 * sum(p.numel() for p in cnn(True, 0).parameters()) * 2)
    held = []

    def evaluate(nets):
        held.append(len(nets))
        return loss(nets)

    a = cnn(True, 0).state_dict()
    values = c.surface(cnn(True, 0), [lambda: a] * 5, images, evaluate)
    assert held == [2, 2, 1]
    assert len({str(v) for v in values}) == 1


def test_path_between_equal_models_has_no_barrier():
    a = cnn(True, 0).state_dict()
    rows = c.path(cnn(True, 1), a, a, [0.0, 0.5, 1.0], images, loss, [])
    plain = [r["loss"] for r in rows if r["correction"] == "none"]
    assert c.barrier([0, 0.5, 1], plain) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 5, 3), (40, 3, 11)),
        (nn.Conv2d(3, 5, 3), (40, 3, 6, 5)),
        (nn.Conv2d(3, 3, 3, groups=3), (40, 3, 6, 5)),
        (nn.Conv3d(3, 5, 2), (40, 3, 4, 5, 3)),
        (nn.Linear(3, 5), (400, 3)),
        (nn.Linear(3, 5), (80, 5, 3)),
        (nn.Linear(3, 5), (40, 4, 2, 3)),
    ],
    ids=str,
)
def test_every_kind_of_hidden_layer_is_repaired_channel_by_channel(layer, shape):
    """Mean and deviation of each output channel, against NumPy."""
    torch.manual_seed(0)
    nets = [nn.Sequential(copy.deepcopy(layer), nn.Tanh()).double() for _ in range(3)]
    for net in nets:
        net[0].weight.data.normal_()
        net[0].bias.data.normal_(0, 3)
    images = torch.randn(shape, dtype=torch.double)
    axis = -1 if isinstance(layer, nn.Linear) else 1

    def channels(net):
        found = np.moveaxis(net[0](images).detach().numpy(), axis, 0)
        return found.reshape(len(found), -1)

    a, b, _ = ((z.mean(1), z.std(1)) for z in map(channels, nets))
    states = [net.state_dict() for net in nets]
    repair = c.Repair(nets[2], ["0"], *states[:2], lambda: [images])
    alpha = 0.3
    (merged,) = c.networks(nets[2], [c.interpolate(*states[:2], alpha)])
    plain = channels(merged)
    repair.correct([merged], [alpha])
    found = channels(merged)
    mean, std = ((1 - alpha) * x + alpha * y for x, y in zip(a, b, strict=True))
    assert found.mean(1) == pytest.approx(mean, rel=1e-6)
    assert found.std(1) == pytest.approx(std, rel=2e-3)  # batch norm: the unbiased deviation
    for z, before, m, s in zip(found, plain, mean, std, strict=True):
        expected = (before - before.mean()) / before.std() * s + m
        assert np.allclose(z, expected, atol=0.02 * s)


def test_networks_take_weights_whose_version_is_checked():
    model = Versioned(3)
    state = {k: 2 * v for k, v in model.state_dict().items()}
    (net,) = c.networks(model, [state])
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(2 * v, state[k]) for k, v in model.state_dict().items())


def test_the_plane_passes_through_its_three_models():
    nets = [cnn(True, seed) for seed in range(3)]
    for net, factor in zip(nets, (1, 20, 50), strict=True):
        c.reset_batch_norm([net], [factor * x for x in images()])
    states = [net.state_dict() for net in nets]
    # Statistics are re-estimated at every point, so they span nothing.
    names = [k for k, _ in cnn(True, 0).named_parameters()]
    xs, ys, marks, at = c.plane(*states, points=5)
    assert len(xs) == len(ys) == 5
    for state, (x, y) in zip(states, marks.values(), strict=True):
        found = at(x, y)
        assert all(torch.allclose(found[k].double(), state[k].double(), atol=1e-5) for k in names)
        assert xs[0] <= x <= xs[-1]
        assert ys[0] <= y <= ys[-1]
        assert torch.equal(found["1.running_var"], states[0]["1.running_var"])
    # The grid reaches a quarter of the models' extent beyond them, on each side.
    for axis, places in (
        (xs, [x for x, _ in marks.values()]),
        (ys, [y for _, y in marks.values()]),
    ):
        extent = max(places) - min(places)
        assert float(axis[-1] - axis[0]) == pytest.approx(1.5 * extent)
        assert float(axis[0]) == pytest.approx(min(places) - extent / 4)
    # Distances in the plane are distances between weights.
    gap = torch.cat([(states[2][k] - states[1][k]).flatten() for k in names]).double().norm()
    (x1, y1), (x2, y2) = marks["first"], marks["second"]
    assert ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 == pytest.approx(float(gap), rel=1e-5)


def test_repair_measures_the_ends_without_dropout():
    a, b = (nn.Sequential(cnn(False, seed)).state_dict() for seed in (0, 1))
    hidden, ends = ["0.0", "0.3"], []
    for dropout in (False, True):
        model = nn.Sequential(cnn(False, 2))
        if dropout:
            model[0][1] = nn.Dropout(0.5)
        ends.append(c.Repair(model.train(), hidden, a, b, images).ends)
    for plain, found in zip(*ends, strict=True):
        for name in hidden:
            assert all(torch.equal(x, y) for x, y in zip(plain[name], found[name], strict=True))


def with_labels():
    return [(x, torch.zeros(len(x), dtype=torch.long)) for x in images()]


def loader():
    labels = torch.zeros(64, dtype=torch.long)
    return DataLoader(TensorDataset(torch.cat(images()), labels), batch_size=16)


@pytest.mark.parametrize("norm", [True, False])
def test_images_with_labels_correct_as_images_alone(norm):
    model, a, b = cnn(norm, 2), cnn(norm, 0).state_dict(), cnn(norm, 1).state_dict()
    alphas = [0.0, 0.5, 1.0]
    found = [
        c.path(model, a, b, alphas, inputs, loss, ["0", "3"])
        for inputs in (images, with_labels, loader)
    ]
    assert found[0] == found[1] == found[2]
    values = [c.surface(model, [lambda: a], inputs, loss) for inputs in (images, with_labels)]
    assert values[0] == values[1]


def test_statistics_of_no_image_are_refused_and_the_momentum_comes_back():
    """Or mean 0 and variance 1 would pass for those of the images."""
    for wrong, line in (([], "^nothing to estimate batch-norm stat"), ([3], "^a batch is a int")):
        net = cnn(True, 0)
        with pytest.raises(ValueError, match=line):
            c.reset_batch_norm([net], wrong)
        assert net[1].momentum == 0.1
        assert not net[1].training
    states = (cnn(False, seed).state_dict() for seed in (0, 1))
    with pytest.raises(ValueError, match=r"^nothing to measure the end points on"):
        c.Repair(cnn(False, 2), ["0", "3"], *states, lambda: [])


def broad(norm: bool) -> nn.Sequential:
    """A network whose first layer has another kernel, so that only its weight differs."""
    net = cnn(norm, 0)
    net[0] = nn.Conv2d(1, 6, 1)
    return net


WEIGHT = "0.weight has shape [6, 1, 1, 1], not [6, 1, 3, 3]"


def test_networks_of_unlike_shapes_have_no_line():
    """A weight [6, 1, 1, 1] would be broadcast to [6, 1, 3, 3]."""
    a, b = cnn(True, 0).state_dict(), broad(True).state_dict()
    fewer = {k: v for k, v in a.items() if k != "7.bias"}
    cases = [
        (b, f"b differs from a: {WEIGHT}"),
        (fewer, "b differs from a: it has no '7.bias', so depth or architecture differ"),
        (a | {"8.bias": a["7.bias"]}, "b differs from a: it also has '8.bias', so depth or arch"),
    ]
    for other, line in cases:
        with pytest.raises(ValueError) as error:
            c.interpolate(a, other, 0.5)
        assert str(error.value).startswith(line)


@pytest.mark.parametrize("norm", [True, False])
def test_end_points_that_are_not_of_the_model_are_refused_by_name(norm):
    model, right, wrong = cnn(norm, 2), cnn(norm, 0).state_dict(), broad(norm).state_dict()
    for a, b, name in ((wrong, right, "a"), (right, wrong, "b")):
        for call in (
            lambda a=a, b=b: c.path(model, a, b, [0.0, 1.0], images, loss, ["0", "3"]),
            lambda a=a, b=b: c.Repair(model, ["0", "3"], a, b, images),
        ):
            with pytest.raises(ValueError) as error:
                call()
            assert str(error.value) == f"{name} differs from the model: {WEIGHT}"


def test_three_networks_that_span_no_plane_are_refused():
    a, b = cnn(True, 0).state_dict(), cnn(True, 1).state_dict()
    for first, second, name in (
        (broad(True), cnn(True, 1), "first"),
        (cnn(True, 1), broad(True), "second"),
    ):
        with pytest.raises(ValueError) as error:
            c.plane(a, first.state_dict(), second.state_dict(), 3)
        assert str(error.value) == f"{name} differs from origin: {WEIGHT}"
    middle = c.interpolate(a, b, 0.5)
    for first, second in ((a, b), (b, a), (b, b), (b, middle)):
        with pytest.raises(ValueError, match=r"^origin, first and second lie on one line"):
            c.plane(a, first, second, 3)


@pytest.mark.parametrize("alphas", [[0.25, 0.5, 0.75], [0, 50, 100], [1, 0.5, 0]])
def test_a_barrier_needs_both_ends(alphas):
    with pytest.raises(ValueError, match=r"^a line goes from alpha 0 to 1, not from "):
        c.barrier(alphas, [1.0, 5.0, 3.0])

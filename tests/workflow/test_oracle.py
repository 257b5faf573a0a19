"""The experiment once more, in plain PyTorch, compared with the files of the tiny study.

Each function is one step of the paper's method (SPEC). Each test compares one step with the files
that the workflow wrote. The library gives images, seeds and network classes, and nothing else:
training, pruning, matching, permuting and evaluating are written here. Paths and the names of
random streams are written out, so that a wrong file or a wrong seed in the workflow shows.
"""

import itertools
import json

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from maskalign.data import open_data
from maskalign.models import VGG11, ResNet20
from maskalign.seeds import derive
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch.func import functional_call

# The tiny study (tiny.yaml).
DIGITS = {"mean": [0.3], "std": [0.38], "crop_padding": 1, "flip": False}
T = 2  # epochs of a dense model
BATCH = 20
DENSE = {"lr": 0.015, "momentum": 0.9, "weight_decay": 5e-4}
SPARSE = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
FINE_TUNING = {"lr": 0.01}  # no momentum, no weight decay (SPEC, Hyperparameters)
FRACTION = 0.5  # of the remaining weights, masked in each IMP round
SPARSITY = {"resnet20": 0.8, "vgg11": 0.6}
REWIND = {"resnet20": 0, "vgg11": 1}  # k of the accuracies
REWIND_OF_ENSEMBLES = 1  # and of the plane, both of ResNet20
RESET_IMAGES = CURVE_IMAGES = 40
ALPHAS = (0.0, 0.5, 1.0)

# SPEC, Architectures: every conv and linear weight, except those of the shortcuts.
PRUNABLE = {
    "resnet20": [
        "conv1.weight",
        *(f"stages.{s}.0.conv{c}.weight" for s in range(3) for c in (1, 2)),
        "linear.weight",
    ],
    "vgg11": ["features.0.weight", "features.3.weight", "linear.weight"],
}

# SPEC, method 3. For each permutation: the modules whose outputs it reorders (their vectors and the
# rows of their weights), and the modules that read these channels (the columns of their weights).
# "conv1", "stages.1.0.conv2" and "stages.2.0.conv2" are the residual streams of the three stages:
# all layers that add into a stream share its permutation.
CHANNELS = {
    "resnet20": {
        "conv1": (
            ["conv1", "bn1", "stages.0.0.conv2", "stages.0.0.bn2"],
            ["stages.0.0.conv1", "stages.1.0.conv1", "stages.1.0.shortcut.0"],
        ),
        "stages.0.0.conv1": (["stages.0.0.conv1", "stages.0.0.bn1"], ["stages.0.0.conv2"]),
        "stages.1.0.conv1": (["stages.1.0.conv1", "stages.1.0.bn1"], ["stages.1.0.conv2"]),
        "stages.1.0.conv2": (
            [f"stages.1.0.{m}" for m in ("conv2", "bn2", "shortcut.0", "shortcut.1")],
            ["stages.2.0.conv1", "stages.2.0.shortcut.0"],
        ),
        "stages.2.0.conv1": (["stages.2.0.conv1", "stages.2.0.bn1"], ["stages.2.0.conv2"]),
        "stages.2.0.conv2": (
            [f"stages.2.0.{m}" for m in ("conv2", "bn2", "shortcut.0", "shortcut.1")],
            ["linear"],
        ),
    },
    "vgg11": {
        "features.0": (["features.0"], ["features.3"]),
        "features.3": (["features.3"], ["linear"]),
    },
}
# The place where the channels of each permutation are measured, after their last activation
# function: the input of a block's second convolution, the output of a block, the output of a ReLU.
MEASURED = {
    "resnet20": {
        "conv1": ("output", "stages.0.0"),
        "stages.0.0.conv1": ("input", "stages.0.0.conv2"),
        "stages.1.0.conv1": ("input", "stages.1.0.conv2"),
        "stages.1.0.conv2": ("output", "stages.1.0"),
        "stages.2.0.conv1": ("input", "stages.2.0.conv2"),
        "stages.2.0.conv2": ("output", "stages.2.0"),
    },
    "vgg11": {"features.0": ("output", "features.1"), "features.3": ("output", "features.4")},
}


# -- networks and images ---------------------------------------------------------------------------


def network(model, weights=None):
    """Return a network of the tiny study, with ``weights`` if they are given."""
    if model == "resnet20":
        net = ResNet20(classes=10, width=1, in_channels=1, blocks=[1, 1, 1], channels=4)
    else:
        net = VGG11(classes=10, width=1, in_channels=1, image_size=8, plan=[8, "M", 8, "M"])
    if weights:
        net.load_state_dict(weights)
    return net


def initialisation(model, seed):
    """Return the random weights of ``seed`` (SPEC, method 1)."""
    torch.manual_seed(derive("init", seed))
    return network(model).state_dict()


@torch.no_grad()
def logits_and_labels(net, batches):
    net.eval()
    outputs = [(net(x), y) for x, y in batches]
    return torch.cat([z for z, _ in outputs]), torch.cat([y for _, y in outputs])


def loss_and_error(net, batches):
    """Return the mean cross-entropy in nats and the 0-1 loss in percent."""
    logits, labels = logits_and_labels(net, batches)
    wrong = (logits.argmax(1) != labels).double().mean()
    return float(F.cross_entropy(logits.double(), labels)), 100 * float(wrong)


# -- training and pruning --------------------------------------------------------------------------


def train(model, weights, images, stream, epochs, recipe, mask=None):
    """Train with SGD, the learning rate falling to 0 by a cosine over all steps (SPEC, method).

    Masked weights are zero in the forward pass; so the backward pass gives them no gradient (SPEC,
    method 5).

    Returns:
        The weights at the start and after every epoch, and every epoch's mean training loss.
    """
    net, mask = network(model, weights), mask or {}
    steps = images.train_samples // BATCH
    optimiser = torch.optim.SGD(net.parameters(), **recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    states, losses = [weights], []
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for x, y in images.train_batches(BATCH, stream, epoch):
            loss = F.cross_entropy(functional_call(net, masked(net, mask), (x,)), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        losses.append(total / steps)
        now = net.state_dict() | masked(net, mask)
        states.append({name: tensor.detach().clone() for name, tensor in now.items()})
    return states, losses


def masked(net, mask):
    return {k: w * mask[k] if k in mask else w for k, w in net.named_parameters()}


def train_dense(model, seed, images):
    """Return the weights of epochs 0 to T, and the losses (SPEC, method 1)."""
    stream = ("dense", 0, seed, 0)
    return train(model, initialisation(model, seed), images, stream, T, DENSE)


def full_mask(model, weights):
    return {name: torch.ones_like(weights[name], dtype=torch.bool) for name in PRUNABLE[model]}


def prune(weights, mask, sparsity):
    """Mask the smallest remaining weights, compared over all layers (SPEC, method 2)."""
    remaining = torch.cat([weights[name][kept].abs() for name, kept in mask.items()])
    total = sum(kept.numel() for kept in mask.values())
    threshold = remaining.sort(descending=True).values[round((1 - sparsity) * total) - 1]
    return {name: kept & (weights[name].abs() >= threshold) for name, kept in mask.items()}


def imp_levels(target):
    """Return the sparsity after each round; the last round lands on the target (SPEC, method 2)."""
    levels, remaining = [], 1 - FRACTION
    while 1 - remaining < target:
        levels.append(1 - remaining)
        remaining *= 1 - FRACTION
    return [*levels, target]


def imp_round(model, seed, weights, mask, level, number, images):
    """Prune to ``level`` and fine-tune for an epoch; return weights, mask, losses (method 2)."""
    mask = prune(weights, mask, level)
    name = "imp" if level == SPARSITY[model] else "imp_round"
    stream = (name, number, seed, 0)
    states, losses = train(model, weights, images, stream, 1, FINE_TUNING, mask)
    return states[-1], mask, losses


def train_sparse(model, checkpoint, mask, k, init_seed, order_seed, images):
    """Train for T - k epochs under a mask, with a fresh optimiser (SPEC, method 5)."""
    stream = ("sparse", 0, init_seed, order_seed)
    states, losses = train(model, checkpoint, images, stream, T - k, SPARSE, mask)
    return states[-1], losses


# -- matching and permuting ------------------------------------------------------------------------


def activations(model, weights, batches):
    """Return for each permutation the activations Z in eval mode, [channels, samples * positions].

    SPEC, method 3.
    """
    net, seen = network(model, weights).eval(), {name: [] for name in MEASURED[model]}

    def keep(name, z):
        seen[name].append(z.transpose(0, 1).flatten(1).double())

    for name, (side, module) in MEASURED[model].items():
        module = net.get_submodule(module)
        if side == "input":
            module.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs[0]))
        else:
            module.register_forward_hook(lambda _, inputs, z, name=name: keep(name, z))
    with torch.no_grad():
        for x, _ in batches:
            net(x)
    return {name: torch.cat(parts, 1) for name, parts in seen.items()}


def correlation(z_b, z_a):
    """Return cov / (std_A std_B + 1e-4), [channels of B, channels of A] (SPEC, method 3)."""
    b, a = (z - z.mean(1, keepdim=True) for z in (z_b, z_a))
    std_b, std_a = (z.square().mean(1).sqrt() for z in (b, a))
    return b @ a.T / b.shape[1] / (torch.outer(std_b, std_a) + 1e-4)


def correlations(model, weights_a, weights_b, seed_a, seed_b, images):
    """Return the correlation of B with A for each permutation, over the augmented training set."""
    z_a, z_b = (
        activations(model, w, images.train_subset(None, ("match", seed_a, seed_b), augment=True))
        for w in (weights_a, weights_b)
    )
    return {name: correlation(z_b[name], z_a[name]) for name in z_b}


def assignment(score):
    """Return the permutation: at place i stands the channel of A for B's channel i."""
    return torch.tensor(linear_sum_assignment(score.numpy(), maximize=True)[1])


def permute(model, permutations, tensors):
    """Return weights or a mask with A's channels in B's order: pi_l W pi_{l-1}^T (method 3, 4)."""
    moved = dict(tensors)
    for name, (producers, consumers) in CHANNELS[model].items():
        pi = permutations[name]
        for module, entry in itertools.product(
            producers, ("weight", "bias", "running_mean", "running_var")
        ):
            if f"{module}.{entry}" in moved:
                moved[f"{module}.{entry}"] = moved[f"{module}.{entry}"][pi]
        for module in consumers:
            if f"{module}.weight" in moved:
                # A linear layer behind an image reads a block of positions per channel.
                blocks = moved[f"{module}.weight"].unflatten(1, (len(pi), -1))
                moved[f"{module}.weight"] = blocks[:, pi].flatten(1, 2)
    return moved


# -- lines, planes, ensembles ----------------------------------------------------------------------


def reset_images(images):
    return images.train_subset(RESET_IMAGES, ("reset",), augment=True, batch_size=500)


@torch.no_grad()
def reset_batch_norm(net, images):
    """Estimate the batch-norm statistics anew, as a cumulative average (SPEC, REPAIR)."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a cumulative average
    net.train()
    for x, _ in reset_images(images):
        net(x)


@torch.no_grad()
def channel_statistics(net, layer, images):
    """Return mean and standard deviation of each channel of a layer's output."""
    outputs = []
    hook = net.get_submodule(layer).register_forward_hook(
        # A copy, because the ReLU behind the layer works in place.
        lambda _, inputs, z: outputs.append(z.transpose(0, 1).flatten(1).double())
    )
    for x, _ in reset_images(images):
        net(x)
    hook.remove()
    z = torch.cat(outputs, 1)
    return z.mean(1), z.std(1, correction=0)


@torch.no_grad()
def repair(net, a, b, alpha, images):
    """Rescale every channel of every hidden layer to the mixed statistics of the end points.

    SPEC, REPAIR. Layer by layer, because a corrected layer changes the input of the next one.
    """
    for layer in ("features.0", "features.3"):
        ends = [channel_statistics(network("vgg11", end), layer, images) for end in (a, b)]
        mean, std = ((1 - alpha) * of_a + alpha * of_b for of_a, of_b in zip(*ends, strict=True))
        now_mean, now_std = channel_statistics(net, layer, images)
        scale = std / now_std.clamp_min(1e-12)
        module = net.get_submodule(layer)
        module.weight *= scale[:, None, None, None]
        module.bias.copy_((module.bias - now_mean) * scale + mean)


def line(model, a, b, images):
    """Return {(alpha, correction, split): (loss, error)} from a to b (SPEC, connectivity)."""
    curve = {}
    for alpha in ALPHAS:
        merged = {k: ((1 - alpha) * a[k] + alpha * b[k]).to(a[k].dtype) for k in a}
        net = network(model, merged)
        for correction in ("none", "reset" if model == "resnet20" else "repair"):
            if correction == "reset":
                reset_batch_norm(net, images)
            elif correction == "repair":
                repair(net, a, b, alpha, images)
            train_images = images.train_subset(CURVE_IMAGES, ("curve",), augment=False)
            curve[alpha, correction, "train"] = loss_and_error(net, train_images)
            curve[alpha, correction, "test"] = loss_and_error(net, images.test_batches())
    return curve


def barrier(values):
    """Return the largest rise of a curve above the line between its ends (SPEC, barrier B)."""
    first, *_, last = values
    return max(v - ((1 - t) * first + t * last) for t, v in zip(ALPHAS, values, strict=True))


def flat(weights):
    """Return all trained numbers as one vector; batch-norm statistics are not trained."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return torch.cat(
        [w.double().flatten() for k, w in weights.items() if not k.endswith(statistics)]
    )


def diversity(logits, labels):
    """Return the numbers of Table 1 for an ensemble's ``logits`` [members, samples, classes]."""
    p = logits.double().softmax(-1)
    n = len(p)

    def divergence(p, q):
        return float((p * (p.log() - q.log())).sum(-1).mean())

    def halves(i, j):
        middle = (p[i] + p[j]) / 2
        return (divergence(p[i], middle) + divergence(p[j], middle)) / 2

    def mean_over(pairs, value):
        values = [float(value(i, j)) for i, j in pairs]
        return sum(values) / len(values)

    votes, pairs = p.argmax(-1), list(itertools.combinations(range(n), 2))
    return {
        "ensemble_accuracy": 100 * float((p.mean(0).argmax(-1) == labels).double().mean()),
        "disagreement": mean_over(pairs, lambda i, j: (votes[i] != votes[j]).double().mean()),
        "kl": mean_over(itertools.permutations(range(n), 2), lambda i, j: divergence(p[i], p[j])),
        "js": mean_over(pairs, halves),
    }


# -- the workflow's files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tiny):
    return tiny / "results/tiny"


@pytest.fixture(scope="module")
def images(results):
    return open_data(results / "data/digits.safetensors", DIGITS)


@pytest.fixture(scope="module")
def runs(results):
    """Return a function: the folder of a run of a network."""
    return lambda model, path: results / f"runs/paper/digits/{model}-x1" / path


def dense_file(runs, model, seed, epoch=T):
    """Return a dense model's weights after ``epoch`` completed epochs."""
    name = "model" if epoch == T else f"checkpoints/epoch-{epoch:04d}"
    return load_file(runs(model, f"dense/init-{seed}/{name}.safetensors"))


def imp_folders(model, seed):
    """Return the folders of a chain of IMP rounds, the last one at the target sparsity."""
    last = f"sparsity-{SPARSITY[model]}"
    whole = {"resnet20": ["round-1", "round-2"], "vgg11": ["round-1"]}[model]
    return [f"imp/mask-{seed}/{name}" for name in (*whole, last)]


def mask_file(runs, model, seed):
    return load_file(runs(model, imp_folders(model, seed)[-1]) / "mask.safetensors")


def match_file(runs, model, a, b, epoch=T, method="activations"):
    folder = runs(model, f"match/{method}/mask-{a}_init-{b}_epoch-{epoch}")
    return load_file(folder / "permutation.safetensors")


def sparse_folder(runs, model, method, a, init, order, k, matching="none-none"):
    name = f"mask-{a}_init-{init}_order-{order}_rewind-{k}_match-{matching}"
    return runs(model, f"{method}/sparsity-{SPARSITY[model]}/{name}")


def assert_same_weights(found, expected, atol=1e-5):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=atol, msg=name)


def assert_same_masks(found, expected):
    assert found.keys() == expected.keys()
    for name, kept in expected.items():
        assert torch.equal(found[name], kept), name


def assert_same_history(folder, losses, end, model, images, rel=1e-4):
    """Compare every epoch's training loss, and the last epoch's test loss and accuracy."""
    history = pd.read_csv(folder / "history.csv")
    assert history.train_loss.tolist() == pytest.approx(losses, rel=rel)
    loss, error = loss_and_error(network(model, end), images.test_batches())
    assert history.test_loss.iloc[-1] == pytest.approx(loss, rel=rel)
    assert history.test_accuracy.iloc[-1] == pytest.approx(100 - error)


# -- the comparisons, stage by stage ---------------------------------------------------------------

DENSE_RUNS = [("resnet20", seed) for seed in range(4)] + [("vgg11", seed) for seed in range(2)]


@pytest.mark.parametrize(("model", "seed"), DENSE_RUNS)
def test_dense_models_are_trained_from_their_seeds(runs, images, model, seed):
    states, losses = train_dense(model, seed, images)
    for epoch, state in enumerate(states):
        assert_same_weights(dense_file(runs, model, seed, epoch), state)
    assert_same_history(runs(model, f"dense/init-{seed}"), losses, states[-1], model, images)


IMP_CHAINS = [("resnet20", 0), ("resnet20", 1), ("resnet20", 2), ("vgg11", 0)]


@pytest.mark.parametrize(("model", "seed"), IMP_CHAINS)
def test_every_imp_round_prunes_and_fine_tunes_the_round_before(runs, images, model, seed):
    weights = dense_file(runs, model, seed)
    mask = full_mask(model, weights)
    levels = imp_levels(SPARSITY[model])
    for number, (level, name) in enumerate(
        zip(levels, imp_folders(model, seed), strict=True), start=1
    ):
        folder = runs(model, name)
        tuned, pruned, losses = imp_round(model, seed, weights, mask, level, number, images)
        found, mask = (load_file(folder / f"{f}.safetensors") for f in ("model", "mask"))
        assert_same_masks(mask, pruned)
        assert_same_weights(found, tuned)
        assert_same_history(folder, losses, tuned, model, images)
        weights = found


MATCHINGS = [("resnet20", 0, 1, 2), ("resnet20", 2, 3, 2), ("resnet20", 0, 2, 2)]
MATCHINGS += [("resnet20", 0, 1, 1), ("resnet20", 2, 3, 1), ("vgg11", 0, 1, 2)]


@pytest.mark.parametrize(("model", "a", "b", "epoch"), MATCHINGS)
def test_permutations_maximise_the_correlation_of_activations(runs, images, model, a, b, epoch):
    """B may still be in training at ``epoch`` (SPEC, Table 15); A is always at its end."""
    of_a, of_b = dense_file(runs, model, a), dense_file(runs, model, b, epoch)
    scores = correlations(model, of_a, of_b, a, b, images)
    found = match_file(runs, model, a, b, epoch)
    assert found.keys() == CHANNELS[model].keys()
    for name, score in scores.items():
        best, channel = assignment(score), torch.arange(len(score))
        assert found[name].sort().values.equal(channel)
        value, highest = (float(score[channel, pi].sum()) for pi in (found[name], best))
        assert value == pytest.approx(highest, abs=1e-6)
        # A constant channel correlates with nothing: any place is as good as another one.
        active_b, active_a = score.abs().amax(1) > 1e-9, score.abs().amax(0) > 1e-9
        certain = active_b & active_a[best] & active_a[found[name]]
        assert certain.sum() >= len(score) // 2
        assert found[name][certain].equal(best[certain]), name


@pytest.mark.parametrize(("model", "a", "b", "epoch"), MATCHINGS)
def test_a_permuted_model_is_the_same_function(runs, images, model, a, b, epoch):
    weights, pi = dense_file(runs, model, a), match_file(runs, model, a, b, epoch)
    moved = permute(model, pi, weights)
    assert any(not torch.equal(moved[k], weights[k]) for k in weights)
    x = torch.cat([x for x, _ in images.test_batches()]).double()
    with torch.no_grad():
        outputs = [network(model, w).double().eval()(x) for w in (weights, moved)]
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-12)


# Network, method, seed of A (the mask), seed of the first weights, data order, k, matching.
ACTIVATIONS, WEIGHTS, EARLY = ("activations", 2), ("weights", 2), ("activations", 1)
SPARSE_RUNS = [
    # Two pairs: the methods, early matching, matching by weights.
    ("resnet20", "lth", 0, 0, 0, 0, None),
    ("resnet20", "lth", 2, 2, 0, 0, None),
    ("resnet20", "naive", 0, 1, 0, 0, None),
    ("resnet20", "naive", 2, 3, 0, 0, None),
    *(
        ("resnet20", "permuted", a, b, 0, 0, matching)
        for a, b in ((0, 1), (2, 3))
        for matching in (ACTIVATIONS, EARLY, WEIGHTS)
    ),
    # The ensembles.
    *(("resnet20", "lth", 0, 0, order, 1, None) for order in (0, 1)),
    *(("resnet20", "naive", 0, b, 0, 1, None) for b in (1, 2)),
    *(("resnet20", "permuted", 0, b, 0, 1, ACTIVATIONS) for b in (1, 2)),
    # Controls: B's own mask, and one permuted by activity.
    ("resnet20", "own", 1, 1, 0, 0, None),
    ("resnet20", "activity", 0, 1, 0, 0, ("activity", 2)),
    ("vgg11", "lth", 0, 0, 0, 1, None),
    ("vgg11", "naive", 0, 1, 0, 1, None),
    ("vgg11", "permuted", 0, 1, 0, 1, ACTIVATIONS),
]


def name_of(run):
    model, method, a, init, order, k, matching = run
    return f"{model}-{method}-{a}-{init}-order{order}-k{k}-{matching}"


@pytest.mark.parametrize("run", SPARSE_RUNS, ids=name_of)
def test_sparse_runs_train_the_right_start_under_the_right_mask(runs, images, run):
    """LTH: A(k) with m_A. Naive: B(k) with m_A. Permuted: B(k) with pi(m_A) (SPEC, method 5)."""
    model, method, a, init, order, k, matching = run
    mask, how = mask_file(runs, model, a), "none-none"
    if matching:
        matching_method, matching_epoch = matching
        how = f"{matching_method}-{matching_epoch}"
        pi = match_file(runs, model, a, init, matching_epoch, matching_method)
        mask = permute(model, pi, mask)
    folder = sparse_folder(runs, model, method, a, init, order, k, how)
    assert_same_masks(load_file(folder / "mask.safetensors"), mask)
    start = dense_file(runs, model, init, epoch=k)
    end, losses = train_sparse(model, start, mask, k, init, order, images)
    assert_same_weights(load_file(folder / "model.safetensors"), end)
    assert_same_history(folder, losses, end, model, images)


@pytest.mark.parametrize("rate", [1, 0.5])
def test_a_longer_training_is_twice_as_long_from_its_rate(runs, images, rate):
    folder = sparse_folder(runs, "resnet20", "naive", 0, 1, 0, 0)
    suffix = "_length-2" + ("" if rate == 1 else f"_rate-{rate}")
    folder = folder.with_name(folder.name + suffix)
    start, mask = dense_file(runs, "resnet20", 1, epoch=0), mask_file(runs, "resnet20", 0)
    recipe = SPARSE | {"lr": rate * SPARSE["lr"]}
    stream = ("sparse", 0, 1, 0)
    states, losses = train("resnet20", start, images, stream, 2 * T, recipe, mask)
    # On one kind of processor, rounding gives an activation near 0 another sign, which moves
    # weights by .0017; another rate or length moves them by .4.
    assert_same_weights(load_file(folder / "model.safetensors"), states[-1], atol=5e-3)
    assert_same_history(folder, losses, states[-1], "resnet20", images, rel=1e-3)


def assert_same_line(rows, metrics, expected, images):
    """Compare a curve's rows with the oracle's, and the recorded barriers with their definition."""
    assert len(rows) == len(expected)
    for row in rows.itertuples():
        loss, error = expected[row.alpha, row.correction, row.split]
        # The workflow's REPAIR is a batch norm, whose variance is that of a sample, plus 1e-5.
        exact = row.correction != "repair"
        assert row.loss == pytest.approx(loss, rel=1e-4 if exact else 5e-4)
        assert row.error == pytest.approx(error, abs=1e-3 if exact else 2.501)
    for (correction, split), part in rows.groupby(["correction", "split"]):
        for metric in ("loss", "error"):
            (recorded,) = (
                m["value"]
                for m in metrics
                if (m["metric"], m["split"]) == (f"{metric}_barrier_{correction}", split)
            )
            found = barrier(part.sort_values("alpha")[metric].tolist())
            assert recorded == pytest.approx(found, abs=1e-9)


LINES = [("resnet20", 0, 1, "activations"), ("resnet20", 2, 3, "activations")]
LINES += [("resnet20", 0, 1, "weights"), ("vgg11", 0, 1, "activations")]


@pytest.mark.parametrize(("model", "a", "b", "matching"), LINES)
def test_lines_run_from_a_and_from_permuted_a_to_b(runs, images, model, a, b, matching):
    folder = runs(model, f"interpolation/mask-{a}_init-{b}_match-{matching}")
    curve = pd.read_csv(folder / "curve.csv")
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    of_a, of_b = dense_file(runs, model, a), dense_file(runs, model, b)
    starts = {"permuted": permute(model, match_file(runs, model, a, b, T, matching), of_a)}
    if matching == "activations":  # the line from A itself is the same for any matching
        starts["naive"] = of_a
    assert set(curve.method) == set(starts)
    for method, start in starts.items():
        own = [m for m in metrics if m["method"] == method]
        expected = line(model, start, of_b, images)
        assert_same_line(curve[curve.method == method], own, expected, images)


@pytest.mark.parametrize("seed", [0, 2])
def test_lines_run_from_the_dense_model_to_every_imp_round(runs, images, seed):
    folder = runs("resnet20", f"imp_barrier/mask-{seed}_sparsity-0.8")
    curve = pd.read_csv(folder / "curve.csv")
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    dense = dense_file(runs, "resnet20", seed)
    assert curve.sparsity.nunique() == 3
    for level, name in zip((0.5, 0.75, 0.8), imp_folders("resnet20", seed), strict=True):
        end = load_file(runs("resnet20", name) / "model.safetensors")
        own = [m for m in metrics if m["sparsity"] == pytest.approx(level, abs=1e-3)]
        rows = curve[(curve.sparsity - level).abs() < 1e-3]
        assert_same_line(rows, own, line("resnet20", dense, end, images), images)


def test_the_plane_is_that_of_permuted_a_permuted_lth_and_permuted(runs, images):
    """SPEC, Figure 4b: all in B's coordinates, batch-norm statistics estimated anew."""
    grid = runs("resnet20", "landscape/mask-0_init-1_sparsity-0.8_rewind-1_match-activations")
    rows = pd.read_csv(grid / "grid.csv")
    pi = match_file(runs, "resnet20", 0, 1)
    k = REWIND_OF_ENSEMBLES
    lth = sparse_folder(runs, "resnet20", "lth", 0, 0, 0, k)
    solution = sparse_folder(runs, "resnet20", "permuted", 0, 1, 0, k, "activations-2")
    origin = permute("resnet20", pi, dense_file(runs, "resnet20", 0))
    first = permute("resnet20", pi, load_file(lth / "model.safetensors"))
    second = load_file(solution / "model.safetensors")

    def error(weights):
        net = network("resnet20", weights)
        reset_batch_norm(net, images)
        return loss_and_error(net, images.test_batches())[1]

    # Gram-Schmidt on the two differences.
    u, v = flat(first) - flat(origin), flat(second) - flat(origin)
    along = float(u.norm())
    shadow = float(v @ u) / along
    height = float((v - shadow * u / along).norm())
    marks = rows[rows.mark.notna()].set_index("mark")
    places = {"dense": (0, 0), "lth": (along, 0), "permuted": (shadow, height)}
    for (mark, place), weights in zip(places.items(), (origin, first, second), strict=True):
        found = marks.loc[mark]
        assert (found.x, found.y) == pytest.approx(place, rel=1e-5, abs=1e-9)
        assert found.error == pytest.approx(error(weights)), mark

    # A point (x, y) is origin + t u + s v, with s v giving the height y and part of x.
    points = rows[rows.mark.isna()]
    assert len(points) == 9
    for row in points.itertuples():
        s = row.y / height
        t = (row.x - s * shadow) / along
        weights = {
            k: w + t * (first[k] - w) + s * (second[k] - w) if w.is_floating_point() else w
            for k, w in origin.items()
        }
        assert row.error == pytest.approx(error(weights), abs=1.251)  # one image


def test_ensembles_are_those_of_table_1(runs, images):
    """SPEC, Diversity: which models make an ensemble, and what is said of it."""

    def sparse(method, b, order=0, matching="none-none"):
        k = REWIND_OF_ENSEMBLES
        return sparse_folder(runs, "resnet20", method, 0, b, order, k, matching)

    members = {
        "dense": [runs("resnet20", f"dense/init-{seed}") for seed in (0, 1)],
        "imp": [runs("resnet20", f"imp/mask-{seed}/sparsity-0.8") for seed in (0, 1)],
        "lth": [sparse("lth", 0, order) for order in (0, 1)],
        "naive": [sparse("naive", b) for b in (1, 2)],
        "permuted": [sparse("permuted", b, matching="activations-2") for b in (1, 2)],
    }
    record = runs("resnet20", "diversity/mask-0_sparsity-0.8_rewind-1/result.json")
    metrics = json.loads(record.read_text())["metrics"]
    for method, folders in members.items():
        nets = [network("resnet20", load_file(f / "model.safetensors")) for f in folders]
        outputs = [logits_and_labels(net, images.test_batches()) for net in nets]
        expected = diversity(torch.stack([z for z, _ in outputs]), outputs[0][1])
        found = {m["metric"]: m["value"] for m in metrics if m["method"] == method}
        assert found == pytest.approx(expected, rel=1e-4)


# -- from the seeds to the accuracies --------------------------------------------------------------


@pytest.mark.parametrize("model", ["resnet20", "vgg11"])
def test_the_experiment_from_seeds_to_accuracies(results, images, model):
    """No file of the workflow but the images and the final numbers.

    So short a training ends near chance, where other runs can have the same accuracy; the test loss
    tells them apart.
    """
    (of_a, _), (of_b, _) = (train_dense(model, seed, images) for seed in (0, 1))
    weights, mask = of_a[T], full_mask(model, of_a[T])
    for number, level in enumerate(imp_levels(SPARSITY[model]), start=1):
        weights, mask, _ = imp_round(model, 0, weights, mask, level, number, images)
    scores = correlations(model, of_a[T], of_b[T], 0, 1, images)
    pi = {name: assignment(score) for name, score in scores.items()}
    k = REWIND[model]
    ends = {
        "dense": of_a[T],
        "lth": train_sparse(model, of_a[k], mask, k, 0, 0, images)[0],
        "naive": train_sparse(model, of_b[k], mask, k, 1, 0, images)[0],
        "permuted": train_sparse(model, of_b[k], permute(model, pi, mask), k, 1, 0, images)[0],
    }
    rows = pd.read_csv(results / "runs.csv")
    rows = rows[(rows.dataset == "digits") & (rows.model == model)]
    rows = rows[rows.metric.isin(["accuracy", "loss"]) & (rows.split == "test")]
    rows = rows[(rows.order_seed == 0) & ~(rows.length > 1)]
    for method, end in ends.items():
        own = rows[(rows.method == method) & (rows.init_seed == (method in ("naive", "permuted")))]
        if method != "dense":
            own = own[(own.mask_seed == 0) & (own.rewind_epoch == k)]
        if method == "permuted":
            own = own[(own.matching_epoch == T) & (own.matching_method == "activations")]
        assert len(own) == 2
        reported = own.set_index("metric").value
        loss, error = loss_and_error(network(model, end), images.test_batches())
        assert reported.accuracy == pytest.approx(100 - error, abs=2), method
        assert reported.loss == pytest.approx(loss, rel=1e-3), method

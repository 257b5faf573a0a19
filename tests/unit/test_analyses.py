"""Every analysis uses each of its files as what it is: lines, planes and ensembles of these models.

Networks between or beside the given ones are built here by hand, and evaluated.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from chain import CONNECTIVITY, LEVELS, A, B, outputs, record, tensors
from maskalign import analyses, connectivity, plan
from maskalign.checkpoint import save_tensors
from test_stages import by_hand

ALPHAS = [0.0, 0.5, 1.0]


@pytest.fixture(params=["chain", "plain_chain"])
def either(request):
    """Return the runs of the network with and of the network without batch norm."""
    return request.getfixturevalue(request.param)


def run(chain, stage, arguments, out):
    getattr(analyses, stage)(**arguments | outputs(stage, out), data=str(chain.data))
    return out


def permuted(chain, weights):
    """Return weights in the order of the other network's channels, axis by axis."""
    perm = tensors(chain.match() / "permutation.safetensors")
    if chain.net == "vgg":
        first, last = perm["features.0"], perm["features.3"]
        rows = {"features.0": first, "features.3": last}
        columns = {"features.3": first}
        # Flattened, a channel is its 4 x 4 pixels.
        columns["linear"] = (last[:, None] * 16 + torch.arange(16)).flatten()
    else:
        stem, inner, one, two = (
            perm[n] for n in ("conv1", "stages.0.0.conv1", "stages.1.0.conv1", "stages.1.0.conv2")
        )
        rows = {
            "conv1": stem,
            "bn1": stem,
            "stages.0.0.conv1": inner,
            "stages.0.0.bn1": inner,
            "stages.0.0.conv2": stem,
            "stages.0.0.bn2": stem,
            "stages.1.0.conv1": one,
            "stages.1.0.bn1": one,
            "stages.1.0.conv2": two,
            "stages.1.0.bn2": two,
            "stages.1.0.shortcut.0": two,
            "stages.1.0.shortcut.1": two,
        }
        columns = {
            "stages.0.0.conv1": stem,
            "stages.0.0.conv2": inner,
            "stages.1.0.conv1": stem,
            "stages.1.0.shortcut.0": stem,
            "stages.1.0.conv2": one,
            "linear": two,
        }
    found = {}
    for name, entry in weights.items():
        layer = name.rsplit(".", 1)[0]
        if layer in rows and entry.ndim:
            entry = entry[rows[layer]]
        if layer in columns and name.endswith("weight"):
            entry = entry[:, columns[layer]]
        found[name] = entry
    return found


@torch.no_grad()
def scores(net, batches):
    """Return the mean loss and the error in percent."""
    net.eval()
    logits, labels = zip(*((net(x), y) for x, y in batches), strict=True)
    logits, labels = torch.cat(logits), torch.cat(labels)
    wrong = (logits.argmax(1) != labels).double().mean()
    return F.cross_entropy(logits, labels).item(), 100 * wrong.item()


def reset_inputs(chain):
    """Yield the augmented training images on which statistics are estimated."""
    count = CONNECTIVITY["reset_images"]
    return [x for x, _ in chain.images.train_subset(count, ("reset",), True, 500)]


@torch.no_grad()
def reset(chain, net):
    """Estimate all batch-norm statistics anew: those of one batch, as it holds all images."""
    (x,) = reset_inputs(chain)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    net(x)
    return net.eval()


def blend(a, b, alpha):
    return {k: (1 - alpha) * a[k] + alpha * b[k] if a[k].is_floating_point() else b[k] for k in a}


def check_line(chain, rows, start, end):
    """Check a line's rows: every point, each split, with and without correction."""
    splits = {
        "train": lambda: chain.images.train_subset(
            CONNECTIVITY["train_images"], ("curve",), augment=False
        ),
        "test": chain.images.test_batches,
    }
    correction = "repair" if chain.net == "vgg" else "reset"
    assert len(rows) == 12
    for alpha in ALPHAS:
        weights = blend(start, end, alpha)
        plain, corrected = chain.network(weights), chain.network(weights)
        if correction == "reset":
            reset(chain, corrected)
        else:
            repair = connectivity.Repair(
                corrected, ["features.0", "features.3"], start, end, lambda: reset_inputs(chain)
            )
            repair.correct([corrected], [alpha])
        for kind, net in (("none", plain), (correction, corrected)):
            for split, batches in splits.items():
                where = (rows.alpha == alpha) & (rows.correction == kind) & (rows.split == split)
                (row,) = rows[where].itertuples()
                loss, error = scores(net, batches())
                assert row.loss == pytest.approx(loss, rel=1e-5), (alpha, kind, split)
                assert row.error == pytest.approx(error, abs=1.3)  # one image at a tie


def barriers(rows, correction, split):
    """Return the barriers of a line's rows: how far its middle lies above its ends."""
    part = rows[(rows.correction == correction) & (rows.split == split)].sort_values("alpha")
    assert list(part.alpha) == ALPHAS
    found = {}
    for measure in ("loss", "error"):
        first, middle, last = part[measure]
        found[f"{measure}_barrier_{correction}"] = max(0.0, middle - (first + last) / 2)
    return found


def check_barriers(chain, out, rows, **where):
    """Check the recorded barriers of one line against its rows."""
    correction = "repair" if chain.net == "vgg" else "reset"
    found = {
        (m["split"], m["metric"]): m["value"]
        for m in record(out)["metrics"]
        if {k: m[k] for k in where} == where
    }
    expected = {}
    for split in ("train", "test"):
        for kind in ("none", correction):
            of_line = barriers(rows, kind, split)
            expected |= {(split, name): value for name, value in of_line.items()}
    assert found == pytest.approx(expected, abs=1e-6)


# -- interpolation ---------------------------------------------------------------------------------


def test_the_line_of_permuted_begins_at_permuted_a_and_that_of_naive_at_a(either):
    out = either.interpolation()
    rows = pd.read_csv(out / "curve.csv")
    a, b = (tensors(either.dense(seed) / "model.safetensors") for seed in (A, B))
    aligned = permuted(either, a)
    assert list(rows.method.unique()) == ["naive", "permuted"]
    assert (rows.mask_seed == A).all() and (rows.init_seed == B).all()
    assert (rows.status == "completed").all()
    by_method = {"naive": (a, None), "permuted": (aligned, "activations")}
    for method, (start, how) in by_method.items():
        line = rows[rows.method == method]
        named = line.matching_method
        assert (named == how).all() if how else named.isna().all()
        check_line(either, line, start, b)
        check_barriers(either, out, line, method=method, matching_method=how)
    # The function of permuted A is that of A, so the middle of the line tells them apart.
    middles = rows[(rows.alpha == 0.5) & (rows.correction == "none") & (rows.split == "test")]
    naive, other = middles.loss
    assert abs(naive - other) > 1e-3
    ends = rows[(rows.alpha != 0.5) & (rows.correction == "none") & (rows.split == "test")]
    first, last, *_ = ends.loss
    assert abs(first - last) > 1e-3


@pytest.mark.parametrize("lines", [["permuted"], ["naive"]])
def test_only_the_lines_that_are_asked_for_are_evaluated(plain_chain, tmp_path, lines):
    out = run(
        plain_chain,
        "interpolation",
        plain_chain.interpolation_arguments(lines=lines, matching_method="weights"),
        tmp_path,
    )
    rows = pd.read_csv(out / "curve.csv")
    assert list(rows.method.unique()) == lines
    named = rows.matching_method
    assert (named == "weights").all() if lines == ["permuted"] else named.isna().all()


def test_points_and_images_are_those_of_the_recipe(plain_chain, tmp_path):
    """Other numbers of images give other losses; other points, other rows."""
    base = pd.read_csv(plain_chain.interpolation() / "curve.csv")
    for key, value in (("points", 5), ("reset_images", 30), ("train_images", 50)):
        how = CONNECTIVITY | {key: value}
        arguments = plain_chain.interpolation_arguments(connectivity=how)
        rows = pd.read_csv(
            run(plain_chain, "interpolation", arguments, tmp_path / key) / "curve.csv"
        )
        if key == "points":
            assert list(rows.alpha.unique()) == [0, 0.25, 0.5, 0.75, 1]
            continue
        changed = rows.loss.sub(base.loss).abs() > 1e-4
        kinds = {"reset_images": rows.correction == "repair", "train_images": rows.split == "train"}
        assert changed.any()
        assert (changed <= kinds[key]).all()


# -- IMP barrier -----------------------------------------------------------------------------------


def test_the_lines_of_imp_end_at_each_round_and_are_named_by_its_sparsity(either):
    out = either.imp_barrier()
    rows = pd.read_csv(out / "curve.csv")
    assert (rows.method == "imp").all() and (rows.status == "completed").all()
    start = tensors(either.dense(A) / "model.safetensors")
    assert len(rows) == 12 * len(LEVELS)
    for number, level in LEVELS.items():
        mask = tensors(either.imp(number) / "mask.safetensors")
        kept = torch.cat([m.flatten() for m in mask.values()]).double().mean().item()
        line = rows[np.isclose(rows.sparsity, 1 - kept, atol=1e-6)]
        assert abs(1 - kept - level) < 2e-3
        check_line(either, line, start, tensors(either.imp(number) / "model.safetensors"))
        check_barriers(either, out, line, sparsity=round(1 - kept, 6), method="imp")
    ends = rows[(rows.alpha == 1) & (rows.correction == "none") & (rows.split == "test")].loss
    assert ends.sort_values().diff().min() > 1e-4  # each round is seen


# -- landscape -------------------------------------------------------------------------------------


def test_the_plane_is_spanned_by_permuted_a_permuted_lth_and_permuted(either):
    rows = pd.read_csv(either.landscape() / "grid.csv")
    a = tensors(either.dense(A) / "model.safetensors")
    lth = tensors(either.sparse("lth") / "model.safetensors")
    solution = tensors(either.sparse("permuted") / "model.safetensors")
    origin, first = permuted(either, a), permuted(either, lth)
    names = [k for k in origin if not k.endswith(("mean", "var", "tracked"))]

    def direction(to, start):
        return torch.cat([(to[k] - start[k]).double().flatten() for k in names]).numpy()

    # An orthonormal basis by QR, of which the signs are chosen such that both models lie ahead.
    both = np.stack([direction(first, origin), direction(solution, origin)], axis=1)
    basis, coordinates = np.linalg.qr(both)
    signs = np.sign(np.diag(coordinates))
    basis, coordinates = basis * signs, coordinates * signs[:, None]
    marks = rows[rows.mark.notna()].set_index("mark")
    assert list(marks.index) == ["dense", "lth", "permuted"]
    found = marks[["x", "y"]].to_numpy().T
    expected = np.column_stack([[0, 0], coordinates])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    # Unpermuted, models would have other places.
    for start, end in ((a, lth), (origin, lth), (a, first)):
        wrong = np.stack([direction(end, start), direction(solution, start)], axis=1)
        assert not np.allclose(np.abs(np.linalg.qr(wrong)[1]), np.abs(coordinates), rtol=1e-2)

    grid = rows[rows.mark.isna()]
    assert len(grid) == CONNECTIVITY["grid"] ** 2
    for axis, values in zip("xy", expected, strict=True):
        margin = 0.25 * np.ptp(values)
        ends = values.min() - margin, values.max() + margin
        steps = np.linspace(*ends, CONNECTIVITY["grid"])
        order = np.tile(steps, 3) if axis == "x" else np.repeat(steps, 3)
        assert grid[axis].to_numpy() == pytest.approx(order, rel=1e-4)

    def error(x, y):
        """Return the error at a place: 100 times the 0-1 loss on the test images."""
        step = torch.from_numpy(basis @ np.array([x, y])).float()
        parts = step.split([origin[k].numel() for k in names])
        moved = {k: origin[k] + p.view_as(origin[k]) for k, p in zip(names, parts, strict=True)}
        net = reset(either, either.network(origin | moved))
        return scores(net, either.images.test_batches())[1]

    by_hand = np.array([error(x, y) for x, y in rows[["x", "y"]].itertuples(index=False)])
    away = np.abs(rows.error.to_numpy() - by_hand)
    assert away.max() < 2.6 and (away > 1e-6).sum() <= 3  # an image or two at a tie
    at_models = [
        scores(reset(either, either.network(m)), either.images.test_batches())[1]
        for m in (origin, first, solution)
    ]
    assert list(marks.error) == pytest.approx(at_models, abs=1.3)
    assert by_hand.std() > 1
    assert (rows.mask_seed == A).all() and (rows.status == "completed").all()


# -- diversity -------------------------------------------------------------------------------------


def test_every_ensemble_is_of_the_models_of_its_own_method(chain):
    arguments = chain.diversity_arguments()
    found = {}
    for m in record(chain.diversity())["metrics"]:
        assert (m["split"], m["status"]) == ("test", "completed")
        found.setdefault(m["method"], {})[m["metric"]] = m["value"]
    assert list(found) == ["dense", "imp", "lth", "permuted", "naive"]
    for method, files in arguments["members"].items():
        logits, labels = [], torch.cat([y for _, y in chain.images.test_batches()])
        for file in files:
            net = chain.network(Path(file)).eval()
            with torch.no_grad():
                logits.append(torch.cat([net(x) for x, _ in chain.images.test_batches()]).double())
        p, q = (z.softmax(1) for z in logits)
        middle = (p + q) / 2

        def divergence(a, b):
            return float((a * (a / b).log()).sum(1).mean())

        expected = {
            "ensemble_accuracy": 100 * float((middle.argmax(1) == labels).double().mean()),
            "disagreement": float((p.argmax(1) != q.argmax(1)).double().mean()),
            "kl": (divergence(p, q) + divergence(q, p)) / 2,
            "js": (divergence(p, middle) + divergence(q, middle)) / 2,
        }
        assert found[method] == pytest.approx(expected, rel=1e-4)
    kl = sorted(scores["kl"] for scores in found.values())
    assert min(b / a for a, b in itertools.pairwise(kl)) > 1.001  # no two are alike


# -- diagnosis -------------------------------------------------------------------------------------


def overlap_by_hand(mask, own):
    """Return the share of B's weights that a mask keeps, and that expected of a random mask."""
    both = sum(int((mask[k] & m).sum()) for k, m in own.items())
    chance = sum(int(mask[k].sum()) * int(m.sum()) / m.numel() for k, m in own.items())
    kept = sum(int(m.sum()) for m in own.values())
    return {"overlap": both / kept, "expected_overlap": chance / kept}


def test_masks_are_those_of_sparse_training_and_are_compared_with_those_of_b(chain):
    found = {}
    for m in record(chain.diagnosis())["metrics"]:
        if "method" in m:
            found.setdefault((m["method"], m["sparsity"]), {})[m["metric"]] = m["value"]
    assert list(found) == [(m, s) for s in (LEVELS[2], LEVELS[3]) for m in plan.DIAGNOSED]
    own = tensors(chain.imp(3, B) / "mask.safetensors")
    for method in plan.DIAGNOSED:
        applied = tensors(chain.sparse(method, 1) / "mask.safetensors")
        expected = overlap_by_hand(applied, own)
        assert found[method, LEVELS[3]] == pytest.approx(expected, rel=1e-9)
    overlaps = [scores["overlap"] for scores in found.values()]
    assert len(set(overlaps)) == len(overlaps)  # no other mask has the overlap of any of them
    half = tensors(chain.imp(2) / "mask.safetensors")
    expected = overlap_by_hand(half, tensors(chain.imp(2, B) / "mask.safetensors"))
    assert found["naive", LEVELS[2]] == pytest.approx(expected, rel=1e-9)


def test_margins_are_those_of_the_matching_on_its_images(chain):
    how = chain.diagnosis_arguments()["values"]["matching"]
    ends = [str(chain.dense(seed) / "model.safetensors") for seed in (A, B)]
    correlations, *_ = by_hand(chain, *ends, how)
    perm = tensors(chain.match() / "permutation.safetensors")
    margins = []
    for name, matrices in correlations.items():
        for row, chosen in zip(sum(matrices) / len(matrices), perm[name], strict=True):
            others = [float(c) for i, c in enumerate(row) if i != chosen]
            margins.append(float(row[chosen]) - max(others))
    found = {
        m["metric"]: m["value"]
        for m in record(chain.diagnosis())["metrics"]
        if m.get("split") == "train"
    }
    assert found == pytest.approx(
        {
            "assignment_margin": sum(margins) / len(margins),
            "first_choices": sum(m > 0 for m in margins) / len(margins),
        },
        rel=1e-6,
    )
    assert 0 < found["first_choices"] < 1


@pytest.mark.parametrize("role", ["a", "b", "permutation", "masks", "own"])
def test_a_diagnosis_is_diverged_if_any_of_its_inputs_is(chain, tmp_path, role):
    arguments = chain.diagnosis_arguments(masks={})
    file = arguments[role][1] if role in ("masks", "own") else arguments[role]
    spoiled = spoil(file, tmp_path / role)
    whole = [arguments["masks"][0], spoiled] if role in ("masks", "own") else spoiled
    out = run(chain, "diagnosis", arguments | {role: whole}, tmp_path / "out")
    assert record(out)["status"] == "diverged"


# -- divergence ------------------------------------------------------------------------------------


def spoil(file, out):
    """Write a copy of a file that is marked as of a diverged run; return it."""
    save_tensors(out, tensors(file), {"status": "diverged"})
    return str(out)


@pytest.mark.parametrize(
    ("stage", "role"),
    [
        ("interpolation", "a"),
        ("interpolation", "b"),
        ("interpolation", "permutation"),
        ("landscape", "a"),
        ("landscape", "lth"),
        ("landscape", "permuted"),
        ("landscape", "permutation"),
        ("imp_barrier", "start"),
    ],
)
def test_an_analysis_is_diverged_if_any_of_its_inputs_is(plain_chain, tmp_path, stage, role):
    arguments = getattr(plain_chain, f"{stage}_arguments")()
    arguments[role] = spoil(arguments[role], tmp_path / role)
    out = run(plain_chain, stage, arguments, tmp_path / "out")
    rows = pd.read_csv(out / ("grid.csv" if stage == "landscape" else "curve.csv"))
    assert (rows.status == "diverged").all()
    assert record(out)["status"] == "diverged"


def test_only_the_line_to_a_diverged_round_is_diverged(plain_chain, tmp_path):
    arguments = plain_chain.imp_barrier_arguments()
    arguments["rounds"][1] = spoil(arguments["rounds"][1], tmp_path / "round")
    out = run(plain_chain, "imp_barrier", arguments, tmp_path / "out")
    rows = pd.read_csv(out / "curve.csv")
    status = rows.groupby("sparsity", sort=True).status.unique().str.join(" ")
    assert list(status) == ["completed", "diverged", "completed"]
    for metric in record(out)["metrics"]:
        assert metric["status"] == status[metric["sparsity"]]


@pytest.mark.parametrize("method", ["dense", "imp", "lth", "permuted", "naive"])
def test_only_the_ensemble_with_a_diverged_member_is_diverged(plain_chain, tmp_path, method):
    arguments = plain_chain.diversity_arguments()
    arguments["members"][method][1] = spoil(arguments["members"][method][1], tmp_path / "member")
    out = run(plain_chain, "diversity", arguments, tmp_path / "out")
    for metric in record(out)["metrics"]:
        expected = "diverged" if metric["method"] == method else "completed"
        assert metric["status"] == expected
        assert math.isfinite(metric["value"])


def test_statistics_are_means_over_the_batches_of_the_method(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(type(chain.images), "reset_batch", 20)
    out = run(chain, "interpolation", chain.interpolation_arguments(), tmp_path)
    rows = pd.read_csv(out / "curve.csv").query("method == 'naive' and alpha == 0.5")
    (row,) = rows.query("correction == 'reset' and split == 'test'").itertuples()
    a, b = (tensors(chain.dense(seed) / "model.safetensors") for seed in (A, B))
    middle = blend(a, b, 0.5)
    net, whole = chain.network(middle), chain.network(middle)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    count, found = CONNECTIVITY["reset_images"], []
    for x, _ in chain.images.train_subset(count, ("reset",), True, 20):
        assert len(x) == 20
        for module in norms:
            module.momentum = 1.0
            module.train()
        with torch.no_grad():
            net(x)
        found.append([(m.running_mean.clone(), m.running_var.clone()) for m in norms])
    assert len(found) == 3
    for module, *of_batches in zip(norms, *found, strict=True):
        means, variances = zip(*of_batches, strict=True)
        module.running_mean.copy_(torch.stack(means).mean(0))
        module.running_var.copy_(torch.stack(variances).mean(0))
    loss, error = scores(net, chain.images.test_batches())
    assert row.loss == pytest.approx(loss, rel=1e-5)
    assert row.error == pytest.approx(error)
    assert abs(row.loss - scores(reset(chain, whole), chain.images.test_batches())[0]) > 1e-4

"""Verdicts follow from the numbers: planted effects are found, absent ones are not claimed."""

import copy
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from conftest import DEMO
from maskalign import claims, verdicts
from maskalign.study import Study
from maskalign.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED


@pytest.fixture
def study(demo):
    demo["experiments"]["cifar10"] |= {"pairs": 6}
    return Study(demo)


def planted(study, permuted=0.0, noise=0.2, seed=0):
    """Return runs whose permuted accuracies are ``permuted`` points above naive."""
    runs = synthetic.runs(study)
    draw = np.random.default_rng(seed)
    accuracy = (runs.metric == "accuracy") & runs.method.isin(["lth", "naive", "permuted"])
    level = runs.method.map({"lth": 95.0, "permuted": 90.0 + permuted, "naive": 90.0})
    runs.loc[accuracy, "value"] = level[accuracy] + draw.normal(0, noise, accuracy.sum())
    return runs


# Levels of the ResNet on MNIST: three of each, at unequal distances.
SPARSITIES, WIDTHS, LATE, PAIRS = (0.8, 0.9, 0.97), (1, 2, 8), (1, 4), range(4)


@pytest.fixture
def many(demo):
    """Return a study of several levels of every axis."""
    demo["experiments"]["cifar10"] |= {
        "pairs": len(PAIRS),
        "widths": list(WIDTHS),
        "sparsities": list(SPARSITIES),
        "rewind_epochs": [0, *LATE],
        "interpolation": {"widths": list(WIDTHS)},
    }
    return Study(demo)


@pytest.fixture
def drawn(many):
    """Return runs with values of no order at all, and barriers of the loss beside the error's."""
    runs = synthetic.runs(many)
    barriers = runs[runs.metric.str.startswith("error_barrier")]
    losses = barriers.assign(metric=barriers.metric.str.replace("error", "loss"))
    runs = pd.concat([runs, losses], ignore_index=True)
    runs["value"] = np.random.default_rng(3).normal(50, 9, len(runs))
    return runs


def by_unit(study, runs, name, model="resnet20"):
    """Return the numbers of a claim for a network on MNIST, by width (if any) and pair."""
    (claim,) = [c for c in claims.CLAIMS if c.name == name]
    found = claim.numbers(claims.Results(study, runs))
    found = found[(found.dataset == "mnist") & (found.model == model)]
    keys = found[[c for c in ("width", "pair") if c in found]].itertuples(index=False)
    return {tuple(map(float, key)): v for key, v in zip(keys, found.value, strict=True)}


def slope(x, y):
    """Return the least-squares slope of y over x."""
    x, y = (np.asarray(v) - np.mean(v) for v in (x, y))
    return (x * y).sum() / (x * x).sum()


def test_every_claims_number_is_that_of_its_words(many, drawn):
    """Every number of every pair, from the runs one by one."""
    of = drawn[(drawn.dataset == "mnist") & (drawn.model == "resnet20") & (drawn.split == "test")]

    def one(**where):
        rows = of
        for column, value in where.items():
            rows = rows[rows[column] == value]
        assert len(rows) == 1, where
        return rows.value.item()

    def accuracy(method, width, pair, s, k):
        ends = {"mask_seed": 2 * pair, "init_seed": 2 * pair + (method != "lth"), "order_seed": 0}
        how = {"matching_epoch": 8, "matching_method": "activations"}
        cell = {"metric": "accuracy", "width": width, "sparsity": s, "rewind_epoch": k}
        return one(method=method, **ends, **cell, **(how if method == "permuted" else {}))

    def accuracies(method):
        """Return the accuracies by width, pair, sparsity and rewind epoch."""
        levels = (WIDTHS, PAIRS, SPARSITIES, (0, *LATE))
        values = [accuracy(method, *cell) for cell in itertools.product(*levels)]
        return np.reshape(values, [len(level) for level in levels])

    def barrier(method, width, pair, correction, **more):
        how = {"matching_method": "activations"} if method == "permuted" else {}
        where = {"method": method, "width": width, "mask_seed": 2 * pair} | how | more
        return one(metric=f"error_barrier_{correction}", **where)

    def gain(method):
        where = {"method": method, "mask_seed": 0, "sparsity": 0.9, "rewind_epoch": 4}
        ends = {"permuted": [(b, 0) for b in range(1, 6)], "lth": [(0, o) for o in range(5)]}
        how = (
            {"matching_epoch": 8, "matching_method": "activations"} if method == "permuted" else {}
        )
        members = [
            one(metric="accuracy", width=1, init_seed=b, order_seed=o, **where, **how)
            for b, o in ends[method]
        ]
        return one(metric="ensemble_accuracy", method=method) - np.mean(members)

    def each(values):
        """Return the numbers of each pair at each width."""
        return {(w, p): values[i, p] for i, w in enumerate(WIDTHS) for p in PAIRS}

    lth, naive, permuted = (accuracies(method) for method in ("lth", "naive", "permuted"))
    gap, behind = permuted - naive, lth - permuted
    late, start = gap[..., 1:].mean(-1), gap[..., 0]  # over the rewind epochs above 0
    doublings = np.log2(WIDTHS)
    fall = np.array([[-barrier("permuted", w, p, "reset") for w in WIDTHS] for p in PAIRS])
    corrected = np.array(
        [
            [np.subtract(*(barrier("permuted", w, p, c) for c in ("none", "reset"))) for p in PAIRS]
            for w in WIDTHS
        ]
    )
    disagreed = [one(metric="disagreement", method=m) for m in ("permuted", "lth")]
    expected = {
        "permuted_beats_naive": each(late.mean(-1)),
        "gap_grows_with_sparsity": each(
            np.apply_along_axis(lambda y: slope(SPARSITIES, y), -1, late)
        ),
        "gap_grows_with_width": {(p,): slope(doublings, late[:, p].mean(-1)) for p in PAIRS},
        "lth_beats_permuted": each(behind[..., 1:].mean((-1, -2))),
        "close_at_initialisation": each(start.mean(-1)),
        "rewinding_helps_permuted_more": each((late - start).mean(-1)),
        "barrier_falls_with_width": {(p,): slope(doublings, fall[p]) for p in PAIRS},
        "correction_lowers_barrier": each(corrected),
        "imp_stays_connected": {(4, p): barrier("imp", 4, p, "reset", sparsity=0.9) for p in PAIRS},
        "permuted_more_diverse": {(1, 0): np.subtract(*disagreed)},
        "permuted_ensemble_gains_more": {(1, 0): gain("permuted") - gain("lth")},
    }
    assert set(expected) == {claim.name for claim in claims.CLAIMS}
    for name, numbers in expected.items():
        assert by_unit(many, drawn, name) == pytest.approx(numbers), name


def test_without_batch_norm_repair_is_the_correction(many, drawn):
    of = drawn[(drawn.model == "vgg11") & (drawn.split == "test") & (drawn.method == "permuted")]
    of = of[of.matching_method == "activations"].set_index(["metric", "mask_seed"]).value
    expected = {
        (1, p): of["error_barrier_none", 2 * p] - of["error_barrier_repair", 2 * p] for p in (0, 1)
    }
    found = by_unit(many, drawn, "correction_lowers_barrier", "vgg11")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["permuted_ensemble_gains_more", "permuted_more_diverse"])
def test_an_ensemble_with_a_diverged_member_gives_no_number(many, drawn, name):
    def known():
        return [v for v in by_unit(many, drawn, name).values() if math.isfinite(v)]

    assert len(known()) == 1
    alone = drawn.metric == ("accuracy" if "gains" in name else "disagreement")
    member = (drawn.method == "lth") & (drawn.mask_seed == 0) & (drawn.order_seed == 3)
    drawn.loc[alone & (member | drawn.order_seed.isna()), "status"] = "diverged"
    assert known() == []


def pooled(study, runs):
    table = verdicts.judge(study, runs)
    return table[table.scope == "all"].set_index("claim")


@pytest.fixture(scope="module")
def repeated():
    """Return the pooled claims of ten draws each, without and with an effect of 2 points."""
    config = copy.deepcopy(DEMO)
    config["experiments"] = {"cifar10": config["experiments"]["cifar10"] | {"pairs": 6}}
    config["artefacts"] = {"tables": {}, "figures": {}}
    study = Study(config)
    return {
        effect: [pooled(study, planted(study, permuted=effect, seed=s)) for s in range(10)]
        for effect in (0.0, 2.0)
    }


def test_a_planted_effect_is_supported_and_its_interval_covers_it(repeated):
    rows = [table.loc["permuted_beats_naive"] for table in repeated[2.0]]
    assert {row.verdict for row in rows} == {SUPPORTED}
    assert sum(row.low < 2.0 < row.high for row in rows) >= 8


def test_an_absent_effect_is_close_and_rarely_decided(repeated):
    gaps = ["permuted_beats_naive", "gap_grows_with_sparsity", "gap_grows_with_width"]
    alarms = [(t.loc[gaps, "verdict"] != UNDECIDED).any() for t in repeated[0.0]]
    assert sum(alarms) <= 2
    closeness = {t.loc["close_at_initialisation"].verdict for t in repeated[0.0]}
    assert closeness == {SUPPORTED}


def test_an_effect_against_the_claim_is_not_supported(study):
    worse = pooled(study, planted(study, permuted=-2.0)).loc["permuted_beats_naive"]
    assert worse.verdict == NOT_SUPPORTED


def test_a_difference_outside_the_margin_is_not_close(study):
    row = pooled(study, planted(study, permuted=3.0)).loc["close_at_initialisation"]
    assert row.verdict == NOT_SUPPORTED


def test_the_margin_is_the_studys(demo):
    demo["experiments"]["cifar10"] |= {"pairs": 6}
    demo["claims"] = {"margin": 5.0}
    study = Study(demo)
    row = pooled(study, planted(study, permuted=3.0)).loc["close_at_initialisation"]
    assert row.verdict == SUPPORTED
    assert row.test == "TOST, margin 5"


def test_units_are_pairs_and_not_their_runs(study):
    """Six pairs at two widths are twelve units, however many cells each has."""
    table = verdicts.judge(study, planted(study))
    mnist = table[(table.scope == "mnist, resnet20")].set_index("claim")
    assert mnist.loc["permuted_beats_naive"].n == 12
    assert mnist.loc["gap_grows_with_width"].n == 6
    assert mnist.loc["close_at_initialisation"].n == 12


def test_fewer_than_three_units_are_undecided(study):
    table = verdicts.judge(study, planted(study, permuted=10.0, noise=0.01))
    few = table[table.n < 3]
    assert len(few) > 0
    assert set(few.verdict) == {UNDECIDED}
    assert few.p.isna().all()


def test_the_mean_is_the_mean_of_pair_means(study):
    runs = planted(study, permuted=1.0)
    row = verdicts.judge(study, runs)
    row = row[(row.scope == "mnist, vgg11") & (row.claim == "permuted_beats_naive")].iloc[0]
    chosen = runs[(runs.model == "vgg11") & (runs.metric == "accuracy") & (runs.rewind_epoch > 0)]
    chosen = chosen[chosen.matching_method != "weights"]
    means = chosen.groupby(["mask_seed", "method"]).value.mean().unstack()
    assert row["mean"] == pytest.approx((means["permuted"] - means["naive"]).mean())
    assert row.n == 2


def test_diverged_runs_do_not_count(study):
    runs = planted(study, permuted=1.0)
    before = pooled(study, runs).loc["permuted_beats_naive"]
    lost = (runs.method == "permuted") & (runs.mask_seed == 0) & (runs.dataset == "mnist")
    runs.loc[lost, "status"] = "diverged"
    runs.loc[lost & (runs.metric == "accuracy"), "value"] = 0.0
    after = pooled(study, runs).loc["permuted_beats_naive"]
    assert after.n < before.n
    assert after["mean"] == pytest.approx(before["mean"], abs=0.2)


@pytest.mark.parametrize(
    ("values", "close", "verdict"),
    [
        ([0.0] * 4, True, SUPPORTED),
        ([0.5] * 4, True, SUPPORTED),
        ([5.0] * 4, True, NOT_SUPPORTED),
        ([0.5] * 4, False, SUPPORTED),
        ([-0.5] * 4, False, NOT_SUPPORTED),
        ([0.0] * 4, False, UNDECIDED),
        ([0.0] * 2, True, UNDECIDED),
    ],
)
def test_equal_numbers_are_judged_as_they_are(values, close, verdict):
    """Barriers of exactly 0 in all pairs are the best case of "stays connected"."""
    row = verdicts._test(np.array(values), close, margin=1.0)
    assert verdicts._verdict(row | {"p_holm": row["p"]}, margin=1.0) == verdict


def test_other_rewind_epochs_at_another_width_are_no_slope(demo):
    """The gap depends on the rewind epoch alone; the wide nets are run from later epochs."""
    demo["training"]["resnet20"]["keep_epochs"] = [0, 1, 4, 6]
    narrow = demo["experiments"]["cifar10"]
    narrow |= {"pairs": 5, "widths": [1], "rewind_epochs": [0, 1, 4, 6]}
    for part in ("landscape", "imp_barrier"):
        narrow.pop(part)
    wide = {k: v for k, v in narrow.items() if k not in ("early_matching", "diversity")}
    demo["experiments"]["wide"] = wide | {"widths": [4], "rewind_epochs": [0, 4, 6]}
    study = Study(demo)
    runs = planted(study, noise=0.0)
    gap = 2 * (1 - np.exp(-runs.rewind_epoch / 3))
    runs.loc[(runs.metric == "accuracy") & (runs.method == "permuted"), "value"] += gap
    table = verdicts.judge(study, runs)
    row = table[(table.scope == "mnist, resnet20") & (table.claim == "gap_grows_with_width")]
    assert row.n.item() == 5
    assert row["mean"].item() == pytest.approx(0, abs=1e-9)


def test_the_page_gives_every_claim_a_verdict(study):
    runs = planted(study)
    table = verdicts.judge(study, runs)
    page = verdicts.markdown(study, table, runs)
    for claim in claims.CLAIMS:
        assert claim.text in page
    assert page.count("**") == 2 * len(claims.CLAIMS)
    assert pd.api.types.is_numeric_dtype(table["n"])

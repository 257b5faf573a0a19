"""Verdicts follow from the numbers: planted effects are found, absent ones are not claimed."""

import copy
import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from conftest import DEMO
from maskalign import claims, verdicts
from maskalign.study import Study
from maskalign.units import Results
from maskalign.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED

pytestmark = pytest.mark.xdist_group("claims")  # one process makes the results, once


@pytest.fixture
def demo(demo):
    """Return the demo's two networks on MNIST."""
    demo["experiments"] = {name: demo["experiments"][name] for name in ("cifar10", "vgg11")}
    return demo | {"artefacts": {"tables": {}, "figures": {}}}


@pytest.fixture
def study(demo):
    demo["experiments"]["cifar10"] |= {"pairs": 6}
    return Study(demo)


@functools.cache
def plain(study):
    """Return runs.csv and connectivity.csv of a study."""
    return synthetic.runs(study), synthetic.curves(study)


def planted(study, permuted=0.0, noise=0.2, seed=0):
    """Return runs whose permuted accuracies are ``permuted`` points above naive."""
    runs = plain(study)[0].copy()
    draw = np.random.default_rng(seed)
    accuracy = (runs.metric == "accuracy") & runs.method.isin(["lth", "naive", "permuted"])
    level = runs.method.map({"lth": 95.0, "permuted": 90.0 + permuted, "naive": 90.0})
    runs.loc[accuracy, "value"] = level[accuracy] + draw.normal(0, noise, accuracy.sum())
    return runs


EXTRA = ("early_matching", "diversity", "matching_comparison", "imp_barrier", "landscape")
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


def curves_of(study):
    """Return points of lines with values of no order at all."""
    curves = plain(study)[1]
    return curves.assign(error=np.random.default_rng(4).normal(50, 9, len(curves)))


def by_pair(study, runs, name, model="resnet20", dataset="mnist", results=None):
    """Return the numbers of a claim for a network on a data set by pair."""
    (claim,) = [c for c in claims.CLAIMS if c.name == name]
    found = claim.numbers(results or Results(study, runs, curves_of(study)))
    found = found[(found.dataset == dataset) & (found.model == model)]
    return dict(zip(found.pair.astype(int), found.value, strict=True))


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

    def rise(pair):
        line = curves[(curves.method == "imp") & (curves.mask_seed == 2 * pair)]
        line = line[(line.sparsity == 0.9) & (line.correction == "reset") & (line.split == "test")]
        first, *rest = line.sort_values("alpha").error
        return max(rest) - first

    def each(values):
        """Return the numbers of each pair, the mean over widths and all other axes."""
        return dict(zip(PAIRS, np.mean(values, axis=0), strict=True))

    curves = curves_of(many)
    lth, naive, permuted = (accuracies(method) for method in ("lth", "naive", "permuted"))
    gap, behind = permuted - naive, lth - permuted  # by width, pair, sparsity, rewind epoch
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
        "gap_grows_with_sparsity": {p: slope(SPARSITIES, late.mean(0)[p]) for p in PAIRS},
        "gap_grows_with_width": {p: slope(doublings, late[:, p].mean(-1)) for p in PAIRS},
        "lth_beats_permuted": each(behind[..., 1:].mean((-1, -2))),
        "close_at_initialisation": each(start.mean(-1)),
        "rewinding_helps_permuted_more": each((late - start).mean(-1)),
        "barrier_falls_with_width": {p: slope(doublings, fall[p]) for p in PAIRS},
        "correction_lowers_barrier": each(corrected),
        "imp_stays_connected": {p: rise(p) for p in PAIRS},
        "permuted_more_diverse": {0: np.subtract(*disagreed)},
        "permuted_ensemble_gains_more": {0: gain("permuted") - gain("lth")},
    }
    assert set(expected) == {claim.name for claim in claims.CLAIMS}
    results = Results(many, drawn, curves)
    for name, numbers in expected.items():
        assert by_pair(many, drawn, name, results=results) == pytest.approx(numbers), name


def test_without_batch_norm_repair_is_the_correction(many, drawn):
    of = drawn[(drawn.model == "vgg11") & (drawn.split == "test") & (drawn.method == "permuted")]
    of = of[of.matching_method == "activations"].set_index(["metric", "mask_seed"]).value
    expected = {
        p: of["error_barrier_none", 2 * p] - of["error_barrier_repair", 2 * p] for p in (0, 1)
    }
    found = by_pair(many, drawn, "correction_lowers_barrier", "vgg11")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["permuted_ensemble_gains_more", "permuted_more_diverse"])
def test_an_ensemble_with_a_diverged_member_gives_no_number(many, drawn, name):
    def known():
        return [v for v in by_pair(many, drawn, name).values() if math.isfinite(v)]

    assert len(known()) == 1
    alone = drawn.metric == ("accuracy" if "gains" in name else "disagreement")
    member = (drawn.method == "lth") & (drawn.mask_seed == 0) & (drawn.order_seed == 3)
    drawn.loc[alone & (member | drawn.order_seed.isna()), "status"] = "diverged"
    assert known() == []


@pytest.mark.parametrize("name", ["permuted_ensemble_gains_more", "permuted_more_diverse"])
def test_every_mask_gives_the_claims_on_diversity_one_number(demo, name):
    demo["experiments"]["cifar10"]["diversity"] |= {"masks": 3, "members": 2, "widths": [1, 4]}
    study = Study(demo)
    runs = synthetic.runs(study)
    numbers = by_pair(study, runs, name)
    assert list(numbers) == [0, 2, 4]  # two pairs have the three seeds of a mask of two members
    at = {"members": "accuracy", "whole": "ensemble_accuracy"} if "gains" in name else {}
    for pair, number in numbers.items():
        found = []
        for path in study.paths("diversity"):
            run = study.run(path)
            if (run["dataset"], run["mask_seed"]) != ("mnist", 2 * pair):
                continue
            own = runs[(runs.path == path)].set_index(["method", "metric"]).value
            by_path = runs[(runs.metric == "accuracy") & (runs.split == "test")]
            by_path = by_path.set_index("path").value
            values = [
                own[m, at["whole"]] - by_path[run["parents"][m]].mean()
                if at
                else own[m, "disagreement"]
                for m in ("permuted", "lth")
            ]
            found.append(np.subtract(*values))
        assert len(found) == 2  # widths
        assert number == pytest.approx(np.mean(found))


def judged(study, runs):
    return verdicts.judge(study, Results(study, runs, plain(study)[1]))


def of_mnist(study, runs):
    """Return the verdicts of the ResNet on MNIST."""
    table = judged(study, runs)
    return table[table.scope == "mnist, resnet20"].set_index("claim")


@pytest.fixture(scope="module")
def repeated():
    """Return the claims of ten draws each, without and with an effect of 2 points."""
    config = copy.deepcopy(DEMO)
    config["experiments"] = {"cifar10": config["experiments"]["cifar10"] | {"pairs": 6}}
    config["artefacts"] = {"tables": {}, "figures": {}}
    study = Study(config)
    return {
        effect: [of_mnist(study, planted(study, permuted=effect, seed=s)) for s in range(10)]
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
    worse = of_mnist(study, planted(study, permuted=-2.0)).loc["permuted_beats_naive"]
    assert worse.verdict == NOT_SUPPORTED


def test_a_difference_outside_the_margin_is_not_close(study):
    row = of_mnist(study, planted(study, permuted=3.0)).loc["close_at_initialisation"]
    assert row.verdict == NOT_SUPPORTED


def test_the_margin_is_the_studys(demo):
    demo["experiments"]["cifar10"] |= {"pairs": 6}
    demo["claims"] = {"margin": 5.0}
    study = Study(demo)
    row = of_mnist(study, planted(study, permuted=3.0)).loc["close_at_initialisation"]
    assert row.verdict == SUPPORTED
    assert row.test == "TOST, margin 5"


def test_units_are_pairs_and_not_their_widths_or_runs(study):
    """Six pairs at two widths are six units, however many cells each has."""
    found = of_mnist(study, planted(study))
    names = ["permuted_beats_naive", "gap_grows_with_width", "close_at_initialisation"]
    assert found.loc[names, "n"].tolist() == [6, 6, 6]


def test_data_sets_and_models_are_judged_apart(study):
    runs = planted(study)
    table = judged(study, runs)
    scopes = set(table[table.claim == "permuted_beats_naive"].scope)
    assert scopes == {f"{e['dataset']}, {e['model']}" for e in study.config["experiments"].values()}
    other = runs.copy()
    other.loc[other.model == "vgg11", "value"] += 1000 * (other.method == "permuted")
    again = judged(study, other)
    kept = ~table.scope.str.contains("vgg11")
    assert table[kept].equals(again[kept])


def test_fewer_than_three_units_are_undecided_and_it_says_so(study):
    table = judged(study, planted(study, permuted=10.0, noise=0.01))
    few = table[table.n < 3]
    assert set(few.n) == {1, 2}
    assert set(few.verdict) == {UNDECIDED}
    assert few.p.isna().all()
    vgg = few[(few.scope == "mnist, vgg11") & (few.claim == "permuted_beats_naive")]
    assert vgg.why.item() == "fewer than 3 pairs"
    masks = few[few.claim == "permuted_more_diverse"]
    assert set(masks.why) == {"fewer than 3 masks"}


def test_the_mean_is_the_mean_of_pair_means(study):
    runs = planted(study, permuted=1.0)
    row = judged(study, runs)
    row = row[(row.scope == "mnist, vgg11") & (row.claim == "permuted_beats_naive")].iloc[0]
    chosen = runs[(runs.model == "vgg11") & (runs.metric == "accuracy") & (runs.rewind_epoch > 0)]
    chosen = chosen[chosen.matching_method != "weights"]
    means = chosen.groupby(["mask_seed", "method"]).value.mean().unstack()
    assert row["mean"] == pytest.approx((means["permuted"] - means["naive"]).mean())
    assert row.n == 2


@pytest.mark.parametrize("lost", [(0.9, 4), (0.95, 0)])
def test_a_pair_with_a_diverged_run_in_a_claims_cells_does_not_count(study, lost):
    runs = planted(study, permuted=1.0)
    of = (runs.method == "permuted") & (runs.mask_seed == 0) & (runs.dataset == "mnist")
    of &= (runs.model == "resnet20") & (runs.width == 4) & (runs.metric == "accuracy")
    of &= (runs.sparsity == lost[0]) & (runs.rewind_epoch == lost[1])
    assert of.sum() == 1
    runs.loc[of, ["status", "value"]] = ["diverged", 0.0]
    after = of_mnist(study, runs)
    late = lost[1] > 0
    claims_of_late = ["permuted_beats_naive", "gap_grows_with_sparsity", "gap_grows_with_width"]
    assert after.loc[claims_of_late, "n"].tolist() == [6 - late] * 3
    assert after.loc["close_at_initialisation", "n"] == 6 - (not late)
    assert after.loc["rewinding_helps_permuted_more", "n"] == 5
    assert after.loc["permuted_beats_naive", "mean"] == pytest.approx(1.0, abs=0.3)


def test_pairs_are_compared_in_the_cells_that_all_of_them_have(demo):
    """Two pairs also have a sparsity at which the gap is 20 points larger."""
    grid = copy.deepcopy(demo["experiments"]["cifar10"])
    demo["experiments"]["cifar10"] |= {"pairs": 5, "sparsities": [0.9, 0.95]}
    for part in EXTRA:
        grid.pop(part)
    demo["experiments"]["grid"] = grid | {"pairs": 2, "sparsities": [0.9, 0.95, 0.97]}
    study = Study(demo)
    runs = planted(study, permuted=2.0, noise=0.1)
    far = (runs.method == "permuted") & (runs.sparsity == 0.97) & (runs.metric == "accuracy")
    assert far.sum() > 0
    runs.loc[far, "value"] += 20.0
    found = of_mnist(study, runs)
    assert found.loc["permuted_beats_naive", ["n", "verdict"]].tolist() == [5, SUPPORTED]
    assert found.loc["permuted_beats_naive", "mean"] == pytest.approx(2.0, abs=0.2)
    assert abs(found.loc["gap_grows_with_sparsity", "mean"]) < 10  # points per unit


@pytest.fixture
def apart(demo):
    """Return a study of one network whose first four pairs have other cells than the next four."""
    own = {k: v for k, v in demo["experiments"]["cifar10"].items() if k not in EXTRA}
    demo["experiments"] = {
        "first": own | {"pairs": 4, "widths": [1]},
        "second": own | {"pairs": 4, "first_pair": 4, "widths": [4]},
    }
    demo["artefacts"] = {"tables": {}, "figures": {}}
    return demo


def test_pairs_without_a_common_cell_are_not_compared_and_it_says_so(apart):
    study = Study(apart)
    found = of_mnist(study, planted(study, permuted=5.0))
    names = ["permuted_beats_naive", "lth_beats_permuted", "close_at_initialisation"]
    assert found.loc[names, "n"].tolist() == [0, 0, 0]
    assert found.loc[names, "planned"].tolist() == [8, 8, 8]
    assert set(found.loc[names, "why"]) == {"0 of 8 pairs have all runs"}
    assert set(found.loc[names, "verdict"]) == {UNDECIDED}


def test_pairs_that_are_rewound_to_initialisation_alone_do_not_lessen_the_late_cells(apart):
    apart["experiments"]["second"] |= {"widths": [1], "rewind_epochs": [0]}
    found = of_mnist(Study(apart), planted(Study(apart), permuted=5.0))
    assert found.loc["permuted_beats_naive", "n"] == 4
    assert found.loc["close_at_initialisation", "n"] == 8


def test_widths_count_alike_whatever_their_cells(apart):
    """Width 1 has three late epochs with a gap of 0, width 4 one with a gap of 4 points."""
    apart["training"]["resnet20"]["keep_epochs"] = [0, 1, 4, 6]
    apart["experiments"]["first"]["rewind_epochs"] = [0, 1, 4, 6]
    apart["experiments"]["second"] |= {"first_pair": 0}
    study = Study(apart)
    runs = planted(study, noise=0.0)
    wide = (runs.width == 4) & (runs.method == "permuted") & (runs.metric == "accuracy")
    wide &= runs.rewind_epoch > 0
    runs.loc[wide, "value"] += 4.0
    found = of_mnist(study, runs)
    assert found.loc["permuted_beats_naive", "mean"] == pytest.approx(2.0)
    assert found.loc["rewinding_helps_permuted_more", "mean"] == pytest.approx(2.0)
    runs.loc[runs.method == "permuted", "value"] += 100 * runs.sparsity * (runs.width == 4)
    late = of_mnist(study, runs).loc["gap_grows_with_sparsity", "mean"]
    assert late == pytest.approx(50.0)  # of 0 and 100 points per unit


def test_a_slope_needs_only_the_runs_that_it_is_made_of(apart):
    apart["experiments"]["first"]["rewind_epochs"] = [0, 1, 4]
    apart["experiments"]["second"] |= {"first_pair": 0}
    study = Study(apart)
    runs = planted(study)
    for k, n in ((1, 4), (4, 3)):  # width 4 has no epoch 1
        of = (runs.mask_seed == 0) & (runs.width == 1) & (runs.rewind_epoch == k)
        lost = runs.assign(status=runs.status.mask(of & (runs.method == "naive"), "diverged"))
        assert of_mnist(study, lost).loc["gap_grows_with_width", "n"] == n


def test_a_line_that_diverged_or_is_not_there_gives_no_number(study):
    runs, curves = plain(study)
    ends = (runs.mask_seed == 0) & (runs.dataset == "mnist") & (runs.model == "resnet20")
    ends &= runs.metric.str.startswith("error_barrier") & (runs.method == "permuted")
    for lost in (runs.assign(status=runs.status.mask(ends, "diverged")), runs[~ends]):
        found = of_mnist(study, lost)
        assert found.loc["correction_lowers_barrier", ["n", "planned"]].tolist() == [5, 6]
        assert found.loc["barrier_falls_with_width", ["n", "planned"]].tolist() == [5, 6]
    last = (curves.method == "imp") & (curves.mask_seed == 0) & (curves.sparsity == 0.9)
    table = verdicts.judge(study, Results(study, runs, curves[~last]))
    row = table[table.claim == "imp_stays_connected"].iloc[0]
    assert (row.n, row.planned) == (5, 6)


@pytest.mark.parametrize(
    ("near", "verdict"),
    [(0.3, SUPPORTED), (8.0, NOT_SUPPORTED), (-3.0, SUPPORTED)],
    ids=["near", "far", "better"],
)
def test_imp_is_connected_only_if_its_end_is_near_the_dense_network(demo, near, verdict):
    """A straight line has no barrier, wherever it ends."""
    demo["experiments"]["cifar10"] |= {"pairs": 6}
    study = Study(demo)
    curves = synthetic.curves(study)
    ends = 60 + near + np.random.default_rng(0).normal(0, 0.1, 100)
    error = 60 + curves.alpha * (ends[(curves.mask_seed // 2).astype(int)] - 60)
    curves["error"] = error
    lost = (curves.method == "imp") & (curves.mask_seed == 0) & (curves.sparsity == 0.9)
    curves.loc[lost, "status"] = "diverged"
    table = verdicts.judge(study, Results(study, plain(study)[0], curves))
    (row,) = table[table.claim == "imp_stays_connected"].to_dict("records")
    assert (row["n"], row["verdict"]) == (5, verdict)
    nearest = curves.alpha[curves.alpha > 0].min()  # of a line that falls, the highest point
    assert row["mean"] == pytest.approx(max(near, near * nearest), abs=0.2)


def test_a_claim_of_which_every_pair_lacks_a_run_is_undecided(study):
    """VGG has one late cell per sparsity."""
    runs = planted(study)
    of = (runs.model == "vgg11") & (runs.method == "naive") & (runs.sparsity == 0.9)
    runs.loc[of & (runs.rewind_epoch > 0), "status"] = "diverged"
    table = judged(study, runs)
    found = table[table.scope == "mnist, vgg11"].set_index("claim")
    for name in ("permuted_beats_naive", "gap_grows_with_sparsity"):
        assert found.loc[name, ["n", "verdict"]].tolist() == [0, UNDECIDED]
    assert found.loc["close_at_initialisation", "n"] == 2


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
    row = of_mnist(study, runs).loc["gap_grows_with_width"]
    assert row.n == 5
    assert row["mean"] == pytest.approx(0, abs=1e-9)

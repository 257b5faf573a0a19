"""The paper's shares are those of its printed means."""

import math

import pandas as pd
import pytest
from conftest import ROOT
from maskalign import gap, reported, reported_gap
from maskalign.study import Study
from scipy import stats


@pytest.fixture(scope="module")
def paper():
    names = ("reported.csv", "reported_hyperparameters.csv", "reported.yaml")
    return reported.read(*(ROOT / "config" / name for name in names))


@pytest.fixture(scope="module")
def shares(paper):
    return reported_gap.shares(paper)


def cell(shares, **where):
    for name, value in where.items():
        shares = shares[shares[name].isna() if value is None else shares[name] == value]
    (row,) = shares.to_dict("records")
    return row


def test_a_share_is_that_of_the_printed_means(shares):
    row = cell(shares, table=5, sparsity=0.9, rewind_epoch=5)
    csv = pd.read_csv(ROOT / "config/reported.csv")
    csv = csv[(csv.table == 5) & (csv.sparsity == 0.9) & (csv.rewind_epoch == 5)]
    means = csv.set_index("method")
    lth, naive, permuted = (means.loc[m] for m in ("lth", "naive", "permuted"))
    assert row["gap"] == pytest.approx(lth["mean"] - naive["mean"])
    ratio = (permuted["mean"] - naive["mean"]) / (lth["mean"] - naive["mean"])
    assert row["share"] == pytest.approx(ratio)
    test = stats.ttest_ind_from_stats(
        *(lth["mean"], lth["std"], 3, naive["mean"], naive["std"], 3), equal_var=False
    )
    a, b = lth["std"] ** 2 / 3, naive["std"] ** 2 / 3
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    half = stats.t.isf(0.025, freedom) * row["gap"] / test.statistic
    assert (row["gap_low"], row["gap_high"]) == pytest.approx(
        (row["gap"] - half, row["gap"] + half)
    )


def test_the_share_of_a_sparsity_is_that_of_the_mean_over_late_rewind_epochs(shares):
    csv = pd.read_csv(ROOT / "config/reported.csv")
    csv = csv[(csv.table == 12) & (csv.sparsity == 0.95) & (csv.rewind_epoch > 0)]
    means = csv.groupby("method")["mean"].mean()
    row = cell(shares, table=12, sparsity=0.95, rewind_epoch=None)
    ratio = (means["permuted"] - means["naive"]) / (means["lth"] - means["naive"])
    assert row["share"] == pytest.approx(ratio)
    stds = csv.groupby("method")["std"].mean()  # as if the runs of all epochs moved together
    a, b = stds["lth"] ** 2 / 3, stds["naive"] ** 2 / 3
    half = stats.t.isf(0.025, (a + b) ** 2 / (a**2 / 2 + b**2 / 2)) * math.sqrt(a + b)
    assert row["gap_high"] - row["gap"] == pytest.approx(half)


def test_a_sparsity_of_whose_epochs_none_has_a_share_has_none(shares):
    part = shares[(shares.table == 8) & (shares.sparsity == 0.95) & (shares.rewind_epoch > 0)]
    assert part.share.isna().all()
    row = cell(shares, table=8, sparsity=0.95, rewind_epoch=None)
    assert (row["why"], math.isnan(row["share"])) == (gap.NOT_ABOVE, True)


def test_early_matching_has_a_share_per_epoch_of_matching(shares):
    row = cell(shares, table=15, sparsity=0.9, rewind_epoch=20, matching_epoch=200)
    assert row["share"] == pytest.approx(0.285, abs=0.005)
    early = cell(shares, table=15, sparsity=0.9, rewind_epoch=20, matching_epoch=5)
    assert early["share"] == pytest.approx(0.140, abs=0.005)


def test_there_is_no_share_without_a_spread_or_a_gap(shares):
    row = cell(shares, table=10, sparsity=0.9, rewind_epoch=None)
    assert (row["why"], math.isnan(row["share"])) == (reported_gap.NO_SPREAD, True)
    without = shares[shares.why == gap.NOT_ABOVE]
    assert len(without) > 0
    assert (without.gap_low <= 0).all()
    assert without.share.isna().all()
    assert shares.share[shares.why == ""].notna().all()


def test_the_page_shows_the_papers_shares_beside_the_studys(demo, paper):
    demo["models"]["resnet50"]["title"] = demo["models"]["resnet20"]["title"]
    row = {"dataset": "mnist", "model": "resnet20", "width": 4.0, "sparsity": 0.9, "n": 5}
    row |= {"share": 0.5, "low": 0.25, "high": 0.75}
    other = row | {"model": "resnet50", "share": 0.2, "low": 0.1, "high": 0.3}
    table = pd.DataFrame([row, other], columns=gap.COLUMNS)
    lines = reported_gap.section(Study(demo), table, paper)
    assert "| Table 6, ResNet20 ×4 on CIFAR-10 | 44 | 50 | 56 | 61 |" in lines
    assert (
        "| Table 15, ResNet20 ×1 on CIFAR-10, matched at epoch 200 | 26 | 29 | 30 | 20 |" in lines
    )
    assert "| Table 10, ResNet50 ×1 on ImageNet | none | none | none |  |" in lines
    assert "| Table 8, ResNet20 ×16 on CIFAR-10 | none | none | none | 75 |" in lines
    ours = "| here: ResNet8 ×4 on MNIST 12x12 |  | {} (n = 5) |  |  |"
    assert lines[-2:] == [ours.format("50 [25, 75]"), ours.format("20 [10, 30]")]

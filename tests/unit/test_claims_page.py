"""The page of the claims gives every verdict, its reason, and the share of the gap."""

import pytest
import synthetic
from maskalign import claims_page, convergence, gap, verdicts
from maskalign.study import Study
from maskalign.units import Results


@pytest.fixture(scope="module")
def made():
    from conftest import DEMO

    config = DEMO | {"experiments": {"cifar10": DEMO["experiments"]["cifar10"] | {"pairs": 4}}}
    config["artefacts"] = {"tables": {}, "figures": {}}
    study = Study(config)
    sources = synthetic.runs(study), synthetic.curves(study)
    results = Results(study, *sources)
    table, shares = verdicts.judge(study, results), gap.shares(results)
    longer, left = verdicts.judge_longer(study, results), gap.left(results)
    more = gap.shares_longer(results)
    return table, shares, claims_page.markdown(study, table, longer, shares, more, left, sources)


def rows_of(page, heading):
    """Return the cells of the first table below a heading."""
    lines = page.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.fixture(scope="module")
def controlled():
    """Return the same of a study with controls and lengths."""
    from conftest import DEMO

    names = ("svhn", "controls", "lengths", "rates")
    study = Study(
        DEMO
        | {"experiments": {name: DEMO["experiments"][name] for name in names}}
        | {"artefacts": {"tables": {}, "figures": {}}}
    )
    sources = synthetic.runs(study), synthetic.curves(study)
    results = Results(study, *sources)
    table, shares, left = verdicts.judge(study, results), gap.shares(results), gap.left(results)
    longer, more = verdicts.judge_longer(study, results), gap.shares_longer(results)
    return table, left, claims_page.markdown(study, table, longer, shares, more, left, sources)


@pytest.mark.parametrize("family", claims_page.TITLES)
def test_every_claim_has_a_line_that_says_where_it_holds(made, family):
    table, _, page = made
    rows = rows_of(page, f"## {claims_page.TITLES[family]}")
    assert [row[0] for row in rows] == [claim.text for claim in verdicts.FAMILIES[family]]
    overall = verdicts.overall(table)
    overall = overall[overall.family == family]
    for row, (_, found) in zip(rows, overall.iterrows(), strict=True):
        counts = [str(found[f"n_{k}"]) for k in ("not_supported", "undecided", "untested")]
        assert row[1:] == [f"**{found.supported}**", *counts]


@pytest.mark.parametrize("family", claims_page.TITLES)
def test_every_verdict_has_a_line_with_its_numbers_and_why_it_is_undecided(
    made, controlled, family
):
    table, _, page = made if family == "paper" else controlled
    table = table[table.family == family]
    rows = rows_of(page, f"### {claims_page.TITLES[family]} by data set and model")
    assert len(rows) == len(table) >= 8
    for row, found in zip(rows, table.itertuples(), strict=True):
        assert row[:3] == [found.claim, found.scope, found.verdict]
        assert row[3].startswith(f"{found.effect}: {found.mean:.2f}")
        assert row[4] == claims_page.counted(found.n, found.planned, found.unit)
        assert [row[5], *row[7:]] == [found.test, found.why, found.convergence, found.beside]
        assert (row[6] == "") == (found.p != found.p)
    if family == "paper":
        (masks,) = [row for row in rows if row[0] == "permuted_more_diverse"]
        assert masks[7] == "fewer than 3 masks"
    else:
        (longest,) = [row for row in rows if row[0] == "permuted_beats_naive_longest"]
        assert longest[8].startswith("2 of 2 cells not shown")
        assert longest[9].startswith("share of the gap at length 1 left (%)")


def test_the_page_says_how_convergence_is_told(made):
    page = made[2]
    about = " ".join(convergence.__doc__.split("\n\n", 1)[1].split())
    assert about.endswith("None of this changes a verdict.")
    assert f"\n{about}\n" in page
    assert page.index(about) < page.index("## The paper's claims")


def test_the_share_that_long_training_leaves_stands_below_where_there_is_one(made, controlled):
    assert "Share of the gap left" not in made[2]
    _, left, page = controlled
    (row,) = rows_of(page, "## Share of the gap left after long training")
    (found,) = left.itertuples()
    assert row == [
        "digits, resnet20",
        "4",
        f"{found.gap:.2f} [{found.gap_low:.2f}, {found.gap_high:.2f}]",
        f"{found.gap_longest:.2f}",
        gap.share_text(found.share, found.low, found.high),
        "3",
        found.why,
    ]


def test_the_share_of_the_gap_stands_below(made):
    _, shares, page = made
    (row,) = rows_of(page, "## Share of the gap closed")
    whole = shares.iloc[0]
    assert row == [
        "mnist, resnet20",
        "1",
        f"{whole.gap:.2f} [{whole.gap_low:.2f}, {whole.gap_high:.2f}]",
        f"{100 * whole.share:.0f} [{100 * whole.low:.0f}, {100 * whole.high:.0f}]",
        "4",
        "",
    ]


def test_units_that_do_not_count_are_named():
    assert claims_page.counted(1, 1, "mask") == "1 mask"
    assert claims_page.counted(4, 4, "pair") == "4 pairs"
    assert claims_page.counted(2, 3, "pair") == "2 of 3 pairs"


def test_numbers_that_are_not_there_are_printed_as_none():
    nan = float("nan")
    assert claims_page.interval(nan, nan, nan) == "none"
    assert claims_page.interval(1.0, nan, nan) == "1.00"
    assert claims_page.interval(1.0, 0.25, 1.75) == "1.00 [0.25, 1.75]"
